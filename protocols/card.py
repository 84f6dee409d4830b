"""A protocol's card: its full content as data, with a hash that stands under every table."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.scene import Setting

Family = Literal["appearance", "geometry", "cameras", "reconstruction"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClipPlan(_Frozen):
    """How many scenes of a dataset are drawn (None: all), and which clip of each.

    A dataset that a card does not name gets this class's defaults: every scene, the paper's 49 frames at 560 x 560.
    """

    scenes: int | None = None
    frames: int = 49
    stride: int = 1
    start: int = 0
    image_size: tuple[int, int] = (560, 560)

    def profile(self) -> ClipProfile:
        return ClipProfile(self.frames, self.image_size, self.stride, self.start)


class GeometryOptions(_Frozen):
    """How point clouds are aligned and sampled; the defaults are the released code's (docs/protocols.md).

    ``fps_start="middle"`` and ``mask="unmasked-prediction"`` (predicted points count where the truth is unknown) are
    diagnostics: they show what a choice is worth.
    """

    alignment_scale: Literal["variance-ratio", "umeyama", "none"] = "variance-ratio"
    voxel_size: float | None = 0.005
    num_points: int = 20_000
    fps_start: Literal["first", "open3d", "middle"] = "first"
    mask: Literal["ground-truth-valid", "unmasked-prediction"] = "ground-truth-valid"


class Card(_Frozen):
    """One protocol.

    Attributes:
        version: raised whenever a number that the protocol gives could change.
        name, title, summary, paper_tables: for people; not part of the hash.
        setting, cameras: what a method is shown.
        datasets: the paper's datasets and the suite's own, with their clips.
        metrics: ``name@dialect`` keys in column order.
        frames_scored: which frames the frame metrics average over; the first is the headline.
        geometry: options of the point metrics; None where there are none.
        psnr_cap_db: per-frame PSNR is capped here before the mean, since identical frames give infinity. Rounding to
            8 bits alone is an error of 58.9 dB; a higher cap would reward a method for copying the frames it was given.
        aggregation: how one number a scene becomes one number a cell.
    """

    version: int = 1
    name: str
    title: str
    summary: str
    paper_tables: tuple[int, ...]
    family: Family
    setting: Setting
    cameras: Literal["given", "none"]
    datasets: dict[str, ClipPlan]
    metrics: tuple[str, ...]
    frames_scored: tuple[Literal["all", "novel"], ...] = ("all",)
    geometry: GeometryOptions | None = None
    psnr_cap_db: float = 60.0
    aggregation: Literal["mean over scenes"] = "mean over scenes"

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if not self.metrics:
            raise ValueError(f"protocol {self.name}: no metrics")
        if "novel" in self.frames_scored and self.setting == "allview":
            raise ValueError(f"protocol {self.name}: no frame is novel where all are shown")
        return self

    def clip_plan(self, dataset: str) -> ClipPlan:
        """The plan for a dataset, or the default one for a dataset that the card does not name."""
        return self.datasets.get(dataset, ClipPlan())

    def content(self) -> dict[str, Any]:
        """Everything that decides a number, as JSON-ready data."""
        return self.model_dump(mode="json", exclude={"title", "summary", "paper_tables"})

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the content in canonical JSON."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
