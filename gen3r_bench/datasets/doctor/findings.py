"""What the doctor says of a scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

Level = Literal["ok", "warning", "error"]
LEVELS: Final[tuple[str, ...]] = get_args(Level)
"""From harmless to worst."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one scene.

    Attributes:
        check: its name.
        level: "ok", "warning" (look at it; also where a check cannot tell) or "error" (do not use the scene so).
        measured: what was found, with its unit.
        expected: what a sound scene has.
        message: what is wrong and what to do about it; "" where nothing is.
    """

    check: str
    level: Level
    measured: str
    expected: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every finding about one scene.

    Attributes:
        dataset, scene_id: of the scene.
        findings: in the order of the checks.
        convention: "as-read", a key of `conventions.EXPLANATIONS`, or None where it cannot be told.
        epipolar_px: median symmetric epipolar distance in pixels by hypothesis, "as-read" first; empty where there are
            not enough matches.
        depth_error: median relative depth error by hypothesis; empty without depth or overlap.
    """

    dataset: str
    scene_id: str
    findings: tuple[Finding, ...]
    convention: str | None = None
    epipolar_px: Mapping[str, float] = field(default_factory=dict)
    depth_error: Mapping[str, float] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """The worst level of all findings."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="ok")

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: the attributes and the level."""
        return {
            "dataset": self.dataset,
            "scene_id": self.scene_id,
            "level": self.level,
            "convention": self.convention,
            "epipolar_px": {name: round(value, 4) for name, value in self.epipolar_px.items()},
            "depth_error": {name: round(value, 6) for name, value in self.depth_error.items()},
            "findings": [
                {name: getattr(finding, name) for name in ("check", "level", "measured", "expected", "message")}
                for finding in self.findings
            ],
        }
