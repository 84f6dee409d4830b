"""Small pictures of a clip: a few frames side by side in one WebP file; frames, error maps and depth."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.reports.contact_sheet import coloured_depth

FRAMES: Final = 7
"""Frames of a clip that are shown, spread from the first to the last."""
SIDE: Final = 144
"""Longest side of a shown frame in pixels; smaller frames stay as they are."""
_QUALITY: Final = 70
_UNCOVERED: Final = 128


def shown_frames(num_frames: int) -> tuple[int, ...]:
    """Which frames of a clip are shown.

    >>> shown_frames(13)
    (0, 2, 4, 6, 8, 10, 12)
    """
    return tuple(np.linspace(0, num_frames - 1, min(FRAMES, num_frames)).round().astype(int).tolist())


def depth_bounds(depth: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Depths that the ends of the colours stand for: 1st and 99th percentile; None where nothing is valid."""
    seen = depth[valid & np.isfinite(depth) & (depth > 0)]
    if not seen.size:
        return None
    low, high = (float(value) for value in np.percentile(seen, [1, 99]))
    return low, max(high, low * 1.001)


def depth_picture(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], bounds: tuple[float, float]
) -> NDArray[np.uint8]:
    """[h, w] depth as [h, w, 3] colours; what is not finite and positive is shown as unknown."""
    known = valid & np.isfinite(depth) & (depth > 0)
    return coloured_depth(np.where(known, depth, bounds[0]).astype(np.float32), known, bounds)


def strip(frames: Sequence[NDArray[np.uint8] | None], image_size: tuple[int, int]) -> bytes:
    """Frames side by side as WebP, each at most `SIDE` pixels; None is a grey one."""
    height, width = image_size
    ratio = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    picture = Image.new("RGB", (size[0] * len(frames), size[1]), (_UNCOVERED,) * 3)
    for number, frame in enumerate(frames):
        if frame is not None:
            shown = Image.fromarray(np.ascontiguousarray(frame))
            if shown.size != size:
                shown = shown.resize(size, Image.Resampling.BOX)
            picture.paste(shown, (number * size[0], 0))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()
