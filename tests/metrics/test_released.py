"""The authors' own libraries: told apart from ours where they import, named in the error where they do not."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import chamfer, farthest_point_indices, released, score_points, voxel_downsample


def _has(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (ImportError, OSError):
        return False
    return True


needs_open3d = pytest.mark.skipif(not _has("open3d"), reason="parity with Open3D needs open3d and libusb-1.0-0")
needs_pytorch3d = pytest.mark.skipif(not _has("pytorch3d.ops"), reason="parity with PyTorch3D needs pytorch3d")


@pytest.fixture
def cloud() -> np.ndarray:
    return np.random.default_rng(0).random((2000, 3)).astype(np.float32)


@needs_open3d
def test_open3d_voxels_are_ours_but_for_the_order(cloud: np.ndarray) -> None:
    theirs, ours = released.voxel_downsample(cloud, 0.1), voxel_downsample(cloud, 0.1)
    assert_allclose(theirs[np.lexsort(theirs.T)], ours[np.lexsort(ours.T)], atol=1e-15)


@needs_pytorch3d
def test_pytorch3d_samples_and_distances_are_ours(cloud: np.ndarray) -> None:
    assert np.array_equal(released.farthest_point_indices(cloud, 500), farthest_point_indices(cloud, 500))
    assert len(released.farthest_point_indices(cloud[:10], 500)) == 10
    theirs, ours = released.chamfer(cloud[:700], cloud[700:]), chamfer(cloud[:700], cloud[700:])
    assert_allclose(theirs.chamfer, ours.chamfer, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "module", "fix"),
    [
        (lambda: released.voxel_downsample(np.zeros((3, 3)), 0.1), "open3d", "libusb-1.0-0"),
        (lambda: released.farthest_point_indices(np.zeros((3, 3)), 2), "torch", "pip install torch"),
        (lambda: released.farthest_point_indices(np.zeros((3, 3)), 2), "pytorch3d.ops", "no CPU wheel"),
        (lambda: released.chamfer(np.zeros((3, 3)), np.zeros((3, 3))), "pytorch3d.ops", "no CPU wheel"),
    ],
)
def test_a_missing_library_is_named_with_the_way_to_it(
    call: Any, module: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module == "pytorch3d.ops":
        monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"cannot import {module}.*{fix}.*backend 'exact'"):
        call()


def test_a_library_that_cannot_be_loaded_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("libusb-1.0.so.0: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(InputError, match=r"libusb-1\.0\.so\.0.*apt install"):
        released.voxel_downsample(np.zeros((3, 3)), 0.1)


class FakeTensor:
    """As much of a tensor as released.py touches."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, key: Any) -> FakeTensor:
        return FakeTensor(self.array[key])

    def cpu(self) -> FakeTensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.array

    def double(self) -> FakeTensor:
        return FakeTensor(self.array.astype(np.float64))

    def sqrt(self) -> FakeTensor:
        return FakeTensor(np.sqrt(self.array))

    def mean(self) -> float:
        return float(self.array.mean())


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries with the signatures of Open3D, PyTorch and PyTorch3D, computing by our own functions."""

    class PointCloud:
        def __init__(self, points: np.ndarray) -> None:
            self.points = points

        def voxel_down_sample(self, size: float) -> PointCloud:
            return PointCloud(voxel_downsample(self.points, size)[::-1])

    def sample_farthest_points(points: FakeTensor, K: int) -> tuple[None, FakeTensor]:  # noqa: N803
        assert points.array.ndim == 3
        assert points.array.shape[0] == 1
        assert points.array.shape[1] >= K
        return None, FakeTensor(farthest_point_indices(points.array[0], K)[None])

    def knn_points(one: FakeTensor, other: FakeTensor, K: int) -> types.SimpleNamespace:  # noqa: N803
        squares = ((one.array[0][:, None] - other.array[0]) ** 2).sum(axis=2).min(axis=1)
        return types.SimpleNamespace(dists=FakeTensor(squares[None, :, None]))

    modules: dict[str, dict[str, Any]] = {
        "open3d": {
            "geometry": types.SimpleNamespace(PointCloud=PointCloud),
            "utility": types.SimpleNamespace(Vector3dVector=lambda points: points),
        },
        "torch": {
            "from_numpy": FakeTensor,
            "cuda": types.SimpleNamespace(is_available=lambda: False),
        },
        "pytorch3d": {},
        "pytorch3d.ops": {"sample_farthest_points": sample_farthest_points, "knn_points": knn_points},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("stand_ins")
def test_the_start_is_moved_to_the_front_and_back(cloud: np.ndarray) -> None:
    for start in (0, 7, len(cloud) - 1):
        theirs = released.farthest_point_indices(cloud, 300, start=start)
        assert np.array_equal(theirs, farthest_point_indices(cloud, 300, start=start))


@pytest.mark.usefixtures("stand_ins")
def test_the_whole_scoring_goes_through_the_libraries() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((2, 12, 14, 3)).astype(np.float32)
    pred = (2 * truth + rng.normal(0, 0.02, truth.shape)).astype(np.float32)
    mask = rng.random(truth.shape[:3]) < 0.9
    options = {"voxel_size": 0.1, "num_points": 60}
    theirs = score_points(pred, truth, mask, backend="released", **options)
    ours = score_points(pred, truth, mask, **options)
    assert (theirs.pred_voxels, theirs.gt_voxels) == (ours.pred_voxels, ours.gt_voxels)
    assert theirs.alignment.scale == ours.alignment.scale
    # the fake Open3D returns rows backwards, so sampling starts at the voxel that appears last
    assert_allclose(theirs.pred_sample[0], voxel_downsample(ours.alignment.apply(pred[mask]), 0.1)[-1], atol=1e-6)
    distance = chamfer(theirs.pred_sample, theirs.gt_sample)
    assert_allclose((theirs.accuracy, theirs.completeness), (distance.accuracy, distance.completeness), rtol=1e-5)
    whole = score_points(pred, truth, mask, backend="released", voxel_size=0.1, num_points=9999)
    assert whole.capped
    assert_allclose(whole.chamfer, score_points(pred, truth, mask, voxel_size=0.1, num_points=9999).chamfer, rtol=1e-5)
