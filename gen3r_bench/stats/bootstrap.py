"""Confidence intervals of a mean over scenes, by a bootstrap that draws whole scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, in the unit of the values; ``level`` is its nominal coverage."""

    low: float
    high: float
    level: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def mean_interval(
    values_by_scene: Mapping[str, Sequence[float]], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval | None:
    """Confidence interval of the mean over scenes, where a scene's value is the mean over its seeds.

    Scenes are the clusters: they are drawn with replacement, each with all its seeds, since seeds of one scene are no
    new evidence about scenes. The interval is the BCa bootstrap (Efron 1987), because scores such as the Chamfer
    distance are skewed, and a percentile interval of a skewed mean is off to one side. Its nominal tails are moved
    outwards as if the mean were a t statistic of the scenes (Hesterberg 2015, "expanded percentile"): a bootstrap of
    few scenes is otherwise too narrow, by a factor of √((n-1)/n) and by the normal quantile. No interval can leave the
    range of the observed scenes, so that below about eight scenes it is still too short.

    >>> mean_interval({"a": [1.0], "b": [1.0], "c": [1.0]})
    Interval(low=1.0, high=1.0, level=0.95)

    Args:
        values_by_scene: at least one finite value a scene.
        level: nominal coverage, between 0 and 1.
        resamples: bootstrap draws.
        seed: of the draws; equal input and seed give equal output, in whatever order the scenes come.

    Returns:
        None for fewer than two scenes.

    Raises:
        InputError: for a value that is not finite, a scene without values, or an impossible level.
    """
    means = scene_means(values_by_scene)
    return interval_of(np.array([means[scene] for scene in sorted(means)]), level=level, resamples=resamples, seed=seed)


def scene_means(values_by_scene: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean over the seeds of each scene, by exact summation.

    Raises:
        InputError: for a value that is not finite, or a scene without values.
    """
    means = {}
    for scene, values in values_by_scene.items():
        if not len(values):
            raise InputError(f"scene {scene!r} without a value", expected="one value for each seed")
        means[scene] = math.fsum(checked(scene, value) for value in values) / len(values)
    return means


def checked(scene: str, value: float) -> float:
    """``value``, if it is finite.

    Raises:
        InputError: where it is not: a missing score is left out and counted, never handed on as NaN.
    """
    if not math.isfinite(value):
        raise InputError(f"value {value} of scene {scene!r}", expected="a finite number; leave out missing scores")
    return float(value)


def interval_of(values: Floats, *, level: float, resamples: int, seed: int) -> Interval | None:
    """``mean_interval`` of one value a scene, as a vector whose order matters to the draws (sort it by scene)."""
    from scipy.stats import norm, t

    if not 0 < level < 1:
        raise InputError(f"level {level:g}", expected="a coverage between 0 and 1, such as 0.95")
    if resamples < 1:
        raise InputError(f"{resamples} resamples", expected="at least 1")
    n = len(values)
    if n < 2:
        return None
    mean = float(values.mean())
    deviations = values - mean
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]), level)
    draws = _bootstrap_weights(n, resamples, seed) @ deviations
    # Draws that equal the mean but for rounding are neither above nor below it.
    rounding = 1e-12 * np.abs(deviations).max()
    bias = norm.ppf(((draws < -rounding).mean() + (draws <= rounding).mean()) / 2)
    scaled = deviations / np.abs(deviations).max()  # the acceleration has no unit, and cubes of tiny numbers are 0
    acceleration = (scaled**3).sum() / (6 * (scaled**2).sum() ** 1.5)
    tail = math.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, n - 1)
    ends = bias + np.array([-tail, tail])
    shrink = 1 - acceleration * ends
    # Where a far tail of few, skewed scenes passes the formula's pole, the end is the outermost draw.
    moved = np.divide(ends, shrink, out=np.copysign(np.inf, ends), where=shrink > 0)
    low, high = mean + np.quantile(draws, norm.cdf(bias + moved))
    # a sum's rounding must not leave the range of the scenes
    return Interval(float(max(low, values.min())), float(min(high, values.max())), level)


@lru_cache(maxsize=2)
def _bootstrap_weights(n: int, resamples: int, seed: int) -> Floats:
    """[resamples, n]: how often each scene is drawn, over n; kept, since the cells of a table share their n."""
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    flat = draws + n * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=resamples * n).reshape(resamples, n)
    weights: Floats = counts / n
    weights.flags.writeable = False
    return weights
