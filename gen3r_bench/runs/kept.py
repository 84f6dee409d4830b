"""Kept predictions of a run, and the scenes that they answer, opened anew as its header says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gen3r_bench import registry
from gen3r_bench.datasets.base import ClipProfile, Dataset, chosen_options
from gen3r_bench.errors import InputError, SceneError, StoreError
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.conditioning import conditioning_name
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.runs.bundle import BUNDLE_NAME, read_bundle
from gen3r_bench.runs.record import PlanEntry, Record, RunHeader
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Prediction

PREDICTIONS_NAME = "predictions"


def bundle_folder(run: Path, row: str, card: Card, seed: int, dataset: str, scene_id: str) -> Path:
    """Where a run keeps one prediction: a row has one for each conditioning, seed and scene."""
    return run / PREDICTIONS_NAME / row / conditioning_name(card) / f"seed-{seed}" / dataset / scene_id


def card_of(header: RunHeader, protocol: str) -> Card:
    """A protocol's card as it was when the run was made.

    Raises:
        StoreError: where another version of the suite wrote it, so that its content means something else here.
    """
    entry = header.card(protocol)
    try:
        card = Card.model_validate(
            {**entry.content, "title": entry.title, "summary": "", "paper_tables": entry.paper_tables}
        )
    except ValidationError as error:
        raise StoreError(
            f"the card of {protocol} (hash {entry.hash}) was written by another version of the suite "
            "(fix: use the suite that wrote it)"
        ) from error
    if card.hash != entry.hash:
        raise StoreError(
            f"the card of {protocol} was changed: its content has hash {card.hash}, the header says {entry.hash} "
            "(fix: run it again with --fresh)"
        )
    return card


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished record whose prediction the run kept."""

    record: Record
    card: Card
    entry: PlanEntry
    folder: Path

    @property
    def profile(self) -> ClipProfile:
        entry = self.entry
        return ClipProfile(entry.frames, entry.image_size, entry.stride, entry.start)

    def prediction(self) -> Prediction:
        """The prediction, every file checked against its checksum.

        Raises:
            StoreError: where a file is missing or damaged.
        """
        return read_bundle(self.folder)


def kept_predictions(run: Run, *, without_scores: bool = False) -> list[Kept]:
    """The records of status ``ok`` whose bundle lies in the run's folder, in the order in which they were written.

    Args:
        run: as read from its folder.
        without_scores: also those predictions of which no metric could be computed when the run was made.
    """
    cards = {card.name: card_of(run.header, card.name) for card in run.header.protocols}
    entries = {(entry.protocol, entry.dataset): entry for entry in run.header.plan}
    found = []
    for record in run.records:
        entry = entries.get((record.protocol, record.dataset))
        # a row that refused the setting has scored no frame, and is no prediction
        unscored = without_scores and record.status == "unsupported" and record.n_frames > 0
        if entry is None or not (record.status == "ok" or unscored):
            continue
        card = cards[record.protocol]
        folder = bundle_folder(run.path, record.row, card, record.seed, record.dataset, record.scene_id)
        if (folder / BUNDLE_NAME).is_file():
            found.append(Kept(record, card, entry, folder))
    return found


def by_clip(kept: list[Kept]) -> Iterator[list[Kept]]:
    """Kept predictions grouped by the clip that they answer, so that each clip is read once."""
    groups: dict[tuple[str, str, ClipProfile], list[Kept]] = {}
    for item in kept:
        groups.setdefault((item.entry.dataset, item.record.scene_id, item.profile), []).append(item)
    yield from groups.values()


class SceneSource:
    """Reads a run's scenes again, with the options that its header names.

    Args:
        header: of the run.
        roots: where each dataset lies on this machine; a dataset that needs no root needs no entry.

    Raises:
        InputError: where a root is missing or holds another format.
    """

    def __init__(self, header: RunHeader, roots: Mapping[str, Path] | None = None) -> None:
        roots = roots or {}
        self._readers: dict[str, Dataset] = {}
        for entry in header.plan:
            if entry.dataset in self._readers:
                continue
            reader = registry.datasets().load(entry.dataset)
            if reader.info.needs_root and entry.dataset not in roots:
                raise InputError(
                    f"no data root for {entry.dataset}",
                    expected="the folder that the run read it from",
                    fix=f"--data-root {entry.dataset}=DIR",
                )
            options = chosen_options(reader, entry.dataset_options)
            self._readers[entry.dataset] = reader.open(roots.get(entry.dataset), options)

    def truth(self, kept: Kept) -> SceneTruth:
        """The scene that a kept prediction answers.

        Raises:
            SceneError: where it cannot be read, or its files are no longer those that were scored.
        """
        reader, record = self._readers[kept.record.dataset], kept.record
        found = reader.fingerprint(record.scene_id, kept.profile)
        if record.clip_fingerprint not in {"", found}:
            raise SceneError(f"scene {record.scene_id}: its files or options changed since the run scored it")
        return SceneTruth(reader.load(record.scene_id, kept.profile))
