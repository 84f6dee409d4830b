"""The other ways in which a number of the same name is computed: one table, and how a prediction is scored under it.

"Your number is not my number" mostly has a cause that has a name. Each dialect changes one choice of a protocol's card
(a few change two: the recipe of somebody's text or code); `rescore` gives the same prediction under all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import BenchError
from gen3r_bench.metrics.base import RANDOM_WEIGHTS, Metric
from gen3r_bench.metrics.cameras import RelativePoseErrors, drawn_frames, pooled_pose_errors, relative_pose_errors
from gen3r_bench.metrics.image import pooled_psnr, squared_error
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.conditioning import scene_seed
from gen3r_bench.protocols.geometry import Backend, SceneTruth
from gen3r_bench.protocols.scoring import Scores, score
from gen3r_bench.scene import Prediction, conditioning_indices

DEFAULT: Final = "default"
"""Stands for the card as it is, where a dialect's key is asked for."""
_POINTS: Final = ("accuracy", "completeness", "chamfer", "relative_percent")
_FRAMES: Final = ("psnr", "ssim", "lpips")
_AREAS: Final = ("auc5", "auc15", "auc30")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One other way to compute some metrics.

    Attributes:
        key: ``choice=value``; what commands take and tables show.
        metrics: names of the metrics that it concerns.
        summary: what it changes.
        used_by: who computes the number so.
        source: where that can be read.
        geometry: fields of the card's geometry options, with other values.
        metric_dialect: the metric of the same name in this dialect.
        frames: which frames are averaged.
        drawn: so many frames are drawn of each clip, the same ones for every row.
        pooled: what is averaged before the metric's last step: the frames of a clip, or those of all clips.
    """

    key: str
    metrics: tuple[str, ...]
    summary: str
    used_by: str
    source: str
    geometry: Mapping[str, Any] = field(default_factory=dict)
    metric_dialect: str | None = None
    frames: Literal["all", "novel"] | None = None
    drawn: int | None = None
    pooled: Literal["clip", "clips"] | None = None

    @property
    def scene_by_scene(self) -> bool:
        """Whether a scene has a number of its own, which a paired test needs."""
        return self.pooled != "clips"


_CODE: Final = "released Gen3R code, gen3r/utils/eval_utils.py"
_PAPER: Final = "Gen3R paper, evaluation of geometry"
_VGGT_CODE: Final = "VGGT, evaluation/test_co3d.py"

DIALECTS: Final = (
    Dialect(
        key="scale=variance-ratio",
        metrics=_POINTS,
        summary="scale is the root of the ratio of the clouds' variances",
        used_by="the released Gen3R code",
        source=f"{_CODE}, umeyama_alignment",
        geometry={"alignment_scale": "variance-ratio"},
    ),
    Dialect(
        key="scale=umeyama",
        metrics=_POINTS,
        summary="scale is least squares, smaller the noisier the prediction",
        used_by="the paper's text, by its citation",
        source="Umeyama 1991, eq. 42",
        geometry={"alignment_scale": "umeyama"},
    ),
    Dialect(
        key="scale=none",
        metrics=_POINTS,
        summary="rotation and translation only: the prediction's own scale is judged",
        used_by="evaluations of metric predictions",
        source="this suite",
        geometry={"alignment_scale": "none"},
    ),
    Dialect(
        key="voxel=0.005",
        metrics=_POINTS,
        summary="clouds are averaged on a grid of 0.005 of the truth's unit before sampling",
        used_by="the released Gen3R code",
        source=f"{_CODE}, compute_chamfer_metrics",
        geometry={"voxel_size": 0.005},
    ),
    Dialect(
        key="voxel=none",
        metrics=_POINTS,
        summary="20,000 points are sampled from the pixels themselves",
        used_by="the paper's text",
        source=_PAPER,
        geometry={"voxel_size": None},
    ),
    Dialect(
        key="start=first",
        metrics=_POINTS,
        summary="farthest point sampling starts at the first voxel in pixel order",
        used_by="this suite",
        source="docs/protocols.md",
        geometry={"fps_start": "first"},
    ),
    Dialect(
        key="start=open3d",
        metrics=_POINTS,
        summary="sampling starts at row 0 of Open3D's voxels, a hash table's order",
        used_by="the released Gen3R code",
        source=f"{_CODE}; Open3D's order emulated",
        geometry={"fps_start": "open3d"},
    ),
    Dialect(
        key="start=middle",
        metrics=_POINTS,
        summary="sampling starts in the middle: how far chance alone moves the number",
        used_by="nobody; a diagnostic",
        source="this suite",
        geometry={"fps_start": "middle"},
    ),
    Dialect(
        key="mask=ground-truth-valid",
        metrics=_POINTS,
        summary="predicted points count only at pixels whose true depth is known",
        used_by="the released Gen3R code",
        source=f"{_CODE}, compute_chamfer_metrics",
        geometry={"mask": "ground-truth-valid"},
    ),
    Dialect(
        key="mask=unmasked-prediction",
        metrics=_POINTS,
        summary="every predicted point counts, also on the sky and where the sensor saw nothing",
        used_by="nobody; a diagnostic",
        source="this suite",
        geometry={"mask": "unmasked-prediction"},
    ),
    Dialect(
        key="recipe=paper-text",
        metrics=_POINTS,
        summary="Umeyama's scale and no voxels: the paper's text taken literally",
        used_by="a reader of the paper alone",
        source=_PAPER,
        geometry={"alignment_scale": "umeyama", "voxel_size": None},
    ),
    Dialect(
        key="frames=all",
        metrics=_FRAMES,
        summary="the frames that the method was given are averaged in",
        used_by="the paper, as far as its text says",
        source="Gen3R paper, evaluation of appearance",
        frames="all",
    ),
    Dialect(
        key="frames=novel",
        metrics=_FRAMES,
        summary="only frames that the method was not given",
        used_by="LVSM, DepthSplat, pixelSplat",
        source="their evaluations score target views only",
        frames="novel",
    ),
    Dialect(
        key="pool=clip",
        metrics=("psnr",),
        summary="PSNR of the clip's mean squared error, not mean of the frames' PSNR",
        used_by="metrics called on a whole video at once",
        source="torchmetrics peak_signal_noise_ratio on a batch",
        pooled="clip",
    ),
    Dialect(
        key="pool=clips",
        metrics=("psnr",),
        summary="PSNR of the mean squared error of all frames of all clips",
        used_by="torchmetrics, updated clip by clip",
        source="torchmetrics PeakSignalNoiseRatio",
        pooled="clips",
    ),
    *(
        Dialect(
            key=f"ssim={name}",
            metrics=("ssim",),
            summary=summary,
            used_by=used_by,
            source=source,
            metric_dialect=name,
        )
        for name, summary, used_by, source in (
            (
                "skimage-gauss",
                "Gaussian window inside the frame, population covariance",
                "Wang et al. 2004; this suite",
                "scikit-image structural_similarity(gaussian_weights, use_sample_covariance=False)",
            ),
            (
                "skimage-gauss-sample",
                "sample covariance, scikit-image's default",
                "LVSM, DepthSplat, pixelSplat",
                "their metrics modules",
            ),
            (
                "torchmetrics",
                "frames mirrored at the border, all pixels averaged",
                "users of torchmetrics, which the Gen3R repository pins",
                "torchmetrics structural_similarity_index_measure",
            ),
        )
    ),
    *(
        Dialect(
            key=f"lpips={name}",
            metrics=("lpips",),
            summary=f"{name} backbone",
            used_by=used_by,
            source=source,
            metric_dialect=name,
        )
        for name, used_by, source in (
            ("vgg", "LVSM, DepthSplat, pixelSplat", "their metrics modules"),
            ("alex", "torchmetrics' default; the lpips package's", "Zhang et al. 2018, v0.1"),
            ("squeeze", "torchmetrics' third backbone", "Zhang et al. 2018, v0.1"),
        )
    ),
    Dialect(
        key="area=hist1deg",
        metrics=_AREAS,
        summary="area under the recall curve in one-degree bins",
        used_by="VGGT, which the paper follows",
        source=f"{_VGGT_CODE}, calculate_auc_np",
        metric_dialect="hist1deg",
    ),
    Dialect(
        key="area=exact",
        metrics=_AREAS,
        summary="the exact area: up to half a bin in the mean lower",
        used_by="evaluations that integrate the curve",
        source="this suite",
        metric_dialect="exact",
    ),
    Dialect(
        key="frames=10-drawn",
        metrics=_AREAS,
        summary="pairs of 10 frames drawn from each clip, not of all",
        used_by="VGGT",
        source=_VGGT_CODE,
        drawn=10,
    ),
    Dialect(
        key="pool=pairs",
        metrics=_AREAS,
        summary="the pairs of all clips as one set; equal to the mean where clips have one length",
        used_by="VGGT, within a category",
        source=_VGGT_CODE,
        pooled="clips",
    ),
    Dialect(
        key="recipe=vggt",
        metrics=_AREAS,
        summary="10 drawn frames, and the pairs of all clips as one set",
        used_by="VGGT",
        source=_VGGT_CODE,
        drawn=10,
        pooled="clips",
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One prediction's number in one dialect, and what pooling over clips needs of it.

    Attributes:
        value: the scene's own number.
        poolable: squared errors of the frames, or pose errors of the pairs; None where the dialect does not pool.
    """

    value: float
    poolable: NDArray[np.float64] | RelativePoseErrors | None = None


