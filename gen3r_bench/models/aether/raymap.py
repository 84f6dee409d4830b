"""Aether's cameras: six numbers a latent cell (ray direction, camera centre), and back to poses and focal lengths.

A raymap's first three channels are each cell's ray in the world, of length 1 along the camera's axis; the other three
are the camera's centre, the same in every cell, times ten, as a signed logarithm.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras

SPATIAL_RATIO: Final = 8
"""Pixels of a latent cell's side."""
TEMPORAL_RATIO: Final = 4
"""Frames that one latent frame stands for; the first latent frame stands for the first frame alone."""
RAY_CHANNELS: Final = 6
CENTRE_SCALE: Final = 10.0
"""Camera centres are multiplied by it before their logarithm."""


def signed_log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``log(1 + |x|)`` with the sign of ``x``."""
    return np.sign(x) * np.log1p(np.abs(x))


def signed_exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``signed_log``; infinite where the number is too large."""
    with np.errstate(over="ignore"):
        return np.sign(x) * np.expm1(np.abs(x))


def encode_raymap(cameras: Cameras, *, dmax: float = 1.0) -> NDArray[np.float32]:
    """[F, 6, H / 8, W / 8] raymap of cameras, in the world of the first one.

    A cell's ray is that of its centre on the grid of whole pixels (``8 i + 3.5``), as the released encoder samples it,
    although intrinsics here put pixel centres at +0.5: the network was trained on rays that are half a pixel off
    (0.05° at a focal length of 600 px).

    Args:
        cameras: at the size that the network sees.
        dmax: largest disparity of the clip, 1 / (depth of its nearest point in the unit of the poses). Centres are
            multiplied by it, so that they are in nearest depths; 1 where it is not known.

    Raises:
        InputError: where the size is not whole cells, or dmax is not a positive number.
    """
    height, width = cameras.image_size
    if height % SPATIAL_RATIO or width % SPATIAL_RATIO:
        raise InputError(f"cameras at {height} x {width}", expected=f"multiples of {SPATIAL_RATIO} pixels")
    if not (np.isfinite(dmax) and dmax > 0):
        raise InputError(f"dmax {dmax}", expected="a positive number")
    rebased = cameras.rebased()
    column, row = np.meshgrid(*(SPATIAL_RATIO * np.arange(n // SPATIAL_RATIO) + 3.5 for n in (width, height)))
    pixels = np.stack([column, row, np.ones_like(row)])
    raymap = np.empty((len(cameras), RAY_CHANNELS, *row.shape), dtype=np.float32)
    world_from_pixel = rebased.world_from_cam[:, :3, :3] @ np.linalg.inv(rebased.intrinsics)
    raymap[:, :3] = np.einsum("fij,jhw->fihw", world_from_pixel, pixels)
    raymap[:, 3:] = signed_log(rebased.world_from_cam[:, :3, 3] * (dmax * CENTRE_SCALE))[:, :, None, None]
    return raymap


def decode_raymap(raymap: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses [F, 4, 4] (``world_from_cam``, centres in nearest depths) and half fields of view [F, 2] (x, y) in radians.

    The axis is the mean ray, the x axis goes from the mean of the first column to that of the last, and the field of
    view is the distance of opposite borders, widened by half a cell at either end. As released, the latter assumes
    rays of length 1 along the axis. The raymap is left as it is (the released decoder overwrites it).

    Raises:
        InputError: where a frame's rays have no direction, or a centre is infinite: no camera can be read from them.
    """
    rays = raymap[:, :3].astype(np.float64)
    frames, _, height, width = rays.shape
    with np.errstate(all="ignore"):  # what comes of broken rays is looked at below
        centre = signed_exp(raymap[:, 3:].astype(np.float64)).mean(axis=(2, 3)) / CENTRE_SCALE
        forward = rays.mean(axis=(2, 3))
        across = rays[:, :, :, -1].mean(axis=2) - rays[:, :, :, 0].mean(axis=2)
        along = rays[:, :, -1].mean(axis=2) - rays[:, :, 0].mean(axis=2)
        down = np.cross(forward, across)
        axes = np.stack([np.cross(down, forward), down, forward], axis=2)
        length = np.linalg.norm(axes, axis=1, keepdims=True)
        borders = [
            np.linalg.norm(np.cross(extent, forward), axis=1) * cells / (cells - 1)
            for extent, cells in ((across, width), (along, height))
        ]
        half_fov = np.arctan(np.stack(borders, axis=1) / (2 * length[:, 0, 2:]))
        axes /= length
    bad = ~(np.isfinite(axes).all(axis=(1, 2)) & np.isfinite(centre).all(axis=1) & (half_fov > 0).all(axis=1))
    if bad.any():
        raise InputError(
            f"a raymap without a camera in {bad.sum()} of {frames} frames", expected="finite rays that span a view"
        )
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    poses[:, :3, :3] = axes
    poses[:, :3, 3] = centre
    return poses, half_fov


def focal_from_half_fov(half_fov: NDArray[np.float64], image_size: tuple[int, int]) -> NDArray[np.float64]:
    """[F] focal lengths in pixels, one for both axes: the mean of what half fields of view [F, 2] (x, y) give."""
    height, width = image_size
    return np.asarray((np.array([width, height]) / 2 / np.tan(half_fov)).mean(axis=1))


def half_fov_from_focal(focal_px: NDArray[np.float64], image_size: tuple[int, int]) -> NDArray[np.float64]:
    """[F, 2] half fields of view (x, y) in radians of focal lengths [F] in pixels."""
    height, width = image_size
    return np.arctan(np.array([width, height]) / 2 / focal_px[:, None])


def centred_cameras(
    world_from_cam: NDArray[np.float64], focal_px: NDArray[np.float64], image_size: tuple[int, int]
) -> Cameras:
    """Cameras of one focal length a frame, with the principal point in the image's centre."""
    intrinsics = np.zeros((len(focal_px), 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal_px
    intrinsics[:, :2, 2] = image_size[1] / 2, image_size[0] / 2
    intrinsics[:, 2, 2] = 1
    return Cameras(world_from_cam, intrinsics, image_size)


def fold_raymap(raymap: Tensor) -> Tensor:
    """[F, 6, h, w] raymap of 1 + 4 k frames as [1 + k, 24, h, w], the way the network holds it.

    Frames 0 to 2 are put in front to fill four groups of 1 + k; channel 6 j + c of latent frame i is channel c of the
    extended frame i + j (1 + k): neighbours in time lie in different latent frames. So it was trained.

    Raises:
        InputError: where the number of frames is not 1 + 4 k, with k at least 1.
    """
    frames = len(raymap)
    if frames % TEMPORAL_RATIO != 1 or frames <= TEMPORAL_RATIO:
        raise InputError(f"a raymap of {frames} frames", expected="1 + 4 k frames, such as 17 or 41")
    extended = torch.cat([raymap[: TEMPORAL_RATIO - 1], raymap])
    groups = extended.view(TEMPORAL_RATIO, -1, *raymap.shape[1:])
    return groups.transpose(0, 1).flatten(1, 2)


def unfold_raymap(folded: Tensor) -> Tensor:
    """[F, 6, h, w] of [1 + k, 24, h, w]: the inverse of ``fold_raymap``, without the frames put in front."""
    frames, _, height, width = folded.shape
    groups = folded.reshape(frames, TEMPORAL_RATIO, -1, height, width).transpose(0, 1)
    return groups.flatten(0, 1)[TEMPORAL_RATIO - 1 :]


def depth_from_disparity(disparity: NDArray[np.float32], *, nearest: float | None = 1.0) -> NDArray[np.float32]:
    """[F, H, W] z-depth in nearest depths: 1 / disparity, which is held between 0.001 (sky) and 1 (the nearest point).

    Args:
        disparity: [F, H, W], relative to the clip's largest.
        nearest: smallest depth; None where stitched windows may show something nearer than their first one did.
    """
    depth = 1 / np.maximum(disparity, 1e-3)
    return np.asarray(depth if nearest is None else np.maximum(depth, nearest), dtype=np.float32)
