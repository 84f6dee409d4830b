"""Interpreters and weights that stand in for VBench's."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_worker import FakePython, touch_weights

from gen3r_bench.metrics.vbench import files, job


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], FakePython]:
    job.probe.cache_clear()
    folder = tmp_path / "fake"
    folder.mkdir()
    return lambda body: FakePython(folder, body)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights root where every file of VBench is there, and empty; that is what published hashes are of, then."""
    root = tmp_path / "weights"
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(root))
    nothing = hashlib.sha256(b"").hexdigest()
    found = tuple(dataclasses.replace(file, sha256=file.sha256 and nothing[: len(file.sha256)]) for file in files.FILES)
    monkeypatch.setattr(files, "FILES", found)
    touch_weights(marked=False)
    return root
