"""Does a run's folder still say what the suite wrote? Every line is looked at, and every finding is reported.

Reading a run stops at the first damaged line; a check of a submission has to name them all. Nothing here recomputes a
score: `gen3r_bench.runs.rescore` does, where predictions were kept. A checksum shows an edit by accident or by hand;
whoever forges a record on purpose can seal it again, so that only recomputed scores prove anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from gen3r_bench.errors import StoreError
from gen3r_bench.files import explained
from gen3r_bench.metrics.base import RANDOM_WEIGHTS, Metric
from gen3r_bench.protocols.card import Card
from gen3r_bench.runs.kept import card_of
from gen3r_bench.runs.plan import record_key
from gen3r_bench.runs.record import PlanEntry, Record, RunHeader, record_checksum
from gen3r_bench.runs.rows import PREDICTIONS_SOURCE, entry_fingerprint
from gen3r_bench.runs.store import RECORDS_NAME, Run, read_header, unexplained

Check = Literal[
    "line", "checksum", "duplicate", "card", "plan", "partial", "missing", "key", "score", "random-weights",
    "scene", "prediction", "rescored", "aggregate",
]  # fmt: skip
"""Kinds of findings: those of `audit`, then those of scoring again and of what lies beside the records."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a run's folder.

    Attributes:
        check: which check found it.
        message: what is wrong, for a person.
        protocol, dataset, scene_id, row: what it is about, as far as it is about one of them.
    """

    check: Check
    message: str
    protocol: str = ""
    dataset: str = ""
    scene_id: str = ""
    row: str = ""

    @classmethod
    def about(cls, record: Record, check: Check, message: str) -> Finding:
        return cls(check, message, record.protocol, record.dataset, record.scene_id, record.row)

    @property
    def place(self) -> str:
        return " · ".join(part for part in (self.protocol, self.dataset, self.scene_id, self.row) if part)


def audit(path: Path, metrics: Mapping[str, Metric]) -> tuple[Run, list[Finding]]:
    """Read a run's folder to its end, and say everything that does not fit.

    Args:
        path: the folder, with ``run.json`` and ``records.jsonl``.
        metrics: registered metrics by key, for the legal range of a score.

    Returns:
        The run with the records that could be read, and the findings, in the order of the checks.

    Raises:
        StoreError: where there is no header, or it is damaged or of another version: then nothing can be said.
    """
    header = read_header(path)
    findings: list[Finding] = []
    lines = _read_lines(path / RECORDS_NAME, findings)
    newest = _without_duplicates(lines, findings)
    cards = _cards(header, findings)
    findings += _plan_findings(header, cards)
    planned = set(_planned(header))
    carded = {card.name for card in header.protocols}
    for record in newest.values():
        if record.identity not in planned:
            message = "the record is not in the plan of run.json: its scene, row, seed or protocol is not named there"
            findings.append(Finding.about(record, "plan", message))
            continue
        if record.protocol in carded:
            findings += _record_findings(record, header, cards, metrics)
    for protocol, dataset, scene, row, seed in _planned(header):
        if (protocol, dataset, scene, row, seed) not in newest:
            text = f"no record of seed {seed}, though the plan of run.json names it"
            findings.append(Finding("missing", text, protocol, dataset, scene, row))
    return Run(path, header, tuple(newest.values())), findings


def _read_lines(path: Path, findings: list[Finding]) -> list[tuple[int, bytes, Record]]:
    """The records of a file with their line numbers; what is no record becomes a finding."""
    if not path.is_file():
        findings.append(Finding("line", f"there is no {RECORDS_NAME}"))
        return []
    with explained("read", path):
        data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        findings.append(
            Finding("line", f"the last line of {RECORDS_NAME} is cut off: the run was stopped while writing")
        )
        data = data[: data.rfind(b"\n") + 1]
    found = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            content = json.loads(line)
            record = Record.model_validate_json(line)
        except (ValueError, RecursionError) as error:
            reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
            findings.append(Finding("line", f"line {number} of {RECORDS_NAME} is not a record: {reason}"))
            continue
        if record.checksum != record_checksum(content):
            text = f"line {number} was changed after it was written: its checksum is {record_checksum(content)}"
            findings.append(Finding.about(record, "checksum", f"{text}, the line says {record.checksum or 'nothing'}"))
        found.append((number, line, record))
    return found


def _without_duplicates(
    lines: list[tuple[int, bytes, Record]], findings: list[Finding]
) -> dict[tuple[str, str, str, str, int], Record]:
    """The newest record of each identity; a line that only repeats or alters another's scores becomes a finding.

    A failure that was tried again, and a record to which a metric was added, legally stand twice.
    """
    newest: dict[tuple[str, str, str, str, int], tuple[int, bytes, Record]] = {}
    for number, line, record in lines:
        before = newest.get(record.identity)
        newest[record.identity] = (number, line, record)
        if before is None:
            continue
        earlier, earlier_line, old = before
        if line == earlier_line:
            findings.append(Finding.about(record, "duplicate", f"line {number} repeats line {earlier}"))
            continue
        altered = [key for key, value in old.scores.items() if record.scores.get(key) != value]
        if altered or (old.status == "ok" and record.status != "ok"):
            text = f"line {number} replaces line {earlier}, which has other scores ({', '.join(altered) or old.status})"
            findings.append(Finding.about(record, "duplicate", text))
    return {identity: record for identity, (_, _, record) in newest.items()}


def _cards(header: RunHeader, findings: list[Finding]) -> dict[str, Card]:
    """The cards whose content has the hash that the header says."""
    cards: dict[str, Card] = {}
    for name, count in Counter(card.name for card in header.protocols).items():
        if count > 1:
            findings.append(Finding("card", f"run.json holds {count} cards of {name}", protocol=name))
        try:
            cards[name] = card_of(header, name)
        except StoreError as error:
            findings.append(Finding("card", str(error), protocol=name))
    return cards


def _planned(header: RunHeader) -> Iterator[tuple[str, str, str, str, int]]:
    """Every identity that a run sets out to record."""
    for entry in header.plan:
        for scene in dict.fromkeys(entry.scenes):
            for row in dict.fromkeys(row.label for row in header.rows):
                for seed in header.seeds:
                    yield entry.protocol, entry.dataset, scene, row, seed


def _plan_findings(header: RunHeader, cards: Mapping[str, Card]) -> Iterator[Finding]:
    """What a plan says that its card does not; labels and scenes that are named twice."""
    for label, count in Counter(row.label for row in header.rows).items():
        if count > 1:
            yield Finding("plan", f"run.json names {count} rows {label!r}", row=label)
    for (protocol, dataset), count in Counter((entry.protocol, entry.dataset) for entry in header.plan).items():
        if count > 1:
            yield Finding("plan", f"the plan names the dataset {count} times", protocol=protocol, dataset=dataset)
    for entry in header.plan:
        place = {"protocol": entry.protocol, "dataset": entry.dataset}
        for scene, count in Counter(entry.scenes).items():
            if count > 1:
                yield Finding("plan", f"the plan names the scene {count} times", scene_id=scene, **place)
        if entry.protocol not in {card.name for card in header.protocols}:
            yield Finding("plan", "the plan names a protocol whose card run.json lacks", **place)
        elif entry.protocol in cards:
            yield from _clip_findings(entry, cards[entry.protocol])
        if entry.partial:
            text = f"scored {len(entry.scenes)} of the card's {entry.scenes_in_full} scenes; a partial run is no result"
            yield Finding("partial", text, **place)


def _clip_findings(entry: PlanEntry, card: Card) -> Iterator[Finding]:
    clip = card.clip_plan(entry.dataset)
    said: dict[str, Any] = {name: getattr(entry, name) for name in ("frames", "stride", "start", "image_size")} | {
        "scenes": entry.scenes_in_full
    }
    for name, value in said.items():
        asked = getattr(clip, name)
        if asked is not None and asked != value:
            text = f"the plan says {name} {value}, the card {asked}"
            yield Finding("plan", text, protocol=entry.protocol, dataset=entry.dataset)


def _record_findings(
    record: Record, header: RunHeader, cards: Mapping[str, Card], metrics: Mapping[str, Metric]
) -> Iterator[Finding]:
    """Whether a record belongs under its header: card, key, legal scores, weights."""
    digest = header.card(record.protocol).hash
    if record.card_hash != digest:
        text = f"scored under card {record.card_hash} of {record.protocol}, run.json says {digest}"
        yield Finding.about(record, "card", text)
    card = cards.get(record.protocol)
    if card is not None and record.card_hash == digest and _key_of(record, header, card) != record.key:
        text = "its key does not follow from the card, the scene's files, the row and the seed"
        yield Finding.about(record, "key", text)
    for key, value in record.scores.items():
        name = key.partition("/")[0]
        metric = metrics.get(name)
        if metric is None:
            yield Finding.about(record, "score", f"{key} is no metric that is registered here")
        elif not metric.bounds[0] <= value <= metric.bounds[1]:
            low, high = metric.bounds
            yield Finding.about(record, "score", f"{key} is {value:g}; legal are {low:g} to {high:g}")
    if (unknown := unexplained(record, header)) is not None:
        yield Finding.about(record, "score", f"run.json does not say what {unknown} was computed with")
    for key in random_metrics(record, header):
        yield Finding.about(record, "random-weights", f"{key} was computed with random weights; it is no score")


def _key_of(record: Record, header: RunHeader, card: Card) -> str:
    """The key that a record should have; its own where that depends on files which are not here."""
    row = header.row(record.row)
    if not record.clip_fingerprint or record.status != "ok" or row.source == PREDICTIONS_SOURCE:
        return record.key
    return record_key(
        card,
        record.dataset,
        record.scene_id,
        record.clip_fingerprint,
        entry_fingerprint(row),
        record.seed,
        header.geometry_backend,
    )


def random_metrics(record: Record, header: RunHeader) -> list[str]:
    """Keys of a record's scores that were computed with random weights."""
    return [
        key
        for key, name in record.made_with.items()
        if header.provenances.get(name, {}).get("weights") == RANDOM_WEIGHTS
    ]
