"""Is a submission what it says? Its records, its aggregates, and its scores where predictions came along."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gen3r_bench import registry
from gen3r_bench.files import explained, first_problem
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.leaderboard.collect import collect
from gen3r_bench.reports.leaderboard.folder import DATA_NAME
from gen3r_bench.reports.leaderboard.schema import Board, Entry, Leaderboard, Score
from gen3r_bench.runs.audit import Finding, audit
from gen3r_bench.runs.record import RunHeader
from gen3r_bench.runs.rescore import Rescored, rescore
from gen3r_bench.runs.store import Run

_RELATIVE = 1e-9
"""Two sums of the same numbers differ by less; a digit that someone changed does not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a submission (nothing, where ``findings`` is empty), and what could not be looked at."""

    run: Run
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    rescored: Rescored


def verify(folder: Path, metrics: Mapping[str, Metric], roots: Mapping[str, Path] | None = None) -> Verdict:
    """Check a folder of records, with ``leaderboard.json`` and predictions where they lie beside.

    Args:
        folder: a run's folder: ``run.json``, ``records.jsonl``, maybe ``predictions/`` and ``leaderboard.json``.
        metrics: registered metrics by key.
        roots: where datasets lie, to score predictions again.

    Raises:
        StoreError: where the folder has no header that this suite reads.
    """
    run, findings = audit(folder, metrics)
    notes: list[str] = []
    findings += _other_cards(run.header, notes)
    sound = not any(finding.check in ("card", "line", "plan") for finding in findings)
    rescored = rescore(run, metrics, roots) if sound else Rescored()
    findings += rescored.findings
    if not sound:
        notes.append("Predictions and aggregates were not looked at, since the records cannot be trusted.")
    elif not rescored.kept:
        notes.append("No predictions lie beside the records: that the scores are true was not checked.")
    notes += [f"{reason} ({count} scores)." for reason, count in rescored.skipped.items()]
    if sound and (folder / DATA_NAME).is_file():
        findings += _aggregates(run, folder / DATA_NAME, metrics)
    return Verdict(run, tuple(findings), tuple(notes), rescored)


def _other_cards(header: RunHeader, notes: list[str]) -> Iterator[Finding]:
    """Cards of another version than this suite's: their numbers stand on another board."""
    protocols = registry.protocols()
    known = set(protocols.names())
    for card in header.protocols:
        if card.name not in known:
            notes.append(f"Protocol {card.name} is not registered here; its card was taken as it is.")
        elif protocols.load(card.name).hash != card.hash:
            text = (
                f"scored under card {card.hash}, this suite's card of {card.name} is {protocols.load(card.name).hash}"
            )
            yield Finding("card", text, protocol=card.name)


def _aggregates(run: Run, path: Path, metrics: Mapping[str, Metric]) -> Iterator[Finding]:
    """Cells of a ``leaderboard.json`` that the records do not give."""
    with explained("read", path):
        data = path.read_bytes()
    try:
        given = Leaderboard.model_validate_json(data)
    except ValidationError as error:
        yield Finding("aggregate", f"{path.name} is no leaderboard of this version: {first_problem(error)}")
        return
    alone = len(given.runs) == 1
    expected = collect([run], metrics)
    for board in expected.boards:
        place = {"protocol": board.protocol, "dataset": board.dataset}
        other = next((b for b in given.boards if (b.protocol, b.dataset) == (board.protocol, board.dataset)), None)
        if other is None or other.card_hash != board.card_hash:
            yield Finding("aggregate", f"{path.name} has no board of card {board.card_hash}", **place)
            continue
        for entry in board.entries:
            found = [e for e in other.entries if e.row == entry.row]
            if len(found) != 1:
                text = f"{path.name} has the row {len(found)} times" if found else f"{path.name} lacks the row"
                yield Finding("aggregate", text, row=entry.row, **place)
                continue
            yield from _cells(board, entry, found[0], with_marks=alone)
        if alone:
            for extra in {e.row for e in other.entries} - {e.row for e in board.entries}:
                yield Finding("aggregate", f"{path.name} has a row without records", row=extra, **place)
    if alone:
        places = [Counter((board.protocol, board.dataset) for board in known.boards) for known in (given, expected)]
        for protocol, dataset in places[0] - places[1]:
            text = f"{path.name} has a board without records"
            yield Finding("aggregate", text, protocol=protocol, dataset=dataset)


def _cells(board: Board, expected: Entry, given: Entry, *, with_marks: bool) -> Iterator[Finding]:
    for key, score in expected.scores.items():
        other = given.scores.get(key)
        for text, scene in _differences(score, other, with_marks=with_marks):
            yield Finding("aggregate", f"{key}: {text}", board.protocol, board.dataset, scene, expected.row)
    for key in given.scores.keys() - expected.scores.keys():
        yield Finding("aggregate", f"{key}: no record has it", board.protocol, board.dataset, "", expected.row)


def _differences(score: Score, other: Score | None, *, with_marks: bool) -> Iterator[tuple[str, str]]:
    """What differs between a cell that the records give and a written one, and of which scene."""
    if other is None:
        yield "the cell is missing", ""
        return
    if not _close(score.mean, other.mean):
        yield f"mean {other.mean}, the records give {score.mean}", ""
    if (score.n, score.planned) != (other.n, other.planned):
        yield f"n = {other.n} of {other.planned}, the records give {score.n} of {score.planned}", ""
    if score.reasons != other.reasons:
        yield f"reasons {other.reasons}, the records give {score.reasons}", ""
    ends = [
        (interval.low, interval.high) if interval else (None, None) for interval in (score.interval, other.interval)
    ]
    if not all(_close(a, b) for a, b in zip(*ends, strict=True)):
        yield f"interval {ends[1]}, the records give {ends[0]}", ""
    if with_marks and score.mark != other.mark:
        yield f"mark {other.mark}, the records give {score.mark}", ""
    for scene in sorted(score.scenes.keys() | other.scenes.keys()):
        a, b = score.scenes.get(scene), other.scenes.get(scene)
        if not _close(a, b):
            yield f"{b}, the records give {a}", scene


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=1e-12)
