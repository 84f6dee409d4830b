"""Interpreters and weights that stand in for VBench's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_worker import FakePython

from gen3r_bench.metrics.vbench import job
from gen3r_bench.metrics.vbench.files import FILES


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], FakePython]:
    job.probe.cache_clear()
    folder = tmp_path / "fake"
    folder.mkdir()
    return lambda body: FakePython(folder, body)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights root where every file of VBench is there, and empty."""
    root = tmp_path / "weights"
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(root))
    for file in FILES:
        for path in file.paths():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root
