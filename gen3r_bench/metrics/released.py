"""The ``released`` geometry backend: the libraries that the Gen3R authors' evaluation calls, behind our signatures.

Open3D averages voxels; PyTorch3D samples and finds neighbours, in float32. Both are imported on first use, and an error
says how to get them: neither is needed for the suite's own numbers.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.chamfer_distance import Chamfer


def voxel_downsample(points: NDArray[Any], voxel_size: float) -> NDArray[np.float64]:
    """Mean point of every occupied voxel, as `gen3r_bench.metrics.voxel_downsample`, in Open3D's own row order.

    Raises:
        InputError: Open3D is missing or cannot be loaded.
    """
    open3d = _open3d()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    means: NDArray[np.float64] = np.array(cloud.voxel_down_sample(voxel_size).points)
    return means


def farthest_point_indices(points: NDArray[Any], k: int, *, start: int = 0) -> NDArray[np.int64]:
    """Indices of farthest point samples, as `gen3r_bench.metrics.farthest_point_indices`, by PyTorch3D.

    PyTorch3D always starts at row 0, so the start is moved there, which changes which of exactly tied points comes
    first. ``k`` is capped at N: beyond that PyTorch3D pads with points at the origin.

    Raises:
        InputError: PyTorch or PyTorch3D is missing or cannot be loaded.
    """
    torch, ops = _pytorch3d()
    original = np.concatenate([[start], np.delete(np.arange(len(points)), start)])
    cloud = torch.from_numpy(np.ascontiguousarray(np.asarray(points, dtype=np.float32)[original]))
    if torch.cuda.is_available():
        cloud = cloud.cuda()
    _, rows = ops.sample_farthest_points(cloud[None], K=min(k, len(points)))
    indices: NDArray[np.int64] = original[rows[0].cpu().numpy()]
    return indices


def chamfer(pred: NDArray[Any], gt: NDArray[Any]) -> Chamfer:
    """Chamfer distance, as `gen3r_bench.metrics.chamfer`, by PyTorch3D's ``knn_points`` in float32.

    Raises:
        InputError: PyTorch or PyTorch3D is missing or cannot be loaded.
    """
    torch, ops = _pytorch3d()
    clouds = [torch.from_numpy(np.array(points, dtype=np.float32))[None] for points in (pred, gt)]
    if torch.cuda.is_available():
        clouds = [cloud.cuda() for cloud in clouds]
    accuracy, completeness = (
        float(ops.knn_points(one, other, K=1).dists.double().sqrt().mean()) for one, other in (clouds, clouds[::-1])
    )
    return Chamfer(accuracy, completeness, (accuracy + completeness) / 2)


def require_released_libraries() -> None:
    """Import both libraries, so that a run learns that one is missing before it scores anything.

    Raises:
        InputError: Open3D, PyTorch or PyTorch3D is missing or cannot be loaded.
    """
    _open3d()
    _pytorch3d()


def _open3d() -> Any:
    return _load("open3d", "pip install 'gen3r-bench[released]', and on Debian or Ubuntu: apt install libusb-1.0-0")


def _pytorch3d() -> tuple[Any, Any]:
    torch = _load("torch", "pip install torch")
    ops = _load(
        "pytorch3d.ops",
        "build PyTorch3D from source for your PyTorch (github.com/facebookresearch/pytorch3d, INSTALL.md): "
        "the package index has no CPU wheel",
    )
    return torch, ops


def _load(module: str, how: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: the library is there, a system library that it links is not
        raise InputError(
            f"geometry backend 'released' cannot import {module} ({error})",
            expected="the authors' libraries, Open3D and PyTorch3D",
            fix=f"{how}; or use the backend 'exact'",
        ) from error