@dataclass(frozen=True, slots=True)
class Variation:
    """A dialect applied to one metric of one card: what is scored instead, and under which key its number stands."""

    card: Card
    metric: str
    score_key: str
    drawn: int | None = None
    pooled: Literal["clip", "clips"] | None = None


def variation(dialect: Dialect | None, card: Card, metric: Metric, metrics: Mapping[str, Metric]) -> Variation | None:
    """What scoring a metric of a card in a dialect comes to; the card itself for None.

    Returns:
        None where the dialect does not concern the metric, is what the card says already, or cannot be had with it.
    """
    wide = card
    if metric.kind == "frames" and card.setting != "allview":
        wide = card.model_copy(update={"frames_scored": ("all", "novel")})  # one scoring serves both
    headline = card.frames_scored[0] if metric.kind == "frames" else "all"
    if dialect is None:
        return _variation(wide, metric, headline)
    if metric.name not in dialect.metrics:
        return None
    if dialect.geometry:
        assert card.geometry is not None
        options = card.geometry.model_copy(update=dict(dialect.geometry))
        without_grid = options.voxel_size is None and options.fps_start == "open3d"
        if options == card.geometry or without_grid:
            return None
        return _variation(card.model_copy(update={"geometry": options}), metric, headline)
    if dialect.metric_dialect is not None:
        other = metrics.get(f"{metric.name}@{dialect.metric_dialect}")
        return None if other is None or other == metric else _variation(wide, other, headline)
    if dialect.frames is not None:
        if dialect.frames == headline or (dialect.frames == "novel" and card.setting == "allview"):
            return None
        return _variation(wide, metric, dialect.frames)
    return replace(_variation(wide, metric, headline), drawn=dialect.drawn, pooled=dialect.pooled)


