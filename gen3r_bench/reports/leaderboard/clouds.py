"""Point clouds small enough for a page: a few thousand points, in 16 bits a coordinate and 8 bits a colour."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics.alignment import AlignmentError, ScaleRule, Similarity, align_points

POINTS: Final = 3000
_FIT_PIXELS: Final = 200_000
"""Pixel pairs that the shown alignment is fitted to; the scored one uses all."""
_MARGIN: Final = 0.35
"""How far beyond the true cloud a shown point may lie, in the true cloud's extents."""
_STEPS: Final = 32767


@dataclass(frozen=True, slots=True)
class Box:
    """The box that coordinates are quantised in: its middle, and half of its longest side."""

    middle: tuple[float, float, float]
    reach: float


@dataclass(frozen=True, slots=True)
class SmallCloud:
    """Points for a page: little-endian int16 x, y, z and uint8 r, g, b, base64."""

    count: int
    positions: str
    colours: str


def box_of(points: NDArray[np.float32]) -> Box:
    """The box of [N, 3] points without the outermost two per cent, and a margin."""
    low, high = np.percentile(points, [1, 99], axis=0)
    reach = max(float((high - low).max()) / 2 * (1 + 2 * _MARGIN), 1e-9)
    x, y, z = ((low + high) / 2).tolist()
    return Box((x, y, z), reach)


def small_cloud(points: NDArray[np.floating], colours: NDArray[np.uint8], box: Box, *, seed: int = 0) -> SmallCloud:
    """A random sample of [N, 3] points with [N, 3] colours, quantised in a box; points outside of it are left out."""
    unit = (points - np.array(box.middle)) / box.reach
    inside = np.flatnonzero(np.isfinite(unit).all(axis=1) & (np.abs(unit) <= 1).all(axis=1))
    if len(inside) > POINTS:
        inside = np.sort(np.random.default_rng(seed).choice(inside, POINTS, replace=False))
    positions = np.rint(unit[inside] * _STEPS).astype("<i2")
    return SmallCloud(
        len(inside),
        base64.b64encode(positions.tobytes()).decode(),
        base64.b64encode(np.ascontiguousarray(colours[inside]).tobytes()).decode(),
    )


def shown_alignment(
    source: NDArray[np.float32], target: NDArray[np.float32], valid: NDArray[np.bool_], scale: ScaleRule
) -> Similarity | None:
    """The similarity of [n, H, W, 3] predicted points onto the true ones, on an even choice of pixels.

    None where no similarity is defined; the cloud is then shown as it was predicted.
    """
    usable = np.flatnonzero((valid & np.isfinite(source).all(axis=-1)).ravel())
    chosen = usable[:: max(1, len(usable) // _FIT_PIXELS)]
    try:
        return align_points(source.reshape(-1, 3)[chosen], target.reshape(-1, 3)[chosen], scale=scale)
    except AlignmentError:
        return None
