"""World points to the range of a video autoencoder and back: WVD's Normalise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError

Normalisation = Literal["max-abs", "box", "percentile"]
NORMALISATIONS: Final[tuple[str, ...]] = get_args(Normalisation)
DEFAULT: Final[Normalisation] = "max-abs"
PERCENTILE: Final = 98.0
"""Of the largest coordinate of a point; the released Gen3R leaves depths beyond the same share out of its masks."""


@dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """A similarity without a turn: ``(points - centre) / scale``, the same for all frames of a clip.

    A scale an axis, or a curve, would come back bent: what a network generates has no record of it. A similarity needs
    none, since every score aligns the prediction first and cameras are recovered in the points' own world.

    Attributes:
        centre: [3] world point that becomes 0.
        scale: world units of 1; positive.
    """

    centre: NDArray[np.float64]
    scale: float

    def to_range(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points in [-1, 1]; coordinates beyond it are clipped, and those that are not finite become 0."""
        normalised = (points - self.centre) / self.scale
        clipped: NDArray[Any] = np.clip(np.nan_to_num(normalised, nan=0.0, posinf=0.0, neginf=0.0), -1, 1)
        return clipped.astype(np.float32)

    def to_world(self, normalised: NDArray[np.floating]) -> NDArray[np.float32]:
        """The way back, exact but for what was clipped."""
        world: NDArray[Any] = normalised.astype(np.float64) * self.scale + self.centre
        return world.astype(np.float32)


def fit_normaliser(
    points: NDArray[np.floating], kind: Normalisation = DEFAULT, usable: NDArray[np.bool_] | None = None
) -> Normaliser:
    """The normaliser of a clip.

    Args:
        points: [..., 3] world points of all frames, in the first camera's world.
        kind: ``max-abs``: over the largest coordinate, so nothing is lost and the first camera stays at 0, whatever the
            scene. ``box``: centre and half of the longest side of the bounding box, which fills more of the range, and
            puts the first camera somewhere else in each scene. ``percentile``: over the 98th percentile of the points'
            largest coordinates, so that a few far points do not take the range from all others; they are clipped.
        usable: [...] bool points that count; None: all that are finite.

    Raises:
        InputError: where no point counts, all of them are 0 (or, for ``box``, in one place), or there is no such kind.
    """
    if points.ndim < 2 or points.shape[-1] != 3:
        raise InputError(f"points of shape {list(points.shape)}", expected="[..., 3]")
    counted = np.isfinite(points).all(axis=-1)
    if usable is not None:
        counted &= usable
    chosen = points[counted].astype(np.float64)
    if not len(chosen):
        raise InputError("no finite point to normalise", expected="points of a scene")
    centre = np.zeros(3)
    if kind == "box":
        low, high = chosen.min(axis=0), chosen.max(axis=0)
        centre, scale = (low + high) / 2, float((high - low).max() / 2)
    elif kind == "percentile":
        scale = float(np.percentile(np.abs(chosen).max(axis=1), PERCENTILE))
    elif kind == "max-abs":
        scale = float(np.abs(chosen).max())
    else:
        raise InputError(f"normalisation {kind!r}", expected=" or ".join(NORMALISATIONS))
    if scale <= 0:
        raise InputError("points that are all in one place", expected="points of a scene")
    return Normaliser(centre, scale)
