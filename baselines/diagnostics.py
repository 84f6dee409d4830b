"""Diagnostic rows: answers that look at the ground truth, so that every metric shows its ends and its slope.

They are a kind of their own: the only rows that are handed a Scene, built in and not pluggable, never ranked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gen3r_bench.scene import Prediction, Scene

WOBBLE_DEPTH: Final = 0.02
"""Standard deviation of the relative depth noise, per pixel."""
WOBBLE_ROTATION_DEG: Final = 1.0
"""Standard deviation of the pose noise about each axis, per frame."""
WOBBLE_TRANSLATION: Final = 0.01
"""Standard deviation of the camera centre's noise along each axis, per frame, in median depths of the clip."""
WOBBLE_RGB: Final = 5.0
"""Standard deviation of the colour noise, per channel, in 8-bit steps."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A row that sees the scene.

    Attributes:
        row_id: on the command line and in records.
        summary: one sentence.
        predict: takes the scene and its seed.
        pred_fps_start: where farthest point sampling of this row's cloud starts; None as the protocol says.
    """

    row_id: str
    summary: str
    predict: Callable[[Scene, int], Prediction]
    pred_fps_start: Literal["first", "middle"] | None = None


def true_prediction(scene: Scene, seed: int) -> Prediction:
    """The ground truth as a prediction; ``seed`` is not used."""
    del seed
    return Prediction(
        frame_indices=tuple(range(scene.num_frames)),
        rgb=scene.rgb,
        depth=scene.depth,
        world_from_cam=scene.cameras.world_from_cam,
        intrinsics=scene.cameras.intrinsics,
        valid=scene.valid,
    )


def wobbled_prediction(scene: Scene, seed: int) -> Prediction:
    """The ground truth with Gaussian noise of the stated sizes on depth, poses and colours."""
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(seed)
    frames = scene.num_frames
    unit = 1.0
    depth = None
    if scene.depth is not None and scene.valid.any():
        unit = float(np.median(scene.depth[scene.valid]))
        noise = random.standard_normal(scene.depth.shape, dtype=np.float32)
        # a factor below 0.1 would need a noise of 45 standard deviations: the clip only guards the sign
        depth = scene.depth * np.maximum(1 + np.float32(WOBBLE_DEPTH) * noise, np.float32(0.1))
    poses = np.array(scene.cameras.world_from_cam)
    turns = Rotation.from_rotvec(np.radians(WOBBLE_ROTATION_DEG) * random.standard_normal((frames, 3)))
    poses[:, :3, :3] = poses[:, :3, :3] @ turns.as_matrix()
    poses[:, :3, 3] += WOBBLE_TRANSLATION * unit * random.standard_normal((frames, 3))
    rgb_noise = np.float32(WOBBLE_RGB) * random.standard_normal(scene.rgb.shape, dtype=np.float32)
    return Prediction(
        frame_indices=tuple(range(frames)),
        rgb=np.clip(np.rint(scene.rgb + rgb_noise), 0, 255).astype(np.uint8),
        depth=depth,
        world_from_cam=poses,
        intrinsics=scene.cameras.intrinsics,
        valid=scene.valid,
    )


DIAGNOSTICS: Final = {
    row.row_id: row
    for row in (
        Diagnostic("oracle", "The ground truth itself.", true_prediction),
        Diagnostic(
            "resample",
            "The ground truth with another start of the point sampling: the Chamfer distance's sampling floor.",
            true_prediction,
            pred_fps_start="middle",
        ),
        Diagnostic(
            "wobble",
            f"The ground truth with noise: depth {WOBBLE_DEPTH:.0%}, poses {WOBBLE_ROTATION_DEG:g}° and "
            f"{WOBBLE_TRANSLATION:.0%} of the median depth, colours {WOBBLE_RGB:g}/255.",
            wobbled_prediction,
        ),
    )
}
