"""Scores of predicted points against true ones: the recipe of the released Gen3R code, without its bugs.

Pixels of the predicted and the true points correspond. A similarity fitted over them moves the prediction into the
true frame; both clouds are averaged on a voxel grid and thinned by farthest point sampling; nearest-neighbour means
between the samples are the scores. Not copied from the released code: float32 sums, zero padding of clouds that have
fewer voxels than samples, the identity in place of an alignment that failed, non-finite pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import released
from gen3r_bench.metrics.alignment import FrameAlignment, ScaleRule, Similarity, align_frames, real_points
from gen3r_bench.metrics.base import Metric
from gen3r_bench.metrics.chamfer_distance import Chamfer, chamfer_of_trees, kd_tree
from gen3r_bench.metrics.farthest_point import as_float32, farthest_rows
from gen3r_bench.metrics.voxel import VoxelMeans, average_voxels, open3d_row_order, voxel_indices

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Start = Literal["first", "open3d", "middle"]
Backend = Literal["exact", "released"]


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruthCloud:
    """The true side of a scoring, which no method changes: made once per scene, shared by methods and threads.

    Attributes:
        sample: [K, 3] float32, the farthest point sample, in the scene's world and unit; read-only.
        tree: KD-tree of ``sample``.
        voxels: how many voxels were sampled from (points, without a voxel grid).
        n_points: valid finite pixels.
        n_dropped: pixels that were valid but not finite.
        diagonal: length of the diagonal of the sample's bounding box.
        voxel_size: what the cloud was made with, as are the following.
        num_points: samples asked for; fewer voxels than that give fewer samples.
        start: where sampling started.
        backend: whose code made it.
    """

    sample: NDArray[np.float32]
    tree: cKDTree = field(repr=False)
    voxels: int
    n_points: int
    n_dropped: int
    diagonal: float
    voxel_size: float | None
    num_points: int
    start: Start
    backend: Backend

    @property
    def capped(self) -> bool:
        """Whether there were fewer voxels than samples asked for."""
        return self.voxels < self.num_points


@dataclass(frozen=True, slots=True, eq=False)
class GeometryScore:
    """Scores of one predicted cloud, with what they were computed from. Lengths are in the true scene's unit.

    Attributes:
        accuracy: mean distance of sampled predicted points to the nearest sampled true point.
        completeness: mean distance of sampled true points to the nearest sampled predicted point.
        chamfer: mean of the two.
        relative_percent: ``100 * chamfer / diagonal`` of the true sample's bounding box.
        alignment: moves predicted points into the true world.
        residual: RMS distance of corresponding pixels after alignment.
        n_pixels: pixel pairs that the alignment used.
        n_dropped: pixels of the mask left out because the predicted or the true point is not finite.
        pred_voxels: voxels of the predicted cloud.
        gt_voxels: voxels of the true cloud.
        pred_sampled: samples of the predicted cloud.
        gt_sampled: samples of the true cloud.
        capped: whether a cloud had fewer voxels than samples asked for; such scores depend on the clouds' sizes.
        pred_sample: [pred_sampled, 3] float32, aligned; read-only.
        gt_sample: [gt_sampled, 3] float32; read-only.
    """

    accuracy: float
    completeness: float
    chamfer: float
    relative_percent: float
    alignment: Similarity
    residual: float
    n_pixels: int
    n_dropped: int
    pred_voxels: int
    gt_voxels: int
    pred_sampled: int
    gt_sampled: int
    capped: bool
    pred_sample: NDArray[np.float32] = field(repr=False)
    gt_sample: NDArray[np.float32] = field(repr=False)


def prepare_ground_truth(
    gt_points: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    voxel_size: float | None = 0.005,
    num_points: int = 20000,
    start: Start = "first",
    backend: Backend = "exact",
) -> GroundTruthCloud:
    """Average and sample the true cloud once, for any number of `score_points` calls with the same options.

    Args:
        gt_points: [F, H, W, 3] real numbers, world points of the scene; float32 is read in place.
        mask: [F, H, W] bool, pixels whose point is known.
        voxel_size: edge of a voxel in the scene's unit, or None for no grid.
        num_points: samples, at least 1; a cloud of fewer voxels is taken whole.
        start: as in `score_points`.
        backend: as in `score_points`.

    Raises:
        InputError: wrong shapes or types, an empty mask, no finite point, or options outside their range.
    """
    truth = real_points(gt_points, "gt_points")
    _check_pixels(truth, "gt_points")
    valid = _checked_mask(mask, truth)
    _check_options(num_points, voxel_size, start, backend)
    n_masked = int(np.count_nonzero(valid))
    if n_masked == 0:
        raise InputError("an empty mask", expected="at least one pixel with a known point")
    points = truth.reshape(-1, 3)
    usable = valid.reshape(-1) & _finite_rows(points)
    n_points = int(np.count_nonzero(usable))
    if n_points == 0:
        raise InputError("no true point under the mask is finite", expected="finite points where the mask is set")
    sample, voxels = _sample(points, usable, None, voxel_size, num_points, start, backend)
    return GroundTruthCloud(
        sample=sample,
        tree=kd_tree(sample),
        voxels=voxels,
        n_points=n_points,
        n_dropped=n_masked - n_points,
        diagonal=float(np.linalg.norm(np.ptp(sample.astype(np.float64), axis=0))),
        voxel_size=voxel_size,
        num_points=num_points,
        start=start,
        backend=backend,
    )


def score_points(
    pred_points: NDArray[Any],
    gt_points: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    input_indices: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    scale: ScaleRule = "variance-ratio",
    voxel_size: float | None = 0.005,
    num_points: int = 20000,
    start: Start = "first",
    pred_start: Start | None = None,
    ground_truth: GroundTruthCloud | None = None,
    masked_prediction: bool = True,
    backend: Backend = "exact",
) -> GeometryScore:
    """Align predicted points to the truth over corresponding pixels and score them as a cloud.

    Args:
        pred_points: [P, H, W, 3] real numbers in the prediction's own world and unit; P = F, or the number of
            ``input_indices``. Pixels that are not finite are left out and counted. float32 is read in place.
        gt_points: [F, H, W, 3] real numbers, world points of the scene.
        mask: [F, H, W] bool, pixels whose true point is known.
        input_indices: frames that the prediction holds, where it does not hold all. Alignment and predicted cloud use
            these frames only, the true cloud is that of ALL frames: VGGT's case in the paper's Table 2.
        scale: the rule for the alignment's scale, see `align_points`.
        voxel_size: edge of a voxel in the scene's unit, or None for no grid.
        num_points: samples per cloud, at least 1; a cloud of fewer voxels is taken whole, and `capped` is set.
        start: the first sample of each cloud. ``"first"``: the voxel that appears first, in pixel order;
            ``"open3d"``: row 0 of Open3D's output, which the released code starts from (emulated for libstdc++);
            ``"middle"``: voxel N // 2 in order of first appearance.
        pred_start: the same for the predicted cloud alone; None: as ``start``.
        ground_truth: `prepare_ground_truth` of the same points, mask and options, to save doing it again.
        masked_prediction: False lets all finite predicted pixels into the predicted cloud, a diagnostic: floaters on
            the sky count, which the released code forgives. The alignment still uses the mask.
        backend: ``"exact"``, this suite's code; ``"released"``, the authors' libraries for voxels, sampling and
            neighbours, where row numbers are Open3D's: ``"first"`` is its row 0.

    Raises:
        InputError: wrong shapes or types, an empty mask, indices out of range, options outside their range, a
            ``ground_truth`` made with other options, or true points that fill a single voxel.
        AlignmentError: no similarity is defined, such as for fewer than 3 finite pixel pairs or a constant prediction.

    Source: ``gen3r/utils/eval_utils.py`` of the released Gen3R code.
    """
    pred, truth = real_points(pred_points, "pred_points"), real_points(gt_points, "gt_points")
    _check_pixels(pred, "pred_points")
    _check_pixels(truth, "gt_points")
    valid = _checked_mask(mask, truth)
    frames = _checked_frames(input_indices, len(truth))
    if pred.shape != (len(frames), *truth.shape[1:]):
        raise InputError(
            f"pred_points of shape {list(pred.shape)}",
            expected=f"shape {[len(frames), *truth.shape[1:]]}, the pixels of the ground truth",
            fix=None if input_indices is not None else "name the frames it holds in input_indices",
        )
    _check_options(num_points, voxel_size, pred_start or start, backend)
    if ground_truth is None:
        ground_truth = prepare_ground_truth(
            truth, valid, voxel_size=voxel_size, num_points=num_points, start=start, backend=backend
        )
    else:
        _check_ground_truth(ground_truth, voxel_size, num_points, start, backend)
    if not ground_truth.diagonal > 0:
        raise InputError(
            f"true points that fill a single voxel of {voxel_size}",
            expected="a scene larger than a voxel",
            fix="check the unit of the points, or choose a smaller voxel size",
        )
    fit = _align(pred, truth, frames, valid, scale)
    points = pred.reshape(-1, 3)
    usable = fit.used.reshape(-1) if masked_prediction else _finite_rows(points)
    sample, voxels = _sample(points, usable, fit.similarity, voxel_size, num_points, pred_start or start, backend)
    distance = _distance(sample, ground_truth, backend)
    return GeometryScore(
        accuracy=distance.accuracy,
        completeness=distance.completeness,
        chamfer=distance.chamfer,
        relative_percent=100.0 * distance.chamfer / ground_truth.diagonal,
        alignment=fit.similarity,
        residual=fit.similarity.residual,
        n_pixels=fit.n_used,
        n_dropped=fit.n_dropped,
        pred_voxels=voxels,
        gt_voxels=ground_truth.voxels,
        pred_sampled=len(sample),
        gt_sampled=len(ground_truth.sample),
        capped=voxels < num_points or ground_truth.capped,
        pred_sample=sample,
        gt_sample=ground_truth.sample,
    )


def _align(
    pred: NDArray[Any], truth: NDArray[Any], frames: NDArray[np.int64], valid: NDArray[np.bool_], scale: ScaleRule
) -> FrameAlignment:
    pixels = truth.shape[1] * truth.shape[2]
    return align_frames(
        pred.reshape(len(pred), pixels, 3),
        truth.reshape(len(truth), pixels, 3),
        frames,
        valid.reshape(len(truth), pixels),
        scale=scale,
    )


def _sample(
    points: NDArray[Any],
    usable: NDArray[np.bool_],
    moved_by: Similarity | None,
    voxel_size: float | None,
    num_points: int,
    start: Start,
    backend: Backend,
) -> tuple[NDArray[np.float32], int]:
    """Farthest point sample [K, 3] of the voxel means of usable [N, 3] points, and the number of voxels."""
    if voxel_size is None or backend == "released":
        moved = (moved_by or Similarity.identity()).apply(points[usable])
        if voxel_size is not None:
            moved = released.voxel_downsample(moved, voxel_size)
        columns, n = as_float32(np.ascontiguousarray(moved.T)), len(moved)
        row = n // 2 if start == "middle" else 0
        if backend == "released":
            rows = released.farthest_point_indices(columns.T, num_points, start=row)
        else:
            rows = farthest_rows(columns, np.arange(n, dtype=np.int32), num_points, row, morton_sorted=False)
    else:
        voxels = average_voxels(points, usable, moved_by, voxel_size)
        columns, n = voxels.means, len(voxels)
        row = _start_row(voxels, start, points, moved_by, voxel_size)
        rows = farthest_rows(columns, voxels.first, num_points, row, morton_sorted=voxels.morton_sorted)
    sample = np.ascontiguousarray(columns[:, rows].T)
    sample.flags.writeable = False
    return sample, n


def _start_row(
    voxels: VoxelMeans, start: Start, points: NDArray[Any], moved_by: Similarity | None, voxel_size: float
) -> int:
    if start == "first":
        return int(voxels.first.argmin())
    if start == "middle":
        return int(np.argpartition(voxels.first, len(voxels) // 2)[len(voxels) // 2])
    by_appearance = np.argsort(voxels.first)
    creators = (moved_by or Similarity.identity()).apply(points[voxels.first[by_appearance]])
    return int(by_appearance[open3d_row_order(voxel_indices(creators, voxels.origin, voxel_size))[0]])


def _distance(sample: NDArray[np.float32], ground_truth: GroundTruthCloud, backend: Backend) -> Chamfer:
    if backend == "released":
        return released.chamfer(sample, ground_truth.sample)
    return chamfer_of_trees(kd_tree(sample), ground_truth.tree)


def _finite_rows(points: NDArray[Any]) -> NDArray[np.bool_]:
    finite = np.isfinite(points)
    rows: NDArray[np.bool_] = finite[:, 0] & finite[:, 1] & finite[:, 2]
    return rows


def _check_pixels(points: NDArray[Any], name: str) -> None:
    if points.ndim != 4 or points.shape[3] != 3:
        raise InputError(f"{name} of shape {list(points.shape)}", expected="shape [frames, height, width, 3]")


def _checked_mask(mask: NDArray[np.bool_], truth: NDArray[Any]) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise InputError(f"mask has type {array.dtype}", expected="bool", fix="compare it with a threshold yourself")
    if array.shape != truth.shape[:3]:
        raise InputError(f"mask of shape {list(array.shape)}", expected=f"shape {list(truth.shape[:3])}")
    return array


def _checked_frames(input_indices: Sequence[int] | NDArray[np.integer[Any]] | None, total: int) -> NDArray[np.int64]:
    if input_indices is None:
        return np.arange(total, dtype=np.int64)
    frames = np.asarray(input_indices)
    if frames.ndim != 1 or len(frames) == 0 or frames.dtype.kind not in "iu":
        raise InputError(f"input_indices {input_indices!r}", expected="a list of at least one frame index")
    if frames.min() < 0 or frames.max() >= total or len(np.unique(frames)) != len(frames):
        raise InputError(f"input_indices {frames.tolist()}", expected=f"different indices from 0 to {total - 1}")
    return frames.astype(np.int64)


def _check_options(num_points: int, voxel_size: float | None, start: Start, backend: Backend) -> None:
    if num_points < 1:
        raise InputError(f"num_points {num_points}", expected="at least 1")
    if start not in get_args(Start):
        raise InputError(f"start {start!r}", expected=" or ".join(map(repr, get_args(Start))))
    if backend not in get_args(Backend):
        raise InputError(f"backend {backend!r}", expected=" or ".join(map(repr, get_args(Backend))))
    if voxel_size is None and start == "open3d":
        raise InputError("start 'open3d' without voxels", expected="a voxel size, since the order is that of voxels")


def _check_ground_truth(
    cloud: GroundTruthCloud, voxel_size: float | None, num_points: int, start: Start, backend: Backend
) -> None:
    made_with = (cloud.voxel_size, cloud.num_points, cloud.start, cloud.backend)
    if made_with != (voxel_size, num_points, start, backend):
        raise InputError(
            f"a ground truth made with voxel_size, num_points, start, backend = {made_with}",
            expected=f"{(voxel_size, num_points, start, backend)}, the options of this call",
            fix="pass the same options to prepare_ground_truth",
        )


def _metric(name: str, title: str, unit: str, reference: str) -> Metric:
    return Metric(
        name=name,
        dialect="fps20k",
        title=title,
        unit=unit,
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        reference=reference,
        kind="points",
        function=attrgetter(name),
    )


_RELEASED: Final = "released Gen3R code, compute_chamfer_metrics"
ACCURACY: Final = _metric("accuracy", "Accuracy", "scene unit", f"{_RELEASED}: mean distance, predicted to true")
COMPLETENESS: Final = _metric(
    "completeness", "Completeness", "scene unit", f"{_RELEASED}: mean distance, true to predicted"
)
CHAMFER: Final = _metric("chamfer", "Chamfer", "scene unit", f"{_RELEASED}: mean of accuracy and completeness")
RELATIVE_PERCENT: Final = _metric(
    "relative_percent",
    "Chamfer / diagonal",
    "%",
    f"{_RELEASED}: 100 chamfer / bounding box diagonal of the true sample",
)
