"""Camera metrics: relative pose errors over all pairs of a clip's frames, and the area under their recall curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.scene import _check_poses, _checked

AucDialect = Literal["hist1deg", "exact"]
AUC_DIALECTS: Final[tuple[str, ...]] = get_args(AucDialect)

_EPS: Final = 1e-15
"""VGGT's guard, added to lengths and the least value of a loss. Equal rotations are 3.6e-6 degrees apart."""

STATIC_RATIO: Final = 1e-6
"""A pair is static where its true cameras are closer than this share of the largest distance between any two."""


@dataclass(frozen=True, slots=True, eq=False)
class RelativePoseErrors:
    """Errors of the relative pose of P pairs of frames.

    Attributes:
        rotation_deg: [P] float64 angle between the two relative rotations, 0 to 180 degrees.
        translation_deg: [P] float64 angle between the two directions of motion, up to sign, 0 to 90 degrees.
        pairs: [P, 2] the two frames of each pair, the lower index first.
        static_pairs: how many pairs have true cameras in one place. Their direction of motion does not exist, so their
            translation error is near 90 degrees whatever the prediction, and they count as failures.

    Raises:
        InputError: on no pairs, mismatched lengths, or errors that are negative or not finite.
    """

    rotation_deg: NDArray[np.float64]
    translation_deg: NDArray[np.float64]
    pairs: NDArray[np.int64]
    static_pairs: int = 0

    def __post_init__(self) -> None:
        rotation = _checked(self.rotation_deg, "rotation_deg", (None,), np.float64)
        if len(rotation) == 0:
            raise InputError("pose errors of 0 pairs", expected="at least one pair")
        translation = _checked(self.translation_deg, "translation_deg", (len(rotation),), np.float64)
        if rotation.min() < 0 or translation.min() < 0:
            raise InputError("a negative pose error", expected="angles from 0 degrees on")
        object.__setattr__(self, "rotation_deg", rotation)
        object.__setattr__(self, "translation_deg", translation)
        object.__setattr__(self, "pairs", _checked(self.pairs, "pairs", (len(rotation), 2), np.int64))

    def __len__(self) -> int:
        return len(self.rotation_deg)

    @property
    def largest_deg(self) -> NDArray[np.float64]:
        """[P] the larger error of each pair, which is what a threshold is compared with."""
        largest: NDArray[np.float64] = np.maximum(self.rotation_deg, self.translation_deg)
        return largest


def _poses(value: ArrayLike, name: str) -> NDArray[np.float64]:
    poses: NDArray[np.float64] = _checked(value, name, (None, 4, 4), np.float64)
    _check_poses(poses, name)
    return poses


