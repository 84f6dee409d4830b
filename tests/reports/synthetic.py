"""Synthetic runs, written through the real writer and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.runs.record import CardEntry, PlanEntry, Record, RowEntry, RunHeader
from gen3r_bench.runs.store import RecordWriter, Run, read_run

Outcome = Mapping[str, float] | str | None


def row(label: str, kind: str = "method", **changes: object) -> RowEntry:
    method_id, _, checkpoint = label.partition("@")
    fields = {"label": label, "method_id": method_id, "title": method_id, "kind": kind}
    return RowEntry.model_validate({**fields, "checkpoint": checkpoint or None, **changes})


GEN3R, WVD = row("gen3r@reference"), row("wvd@reference")
FREEZE, ORACLE = row("freeze", "baseline"), row("oracle", "diagnostic")


def flat(value: float) -> dict[str, float]:
    """Point scores that are easy to tell apart."""
    return {"accuracy@fps20k": value, "completeness@fps20k": value + 2, "chamfer@fps20k": value + 1}


ENOUGH = tuple(f"s{n}" for n in range(8))
"""So many scenes that a paired test separates three methods."""


def write_run(
    folder: Path,
    outcome: Callable[[str, str, str, int], Outcome],
    *,
    cards: Sequence[Card] = (GEOM_1VIEW,),
    rows: Sequence[RowEntry] = (GEN3R, WVD),
    scenes: Sequence[str] = ("s0", "s1", "s2"),
    dataset: str = "mini",
    title: str = "mini",
    scenes_in_full: int | None = None,
    seeds: Sequence[int] = (42,),
    hashes: Mapping[str, str] | None = None,
    unsupported: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
    backend: str = "exact",
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    frames: int = 13,
    image_size: tuple[int, int] = (112, 112),
) -> Run:
    """Write a run whose records are ``outcome(protocol, row, scene, seed)``: scores, why it failed, or nothing yet."""
    digest = {card.name: (hashes or {}).get(card.name, card.hash) for card in cards}
    header = RunHeader(
        suite_version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        command="gen3r-bench run",
        protocols=tuple(
            CardEntry(
                name=card.name,
                hash=digest[card.name],
                title=card.title,
                paper_tables=card.paper_tables,
                content=card.content(),
            )
            for card in cards
        ),
        plan=tuple(
            PlanEntry(
                protocol=card.name,
                dataset=dataset,
                dataset_title=title,
                scenes=tuple(scenes),
                scenes_in_full=scenes_in_full or len(scenes),
                frames=frames,
                stride=1,
                start=0,
                image_size=image_size,
                dataset_options=dict(options or {}),
            )
            for card in cards
        ),
        rows=tuple(rows),
        seeds=tuple(seeds),
        geometry_backend=backend,
        environment=dict(environment or {"python": "3.11.7", "numpy": "2.0"}),
    )
    places = [(card.name, r.label, s, seed) for card in cards for r in rows for s in scenes for seed in seeds]
    with RecordWriter(folder) as writer:
        writer.write_header(header)
        for protocol, label, scene, seed in places:
            found = outcome(protocol, label, scene, seed)
            if found is None:
                continue
            failed = isinstance(found, str)
            writer.append(
                Record(
                    key=f"{protocol}-{dataset}-{label}-{scene}-{seed}",
                    status="failed" if failed else "ok",
                    protocol=protocol,
                    card_hash=digest[protocol],
                    dataset=dataset,
                    scene_id=scene,
                    row=label,
                    seed=seed,
                    scores={} if failed else dict(found),
                    unsupported={} if failed else dict(unsupported or {}),
                    reason=found if failed else "",
                    **({} if failed else dict(extra or {})),
                )
            )
    return read_run(folder)
