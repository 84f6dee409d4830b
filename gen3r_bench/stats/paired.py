"""Two methods on the scenes that both scored: difference, interval, wins, p-value; and families of such tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from gen3r_bench.errors import InputError
from gen3r_bench.stats.bootstrap import Floats, Interval, checked, interval_of

Test = Literal["exact sign-flip", "Monte-Carlo sign-flip", "none"]
EXACT_UP_TO: Final = 14
"""Scenes with a difference up to which all sign flips are enumerated: 16384 of them."""
_RELATIVE_TOLERANCE: Final = 1e-10


@dataclass(frozen=True, slots=True)
class SignFlip:
    """A two-sided p-value and how it was found."""

    p_value: float
    test: Test


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Method a against method b on their common scenes.

    Attributes:
        n: common scenes; the rest of the fields is about them alone.
        difference: mean of a minus b, in the unit of the scores; None without a common scene.
        interval: of the difference; None for fewer than two scenes.
        wins, losses, ties: scenes on which a is better, worse, exactly equal.
        p_value: two-sided; 1 where there is nothing to test.
        test: how the p-value was found.
        detectable: the true difference that so many scenes would show four times out of five; None below two scenes.
    """

    n: int
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    interval: Interval | None
    wins: int
    losses: int
    ties: int
    p_value: float
    test: Test
    detectable: float | None


def compare_paired(
    a: Mapping[str, float],
    b: Mapping[str, float],
    *,
    higher_is_better: bool,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two methods scene by scene; scenes that only one of them scored take no part.

    >>> compare_paired({"x": 2.0, "y": 1.0, "z": 9.0}, {"x": 1.0, "y": 1.0}, higher_is_better=True).wins
    1

    Args:
        a: one value a scene (the mean over its seeds).
        b: the same of the other method.
        higher_is_better: the metric's direction; it decides wins and losses, and no other number.
        level: of the interval.
        resamples: bootstrap draws, and sign flips where they are not enumerated.
        seed: of both.

    Raises:
        InputError: for a value that is not finite, or an impossible level.
    """
    for values in (a, b):
        for scene, value in values.items():
            checked(scene, value)
    common = sorted(a.keys() & b.keys())
    differences = np.array([a[scene] - b[scene] for scene in common], dtype=np.float64)
    interval = interval_of(differences, level=level, resamples=resamples, seed=seed)
    better = differences > 0 if higher_is_better else differences < 0
    ties = int((differences == 0).sum())
    wins = int(better.sum())
    found = sign_flip(differences, resamples=resamples, seed=seed)
    return PairedComparison(
        len(common),
        _mean([a[scene] for scene in common]),
        _mean([b[scene] for scene in common]),
        _mean(differences),
        interval,
        wins,
        len(common) - wins - ties,
        ties,
        found.p_value,
        found.test,
        minimum_detectable_difference(differences, level=level),
    )


def _mean(values: Sequence[float] | Floats) -> float | None:
    return math.fsum(values) / len(values) if len(values) else None


def sign_flip(differences: Sequence[float] | Floats, *, resamples: int = 10_000, seed: int = 0) -> SignFlip:
    """Two-sided p-value of "neither method is better": each scene's difference might as well have the other sign.

    The statistic is the mean difference. With at most ``EXACT_UP_TO`` scenes that differ, all sign flips are counted,
    and n scenes cannot give less than 2/2^n: fewer than six can never reach 0.05. With more, ``resamples`` random flips
    are drawn, and the p-value is (1 + hits) / (1 + resamples), which is valid at every number of draws (Phipson and
    Smyth 2010). Scenes without a difference take no part, since a flip does not change them.

    >>> sign_flip([1.0, 2.0, 3.0])
    SignFlip(p_value=0.25, test='exact sign-flip')

    Raises:
        InputError: for a value that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("a difference that is not finite", expected="finite numbers; leave out missing scores")
    values = values[values != 0]
    n = len(values)
    if n == 0:
        return SignFlip(1.0, "none")
    exact = n <= EXACT_UP_TO
    signs = _all_signs(n) if exact else _random_signs(n, resamples, seed)
    # What equals the observed sum but for rounding is as extreme as it.
    bound = abs(values.sum()) - _RELATIVE_TOLERANCE * np.abs(values).sum()
    hits = int((np.abs(signs @ values) >= bound).sum())
    if exact:
        return SignFlip(hits / len(signs), "exact sign-flip")
    return SignFlip((1 + hits) / (1 + resamples), "Monte-Carlo sign-flip")


@lru_cache(maxsize=EXACT_UP_TO)
def _all_signs(n: int) -> Floats:
    """[2^n, n] of -1 and 1."""
    return _frozen((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


@lru_cache(maxsize=2)
def _random_signs(n: int, resamples: int, seed: int) -> Floats:
    return _frozen(np.random.default_rng(seed).integers(2, size=(resamples, n), dtype=np.int8))


def _frozen(bits: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Floats:
    signs: Floats = bits.astype(np.float64) * 2 - 1
    signs.flags.writeable = False
    return signs


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests (Holm 1979), in the order given: reject where one is at most α.

    The chance of any false claim in the family stays at most α, whatever the tests' dependence.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Raises:
        InputError: for a value outside [0, 1].
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise InputError(f"p-value {p}", expected="a number from 0 to 1")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def minimum_detectable_difference(
    differences: Sequence[float] | Floats, *, level: float = 0.95, power: float = 0.8
) -> float | None:
    """The true mean difference that as many scenes with the same spread would show with the given power.

    "Show" is a two-sided paired test at 1 - ``level``: (t(1-α/2) + t(power)) · s / √n, with n-1 degrees of freedom. A
    measured difference below it can be real and still go unnoticed; that nothing was found then says little.

    Args:
        differences: one a scene, in the unit of the scores.
        level: 1 - α.
        power: chance of a finding where the difference is real.

    Returns:
        None for fewer than two scenes; 0 where all differences are equal.

    Raises:
        InputError: for a value that is not finite, or a level or power outside (0, 1).
    """
    from scipy.stats import t

    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("a difference that is not finite", expected="finite numbers; leave out missing scores")
    if not (0 < level < 1 and 0 < power < 1):
        raise InputError(f"level {level:g} and power {power:g}", expected="numbers between 0 and 1")
    n = len(values)
    if n < 2:
        return None
    if np.ptp(values) == 0:
        return 0.0
    reach = float(t.ppf((1 + level) / 2, n - 1) + t.ppf(power, n - 1))
    return reach * float(values.std(ddof=1)) / math.sqrt(n)
