"""What a method without any geometry says of it: a wall at distance one in front of every camera."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.scene import Conditioning

FIELD_OF_VIEW_DEG: Final = 60.0
"""Horizontal field of view that a floor row assumes where it is not given cameras."""


def flat_depth(num_frames: int, image_size: tuple[int, int]) -> NDArray[np.float32]:
    """[F, H, W] depth of one; the unit does not matter, since geometry is scored after a similarity alignment."""
    return np.ones((num_frames, *image_size), dtype=np.float32)


def given_or_assumed_intrinsics(conditioning: Conditioning) -> NDArray[np.float64]:
    """[F, 3, 3] the first frame's intrinsics repeated, or a pinhole of FIELD_OF_VIEW_DEG where none is given."""
    height, width = conditioning.image_size
    if conditioning.cameras is not None:
        intrinsics = conditioning.cameras.intrinsics[0]
    else:
        focal_px = width / 2 / np.tan(np.radians(FIELD_OF_VIEW_DEG / 2))
        intrinsics = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
    return np.repeat(intrinsics[None], conditioning.num_frames, axis=0)