def _variation(card: Card, metric: Metric, frames: Literal["all", "novel"]) -> Variation:
    key = metric.key if frames == "all" else f"{metric.key}/{frames}"
    return Variation(card.model_copy(update={"metrics": (metric.key,)}), metric.key, key)


def headline_key(card: Card, metric: Metric) -> str:
    """The key under which a record holds a metric's headline number."""
    found = variation(None, card, metric, {})
    assert found is not None
    return found.score_key


def dialects_of(card: Card, metrics: Mapping[str, Metric]) -> dict[str, list[Dialect]]:
    """The dialects that change something, for each metric of a card that has any, in the table's order."""
    found = {}
    for key in card.metrics:
        metric = metrics.get(key)
        if metric is not None:
            others = [dialect for dialect in DIALECTS if variation(dialect, card, metric, metrics) is not None]
            if others:
                found[key] = others
    return found


@dataclass(slots=True)
class Rescored:
    """One prediction in every dialect: numbers, or the reason why there is none, by (metric key, dialect key)."""

    values: dict[tuple[str, str], Evidence] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)


def rescore(
    card: Card,
    truth: SceneTruth,
    prediction: Prediction,
    metrics: Mapping[str, Metric],
    wanted: Mapping[str, Sequence[Dialect]],
    *,
    samples_elsewhere: bool = False,
    backend: Backend = "exact",
    device: str = "cpu",
) -> Rescored:
    """Score one prediction as its card says and in other dialects.

    Args:
        card: the protocol.
        truth: the scene, shared between the predictions of its rows.
        prediction: checked against the scene's frames and size.
        metrics: registered metrics by key.
        wanted: which dialects, by the key of a metric of the card; the card's own way always comes first, under
            the dialect key ``default``.
        samples_elsewhere: whether the row's own cloud is sampled from another start than the true one (``resample``).
        backend: as in `score`.
        device: as in `score`.
    """
    if prediction.points_world is None and any(metrics[key].kind == "points" for key in wanted):
        # unprojected once, not for every dialect
        prediction = replace(prediction, points_world=prediction.world_points())
    result = Rescored()
    jobs: dict[tuple[str, int | None], list[tuple[str, str, Variation]]] = {}
    for key, dialects in wanted.items():
        for dialect in (None, *dialects):
            found = variation(dialect, card, metrics[key], metrics)
            name = DEFAULT if dialect is None else dialect.key
            if found is None:
                continue
            if metrics[found.metric].facts(device).get("weights") == RANDOM_WEIGHTS:
                result.missing[key, name] = "its network has random weights here, which is no score"
            else:
                # variations that differ in their metric alone are scored together
                shared = found.card.model_copy(update={"metrics": ("shared",)}).hash
                jobs.setdefault((shared, found.drawn), []).append((key, name, found))
    for (_, drawn), asked in jobs.items():
        several = tuple(dict.fromkeys(found.metric for _, _, found in asked))
        changed = asked[0][2].card.model_copy(update={"metrics": several})
        try:
            part = prediction if drawn is None else _drawn(prediction, drawn, truth)
            own_start = _own_start(changed, samples_elsewhere)
            scores = score(changed, truth, part, metrics, pred_fps_start=own_start, backend=backend, device=device)
        except BenchError as error:
            result.missing.update({(key, name): str(error) for key, name, _ in asked})
            continue
        for key, name, found in asked:
            _read_off(result, (key, name), found, scores, part, truth, metrics)
    return result


