from __future__ import annotations

from pathlib import Path

import pytest
import typer
from reports.synthetic import flat
from typer.testing import CliRunner

from gen3r_bench.cli.table import table
from gen3r_bench.errors import BenchError, InputError, StoreError
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.reports.compose import comparison_table
from gen3r_bench.reports.render import render_csv, render_latex, render_markdown


def call(*arguments: object):
    app = typer.Typer()
    app.command()(table)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BenchError):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("name", "render"),
    [("markdown", render_markdown), ("latex", render_latex), ("csv", lambda table: render_csv([table]))],
)
def test_the_paper_in_each_format(name, render, tmp_path: Path) -> None:
    expected = render(comparison_table(2, [], {}))
    result = call("--table", 2, "--format", name)
    assert (result.exit_code, result.stdout, result.stderr) == (0, expected, "")
    file = tmp_path / "table"
    result = call("--table", 2, "--format", name, "--out", file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"Wrote {file}\n")
    assert file.read_text(encoding="utf-8") == expected


def test_runs_as_options_and_arguments_are_the_same(make_run) -> None:
    one = make_run(lambda *_: flat(1.0), name="a").path
    other = make_run(lambda *_: flat(1.0), name="b", dataset="tartanair", title="TartanAir").path
    spellings = (("--runs", one, "--runs", other), ("--runs", one, other), (one, other), (one, one, other))
    texts = {call("--table", 2, *spelling).stdout for spelling in spellings}
    assert len(texts) == 1
    assert all(title in texts.copy().pop() for title in ("mini (measured)", "TartanAir (measured)"))


def test_runs_alone_give_a_table_a_protocol(make_run) -> None:
    run = make_run(
        lambda p, *_: flat(1.0) if p == "geom-1view" else {"psnr@8bit": 1.0}, cards=(GEOM_1VIEW, APPEARANCE_1VIEW)
    )
    text = call(run.path).stdout
    assert text.count("| kind") + text.count("| method") == 2
    assert "Geometry from one view (geom-1view)" in text
    assert "Appearance from one view (appearance-1view)" in text
    assert call(run.path, "--format", "csv").stdout.count("table,source") == 1


def test_errors_reach_the_boundary(tmp_path: Path, make_run) -> None:
    with pytest.raises(InputError, match="neither a table nor a run"):
        call()
    with pytest.raises(InputError, match="table 11"):
        call("--table", 11)
    with pytest.raises(StoreError, match="is not a run folder"):
        call("--table", 2, "--runs", tmp_path)
    with pytest.raises(InputError, match="--table 2"):
        call("--table", 1, make_run(lambda *_: flat(1.0)).path)
    with pytest.raises(StoreError, match="cannot write"):
        call("--table", 1, "--out", tmp_path / "no" / "folder")
