"""What differs between two rows besides their scores: where to look for the cause of a difference."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from gen3r_bench.reports.differences import ABSENT, Difference, as_text, differences
from gen3r_bench.runs.record import PlanEntry, Record, RowEntry
from gen3r_bench.runs.store import Run

Hint = Difference
_ROW_FIELDS: Final = ("checkpoint", "checkpoint_sha256", "source", "training_sets")
_RECORD_FIELDS: Final = ("device", "n_frames", "num_frames", "coverage", "in_training_set", "adaptations", "flags")


def hints(
    run_a: Run,
    row_a: RowEntry,
    run_b: Run,
    row_b: RowEntry,
    shared: Collection[tuple[str, str]],
    metric_keys: Collection[str],
) -> Iterator[Hint]:
    """Fields that differ, those that most often explain a difference first.

    First what defines the numbers (cards, scenes, seeds, backend, what metrics were computed with), then the weights,
    then what the records say of the predictions, then versions and machines.

    Args:
        run_a: with ``row_a``, the first side.
        row_a: its row.
        run_b: with ``row_b``, the other side.
        row_b: its row.
        shared: protocol and dataset of what is compared.
        metric_keys: metrics that are compared.
    """
    a, b = run_a.header, run_b.header
    for protocol in dict.fromkeys(protocol for protocol, _ in sorted(shared)):
        card_a, card_b = a.card(protocol), b.card(protocol)
        if card_a.hash != card_b.hash:
            yield Hint(f"card {protocol}", card_a.hash, card_b.hash)
            yield from differences(f"card {protocol}:", card_a.content, card_b.content)
    for place in sorted(shared):
        yield from _plan_hints(*(_entry(run, place) for run in (run_a, run_b)))
    yield from differences(
        "run",
        {"seeds": a.seeds, "geometry backend": a.geometry_backend},
        {"seeds": b.seeds, "geometry backend": b.geometry_backend},
    )
    records = [_records(run, row, shared) for run, row in ((run_a, row_a), (run_b, row_b))]
    yield from _clip_hints(*records)
    for key in sorted(metric_keys):
        facts = [_facts(run, own, key) for run, own in zip((run_a, run_b), records, strict=True)]
        yield from differences(f"{key} computed with", *facts)
    yield from differences("row", *({name: getattr(row, name) for name in _ROW_FIELDS} for row in (row_a, row_b)))
    for name in _RECORD_FIELDS:
        said = [_said(own, name) for own in records]
        if said[0] != said[1]:
            yield Hint(f"records {name}", *said)
    versions = [{"gen3r-bench": header.suite_version} | header.environment for header in (a, b)]
    yield from differences("environment", *versions)


def _entry(run: Run, place: tuple[str, str]) -> PlanEntry:
    return next(entry for entry in run.header.plan if (entry.protocol, entry.dataset) == place)


def _plan_hints(a: PlanEntry, b: PlanEntry) -> Iterator[Hint]:
    where = f"{a.protocol} on {a.dataset_title}:"
    plans = [entry.model_dump(exclude={"scenes", "protocol", "dataset", "dataset_title"}) for entry in (a, b)]
    yield from differences(where, *plans)
    if a.scenes != b.scenes:
        common = len(set(a.scenes) & set(b.scenes))
        order = " in another order" if set(a.scenes) == set(b.scenes) else ""
        yield Hint(f"{where} scenes", str(len(a.scenes)), f"{len(b.scenes)}, {common} in common{order}")


def _records(run: Run, row: RowEntry, shared: Collection[tuple[str, str]]) -> list[Record]:
    return [
        record
        for record in run.records
        if record.row == row.label and record.status == "ok" and (record.protocol, record.dataset) in shared
    ]


def _clip_hints(a: list[Record], b: list[Record]) -> Iterator[Hint]:
    """Scenes of one name whose files were others when they were scored."""
    prints = [
        {(r.protocol, r.dataset, r.scene_id): r.clip_fingerprint for r in own if r.clip_fingerprint} for own in (a, b)
    ]
    common = prints[0].keys() & prints[1].keys()
    changed = sorted(place[2] for place in common if prints[0][place] != prints[1][place])
    if changed:
        shown = ", ".join(dict.fromkeys(changed[:3])) + (" …" if len(changed) > 3 else "")
        yield Hint("files of scenes", "as scored", f"others for {len(changed)} of {len(common)} records: {shown}")


def _facts(run: Run, records: list[Record], key: str) -> dict[str, object]:
    """What a metric was computed with; where a row's records differ, every value of a fact."""
    found: dict[str, dict[str, None]] = {}
    for identity in dict.fromkeys(record.made_with[key] for record in records if key in record.made_with):
        for name, value in run.header.provenances.get(identity, {}).items():
            found.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in found.items()}


def _said(records: list[Record], name: str) -> str:
    """What records say in a field, each thing once."""
    said: dict[str, None] = {}
    for record in records:
        value = getattr(record, name)
        said |= dict.fromkeys(value) if isinstance(value, tuple) else {as_text(value): None}
    return ", ".join(sorted(said)) or ABSENT
