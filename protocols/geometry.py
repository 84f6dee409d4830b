"""Geometry of generated scenes (Tables 2 and 4), and how any card's point metrics are fed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics.geometry import prepare_ground_truth, score_points
from gen3r_bench.protocols.card import Card, ClipPlan, GeometryOptions
from gen3r_bench.scene import Scene

if TYPE_CHECKING:
    from gen3r_bench.metrics.geometry import GeometryScore, GroundTruthCloud

Backend = Literal["exact", "released"]

MINI_CLIP: Final = ClipPlan(scenes=40, frames=13, image_size=(112, 112))
GEOMETRY_DATASETS: Final = {
    "co3dv2": ClipPlan(scenes=300),
    "wildrgbd": ClipPlan(scenes=300),
    "tartanair": ClipPlan(scenes=80),
    "mini": MINI_CLIP,
}
POINT_METRICS: Final = ("accuracy@fps20k", "completeness@fps20k", "chamfer@fps20k")

GEOM_1VIEW: Final = Card(
    name="geom-1view",
    title="Geometry from one view",
    summary="Point clouds generated from the first frame and the cameras, against the ground truth's.",
    paper_tables=(2, 4),
    family="geometry",
    setting="1view",
    cameras="given",
    datasets=GEOMETRY_DATASETS,
    metrics=POINT_METRICS,
    geometry=GeometryOptions(),
)
GEOM_2VIEW: Final = Card(
    name="geom-2view",
    title="Geometry from two views",
    summary="Point clouds generated from the first and last frame and the cameras, against the ground truth's.",
    paper_tables=(2, 4),
    family="geometry",
    setting="2view",
    cameras="given",
    datasets=GEOMETRY_DATASETS,
    metrics=POINT_METRICS,
    geometry=GeometryOptions(),
)


class SceneTruth:
    """A scene's true points and their sample, computed once and shared by every row that is scored on the scene.

    They do not depend on the method; at paper size they cost more than a second. Safe to share between threads.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._mutex = threading.Lock()
        self._points: NDArray[np.float32] | None = None
        self._clouds: dict[tuple[object, ...], GroundTruthCloud] = {}

    def points(self) -> NDArray[np.float32]:
        """[F, H, W, 3] world points of the ground truth."""
        with self._mutex:
            if self._points is None:
                self._points = self.scene.points_world()
            return self._points

    def cloud(self, options: GeometryOptions, backend: Backend = "exact") -> GroundTruthCloud:
        """The sampled cloud of all frames under the given options."""
        points = self.points()
        # neither the alignment nor which predicted pixels count has a part in the true cloud
        made_with = (options.voxel_size, options.num_points, options.fps_start, backend)
        with self._mutex:
            if made_with not in self._clouds:
                self._clouds[made_with] = prepare_ground_truth(
                    points,
                    self.scene.valid,
                    voxel_size=options.voxel_size,
                    num_points=options.num_points,
                    start=options.fps_start,
                    backend=backend,
                )
            return self._clouds[made_with]


def score_geometry(
    truth: SceneTruth,
    pred_points_world: NDArray[np.float32],
    frame_indices: tuple[int, ...],
    options: GeometryOptions,
    *,
    given_views_only: bool,
    pred_fps_start: Literal["first", "middle"] | None = None,
    backend: Backend = "exact",
) -> GeometryScore:
    """Score predicted points under a card's options.

    A prediction of only the given views (VGGT in Table 2) is aligned on those frames and scored against the truth of
    ALL frames, as the released code does with ``input_indices``. A prediction of any other subset (a model whose clip
    is shorter) is scored on the frames that it covers.
    """
    scene, indices = truth.scene, list(frame_indices)
    whole = len(indices) == scene.num_frames
    frames = slice(None) if whole or given_views_only else indices
    return score_points(
        pred_points_world,
        truth.points()[frames],
        scene.valid[frames],
        input_indices=indices if given_views_only and not whole else None,
        scale=options.alignment_scale,
        voxel_size=options.voxel_size,
        num_points=options.num_points,
        start=options.fps_start,
        pred_start=pred_fps_start,
        ground_truth=truth.cloud(options, backend) if whole or given_views_only else None,
        masked_prediction=options.mask == "ground-truth-valid",
        backend=backend,
    )
