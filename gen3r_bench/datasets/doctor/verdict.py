"""Which convention a clip's cameras follow, from the errors as read and under the usual mistakes.

The rule: a convention is wrong only where the error as read is above a bound AND one mistake, undone, brings it below a
third and to a plausible size. What no mistake explains is reported as a warning, and so is what cannot be told: few
matches, little motion, or a motion under which right and wrong look alike. So a sound capture never fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gen3r_bench.datasets.doctor.conventions import (
    AS_READ,
    AXES,
    EXPLANATIONS,
    FAMILIES,
    Hypothesis,
    depth_changes,
    depth_error,
    epipolar_error,
    fitted_hypotheses,
    fixed_hypotheses,
)
from gen3r_bench.datasets.doctor.correspondence import PairMatches, chosen_frames
from gen3r_bench.datasets.doctor.findings import Finding, Level
from gen3r_bench.scene import Scene

BOUND_PX: Final = 2.0 / 560
"""Epipolar error that is above suspicion, as a share of the picture's shorter side (2 px at the paper's size)."""
MIN_BOUND_PX: Final = 0.4
"""Features are located no better than this in small pictures."""
BOUND_DEPTH: Final = 0.01
"""Relative depth error that is above suspicion."""
CLEARLY: Final = 1 / 3
"""An alternative has to bring the error below this share of what it is as read."""
PLAUSIBLE: Final = 3.0
"""… and below so many bounds, since the least wrong of wrong ones is no explanation."""
MIN_PAIRS: Final = 3
MIN_SHIFT: Final = 0.01
"""Median displacement of the widest pair, as a share of the picture's shorter side: below, every camera fits."""

_ALIKE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one test by hypothesis.

    Attributes:
        values: "as-read" first; only finite ones. Empty where the test cannot be made.
        bound: what is above suspicion.
    """

    values: Mapping[str, float]
    bound: float

    @property
    def as_read(self) -> float:
        return self.values.get(AS_READ, float("nan"))

    def explanations(self) -> list[str]:
        """The mistakes that explain the error as read by the rule, and that fit about as well as the best; best first.

        Among them, those that have nothing fitted to them come first, then poses that are plainly inverted.
        """
        if not self.as_read > self.bound:
            return []
        limit = min(CLEARLY * self.as_read, PLAUSIBLE * self.bound)
        good = {name: value for name, value in self.values.items() if name != AS_READ and value < limit}
        alike = [name for name, value in good.items() if value <= _ALIKE * min(good.values())]
        return sorted(alike, key=lambda name: (name in FAMILIES, name in FAMILIES[1:], good[name]))

    def refutes(self, name: str) -> bool:
        """Whether the cameras as read pass this test and a mistake, undone, clearly would not.

        Frames that would not even overlap count against it, unless its first camera was fitted: then its depth may be
        off by the fit.
        """
        without = self.values.get(name, 0.0 if name in FAMILIES else np.inf)
        return self.as_read <= self.bound and without >= self.as_read / CLEARLY

    def cannot_tell(self) -> list[str]:
        """Axes that would do as well as those read, which pass."""
        if not self.as_read <= self.bound:
            return []
        limit = min(_ALIKE * self.as_read, self.bound)
        return [name for name in AXES if self.values.get(name, np.inf) <= limit]


def convention_checks(
    scene: Scene, matches: Sequence[PairMatches]
) -> tuple[list[Finding], str | None, dict[str, float], dict[str, float]]:
    """Findings on the convention, its name, and both tests' errors by hypothesis; see `findings.Diagnosis`."""
    hypotheses = fixed_hypotheses(scene.cameras)
    bound = max(MIN_BOUND_PX, BOUND_PX * min(scene.image_size))
    why_not = _too_little(scene, matches)
    distances = {} if why_not else _epipolar(hypotheses, matches)
    if distances.get(AS_READ, 0.0) > bound and min(distances.values()) > bound:
        # the search takes a second or two, so it is left to clips that nothing simpler explains
        fitted = fitted_hypotheses(scene.cameras, matches)
        hypotheses += fitted
        distances |= _epipolar(fitted, matches)
    epipolar = Errors(_finite(distances), bound)
    depth = Errors(_finite(_depth_errors(scene, hypotheses)), BOUND_DEPTH)
    convention = _convention(epipolar, depth)
    findings = [_judged("epipolar distance", epipolar, depth, convention, "px", why_not or "the cameras do not move")]
    if scene.depth is not None:
        findings.append(_judged("depth reprojection", depth, epipolar, convention, "%", "frames do not overlap"))
    return findings, convention, dict(epipolar.values), dict(depth.values)


