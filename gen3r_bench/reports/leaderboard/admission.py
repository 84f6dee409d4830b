"""What may stand on a leaderboard, and why a run may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.leaderboard.collect import board_key
from gen3r_bench.runs.audit import Finding, audit
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.store import Run

_Scores = dict[str, dict[str, set[float]]]
"""What a row scored: by scene and metric key, the different values of its seeds."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Runs as they lie on the disk, which tables name; and the same without cells that stand twice."""

    runs: Sequence[Run]
    distinct: Sequence[Run]


def admitted_runs(paths: Sequence[Path], metrics: Mapping[str, Metric]) -> Admitted:
    """Read runs, and refuse those that no leaderboard should show.

    Refused are partial and unfinished runs, edited records, scores of random weights, two versions of one protocol, and
    a row label that means two things.

    Raises:
        InputError: with the reason; nothing may be written then.
        StoreError: where a run cannot be read or is of another version.
    """
    if not paths:
        raise InputError("no run to export", expected="one or more run folders")
    runs = []
    for path in dict.fromkeys(paths):
        run, findings = audit(path, metrics)
        if findings:
            raise _refusal(path, findings)
        runs.append(run)
    _check_cards(runs)
    _check_rows(runs)
    return Admitted(runs, without_repeats(runs))


def _refusal(path: Path, findings: Sequence[Finding]) -> InputError:
    kinds = Counter(finding.check for finding in findings)
    # the gravest kind speaks first: an edited record before the scenes that a partial run leaves out
    order = ("line", "checksum", "duplicate", "card", "plan", "partial", "random-weights", "key", "score", "missing")
    worst = min(findings, key=lambda finding: order.index(finding.check))
    more = sum(kinds.values()) - 1
    place = f" ({worst.place})" if worst.place else ""
    fixes = {
        "partial": "run it without --limit and --scenes",
        "missing": "the same command goes on where it stopped",
        "random-weights": "give the metric its real weights and run it again with --fresh",
    }
    return InputError(
        f"{path}: {worst.message}{place}" + (f"; {more} more finding{'s' if more > 1 else ''}" if more else ""),
        expected="finished, complete and unedited runs on a leaderboard",
        fix=fixes.get(worst.check, f"gen3r-bench verify {path} lists everything; run it again with --fresh"),
    )


def _check_cards(runs: Sequence[Run]) -> None:
    first: dict[str, tuple[str, Run]] = {}
    for run in runs:
        for card in run.header.protocols:
            digest, other = first.setdefault(card.name, (card.hash, run))
            if digest != card.hash:
                raise InputError(
                    f"card {digest} of {card.name} in {other.path} and card {card.hash} in {run.path}",
                    expected="one version of a protocol on one leaderboard",
                    fix="run the older one again, or export them to two folders",
                )


def _check_rows(runs: Sequence[Run]) -> None:
    first: dict[str, tuple[RowEntry, Run]] = {}
    for run in runs:
        for row in run.header.rows:
            known, other = first.setdefault(row.label, (row, run))
            if _meaning(known) != _meaning(row):
                raise InputError(
                    f"row {row.label!r} is {_described(known)} in {other.path} and {_described(row)} in {run.path}",
                    expected="one meaning for each row",
                    fix="give one of them another name or checkpoint name, or export them to two folders",
                )


def _meaning(row: RowEntry) -> tuple[str, str, str | None, str]:
    return row.method_id, row.kind, row.checkpoint_sha256, row.source


def _described(row: RowEntry) -> str:
    weights = f"weights {row.checkpoint_sha256[:12]}" if row.checkpoint_sha256 else "no weights"
    return f"{row.kind} {row.method_id} ({row.source}, {weights})"


def without_repeats(runs: Sequence[Run]) -> list[Run]:
    """Runs in which no cell stands twice: every run brings its floors along, and equal ones count once.

    A run that repeats another's row is split into one run a protocol and dataset, without that row.

    Raises:
        InputError: where two runs give one row other scores on the same scenes.
    """
    kept: list[Run] = []
    seen: dict[tuple[object, ...], tuple[Run, _Scores]] = {}
    for run in runs:
        parts = []
        for entry in run.header.plan:
            rows = []
            for row in run.header.rows:
                place = (*board_key(run, entry), row.label)
                scores = _scores(run, entry.protocol, entry.dataset, row.label)
                if place not in seen:
                    seen[place] = (run, scores)
                    rows.append(row)
                elif seen[place][1] != scores:
                    raise InputError(
                        f"row {row.label!r} has two values for {entry.protocol} on {entry.dataset_title}: from "
                        f"{seen[place][0].path} and from {run.path}",
                        expected="one value for each cell",
                        fix="leave one of the runs out"
                        + ("" if row.kind == "method" else ", or make one with --no-diagnostics"),
                    )
            labels = {row.label for row in rows}
            parts.append((entry, rows, labels))
        if all(len(rows) == len(run.header.rows) for _, rows, _ in parts):
            kept.append(run)
            continue
        for entry, rows, labels in parts:
            if not rows:
                continue
            header = run.header.model_copy(
                update={"protocols": (run.header.card(entry.protocol),), "plan": (entry,), "rows": tuple(rows)}
            )
            records = tuple(
                record
                for record in run.records
                if (record.protocol, record.dataset) == (entry.protocol, entry.dataset) and record.row in labels
            )
            kept.append(Run(run.path, header, records))
    return kept


def _scores(run: Run, protocol: str, dataset: str, label: str) -> _Scores:
    scores: _Scores = {}
    for record in run.records:
        if (record.protocol, record.dataset, record.row) == (protocol, dataset, label):
            of_scene = scores.setdefault(record.scene_id, {})
            for key, value in record.scores.items():
                of_scene.setdefault(key, set()).add(value)
    return scores
