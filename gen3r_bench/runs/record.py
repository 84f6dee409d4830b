"""What a run writes: one header, and one record for each (method, checkpoint, scene, seed, protocol)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RowKind = Literal["method", "diagnostic", "baseline"]
Status = Literal["ok", "failed", "unsupported"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RowEntry(_Strict):
    """One row of a table: a method with its checkpoint, or a diagnostic.

    ``kind`` is "method" for a method that is ranked, "baseline" for a floor such as ``freeze`` and "diagnostic" for a
    row that looks at the ground truth; the last two are set in grey and never ranked.
    """

    label: str
    method_id: str
    title: str
    kind: RowKind
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    source: str = "built-in"
    licence: str = ""
    training_sets: tuple[str, ...] = ()


class PlanEntry(_Strict):
    """Which scenes of a dataset a run scores under a protocol.

    ``scenes_in_full`` is how many the card asks for; ``manifest_sha256`` names the split manifest that pinned the
    scenes, if one did. ``left_out`` counts the scenes of the dataset that were never drawn, by reason: those that the
    reader's rules exclude, or that the manifest passed over.
    """

    protocol: str
    dataset: str
    dataset_title: str
    scenes: tuple[str, ...]
    scenes_in_full: int
    frames: int
    stride: int
    start: int
    image_size: tuple[int, int]
    dataset_options: dict[str, str] = Field(default_factory=dict)
    manifest_sha256: str | None = None
    left_out: dict[str, int] = Field(default_factory=dict)

    @property
    def partial(self) -> bool:
        return len(self.scenes) < self.scenes_in_full


class CardEntry(_Strict):
    """A protocol's card as it was when the run was made."""

    name: str
    hash: str
    title: str
    paper_tables: tuple[int, ...]
    content: dict[str, Any]


class RunHeader(_Strict):
    """The content of ``run.json``.

    ``provenances`` says once what a metric was computed with (package versions, weight hashes, choices of an input),
    by an id that records refer to. Version 1 had none, and is read as having none.
    """

    schema_version: Literal[1, 2] = 2
    suite_version: str
    created: str
    command: str
    protocols: tuple[CardEntry, ...]
    plan: tuple[PlanEntry, ...]
    rows: tuple[RowEntry, ...]
    seeds: tuple[int, ...]
    geometry_backend: Literal["exact", "released"] = "exact"
    environment: dict[str, str]
    provenances: dict[str, dict[str, str]] = Field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Whether any protocol saw fewer scenes than its card asks for."""
        return any(entry.partial for entry in self.plan)

    def card(self, protocol: str) -> CardEntry:
        return next(card for card in self.protocols if card.name == protocol)

    def row(self, label: str) -> RowEntry:
        return next(row for row in self.rows if row.label == label)


class Alignment(_Strict):
    """How a predicted cloud was brought onto the true one, and what was sampled."""

    scale: float
    rotation_deg: float
    translation: tuple[float, float, float]
    residual: float
    n_pixels: int
    n_dropped: int
    pred_voxels: int
    gt_voxels: int
    pred_sampled: int
    gt_sampled: int


class Record(_Strict):
    """The scores of one prediction under one protocol, or the reason why there are none.

    Attributes:
        key: hash of everything that determines the record; the same command skips keys that it finds.
        scores: by metric key (``psnr@8bit``; ``psnr@8bit/novel`` for the frames that were not shown).
        unsupported: by metric key, why this prediction has no such score.
        made_with: by metric key, the id of what it was computed with, in the header's ``provenances``; metrics that
            need nothing but this suite are not listed.
        clip_fingerprint: of the scene's files and options when it was scored; "" in records of version 1.
        n_frames, num_frames: frames scored, frames of the clip.
        coverage: whether the prediction covers the clip, a subset of it, or only the given views.
        in_training_set: whether the method's contract names the scene's dataset among its training sets.
        flags: facts that a reader of the number should know, such as a cloud smaller than the sample size.
        seconds, scoring_seconds, peak_memory_bytes, memory_source, device: cost; never part of a comparison of runs.
        reason: why the status is not ``ok``.
        checksum: of the rest of the record; shows an edit by hand.
    """

    key: str
    status: Status
    protocol: str
    card_hash: str
    dataset: str
    scene_id: str
    row: str
    seed: int
    scores: dict[str, float] = Field(default_factory=dict)
    unsupported: dict[str, str] = Field(default_factory=dict)
    made_with: dict[str, str] = Field(default_factory=dict)
    clip_fingerprint: str = ""
    alignment: Alignment | None = None
    n_frames: int = 0
    num_frames: int = 0
    coverage: Literal["all", "subset", "given-views"] = "all"
    adaptations: tuple[str, ...] = ()
    in_training_set: bool = False
    flags: tuple[str, ...] = ()
    seconds: float | None = None
    scoring_seconds: float | None = None
    peak_memory_bytes: int | None = None
    memory_source: Literal["cuda", "process"] | None = None
    device: str = "cpu"
    reason: str = ""
    checksum: str = ""

    @model_validator(mode="after")
    def _a_reason_or_a_score(self) -> Record:
        if self.status == "ok" and not self.scores:
            raise ValueError("a record of status ok without a score")
        if self.status != "ok" and (self.scores or not self.reason):
            raise ValueError(f"a record of status {self.status} needs a reason and no scores")
        return self

    @property
    def identity(self) -> tuple[str, str, str, str, int]:
        """What the record is about: a newer record of the same identity replaces an older one."""
        return self.protocol, self.dataset, self.scene_id, self.row, self.seed

    def sealed(self) -> Record:
        """The same record with its checksum filled in."""
        return self.model_copy(update={"checksum": record_checksum(self.model_dump(mode="json"))})


def record_checksum(content: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a record's JSON without its checksum.

    It is taken of what stands in the file, not of the fields that this version knows: a record of an earlier version,
    which lacks a field, keeps its checksum.
    """
    kept = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def provenance_id(content: Mapping[str, str]) -> str:
    """First 12 hex digits of the SHA-256 of what a metric was computed with."""
    return hashlib.sha256(json.dumps(dict(content), sort_keys=True).encode()).hexdigest()[:12]
