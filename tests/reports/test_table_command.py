from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from reports.synthetic import ENOUGH, flat
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


def test_intervals_and_claims_on_request(make_run) -> None:
    run = make_run(lambda p, r, scene, s: flat(float(scene[1:])), scenes=ENOUGH).path
    assert "± " in call("--table", 2, run, "--ci", "half-width").stdout
    assert r"Behind $\pm$" in call(run, "--ci", "half-width", "--format", "latex").stdout
    assert call(run, "--ci", "low-high", "--format", "csv").stdout.splitlines()[1].endswith(",0.95")
    claims = call("--table", 2, run, "--claimed").stdout
    assert "Rows of the paper that no run here measured: Aether, VGGT." in claims
    assert "not comparable: dataset, frames, image size, checkpoint" in claims
    assert call("--table", 2, run, "--claimed", "--format", "csv").stdout.startswith("table,setting,paper_row,")


@pytest.mark.parametrize("name", ["markdown", "latex", "csv"])
def test_a_committed_table_is_checked(name, tmp_path: Path, make_run) -> None:
    run = make_run(lambda p, r, scene, s: flat(1.0 if r.startswith("gen3r") else 2.0), scenes=ENOUGH).path
    file = tmp_path / "table.txt"
    call("--table", 2, run, "--format", name, "--out", file)
    result = call("--check", file, run)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{file}: 1 table, no difference\n"
    text = file.read_text(encoding="utf-8")
    wrong = text.replace("best,8,8", "second,8,8", 1) if name == "csv" else text.replace("2.0000", "3.0000", 1)
    assert wrong != text
    file.write_text(wrong, encoding="utf-8")
    result = call("--check", file, "--runs", run)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert " was " in result.stdout
    assert " is " in result.stdout
    assert result.stderr == f"{file}: 1 table, 1 difference\n"


def test_a_check_refuses_what_it_cannot_use(tmp_path: Path, make_run) -> None:
    run = make_run(lambda *_: flat(1.0)).path
    file = tmp_path / "table.md"
    with pytest.raises(InputError, match="a file that gen3r-bench table wrote"):
        call("--check", file, run)
    file.write_text("| a | b |\n", encoding="utf-8")
    with pytest.raises(InputError, match="a file without a recipe"):
        call("--check", file, run)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="a file that gen3r-bench table wrote"):
        call("--check", file, run)
    with pytest.raises(InputError, match="--check with options of a table"):
        call("--check", file, run, "--table", 2)
    with pytest.raises(InputError, match="no run; expected runs to hold against"):
        call("--table", 2, "--claimed")
    with pytest.raises(InputError, match="no numbers for table 7"):
        call("--table", 7, "--claimed", run)
    with pytest.raises(InputError, match="claimed values without a table"):
        call(run, "--claimed")


def test_records_changed_by_hand_give_no_table(make_run) -> None:
    run = make_run(lambda *_: flat(1.0)).path
    file = run / "records.jsonl"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"chamfer@fps20k":2.0', '"chamfer@fps20k":1.0', 1), encoding="utf-8")
    with pytest.raises(
        StoreError, match=r"records.jsonl line 1 was changed after it was written \(gen3r@reference, s0\)"
    ):
        call(run)


def test_a_duplicated_line_counts_once_and_a_missing_scene_is_said(make_run) -> None:
    run = make_run(lambda p, r, scene, s: flat(float(scene[1:]))).path
    file = run / "records.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    before = call(run).stdout
    file.write_text("".join([*lines, lines[0], lines[0]]), encoding="utf-8")
    note = "- a: 2 lines of its records repeat other lines; each counts once.\n"
    after = call(run).stdout
    assert note in after
    assert after.replace(note, "") == before
    file.write_text("".join(lines[1:]), encoding="utf-8")
    assert "n = 2 of 3 scenes: 1 × not run yet" in call(run).stdout


def test_a_header_of_another_version_or_with_a_row_named_twice(make_run) -> None:
    run = make_run(lambda *_: flat(1.0)).path
    file = run / "run.json"
    header = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(header | {"schema_version": 99}), encoding="utf-8")
    with pytest.raises(StoreError, match="schema version 99; this suite reads versions 1 and 2"):
        call(run)
    file.write_text(json.dumps(header | {"rows": header["rows"] + header["rows"][:1]}), encoding="utf-8")
    with pytest.raises(InputError, match="names 2 rows 'gen3r@reference'"):
        call(run)
    with pytest.raises(InputError, match="names 2 rows 'gen3r@reference'"):
        call("--table", 2, run)
