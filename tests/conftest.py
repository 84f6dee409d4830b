from __future__ import annotations

import os
from pathlib import Path

import pytest

from gen3r_bench.torchvision_import import prepare_torchvision

# torchmetrics imports torchvision, and PyPI's build does not import by itself beside a PyTorch for CPUs
prepare_torchvision()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data and goldens that lies beside the repository where the project is developed."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GEN3R_BENCH_SHARED", repository.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set GEN3R_BENCH_SHARED to its place")
    return folder