def _too_little(scene: Scene, matches: Sequence[PairMatches]) -> str:
    """Why matches cannot judge this clip, or ""."""
    if len(matches) < MIN_PAIRS:
        return f"{len(matches)} pairs of frames match"
    shift = max(pair.shift for pair in matches) / min(scene.image_size)
    return "" if shift >= MIN_SHIFT else f"matches move by {shift:.1%} of the picture"


def _epipolar(hypotheses: Sequence[Hypothesis], matches: Sequence[PairMatches]) -> dict[str, float]:
    return {hypothesis.name: epipolar_error(hypothesis, matches) for hypothesis in hypotheses}


def _depth_errors(scene: Scene, hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
    if scene.depth is None:
        return {}
    frames = chosen_frames(scene.num_frames)
    pairs = list(itertools.pairwise(frames))
    errors = {h.name: depth_error(h, scene.depth, scene.valid, pairs) for h in hypotheses}
    for name, depth in depth_changes(scene.cameras, scene.depth, frames):
        errors[name] = depth_error(hypotheses[0], depth, scene.valid, pairs)
    return errors


def _finite(errors: Mapping[str, float]) -> dict[str, float]:
    if not np.isfinite(errors.get(AS_READ, np.nan)):
        return {}
    return {name: float(value) for name, value in errors.items() if np.isfinite(value)}


def _convention(epipolar: Errors, depth: Errors) -> str | None:
    for errors, other in ((epipolar, depth), (depth, epipolar)):
        names = [name for name in errors.explanations() if not other.refutes(name)]
        if names:
            # of what fits alike here, what fits clearly better there
            best = min(names, key=lambda name: other.values.get(name, np.inf))
            clear = other.values.get(best, np.inf) < CLEARLY * other.values.get(names[0], np.inf)
            return best if clear else names[0]
    passed = [errors for errors in (epipolar, depth) if errors.as_read <= errors.bound]
    if not passed or any(not _settled(errors, passed) for errors in passed):
        return None
    return AS_READ


def _settled(errors: Errors, passed: Sequence[Errors]) -> bool:
    return all(any(other.refutes(name) for other in passed) for name in errors.cannot_tell())


def _judged(check: str, errors: Errors, other: Errors, convention: str | None, unit: str, why_not: str) -> Finding:
    """One test's finding, in the light of the other test and of what both together say."""
    expected = f"≤ {_text(errors.bound, unit)}"
    if not errors.values:
        return Finding(check, "warning", "–", expected, f"cannot tell: {why_not}")
    measured = _text(errors.as_read, unit)
    if convention is not None and convention != AS_READ:
        better = errors.values.get(convention, np.inf)
        if better < CLEARLY * errors.as_read and errors.as_read > errors.bound:
            others = [name for name in errors.explanations() if name != convention]
            text = f"{_text(better, unit)} {EXPLANATIONS[convention]} against {measured} as read"
            text += f"; {' or '.join(others)} would do as well" if others else ""
            return Finding(check, "error", measured, expected, text)
        level: Level = "ok" if errors.as_read <= errors.bound else "warning"
        return Finding(check, level, measured, expected, "" if level == "ok" else "high; see the other test")
    if errors.as_read > errors.bound:
        text = "high, and none of the usual mistakes explains it: distortion, a wrong K, or poses of other frames?"
        if convention == AS_READ:
            text = "high, though the other test passes: colour and depth cameras may differ, or K may be slightly off"
        return Finding(check, "warning", measured, expected, text)
    alike = [name for name in errors.cannot_tell() if not other.refutes(name)]
    if alike:
        text = f"cannot be told from {' or '.join(alike)}: the motion is too simple or too small"
        return Finding(check, "warning", measured, expected, text)
    return Finding(check, "ok", measured, expected)


def _text(value: float, unit: str) -> str:
    return f"{value:.2%}".replace("%", " %") if unit == "%" else f"{value:.2f} {unit}"
