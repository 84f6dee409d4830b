"""Whole runs that are small enough to make in a test: two scenes of mini, five frames of 48 x 48, predictions kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.method import Contract, Method
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.card import Card, ClipPlan
from gen3r_bench.protocols.geometry import GEOM_1VIEW, GeometryOptions
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.rows import MethodRow, Row, make_row
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Conditioning, Prediction

CLIP = ClipPlan(scenes=2, frames=5, image_size=(48, 48))
GEOMETRY = GEOM_1VIEW.model_copy(
    update={
        "name": "small-geometry",
        "datasets": {"mini": CLIP},
        "geometry": GeometryOptions(num_points=500, voxel_size=0.02),
    }
)
APPEARANCE = APPEARANCE_1VIEW.model_copy(
    update={"name": "small-appearance", "datasets": {"mini": CLIP}, "metrics": ("psnr@8bit", "ssim@skimage-gauss")}
)


class Wall(Method):
    """The given frame on a wall, at a distance that is the method's only weight."""

    contract = Contract(
        method_id="wall",
        title="Wall",
        summary="A wall.",
        settings=("1view",),
        returns=("rgb", "depth", "cameras"),
        cameras="required",
        licence="MIT",
    )

    def __init__(self, distance: float) -> None:
        self.distance = distance

    def predict(self, conditioning: Conditioning) -> Prediction:
        assert conditioning.cameras is not None
        frames, (height, width) = conditioning.num_frames, conditioning.image_size
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=np.repeat(conditioning.rgb[:1] // 2 + np.uint8(self.distance * 10), frames, axis=0),
            depth=np.linspace(self.distance, 2 * self.distance, frames * height * width, dtype=np.float32).reshape(
                frames, height, width
            ),
            world_from_cam=conditioning.cameras.world_from_cam,
            intrinsics=conditioning.cameras.intrinsics,
        )


def wall(label: str, distance: float = 3.0) -> Row:
    """A method's row of any name."""
    return MethodRow(Wall(distance), RowEntry(label=label, method_id=label, title="Wall", kind="method"))


def freeze() -> Row:
    """The floor that repeats the first frame."""
    return MethodRow(Freeze(), make_row("freeze", device="cpu").entry)


def small_run(
    folder: Path,
    rows: Sequence[Row] | None = None,
    *,
    cards: Sequence[Card] = (GEOMETRY, APPEARANCE),
    keep_predictions: bool = True,
    limit: int | None = None,
) -> Run:
    """A finished run of walls, a floor and a diagnostic."""
    plan = make_plan(
        cards,
        {"mini": OpenedDataset(MiniDataset.open(None, {}), {})},
        rows if rows is not None else [wall("near", 2.0), wall("far", 6.0), freeze(), make_row("oracle", device="cpu")],
        limit=limit,
    )
    return execute(plan, folder, command="gen3r-bench run", keep_predictions=keep_predictions)
