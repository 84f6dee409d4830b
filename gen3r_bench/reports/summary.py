"""From a run's records to the statistics of cells: a mean, how many scenes stand behind it, and why not all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gen3r_bench.errors import StoreError
from gen3r_bench.metrics.base import RANDOM_WEIGHTS
from gen3r_bench.runs.record import CardEntry, PlanEntry, Record, RunHeader
from gen3r_bench.runs.store import Run
from gen3r_bench.stats import scene_means

NOT_RUN = "not run yet"
RANDOM = "computed with random weights, which is no score"
SEPARATING_FACTS: Final = ("antialias", "reference_image")
"""Facts of a provenance that move a score by more than methods differ: such scores never share a column."""
Conditions = tuple[tuple[str, str], ...]
"""The separating facts that scores have in common, by name."""


@dataclass(frozen=True, slots=True)
class CellStats:
    """One cell of a measured table.

    Attributes:
        protocol, dataset, row, metric: what the cell is of; ``metric`` is a score key such as ``psnr@8bit/novel``.
        mean: over the scored scenes of each scene's mean over its seeds; None where no scene has a score.
        values: of the scored scenes, each scene's mean over its seeds.
        planned: how many scenes the run set out to score.
        reasons: why a score is missing, and for how many (scene, seed) pairs.
        conditions: what its scores were computed under, where that must be the same all along a column.
    """

    protocol: str
    dataset: str
    row: str
    metric: str
    mean: float | None
    values: Mapping[str, float]
    planned: int
    reasons: Mapping[str, int]
    conditions: Conditions = ()

    @property
    def scenes(self) -> frozenset[str]:
        return frozenset(self.values)

    @property
    def n(self) -> int:
        return len(self.values)


def summarise(run: Run) -> list[CellStats]:
    """Statistics of every cell that a run set out to fill, in the order of its header.

    The header decides what counts: records of scenes, seeds or rows that it no longer names are left out. Where a scene
    was scored twice for one row and seed (after a change of weights), the later record counts. A score of random
    weights is none. Where scores of one metric were computed under different conditions, each of these has a cell.

    Raises:
        StoreError: where a record was scored under another version of the protocol than the header's.
    """
    records = _by_cell(run)
    seen: dict[str, set[str]] = {}
    for record in records.values():
        seen.setdefault(record.protocol, set()).update(record.scores, record.unsupported)
    cells = []
    for entry in run.header.plan:
        keys = _score_keys(run.header.card(entry.protocol), seen.get(entry.protocol, set()))
        here = [item for place, item in records.items() if place[:2] == (entry.protocol, entry.dataset)]
        conditions = {key: _conditions_of(run.header, here, key) for key in keys}
        for row in run.header.rows:
            planned = {
                (scene, seed): records.get((entry.protocol, entry.dataset, row.label, scene, seed))
                for scene in entry.scenes
                for seed in run.header.seeds
            }
            cells += [
                _cell(run.header, entry, row.label, key, planned, condition)
                for key in keys
                for condition in conditions[key]
            ]
    return cells


def _conditions_of(header: RunHeader, records: Iterable[Record], key: str) -> list[Conditions]:
    """The different conditions under which a score was computed; one without facts where there is no score yet."""
    scored = (record for record in records if key in record.scores and not _is_random(header, record, key))
    return sorted({_conditions(header, record, key) for record in scored}) or [()]


def _facts(header: RunHeader, record: Record, key: str) -> Mapping[str, str]:
    return header.provenances.get(record.made_with.get(key.partition("/")[0], ""), {})


def _conditions(header: RunHeader, record: Record, key: str) -> Conditions:
    facts = _facts(header, record, key)
    return tuple((name, facts[name]) for name in SEPARATING_FACTS if name in facts)


def _is_random(header: RunHeader, record: Record, key: str) -> bool:
    return _facts(header, record, key).get("weights") == RANDOM_WEIGHTS


def conditions_text(conditions: Conditions) -> str:
    """Such as ``antialias yes, reference image first``."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in conditions)


