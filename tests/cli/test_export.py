"""``gen3r-bench export``: the real command."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import gen3r_bench, gen3r_bench_process
from reports.leaderboard.test_admission import make
from small_runs import APPEARANCE, small_run


def test_a_leaderboard_in_one_command(tmp_path: Path) -> None:
    small_run(tmp_path / "run", cards=(APPEARANCE,))
    done = gen3r_bench_process("export", "run", "--to", "board", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)
    assert said["rows"] == ["near", "far", "freeze", "oracle"]
    assert said["scenes_with_pictures"] == {"b0": 2}
    files = [path for path in (tmp_path / "board").rglob("*") if path.is_file()]
    assert said["bytes"] == sum(path.stat().st_size for path in files)
    assert "Open board/index.html in a browser" in done.stderr
    again = gen3r_bench("export", "run", "--to", "board", "--pictures-mb", 0, "--quiet", cwd=tmp_path)
    assert (again.stdout, again.stderr) == ("", "")
    assert not (tmp_path / "board/assets").exists()


def test_a_refused_run_writes_nothing(tmp_path: Path) -> None:
    small_run(tmp_path / "run", cards=(APPEARANCE,), limit=1, keep_predictions=False)
    done = gen3r_bench("export", "run", "--to", "board", cwd=tmp_path, code=2)
    assert "scored 1 of the card's 2 scenes" in done.stderr
    assert not (tmp_path / "board").exists()


def test_wrong_words_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path / "run")
    assert "expected NAME=DIR" in gen3r_bench(
        "export", "run", "--to", "board", "--data-root", "/data", cwd=tmp_path, code=2
    ).stderr  # fmt: skip
    assert "not a run folder" in gen3r_bench("export", "nowhere", "--to", "board", cwd=tmp_path, code=2).stderr
    gen3r_bench("export", "run", cwd=tmp_path, code=2)
