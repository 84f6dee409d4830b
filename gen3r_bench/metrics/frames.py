"""What every metric of frames asks of its input, in one wording."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gen3r_bench.errors import InputError


def _clip(value: ArrayLike, name: str) -> NDArray[Any]:
    clip = np.asarray(value)
    if clip.ndim != 4 or clip.shape[3] != 3:
        raise InputError(f"{name} has shape {list(clip.shape)}", expected="shape [frames, height, width, 3]")
    if clip.size == 0:
        raise InputError(f"{name} of shape {list(clip.shape)} is empty", expected="at least one frame and one pixel")
    if clip.dtype != np.uint8 and clip.dtype.kind != "f":
        raise InputError(f"{name} has type {clip.dtype}", expected="uint8, or floats from 0 to 1")
    return clip


def clips(pred: ArrayLike, gt: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two clips as arrays of one shape, [F, H, W, 3], of uint8 or floats.

    Raises:
        InputError: on wrong or different shapes, no frame, or another type.
    """
    first, second = _clip(pred, "pred"), _clip(gt, "gt")
    if first.shape != second.shape:
        raise InputError(f"pred of shape {list(first.shape)} for gt of {list(second.shape)}", expected="equal shapes")
    return first, second


def unit_range(frame: NDArray[Any], name: str, index: int) -> NDArray[np.float64]:
    """One frame as a float64 copy in [0, 1].

    Raises:
        InputError: naming the frame, on NaN or floats outside [0, 1].
    """
    if frame.dtype == np.uint8:
        return frame / 255.0
    unit = frame.astype(np.float64)
    low, high = float(unit.min()), float(unit.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN too
        raise InputError(
            f"{name}: frame {index} holds values from {low:g} to {high:g}",
            expected="uint8, or floats from 0 to 1 without NaN",
            fix="divide by the maximum, or clip as your protocol says",
        )
    return unit