def _relative(
    world_from_cam: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation [P, 3, 3] and translation [P, 3] of ``inv(pose[first]) @ pose[second]``.

    The camera centres are subtracted before anything is rotated, so a world whose origin is far away costs no digits
    beyond those that its coordinates have lost already.
    """
    rotation, centre = world_from_cam[:, :3, :3], world_from_cam[:, :3, 3]
    to_first = rotation[first].transpose(0, 2, 1)
    return to_first @ rotation[second], (to_first @ (centre[second] - centre[first])[:, :, None])[:, :, 0]


def relative_pose_errors(pred_world_from_cam: ArrayLike, gt_world_from_cam: ArrayLike) -> RelativePoseErrors:
    """Rotation and translation errors of the relative poses of all pairs of frames, as VGGT's evaluation has them.

    The relative pose of frames i < j is ``cam_i from cam_j = inv(world_from_cam[i]) @ world_from_cam[j]`` (upstream
    writes it ``E_i @ inv(E_j)`` with ``E = cam_from_world``). It does not depend on either world frame, and the
    direction of motion does not depend on scale. The direction is compared up to sign, so 90 degrees is the worst. A
    pair without motion, true or predicted, gets 90 degrees, as upstream; ``static_pairs`` counts the true ones.

    Args:
        pred_world_from_cam: [F, 4, 4] rigid predicted poses, OpenCV axes, any world, any scale.
        gt_world_from_cam: [F, 4, 4] rigid true poses of the same frames.

    Returns:
        The errors of the F (F - 1) / 2 pairs, in degrees.

    Raises:
        InputError: on wrong shapes, fewer than 2 frames, non-finite values or poses that are not rigid.

    Source: VGGT ``evaluation/test_co3d.py`` as of August 2025; the version of May 2025 composed the poses in another
    order and gave other numbers.

    >>> import numpy as np
    >>> gt = np.tile(np.eye(4), (3, 1, 1))
    >>> gt[:, 0, 3] = [0, 1, 2]
    >>> pred = gt.copy()
    >>> pred[:, :2, 3] = [[0, 0], [1, 1], [2, 2]]
    >>> relative_pose_errors(pred, gt).translation_deg.round(6)
    array([45., 45., 45.])
    """
    pred = _poses(pred_world_from_cam, "pred_world_from_cam")
    gt = _poses(gt_world_from_cam, "gt_world_from_cam")
    if len(pred) != len(gt):
        raise InputError(f"{len(pred)} predicted poses for {len(gt)} true ones", expected="one pose a frame in both")
    if len(gt) < 2:
        raise InputError(f"poses of {len(gt)} frame(s)", expected="at least 2 frames, which make a pair")
    first, second = np.triu_indices(len(gt), k=1)
    pred_rotation, pred_motion = _relative(pred, first, second)
    gt_rotation, gt_motion = _relative(gt, first, second)

    # sin²(angle / 2): upstream's 1 - (q · q')² without its cancellation, which costs half the digits of small angles
    loss = np.square(pred_rotation - gt_rotation).sum(axis=(1, 2)) / 8.0
    rotation = np.arccos(1.0 - 2.0 * np.clip(loss, _EPS, 1.0))

    gt_distance = np.linalg.norm(gt_motion, axis=1)
    pred_direction = pred_motion / (np.linalg.norm(pred_motion, axis=1) + _EPS)[:, None]
    gt_direction = gt_motion / (gt_distance + _EPS)[:, None]
    cosine = (pred_direction * gt_direction).sum(axis=1)
    translation = np.arccos(np.sqrt(1.0 - np.clip(1.0 - cosine**2, _EPS, 1.0)))

    return RelativePoseErrors(
        rotation_deg=np.degrees(rotation),
        translation_deg=np.degrees(translation),
        pairs=np.stack([first, second], axis=1).astype(np.int64),
        static_pairs=int((gt_distance <= STATIC_RATIO * gt_distance.max()).sum()),
    )


def pose_auc(errors: RelativePoseErrors, *, threshold: float = 30, dialect: AucDialect = "hist1deg") -> float:
    """Area under the curve of the share of pairs whose larger error is within 0 to ``threshold`` degrees.

    Args:
        errors: from ``relative_pose_errors``.
        threshold: upper end in degrees; a whole number for ``hist1deg``. An error equal to it still counts.
        dialect: ``hist1deg`` sums the curve over one-degree bins and gives a pair its whole bin, as VGGT does, so it
            lies up to 1 / ``threshold`` above ``exact``, which integrates the curve.

    Returns:
        0 (no pair within the threshold) to 1.

    Raises:
        InputError: on a threshold that is not positive, or not whole for ``hist1deg``, and on an unknown dialect.

    Source: VGGT ``evaluation/test_co3d.py`` (``calculate_auc_np``).

    >>> import numpy as np
    >>> pairs = np.array([[0, 1], [0, 2], [1, 2]])
    >>> errors = RelativePoseErrors(np.array([0.5, 3.0, 40.0]), np.array([0.0, 15.0, 1.0]), pairs)
    >>> round(pose_auc(errors), 6), round(pose_auc(errors, dialect="exact"), 6)
    (0.5, 0.494444)
    """
    if dialect not in AUC_DIALECTS:
        raise InputError(f"dialect {dialect!r}", expected=" or ".join(AUC_DIALECTS))
    if not (np.isfinite(threshold) and threshold > 0):
        raise InputError(f"threshold {threshold}", expected="a positive number of degrees")
    within = errors.largest_deg[errors.largest_deg <= threshold]
    if dialect == "exact":
        # a pair is recalled from its error on: it adds (threshold - error) to the area
        return float((threshold - within).sum() / (threshold * len(errors)))
    if threshold != int(threshold):
        raise InputError(f"threshold {threshold} for hist1deg", expected="whole degrees", fix='dialect="exact"')
    bins = int(threshold)
    # bin b counts in the cumulative sums of bins b ... bins - 1; the last bin holds its upper edge too
    first_bin = np.minimum(within.astype(np.int64), bins - 1)
    return int((bins - first_bin).sum()) / (bins * len(errors))


def pooled_pose_errors(clips: Sequence[RelativePoseErrors]) -> RelativePoseErrors:
    """The pairs of several clips as one set, as an evaluation has it that pools pairs before it takes the area.

    A clip then counts by its pairs, so clips of one length give the mean over clips. Frame numbers stay those of the
    clips, so ``pairs`` of the result no longer names frames uniquely.

    Raises:
        InputError: on no clip.

    Source: VGGT ``evaluation/test_co3d.py``, which pools the sequences of a category.

    >>> import numpy as np
    >>> good = RelativePoseErrors(np.zeros(1), np.zeros(1), np.array([[0, 1]]))
    >>> bad = RelativePoseErrors(np.full(3, 90.0), np.zeros(3), np.array([[0, 1], [0, 2], [1, 2]]))
    >>> pose_auc(pooled_pose_errors([good, bad]))
    0.25
    """
    if not clips:
        raise InputError("pose errors of 0 clips", expected="at least one clip")
    return RelativePoseErrors(
        rotation_deg=np.concatenate([clip.rotation_deg for clip in clips]),
        translation_deg=np.concatenate([clip.translation_deg for clip in clips]),
        pairs=np.concatenate([clip.pairs for clip in clips]),
        static_pairs=sum(clip.static_pairs for clip in clips),
    )


def drawn_frames(num_frames: int, count: int, seed: int) -> NDArray[np.int64]:
    """``count`` different frames out of ``num_frames``, drawn evenly and sorted; all of them where there are no more.

    Raises:
        InputError: where ``count`` is below 2, since pairs are scored.

    Source: VGGT ``evaluation/test_co3d.py`` draws 10 frames of each sequence; its generator is not part of the recipe.

    >>> drawn_frames(5, 10, seed=0).tolist(), len(drawn_frames(49, 10, seed=0))
    ([0, 1, 2, 3, 4], 10)
    """
    if count < 2:
        raise InputError(f"{count} frame(s) to draw", expected="at least 2, which make a pair")
    if count >= num_frames:
        return np.arange(num_frames, dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(num_frames, count, replace=False)
    return np.sort(drawn).astype(np.int64)


def _mean_rotation(errors: RelativePoseErrors) -> float:
    return float(errors.rotation_deg.mean())


def _mean_translation(errors: RelativePoseErrors) -> float:
    return float(errors.translation_deg.mean())


_VGGT: Final = "VGGT, evaluation/test_co3d.py, August 2025 (github.com/facebookresearch/vggt)"


def _auc(threshold: int, dialect: AucDialect) -> Metric:
    return Metric(
        name=f"auc{threshold}",
        dialect=dialect,
        title=f"AUC@{threshold}",
        unit="",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        reference=_VGGT if dialect == "hist1deg" else f"{_VGGT}; exact area instead of one-degree bins",
        kind="poses",
        function=partial(pose_auc, threshold=threshold, dialect=dialect),
    )


def _mean(name: str, title: str, worst: float, function: Any) -> Metric:
    return Metric(
        name=name,
        dialect="mean",
        title=title,
        unit="deg",
        higher_is_better=False,
        bounds=(0.0, worst),
        reference=f"{_VGGT}; mean over all pairs",
        kind="poses",
        function=function,
    )


AUC5: Final = _auc(5, "hist1deg")
AUC15: Final = _auc(15, "hist1deg")
AUC30: Final = _auc(30, "hist1deg")
AUC5_EXACT: Final = _auc(5, "exact")
AUC15_EXACT: Final = _auc(15, "exact")
AUC30_EXACT: Final = _auc(30, "exact")
ROTATION_ERROR: Final = _mean("rotation_deg", "Rotation error", 180.0, _mean_rotation)
TRANSLATION_ERROR: Final = _mean("translation_deg", "Translation error", 90.0, _mean_translation)
