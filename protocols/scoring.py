"""From a prediction and a scene to the numbers that a card asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from gen3r_bench.errors import BenchError, InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.metrics.cameras import relative_pose_errors
from gen3r_bench.protocols.appearance import score_frames
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.geometry import Backend, SceneTruth, score_geometry
from gen3r_bench.scene import Prediction, conditioning_indices

if TYPE_CHECKING:
    from gen3r_bench.metrics.geometry import GeometryScore

Coverage = Literal["all", "subset", "given-views"]


@dataclass(slots=True)
class Scores:
    """What a prediction gets under one card: numbers by metric key, or the reason why there is none.

    ``facts`` says by metric key what it was computed with, where that is more than this suite.
    """

    coverage: Coverage
    n_frames: int
    values: dict[str, float] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    geometry: GeometryScore | None = None
    flags: list[str] = field(default_factory=list)


def check_fit(prediction: Prediction, num_frames: int, image_size: tuple[int, int]) -> None:
    """Raise InputError where a prediction does not lie on the target's frames and pixels."""
    if prediction.frame_indices[-1] >= num_frames:
        raise InputError(
            f"prediction covers frame {prediction.frame_indices[-1]}",
            expected=f"indices below {num_frames}, the clip's length",
        )
    size = prediction.image_size
    if size is not None and size != image_size:
        raise InputError(
            f"prediction at {size[0]}x{size[1]} pixels",
            expected=f"the target's {image_size[0]}x{image_size[1]}",
            fix="resize in the adapter and say so in `adaptations`",
        )


def coverage_of(prediction: Prediction, card: Card, num_frames: int) -> Coverage:
    """Whether a prediction covers the clip, only the views that it was given, or another subset."""
    if len(prediction.frame_indices) == num_frames:
        return "all"
    given = set(conditioning_indices(card.setting, num_frames))
    return "given-views" if set(prediction.frame_indices) <= given else "subset"


def score(
    card: Card,
    truth: SceneTruth,
    prediction: Prediction,
    metrics: Mapping[str, Metric],
    *,
    pred_fps_start: Literal["first", "middle"] | None = None,
    backend: Backend = "exact",
    device: str = "cpu",
) -> Scores:
    """Score one prediction under one card.

    Args:
        card: the protocol.
        truth: the scene, with what is shared between rows.
        prediction: checked against the scene's frames and size.
        metrics: registered metrics by key.
        pred_fps_start: overrides where the prediction's farthest point sampling starts (the ``resample`` row).
        backend: ``exact`` (ours) or ``released`` (the authors' libraries).
        device: where the networks of metrics run.

    Raises:
        BenchError: where the prediction cannot be scored or a score is not finite; the run writes a failure record.
    """
    scene = truth.scene
    check_fit(prediction, scene.num_frames, scene.image_size)
    indices = list(prediction.frame_indices)
    coverage = coverage_of(prediction, card, scene.num_frames)
    result = Scores(coverage=coverage, n_frames=len(indices))

    by_kind: dict[str, list[Metric]] = {"points": [], "poses": [], "frames": [], "video": []}
    for key in card.metrics:
        metric = metrics.get(key)
        if metric is None:
            raise InputError(f"protocol {card.name} asks for metric {key!r}", expected=f"one of {', '.join(metrics)}")
        obstacle = metric.obstacle()
        if obstacle is not None or metric.function is None:
            result.unsupported[key] = obstacle or metric.unsupported_reason
        else:
            by_kind[metric.kind].append(metric)

    if by_kind["points"]:
        points = prediction.world_points()
        if not scene.valid.any():
            _refuse(result, by_kind["points"], f"{scene.dataset} scene {scene.scene_id} has no valid depth")
        elif points is None:
            _refuse(result, by_kind["points"], "the prediction holds no points, nor depth with cameras")
        else:
            assert card.geometry is not None
            geometry = score_geometry(
                truth,
                points,
                prediction.frame_indices,
                card.geometry,
                given_views_only=coverage == "given-views",
                pred_fps_start=pred_fps_start,
                backend=backend,
            )
            result.geometry = geometry
            for metric in by_kind["points"]:
                assert metric.function is not None
                result.values[metric.key] = float(metric.function(geometry))
            # the counts stand in the record's alignment; a flag is one sentence that a table can count
            if geometry.pred_sampled < card.geometry.num_points:
                result.flags.append(f"predicted cloud has fewer than {card.geometry.num_points} voxels: all are used")
            if geometry.gt_sampled < card.geometry.num_points:
                result.flags.append(f"true cloud has fewer than {card.geometry.num_points} voxels: all are used")
            if geometry.n_dropped:
                result.flags.append("pixels with non-finite points dropped")

    if by_kind["poses"]:
        if prediction.world_from_cam is None:
            _refuse(result, by_kind["poses"], "the prediction holds no cameras")
        elif len(indices) < 2:
            _refuse(result, by_kind["poses"], "relative poses need two frames, the prediction covers one")
        else:
            errors = relative_pose_errors(prediction.world_from_cam, scene.cameras.world_from_cam[indices])
            for metric in by_kind["poses"]:
                assert metric.function is not None
                result.values[metric.key] = float(metric.function(errors))

    if by_kind["frames"] or by_kind["video"]:
        if prediction.rgb is None:
            _refuse(result, by_kind["frames"] + by_kind["video"], "the prediction holds no frames")
        else:
            true_rgb = scene.rgb[indices]
            given = conditioning_indices(card.setting, scene.num_frames)
            novel = ~np.isin(indices, given)
            for metric in by_kind["frames"]:
                result.values.update(score_frames(card, metric, prediction.rgb, true_rgb, novel, device=device))
            for metric in by_kind["video"]:
                assert metric.function is not None
                result.values[metric.key] = float(metric.function(prediction.rgb, true_rgb))
    bad = next((key for key, value in result.values.items() if not np.isfinite(value)), None)
    if bad is not None:
        raise BenchError(f"{bad} came out as {result.values[bad]}, which is not a score")
    for key in card.metrics:
        if key not in result.unsupported and (facts := metrics[key].facts(device)):
            result.facts[key] = facts
    return result


def _refuse(result: Scores, metrics: list[Metric], reason: str) -> None:
    result.unsupported.update({metric.key: reason for metric in metrics})
