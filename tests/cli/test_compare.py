"""The real command, over runs that the real writer wrote."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import gen3r_bench, gen3r_bench_process
from reports.synthetic import ENOUGH, GEN3R, WVD, flat, write_run


def test_two_methods_of_a_run_and_two_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", lambda p, r, s, seed: flat(float(s[1:]) + (r[0] == "w")), scenes=ENOUGH)
    write_run(
        tmp_path / "b",
        lambda p, r, s, seed: flat(float(s[1:]) + 0.5),
        scenes=ENOUGH,
        rows=(GEN3R,),
        environment={"python": "3.12.1"},
        scenes_in_full=40,
    )
    done = gen3r_bench_process("compare", "a", "--method", "gen3r", "--method", "wvd", cwd=tmp_path)
    assert "A  gen3r@reference of a" in done.stdout
    assert "B  wvd@reference of a" in done.stdout
    assert "8/0/0" in done.stdout
    assert "Nothing else differs" in done.stdout
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 100
    done = gen3r_bench("compare", "a", "b", "--json", cwd=tmp_path)
    content = json.loads(done.stdout)
    assert [one["a"]["row"] for one in content["comparisons"]] == ["gen3r@reference"]
    assert {"field": "environment python", "a": "3.11.7", "b": "3.12.1"} in content["comparisons"][0]["hints"]
    assert "A partial run" in done.stderr
    assert gen3r_bench("compare", "a", "b", "--quiet", cwd=tmp_path).stderr == ""


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    write_run(tmp_path / "a", lambda *_: flat(1.0), rows=(GEN3R, WVD))
    for arguments, message in (
        (("a", "nowhere"), "is not a run folder"),
        (("a", "--method", "gen3r"), "expected two methods, or a second run"),
    ):
        done = gen3r_bench("compare", *arguments, cwd=tmp_path, code=2)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""
    lines = (
        (tmp_path / "a/records.jsonl").read_text(encoding="utf-8").replace('"chamfer@fps20k":2.0', '"chamfer@fps20k":1')
    )
    (tmp_path / "a/records.jsonl").write_text(lines, encoding="utf-8")
    assert "was changed after it was written" in gen3r_bench("compare", "a", cwd=tmp_path, code=2).stderr
