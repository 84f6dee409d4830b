from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gen3r_bench.torchvision_import import prepare_torchvision

# torchmetrics imports torchvision, and PyPI's build does not import by itself beside a PyTorch for CPUs
prepare_torchvision()


@pytest.fixture(scope="session", autouse=True)
def clip_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder of rendered clips for all that this run of the tests starts; it begins empty, so no clip is old."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a folder of the worker's own, below the one of the run
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEN3R_BENCH_CACHE", str(folder / "clips"))
        yield folder / "clips"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data and goldens that lies beside the repository where the project is developed."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GEN3R_BENCH_SHARED", repository.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set GEN3R_BENCH_SHARED to its place")
    return folder
