"""Compares a run with its golden, scene by scene, and says where to look for the cause of what moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gen3r_bench.regression.golden import Golden
from gen3r_bench.reports.comparison_hints import hints
from gen3r_bench.reports.differences import Difference
from gen3r_bench.runs.record import Record
from gen3r_bench.runs.store import Run

Outcome = Literal["same", "within", "moved", "not finite", "lost", "failed", "missing", "new"]
BREACHES: Final[frozenset[Outcome]] = frozenset({"moved", "not finite", "lost", "failed", "missing"})
"""``lost``: the scene has scores, but not this one; ``missing``: it has no record. A ``new`` score is not guarded."""
ProblemKind = Literal["card", "checkpoint", "data", "cannot run"]


@dataclass(frozen=True, slots=True)
class Line:
    """One score of one scene, then and now.

    Attributes:
        scene_id, seed, key: which score.
        golden, now: its values; None where there is none.
        tolerance: how far it may move; None for a new score.
        outcome: what became of it.
        reason: why there is no value now.
    """

    scene_id: str
    seed: int
    key: str
    golden: float | None
    now: float | None
    tolerance: float | None
    outcome: Outcome
    reason: str = ""

    @property
    def breach(self) -> bool:
        return self.outcome in BREACHES

    @property
    def moved(self) -> float | None:
        """Now minus golden."""
        return None if self.golden is None or self.now is None else self.now - self.golden


@dataclass(frozen=True, slots=True)
class Problem:
    """A breach of a golden as a whole: its scores mean something else now, or there are none."""

    kind: ProblemKind
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one golden.

    Attributes:
        path, golden: the file.
        problems: breaches of the whole.
        lines: its scores, in the golden's order, new ones last.
        hints: what differs besides the scores, those that most often explain a difference first.
        notes: what a reader should know that is no breach.
    """

    path: Path
    golden: Golden
    problems: tuple[Problem, ...]
    lines: tuple[Line, ...] = ()
    hints: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def breaches(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.breach)

    @property
    def ok(self) -> bool:
        return not self.problems and not self.breaches

    @property
    def closest(self) -> float:
        """The largest part of its tolerance that a score within it has moved by, 0 to 1."""
        parts = [
            abs(line.moved or 0) / line.tolerance for line in self.lines if line.outcome == "within" and line.tolerance
        ]
        return max(parts, default=0.0)


def judge(path: Path, golden: Golden, now: Run, *, commit: str = "") -> Judgement:
    """Compare a run with a golden; a row, protocol and dataset of the run are the golden's.

    Args:
        path: of the golden.
        golden: the scores as they should be.
        now: the run; scenes that it lacks are breaches.
        commit: of the code that made the run; "" where it is not known.
    """
    row = now.header.row(golden.row.label)
    records = {
        (record.scene_id, record.seed): record
        for record in now.records
        if (record.row, record.protocol, record.dataset) == golden.identity
    }
    lines = tuple(_lines(golden, records))
    place = {(golden.protocol, golden.dataset)}
    keys = {line.key.partition("/")[0] for line in lines}
    found = list(hints(golden.as_run(path), golden.row, now, row, place, keys))
    if golden.commit != commit:
        found.append(Difference("commit of the suite", *(text or "unknown" for text in (golden.commit, commit))))
    problems = tuple(_problems(golden, now, records))
    return Judgement(path, golden, problems, lines, tuple(found), tuple(_notes(golden, now, lines)))


def _lines(golden: Golden, records: dict[tuple[str, int], Record]) -> Iterator[Line]:
    new = []
    for then in golden.records:
        record = records.get((then.scene_id, then.seed))
        for key, value in then.scores.items():
            yield _line(then, key, value, golden.calibration.tolerances[key].tolerance, record)
        if record is not None:
            new += [
                Line(then.scene_id, then.seed, key, None, value, None, "new")
                for key, value in record.scores.items()
                if key not in then.scores
            ]
    yield from new


