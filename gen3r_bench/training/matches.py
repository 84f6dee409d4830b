"""Where in other frames a frame's pixels and patches are seen: known exactly where a clip has depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.conditioning import TEMPORAL_RATIO
from gen3r_bench.scene import Cameras, Scene, invert_rigid, unproject_depth

FARTHEST_FLOW: Final = 1.0
"""Sides of the frame; what would be seen farther away counts as this far."""
_NEAREST: Final = 1e-6
"""Depth from which on a point lies before a camera, in the scene's unit."""


def patch_matches(scene: Scene, target: int, views: Sequence[int], patch_size: int) -> NDArray[np.float32]:
    """[patches of the target, views * patches of a view], row by row: shares of the pixels' true places.

    Entry (p, q) is the number of pixels of patch p whose point in the world is seen in patch q, divided by the row's
    sum. A row of zeros belongs to a patch that no view shows. A point counts as seen where the view's own depth at that
    pixel agrees within 5 %.

    Raises:
        InputError: where the scene has no depth.
    """
    if scene.depth is None:
        raise InputError(f"scene {scene.scene_id} of {scene.dataset} has no depth", expected="a dataset with geometry")
    size = scene.image_size
    columns = size[1] // patch_size
    patches = size[0] // patch_size * columns
    cameras = scene.cameras
    alone = Cameras(cameras.world_from_cam[[target]], cameras.intrinsics[[target]], size)
    points = unproject_depth(scene.depth[[target]], alone)[0].reshape(-1, 3).astype(np.float64)
    row, column = (grid.ravel() for grid in np.indices(size))
    patch = row // patch_size * columns + column // patch_size
    shares = np.zeros((patches, len(views), patches), dtype=np.float32)
    for place, view in enumerate(views):
        pixel, local_z = _projected(scene, points, view)
        ahead = scene.valid[target].ravel() & (local_z > _NEAREST)
        at = np.floor(pixel).astype(np.int64)
        seen = ahead & (at[:, 0] >= 0) & (at[:, 0] < size[1]) & (at[:, 1] >= 0) & (at[:, 1] < size[0])
        at = np.where(seen[:, None], at, 0)
        depth = scene.depth[view, at[:, 1], at[:, 0]]
        seen &= scene.valid[view, at[:, 1], at[:, 0]] & (np.abs(depth - local_z) < 0.05 * local_z)
        there = at[:, 1] // patch_size * columns + at[:, 0] // patch_size
        np.add.at(shares, (patch[seen], place, there[seen]), 1)
    shares /= np.maximum(shares.sum(axis=(1, 2), keepdims=True), 1)
    return shares.reshape(patches, -1)


def latent_matches(scene: Scene, patch_size: int) -> NDArray[np.float32]:
    """[1 + k, patches, patches]: where the patches of 1 + k latent frames are seen in the first frame of 1 + 4 k.

    The mean of ``patch_matches`` over the four frames of a latent frame; the first one, which is the first frame, has
    rows of zeros.

    Raises:
        InputError: where the scene has no depth.
    """
    patches = math.prod(side // patch_size for side in scene.image_size)
    shares = np.zeros((1 + scene.num_frames // TEMPORAL_RATIO, patches, patches), dtype=np.float32)
    for frame in range(1, scene.num_frames):
        shares[(frame + TEMPORAL_RATIO - 1) // TEMPORAL_RATIO] += patch_matches(scene, frame, [0], patch_size)
    shares /= TEMPORAL_RATIO
    return shares


def patch_flow(scene: Scene, view: int, patch_size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How far each patch of each frame moves on its way into one view, hidden there or not.

    Returns:
        Flow [F, patches, 2]: (right, down) in sides of the frame (width, height), mean over the patch's pixels whose
        points lie before the view, each component at most ``FARTHEST_FLOW``; and which patches [F, patches] have such
        pixels. Flow is 0 where there are none.

    Raises:
        InputError: where the scene has no depth.
    """
    height, width = scene.image_size
    pixel, local_z = _projected(scene, scene.points_world().reshape(-1, 3).astype(np.float64), view)
    ahead = scene.valid & (local_z > _NEAREST).reshape(scene.valid.shape)
    row, column = np.indices((height, width))
    own = np.stack([column + 0.5, row + 0.5], axis=-1)
    move = (pixel.reshape(*ahead.shape, 2) - own) / (width, height)
    move = np.where(ahead[..., None], np.clip(move, -FARTHEST_FLOW, FARTHEST_FLOW), 0.0)
    count = _by_patch(ahead, patch_size).sum(axis=-1)
    total = np.stack([_by_patch(move[..., axis], patch_size).sum(axis=-1) for axis in (0, 1)], axis=-1)
    return (total / np.maximum(count, 1)[..., None]).astype(np.float32), count > 0


def _projected(scene: Scene, points: NDArray[np.float64], view: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel [N, 2] and depth [N] in a view of points [N, 3] of the world; no pixel where the depth is not positive."""
    cam_from_world = invert_rigid(scene.cameras.world_from_cam[view])
    local = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    divisor = np.where(local[:, 2] > _NEAREST, local[:, 2], 1.0)
    return (local @ scene.cameras.intrinsics[view].T)[:, :2] / divisor[:, None], local[:, 2]


def _by_patch(maps: NDArray[Any], patch_size: int) -> NDArray[Any]:
    """[F, patches in rows, pixels of a patch] of [F, H, W]."""
    frames, height, width = maps.shape
    cells = maps.reshape(frames, height // patch_size, patch_size, width // patch_size, patch_size)
    return cells.swapaxes(2, 3).reshape(frames, -1, patch_size**2)
