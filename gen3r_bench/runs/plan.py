"""What a run will do: which scenes, under which cards, for which rows and seeds."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import gen3r_bench
from gen3r_bench.datasets.base import ClipProfile, Dataset, OpenedDataset
from gen3r_bench.datasets.splits import ListsExcluded, SplitManifest
from gen3r_bench.errors import BenchError, InputError, SceneError, StoreError, UnknownNameError
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.geometry import Backend
from gen3r_bench.runs.environment import capture_environment
from gen3r_bench.runs.record import CardEntry, PlanEntry, RowEntry, RunHeader
from gen3r_bench.runs.rows import Row

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """One clip to read, and the cards that score it."""

    dataset: str
    scene_id: str
    profile: ClipProfile
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run is told before it starts.

    Attributes:
        cards: the protocols.
        datasets: opened datasets by name.
        rows: with distinct labels.
        seeds: one sample of every scene for each.
        scenes: scene ids by (protocol, dataset), in the dataset's order.
        scenes_in_full: how many the card asks for, by the same key.
        manifests: split manifests that pin the scenes of a dataset, by its name.
        geometry_backend: which implementation scores points.
        device: where networks run.
    """

    cards: tuple[Card, ...]
    datasets: Mapping[str, OpenedDataset]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    scenes: Mapping[tuple[str, str], tuple[str, ...]]
    scenes_in_full: Mapping[tuple[str, str], int]
    manifests: Mapping[str, SplitManifest]
    geometry_backend: Backend
    device: str

    def tasks(self) -> list[Task]:
        """The clips to read, each once for all cards that score the same clip."""
        cards: dict[tuple[str, str, ClipProfile], list[Card]] = {}
        for card in self.cards:
            for dataset in self.datasets:
                profile = card.clip_plan(dataset).profile()
                for scene_id in self.scenes[card.name, dataset]:
                    cards.setdefault((dataset, scene_id, profile), []).append(card)
        return [Task(*key, tuple(found)) for key, found in cards.items()]

    def fingerprint(self, task: Task) -> str:
        """The clip's fingerprint.

        Raises:
            SceneError: where the files cannot be read, or are not the ones that a manifest pins.
        """
        found = self.datasets[task.dataset].reader.fingerprint(task.scene_id, task.profile)
        manifest = self.manifests.get(task.dataset)
        if manifest is not None and manifest.fingerprint(task.scene_id) != found:
            raise SceneError(f"scene {task.scene_id}: its files or options changed since the manifest was written")
        return found

    def num_records(self) -> int:
        return sum(len(scenes) for scenes in self.scenes.values()) * len(self.rows) * len(self.seeds)

    def header(self, command: str) -> RunHeader:
        """The header of a new run."""
        plan = []
        for (protocol, dataset), scenes in self.scenes.items():
            clip = next(card for card in self.cards if card.name == protocol).clip_plan(dataset)
            manifest = self.manifests.get(dataset)
            plan.append(
                PlanEntry(
                    protocol=protocol,
                    dataset=dataset,
                    dataset_title=self.datasets[dataset].reader.info.title,
                    dataset_options=dict(self.datasets[dataset].options),
                    manifest_sha256=None if manifest is None else manifest.sha256,
                    left_out=_left_out(self.datasets[dataset].reader, manifest),
                    scenes=scenes,
                    scenes_in_full=self.scenes_in_full[protocol, dataset],
                    frames=clip.frames,
                    stride=clip.stride,
                    start=clip.start,
                    image_size=clip.image_size,
                )
            )
        return RunHeader(
            suite_version=gen3r_bench.__version__,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=command,
            protocols=tuple(
                CardEntry(
                    name=card.name,
                    hash=card.hash,
                    title=card.title,
                    paper_tables=card.paper_tables,
                    content=card.content(),
                )
                for card in self.cards
            ),
            plan=tuple(plan),
            rows=tuple(row.entry for row in self.rows),
            seeds=self.seeds,
            geometry_backend=self.geometry_backend,
            environment=capture_environment(self.device),
        )


