"""How LVSM sees cameras: one frame for the whole set of views, and six numbers a ray."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras

SCENE_SCALE: Final = 1.35
"""How far beyond the outermost camera coordinate the unit of length lies."""


def normalised_poses(world_from_cam: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, 4, 4] poses in the mean camera's frame, in units of 1.35 times the largest coordinate of any centre.

    The mean camera stands at the mean centre and looks along the mean z axis, its y axis the mean one made orthogonal.
    All views count, shown or asked for, so the answer depends on the whole set. Cameras that all stand in one place
    keep their centres at zero (the released code divides by zero there).

    Raises:
        InputError: where the mean axes vanish or coincide, as for cameras that look in opposite directions.
    """
    centre = world_from_cam[:, :3, 3].mean(axis=0)
    forward, down = world_from_cam[:, :3, 2].mean(axis=0), world_from_cam[:, :3, 1].mean(axis=0)
    right = np.cross(down, forward)
    if np.linalg.norm(right) < 1e-6:
        raise InputError(
            f"{len(world_from_cam)} cameras whose mean axes vanish or coincide",
            expected="views that look roughly the same way",
        )
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    mean_from_world = np.stack([right, np.cross(forward, right), forward])
    answer = np.array(world_from_cam, dtype=np.float64)
    answer[:, :3, :3] = mean_from_world @ world_from_cam[:, :3, :3]
    centres = (world_from_cam[:, :3, 3] - centre) @ mean_from_world.T
    reach = np.abs(centres).max()
    # rounding alone must not be blown up to the size of a scene
    answer[:, :3, 3] = centres / (SCENE_SCALE * reach) if reach > 1e-9 * (1 + np.abs(centre).max()) else 0.0
    return answer


def pluecker_rays(world_from_cam: NDArray[np.float64], cameras: Cameras, side: int) -> Tensor:
    """[F, 6, side, side] float32: moment (origin × direction) and unit direction of the ray through each pixel.

    Args:
        world_from_cam: [F, 4, 4], normalised.
        cameras: whose intrinsics, scaled from their image size to ``side``, are meant; pixel centres at +0.5.
        side: of the square images that the network sees, in pixels.
    """
    height, width = cameras.image_size
    at = np.arange(side) + 0.5
    focal_x, focal_y = (cameras.intrinsics[:, axis, axis, None] * side / n for axis, n in ((0, width), (1, height)))
    x = (at - cameras.intrinsics[:, 0, 2, None] * side / width) / focal_x
    y = (at - cameras.intrinsics[:, 1, 2, None] * side / height) / focal_y
    grid = (len(world_from_cam), side, side)
    local = np.stack([np.broadcast_to(x[:, None], grid), np.broadcast_to(y[:, :, None], grid), np.ones(grid)], axis=-1)
    direction = np.einsum("fij,fhwj->fhwi", world_from_cam[:, :3, :3], local)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    moment = np.cross(world_from_cam[:, None, None, :3, 3], direction)
    rays = np.concatenate([moment, direction], axis=-1).astype(np.float32)
    return torch.from_numpy(rays).permute(0, 3, 1, 2).contiguous()