def provenances_shown(run: Run, protocol: str) -> dict[str, list[Mapping[str, str]]]:
    """What each metric of a protocol was computed with, by metric key; several where records differ."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for (name, *_), record in _by_cell(run).items():
        for key in record.made_with if name == protocol else ():
            facts = _facts(run.header, record, key)
            if facts and facts not in found.setdefault(key, []):
                found[key].append(facts)
    return found


def row_facts(run: Run, protocol: str) -> dict[str, Counter[str]]:
    """Facts that a reader of a row's numbers should know, by row label, and on how many records each stands."""
    facts: dict[str, Counter[str]] = {row.label: Counter() for row in run.header.rows}
    for (name, _dataset, row, _scene, _seed), record in _by_cell(run).items():
        if name != protocol or record.status != "ok":
            continue
        facts[row].update(record.flags)
        facts[row].update(record.adaptations)
        if record.coverage == "given-views":
            facts[row]["covers only the given views"] += 1
        elif record.coverage == "subset":
            facts[row][f"covers {record.n_frames} of {record.num_frames} frames"] += 1
    return facts


def _by_cell(run: Run) -> dict[tuple[str, str, str, str, int], Record]:
    """The records that the header asks for, the later one where two are of the same cell."""
    header = run.header
    hashes = {card.name: card.hash for card in header.protocols}
    planned = {(entry.protocol, entry.dataset, scene) for entry in header.plan for scene in entry.scenes}
    rows = {row.label for row in header.rows}
    found = {}
    for record in run.records:
        asked_for = (record.protocol, record.dataset, record.scene_id) in planned
        if not asked_for or record.row not in rows or record.seed not in header.seeds:
            continue
        expected = hashes[record.protocol]
        if record.card_hash != expected:
            raise StoreError(
                f"{run.path}: scene {record.scene_id} of {record.row} was scored under card {record.card_hash} of "
                f"{record.protocol}, the run's header says {expected} (fix: run it again with --fresh)"
            )
        found[record.protocol, record.dataset, record.row, record.scene_id, record.seed] = record
    return found


def _score_keys(card: CardEntry, seen: set[str]) -> list[str]:
    """Score keys of a protocol in column order: its metrics, each for the choices of frames that any record has.

    Metrics that were appended to the run and that the card does not ask for come last.
    """
    keys = []
    asked = list(card.content["metrics"])
    for metric in [*asked, *sorted({key.partition("/")[0] for key in seen} - set(asked))]:
        variants = [metric if frames == "all" else f"{metric}/{frames}" for frames in card.content["frames_scored"]]
        # Only metrics of frames come in variants; before a first score nobody knows, and the bare key stands for all.
        keys += [key for key in variants if key in seen] or [metric]
    return keys


def _cell(
    header: RunHeader,
    entry: PlanEntry,
    row: str,
    key: str,
    planned: Mapping[tuple[str, int], Record | None],
    conditions: Conditions,
) -> CellStats:
    scores: dict[str, list[float]] = {}
    reasons: Counter[str] = Counter()
    for (scene, _seed), record in planned.items():
        if record is None or key not in record.scores:
            reasons[_why_not(record, key)] += 1
        elif _is_random(header, record, key):
            reasons[RANDOM] += 1
        elif (found := _conditions(header, record, key)) != conditions:
            reasons[f"in another column: computed with {conditions_text(found) or 'nothing stated'}"] += 1
        else:
            scores.setdefault(scene, []).append(record.scores[key])
    values = scene_means(scores)
    mean = _mean(values.values()) if values else None
    return CellStats(
        entry.protocol,
        entry.dataset,
        row,
        key,
        mean,
        values,
        len(entry.scenes),
        dict(reasons.most_common()),
        conditions,
    )


def _why_not(record: Record | None, key: str) -> str:
    if record is None:
        return NOT_RUN
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    reason = record.unsupported.get(key) or record.unsupported.get(key.partition("/")[0])
    return f"unsupported: {reason}" if reason else "scored without this metric"


def _mean(values: Iterable[float]) -> float:
    """Mean by exact summation, so that the order in which scenes finished cannot show."""
    found = list(values)
    return math.fsum(found) / len(found)
