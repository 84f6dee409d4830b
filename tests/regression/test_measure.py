from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from reports.synthetic import flat, write_run

from gen3r_bench.errors import BenchError
from gen3r_bench.regression.measure import LAST_WORDS, run_elsewhere, run_words
from gen3r_bench.regression.subset import Guarded
from gen3r_bench.regression.variants import ProcessVariant
from gen3r_bench.runs.store import Run

ONE = Guarded("freeze", "camera-1view", "folder", (("a", "b c"),), ("s0", "s1"), (7, 8), "released")
VARIANT = ProcessVariant("1 thread", "one", {})


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path, code: int, words: str = "", *, runs: bool) -> Run:
    """What becomes of a process that ends so, with or without having written a run."""

    def ended(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[:2] == [sys.executable, "-P"]
        if runs:
            write_run(folder, lambda p, r, s, seed: flat(1.0) if s == "s0" else "no room", scenes=("s0", "s1"))
        return subprocess.CompletedProcess(command, code, "", words)

    monkeypatch.setattr(subprocess, "run", ended)
    return run_elsewhere([ONE], folder, VARIANT, device="cpu", roots={}, clips=folder)


def test_a_run_with_a_failed_scene_is_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for code in (0, 1):
        run = elsewhere(monkeypatch, tmp_path / str(code), code, runs=True)
        assert {record.status for record in run.records} == {"ok", "failed"}


@pytest.mark.parametrize(("code", "runs"), [(0, False), (1, False), (2, True), (-9, True)])
def test_a_process_that_failed_says_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, runs: bool
) -> None:
    lines = [f"line {number}" for number in range(20)]
    with pytest.raises(BenchError, match=f"freeze under '1 thread' ended with code {code}: line") as error:
        elsewhere(monkeypatch, tmp_path, code, "\n".join([*lines, "ImportError: no queue", ""]), runs=runs)
    assert str(error.value).endswith("line 19\nImportError: no queue")
    assert len(str(error.value).splitlines()) == LAST_WORDS
    with pytest.raises(BenchError, match="no word"):
        elsewhere(monkeypatch, tmp_path / "silent", 1, runs=False)


def test_the_words_of_a_run_are_all_that_decides_it() -> None:
    words = run_words([ONE], device="cuda:1", roots={"folder": Path("cap"), "mini": Path("m")})
    assert words[:5] == ["run", "-p", "camera-1view", "-d", "folder"]
    for option, value in (
        ("-m", "freeze"), ("--dataset-option", "folder.a=b c"), ("--data-root", "folder=cap"), ("--seed", "7"),
        ("--seeds", "2"), ("--device", "cuda:1"), ("--geometry-backend", "released"),
    ):  # fmt: skip
        assert words[words.index(option) + 1] == value
    assert [after for word, after in itertools.pairwise(words) if word == "--scenes"] == ["s0", "s1"]
    assert "mini=m" not in words
