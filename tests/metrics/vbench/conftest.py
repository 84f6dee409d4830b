"""Interpreters and weights that stand in for VBench's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_worker import FakePython, touch_weights

from gen3r_bench.metrics.vbench import job


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
    touch_weights()
    return root
