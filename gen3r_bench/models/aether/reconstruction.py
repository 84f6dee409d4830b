"""From what the networks give to depth and cameras, and long clips in overlapping windows."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.models.aether.config import CLIP_LENGTHS
from gen3r_bench.models.aether.pipeline import AetherPipeline, Clip, ClipInputs
from gen3r_bench.models.aether.raymap import decode_raymap, focal_from_half_fov
from gen3r_bench.models.aether.trajectory import Joining, Window, joined, smoothed, window_starts
from gen3r_bench.scene import Cameras

STRIDE: Final = 24
"""Frames from one window's start to the next one's."""


def clip_length(frames: int) -> int:
    """The longest clip that Aether was trained on and that is not longer than ``frames``, or its shortest."""
    return max((length for length in CLIP_LENGTHS if length <= frames), default=CLIP_LENGTHS[0])


def shown_frames(frames: int, length: int) -> list[int]:
    """Which of ``frames`` each of ``length`` evenly spaced frames shows, first and last included.

    Ascending: each of them at most once where there are enough, else all of them and some several times. One alone
    shows the first.
    """
    return [round(place * (frames - 1) / max(length - 1, 1)) for place in range(length)]


def window_of(clip: Clip, *, smooth: bool = True) -> Window:
    """A clip's cameras read from its raymap, and smoothed as released.

    Raises:
        InputError: where the raymap holds no cameras.
    """
    poses, half_fov = decode_raymap(clip.raymap)
    height, width = clip.disparity.shape[1:]
    return Window(
        rgb=clip.rgb,
        disparity=clip.disparity,
        world_from_cam=smoothed(poses) if smooth else poses,
        focal_px=focal_from_half_fov(half_fov, (height, width)),
    )


def reconstruct(
    pipeline: AetherPipeline,
    rgb: NDArray[np.float32],
    *,
    seed: int,
    cameras: Cameras | None = None,
    smooth: bool = True,
    joining: Joining = "similarity",
) -> tuple[Window, list[int]]:
    """Geometry of all frames of a video, and the first frames of the windows that it was made in.

    Args:
        pipeline: that samples the windows.
        rgb: [F, H, W, 3] float32 in [0, 1]; a video shorter than the shortest clip stands still at times.
        seed: of every window, as released.
        cameras: of the F frames, or None.
        smooth: whether each window's cameras are smoothed.
        joining: see ``joined``.
    """
    frames = len(rgb)
    length = clip_length(frames)
    if length > frames:
        shown = shown_frames(frames, length)
        window = _reconstruct_window(pipeline, rgb[shown], _picked(cameras, shown), seed, smooth)
        return selected(window, shown_frames(length, frames)), [0]
    starts = window_starts(frames, length, min(STRIDE, length - 1))
    windows = [
        _reconstruct_window(
            pipeline,
            rgb[start : start + length],
            _picked(cameras, list(range(start, start + length))),
            seed,
            smooth,
        )
        for start in starts
    ]
    return joined(windows, starts, joining), starts


def _reconstruct_window(
    pipeline: AetherPipeline, rgb: NDArray[np.float32], cameras: Cameras | None, seed: int, smooth: bool
) -> Window:
    clip = pipeline(ClipInputs(rgb=rgb, num_frames=len(rgb), cameras=cameras, seed=seed))
    return window_of(clip, smooth=smooth)


def _picked(cameras: Cameras | None, frames: list[int]) -> Cameras | None:
    if cameras is None:
        return None
    return Cameras(cameras.world_from_cam[frames], cameras.intrinsics[frames], cameras.image_size)


def selected(window: Window, frames: list[int]) -> Window:
    """Some frames of a window."""
    return Window(window.rgb[frames], window.disparity[frames], window.world_from_cam[frames], window.focal_px[frames])