def _line(then: Record, key: str, value: float, tolerance: float, record: Record | None) -> Line:
    now: float | None = None
    reason = ""
    outcome: Outcome
    if record is None:
        outcome, reason = "missing", "the run has no record of the scene"
    elif record.status != "ok":
        outcome, reason = "failed", f"{record.status}: {record.reason}"
    elif key not in record.scores:
        outcome, reason = "lost", record.unsupported.get(key.partition("/")[0], "the record has no such score")
    else:
        now = record.scores[key]
        outcome = verdict(value, now, tolerance)
    return Line(then.scene_id, then.seed, key, value, now, tolerance, outcome, reason)


def verdict(golden: float, now: float, tolerance: float) -> Outcome:
    """What became of a score that is there.

    >>> verdict(0.5, 0.5004, 0.001), verdict(0.5, 0.502, 0.001), verdict(0.5, float("nan"), 0.001)
    ('within', 'moved', 'not finite')
    """
    if not math.isfinite(now):
        return "not finite"
    if now == golden:
        return "same"
    return "within" if abs(now - golden) <= tolerance else "moved"


def _problems(golden: Golden, now: Run, records: dict[tuple[str, int], Record]) -> Iterator[Problem]:
    then, card = golden.header.protocols[0].hash, now.header.card(golden.protocol).hash
    if then != card:
        yield Problem("card", f"the card of {golden.protocol} has hash {card}, the golden's is {then}")
    weights = now.header.row(golden.row.label).checkpoint_sha256
    if golden.row.checkpoint_sha256 != weights:
        hashes = [value[:12] if value else "none" for value in (weights, golden.row.checkpoint_sha256)]
        yield Problem("checkpoint", f"the weights have hash {hashes[0]}, the golden's have {hashes[1]}")
    other = [
        record.scene_id
        for record in golden.records
        if (found := records.get((record.scene_id, record.seed))) is not None
        and found.clip_fingerprint != record.clip_fingerprint
    ]
    if other:
        yield Problem("data", f"the files or options of {', '.join(dict.fromkeys(other))} are not the golden's")


def _notes(golden: Golden, now: Run, lines: Sequence[Line]) -> Iterator[str]:
    devices = [header.environment.get("device", "unknown") for header in (golden.header, now.header)]
    if devices[0] != devices[1]:
        yield (
            f"The golden was made on {devices[0]} and is compared on {devices[1]}: its tolerances were calibrated on "
            "the former, so a moved score may be the device's."
        )
    new = dict.fromkeys(line.key for line in lines if line.outcome == "new")
    if new:
        yield f"Not guarded yet: {', '.join(new)} (--update --reason TEXT takes them in)."


def suspects(judgement: Judgement) -> list[str]:
    """In words, what a breach is most likely made by, the likeliest first; from what the headers and records say."""
    fields = [hint.field for hint in judgement.hints]
    found = [
        text
        for text, prefixes in (
            ("the protocol's card", ("card ",)),
            ("the scenes' files", ("files of scenes",)),
            ("the weights", ("row checkpoint_sha256",)),
            ("the method's own code", ("row source",)),
            ("what a metric is computed with", tuple(f"{key} computed with" for key in _keys(judgement))),
            ("the device", ("environment device",)),
            ("the suite's code", ("environment gen3r-bench", "commit of the suite")),
            ("versions or machine", ("environment ",)),
        )
        if any(field.startswith(prefixes) for field in fields)
    ]
    if "versions or machine" in found and not any(
        field.startswith("environment ") and field not in ("environment gen3r-bench", "environment device")
        for field in fields
    ):
        found.remove("versions or machine")
    return found or ["code that is not committed: nothing else differs in the headers and records"]


def _keys(judgement: Judgement) -> list[str]:
    return list(dict.fromkeys(line.key.partition("/")[0] for line in judgement.lines))
