from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from gen3r_bench.metrics.torchvision_import import import_torchvision

# torchmetrics, transformers and diffusers import it where it is installed, and PyPI's build does not import by itself
# beside a PyTorch for CPUs
with contextlib.suppress(ImportError):
    import_torchvision()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data and goldens that lies beside the repository where the project is developed."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GEN3R_BENCH_SHARED", repository.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set GEN3R_BENCH_SHARED to its place")
    return folder
