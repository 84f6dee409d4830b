"""Which patches of the views show what a patch of the target shows: known exactly where a clip has depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras, Scene, invert_rigid, unproject_depth


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
    rows, columns = size[0] // patch_size, size[1] // patch_size
    cameras = scene.cameras
    alone = Cameras(cameras.world_from_cam[[target]], cameras.intrinsics[[target]], size)
    points = unproject_depth(scene.depth[[target]], alone)[0].reshape(-1, 3).astype(np.float64)
    known = scene.valid[target].ravel()
    row, column = (grid.ravel() for grid in np.indices(size))
    patch = row // patch_size * columns + column // patch_size
    shares = np.zeros((rows * columns, len(views), rows * columns), dtype=np.float32)
    for place, view in enumerate(views):
        cam_from_world = invert_rigid(cameras.world_from_cam[view])
        local = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
        ahead = known & (local[:, 2] > 1e-6)
        pixel = (local @ cameras.intrinsics[view].T)[:, :2] / np.where(ahead, local[:, 2], 1.0)[:, None]
        at = np.floor(pixel).astype(np.int64)
        seen = ahead & (at[:, 0] >= 0) & (at[:, 0] < size[1]) & (at[:, 1] >= 0) & (at[:, 1] < size[0])
        at = np.where(seen[:, None], at, 0)
        depth = scene.depth[view, at[:, 1], at[:, 0]]
        seen &= scene.valid[view, at[:, 1], at[:, 0]] & (np.abs(depth - local[:, 2]) < 0.05 * local[:, 2])
        there = at[:, 1] // patch_size * columns + at[:, 0] // patch_size
        np.add.at(shares, (patch[seen], place, there[seen]), 1)
    shares /= np.maximum(shares.sum(axis=(1, 2), keepdims=True), 1)
    return shares.reshape(rows * columns, -1)