def make_plan(
    cards: Iterable[Card],
    datasets: Mapping[str, OpenedDataset],
    rows: Iterable[Row],
    *,
    seeds: tuple[int, ...] = (42,),
    limit: int | None = None,
    scenes: tuple[str, ...] = (),
    manifests: Mapping[str, SplitManifest] | None = None,
    geometry_backend: Backend = "exact",
    device: str = "cpu",
) -> Plan:
    """Choose the scenes of every card and dataset, and check that the plan makes sense.

    Args:
        cards: the protocols to run.
        datasets: opened datasets by name.
        rows: what is scored.
        seeds: one sample of every scene for each.
        limit: only the first so many scenes; the run is then partial.
        scenes: only these scenes; the run is then partial.
        manifests: split manifests by dataset; exactly their scenes are run, up to the card's count.
        geometry_backend: which implementation scores points.
        device: where networks run; for the record.

    Raises:
        BenchError: where a scene is unknown, two rows share a label, a card has nothing to score on a dataset, or a
            manifest pins other clips than a card reads.
    """
    cards, rows, manifests = tuple(cards), tuple(rows), manifests or {}
    labels = [row.entry.label for row in rows]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise BenchError(f"two rows are called {twice!r} (fix: name each method once, or give one another checkpoint)")
    if not rows:
        raise InputError("no rows to score", expected="at least one method (--method) or the floor and ceiling rows")
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds {list(seeds)}", expected="distinct seeds, at least one")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}", expected="1 or more scenes")
    chosen: dict[tuple[str, str], tuple[str, ...]] = {}
    full: dict[tuple[str, str], int] = {}
    for card in cards:
        for name, opened in datasets.items():
            dataset = opened.reader
            if card.geometry is not None and not dataset.info.has_depth:
                raise InputError(f"protocol {card.name} on {name}", expected="a dataset with depth: it scores geometry")
            manifest = manifests.get(name)
            if manifest is not None:
                manifest.check_clip(card.clip_plan(name).profile())
            available = dataset.scene_ids() if manifest is None else manifest.scene_ids()
            unknown = next((scene for scene in scenes if scene not in available), None)
            if unknown is not None:
                raise UnknownNameError(f"scene of {name}", unknown, available)
            wanted = card.clip_plan(name).scenes
            ids = available[:wanted]
            full[card.name, name] = len(ids) if wanted is None else wanted
            if scenes:
                ids = tuple(scene for scene in available if scene in scenes)
            chosen[card.name, name] = ids[:limit]
    return Plan(
        cards=cards,
        datasets=datasets,
        rows=rows,
        seeds=seeds,
        scenes=chosen,
        scenes_in_full=full,
        manifests=manifests,
        geometry_backend=geometry_backend,
        device=device,
    )


def record_key(
    card: Card, dataset: str, scene_id: str, clip_fingerprint: str, row_fingerprint: str, seed: int, backend: Backend
) -> str:
    """Hash of everything that determines a record: the same key never needs to be computed twice."""
    content = [card.name, card.hash, dataset, scene_id, clip_fingerprint, row_fingerprint, seed, backend]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def merged_header(old: RunHeader, new: RunHeader, where: str) -> RunHeader:
    """The header of a run that goes on: what it had, and what the new command adds.

    Raises:
        StoreError: where the new command would put numbers of another protocol version, backend or checkpoint beside
            the old ones.
    """
    fix = "(fix: choose another --out, or start anew with --fresh)"
    if old.geometry_backend != new.geometry_backend:
        raise StoreError(f"{where} was made with --geometry-backend {old.geometry_backend} {fix}")
    hashes = {card.name: card.hash for card in old.protocols}
    for card in new.protocols:
        if hashes.get(card.name, card.hash) != card.hash:
            raise StoreError(
                f"{where} holds {card.name} of hash {hashes[card.name]}, and this suite's card has {card.hash} {fix}"
            )
    identities = {row.label: _identity(row) for row in old.rows}
    for row in new.rows:
        if identities.get(row.label, _identity(row)) != _identity(row):
            raise StoreError(f"{where} holds rows of another {row.label} (other weights or source) {fix}")
    plan = {(entry.protocol, entry.dataset): entry for entry in old.plan}
    for entry in new.plan:
        before = plan.get((entry.protocol, entry.dataset))
        if before is None:
            plan[entry.protocol, entry.dataset] = entry
            continue
        if _clip(before) != _clip(entry):
            raise StoreError(f"{where} holds {entry.dataset} read with other options or another manifest {fix}")
        added = tuple(scene for scene in entry.scenes if scene not in before.scenes)
        plan[entry.protocol, entry.dataset] = entry.model_copy(update={"scenes": before.scenes + added})
    return old.model_copy(
        update={
            "protocols": _union(old.protocols, new.protocols),
            "plan": tuple(plan.values()),
            "rows": _union(old.rows, new.rows),
            "seeds": _union(old.seeds, new.seeds),
            "environment": new.environment,
            "schema_version": new.schema_version,
            "provenances": {**old.provenances, **new.provenances},
            "command": new.command,
        }
    )


def _left_out(reader: Dataset, manifest: SplitManifest | None) -> dict[str, int]:
    """How many scenes were never drawn, by reason, the most frequent first."""
    if manifest is not None:
        reasons = [item.reason for item in manifest.excluded]
    else:
        reasons = list(reader.excluded().values()) if isinstance(reader, ListsExcluded) else []
    return dict(Counter(reasons).most_common())


def _clip(entry: PlanEntry) -> PlanEntry:
    """What a plan entry says of the clips, without saying which scenes."""
    return entry.model_copy(update={"scenes": (), "scenes_in_full": 0, "left_out": {}})


def _identity(row: RowEntry) -> tuple[str, str | None, str]:
    return row.kind, row.checkpoint_sha256, row.source


def _union(old: tuple[T, ...], new: tuple[T, ...]) -> tuple[T, ...]:
    return old + tuple(item for item in new if item not in old)
