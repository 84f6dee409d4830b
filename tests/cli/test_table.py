"""The real command, over runs that the real writer wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process
from reports.synthetic import ENOUGH, FREEZE, GEN3R, WVD, flat, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def outcome(protocol, label, scene, seed):
        return flat({"gen3r@reference": 1.0, "wvd@reference": 2.0, "freeze": 5.0}[label] + int(scene[1:]) / 10)

    write_run(tmp_path / "mine", outcome, rows=(GEN3R, WVD, FREEZE), scenes=ENOUGH)
    return tmp_path


def test_a_table_is_written_checked_and_found_out(folder: Path) -> None:
    arguments = ("--table", 2, "--runs", "mine", "--ci", "low-high", "--format", "latex", "--out", "table.txt")
    assert gen3r_bench("table", *arguments, cwd=folder).stdout == ""
    done = gen3r_bench_process("table", "--check", "table.txt", "mine", cwd=folder)
    assert (done.stdout, done.stderr) == ("", "table.txt: 1 table, no difference\n")
    write_run(folder / "new" / "mine", lambda p, r, s, seed: flat(3.0), rows=(GEN3R, WVD, FREEZE), scenes=ENOUGH)
    listed = json.loads(gen3r_bench("table", "--check", "table.txt", "new/mine", "--json", cwd=folder, code=1).stdout)
    assert any("gen3r@reference" in text for text in listed["differences"])
    assert all(": was " in text and ", is " in text for text in listed["differences"])


def test_bad_input_is_one_line_and_exit_code_2(folder: Path) -> None:
    (folder / "other.tex").write_text("\\begin{tabular}{l}a\\\\\\end{tabular}\n", encoding="utf-8")
    write_run(folder / "elsewhere", lambda *_: flat(1.0), rows=(GEN3R,), hashes={"geom-1view": "0" * 12})
    for arguments, message in (
        (("--check", "other.tex", "mine"), "a file without a recipe"),
        (("--table", 2, "mine", "elsewhere"), "card"),
    ):
        done = gen3r_bench("table", *arguments, cwd=folder, code=2)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""
    header = json.loads((folder / "mine/run.json").read_text(encoding="utf-8"))
    (folder / "mine/run.json").write_text(json.dumps(header | {"schema_version": 7}), encoding="utf-8")
    assert "schema version 7" in gen3r_bench("table", "mine", cwd=folder, code=2).stderr
