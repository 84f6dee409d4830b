"""Frames, maps and cameras at another image size."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.scene import Cameras

ScalarT = TypeVar("ScalarT", bound=np.generic)


def resized_rgb(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """[F, H, W, 3] at another size: bilinear with antialiasing, as the suite's own preprocessing."""
    if rgb.shape[1:3] == size:
        return rgb
    import torch
    from torch.nn.functional import interpolate

    images = torch.from_numpy(np.array(rgb)).permute(0, 3, 1, 2).float()
    resized = interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0, 255).round().byte()
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())


def nearest_maps(maps: NDArray[ScalarT], size: tuple[int, int]) -> NDArray[ScalarT]:
    """[F, h, w, ...] at another size by nearest neighbour: a mean of two depths lies on neither surface."""
    if maps.shape[1:3] == size:
        return maps
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.intp)
        for new, old in zip(size, maps.shape[1:3], strict=True)
    )
    return np.ascontiguousarray(maps[:, rows][:, :, columns])


def scaled_cameras(cameras: Cameras, size: tuple[int, int]) -> Cameras:
    """The same cameras with pixels of another image size."""
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, 0] *= size[1] / cameras.image_size[1]
    intrinsics[:, 1] *= size[0] / cameras.image_size[0]
    return Cameras(cameras.world_from_cam, intrinsics, size)
