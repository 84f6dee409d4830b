"""``gen3r-bench verify``: the real command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cli.test_run import REPOSITORY
from command_line import gen3r_bench, gen3r_bench_process

EXAMPLE = REPOSITORY / "results/submissions/freeze"


def test_a_submission_from_good_to_bad(tmp_path: Path) -> None:
    done = gen3r_bench_process("verify", EXAMPLE, cwd=tmp_path)
    assert "freeze: ok; 40 records" in done.stdout
    assert "that the scores are true was not checked" in done.stdout

    shutil.copytree(EXAMPLE, tmp_path / "mine")
    records = (tmp_path / "mine/records.jsonl").read_text().splitlines()
    changed = json.loads(records[0])
    changed["scores"]["chamfer@fps20k"] = 0.01
    (tmp_path / "mine/records.jsonl").write_text("\n".join([json.dumps(changed), *records[1:-1], records[1]]) + "\n")
    bad = gen3r_bench("verify", EXAMPLE, "mine", "--quiet", cwd=tmp_path, code=1)
    assert "mine: 3 findings" in bad.stdout
    for word in ("checksum: line 1 was changed", "duplicate: line 40 repeats line 2", "missing: no record of seed 42"):
        assert word in bad.stdout
    (_, found) = json.loads(gen3r_bench("verify", EXAMPLE, "mine", "--json", cwd=tmp_path, code=1).stdout)
    assert found["ok"] is False
    assert {one["check"] for one in found["findings"]} == {"checksum", "duplicate", "missing"}
    assert {one["scene_id"] for one in found["findings"]} >= {changed["scene_id"]}


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    assert "has no run.json" in gen3r_bench("verify", tmp_path, cwd=tmp_path, code=2).stderr