def _own_start(card: Card, samples_elsewhere: bool) -> Literal["first", "middle"] | None:
    if card.geometry is None or not samples_elsewhere:
        return None
    return "first" if card.geometry.fps_start == "middle" else "middle"


def _read_off(
    result: Rescored,
    place: tuple[str, str],
    found: Variation,
    scores: Scores,
    prediction: Prediction,
    truth: SceneTruth,
    metrics: Mapping[str, Metric],
) -> None:
    value = scores.values.get(found.score_key)
    if value is None:
        covered = "the prediction covers no frame that was withheld" if found.metric in scores.values else ""
        result.missing[place] = scores.unsupported.get(found.metric) or covered or "no score"
        return
    if found.pooled is None:
        result.values[place] = Evidence(value)
        return
    indices = list(prediction.frame_indices)
    poolable: NDArray[np.float64] | RelativePoseErrors
    if metrics[found.metric].kind == "poses":
        assert prediction.world_from_cam is not None
        poolable = relative_pose_errors(prediction.world_from_cam, truth.scene.cameras.world_from_cam[indices])
    else:
        assert prediction.rgb is not None
        poolable = squared_error(prediction.rgb, truth.scene.rgb[indices])
        if found.score_key.endswith("/novel"):
            given = conditioning_indices(found.card.setting, truth.scene.num_frames)
            poolable = poolable[~np.isin(indices, given)]
    own = _pooled(found, [poolable], metrics)
    result.values[place] = Evidence(own, poolable if found.pooled == "clips" else None)


def _pooled(
    found: Variation, parts: Sequence[NDArray[np.float64] | RelativePoseErrors], metrics: Mapping[str, Metric]
) -> float:
    poses = [part for part in parts if isinstance(part, RelativePoseErrors)]
    if poses:
        function = metrics[found.metric].function
        assert function is not None
        return float(function(pooled_pose_errors(poses)))
    errors = np.concatenate([part for part in parts if not isinstance(part, RelativePoseErrors)])
    return min(pooled_psnr(errors), found.card.psnr_cap_db)


def cell_value(found: Variation, scenes: Iterable[Sequence[Evidence]], metrics: Mapping[str, Metric]) -> float:
    """One number of a table: the mean over scenes of each scene's mean over seeds, or pooled where the dialect pools.

    Args:
        found: the metric's variation.
        scenes: for each scene, what each seed gave; at least one scene, and one seed in each.
        metrics: registered metrics by key.
    """
    kept = [list(seeds) for seeds in scenes]
    if found.pooled == "clips":
        parts = [evidence.poolable for seeds in kept for evidence in seeds if evidence.poolable is not None]
        return _pooled(found, parts, metrics)
    return _mean([_mean([evidence.value for evidence in seeds]) for seeds in kept])


def _mean(values: Sequence[float]) -> float:
    """By exact summation, as tables have it: the order of scenes cannot show."""
    return math.fsum(values) / len(values)


def _drawn(prediction: Prediction, count: int, truth: SceneTruth) -> Prediction:
    """The cameras of so many of a prediction's frames; which ones depends on the scene alone."""
    scene = truth.scene
    if prediction.world_from_cam is None:
        return prediction
    chosen = drawn_frames(len(prediction.frame_indices), count, scene_seed(0, scene.dataset, scene.scene_id))
    return Prediction(
        frame_indices=tuple(prediction.frame_indices[i] for i in chosen),
        world_from_cam=prediction.world_from_cam[chosen],
    )
