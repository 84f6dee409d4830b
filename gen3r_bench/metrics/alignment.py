"""Similarity alignment of corresponding points (Umeyama), as the released Gen3R code does it but in float64.

The released code sums in float32; at 15 million points on a CPU that turns the result by up to 0.3 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import BenchError, InputError
from gen3r_bench.metrics._numba import compiled, read_only

ScaleRule = Literal["variance-ratio", "umeyama", "none"]
SCALE_RULES: Final[tuple[str, ...]] = get_args(ScaleRule)

COLLINEAR_RATIO: Final = 1e-6
"""Second over first singular value of the cross-covariance below which the rotation about a line is arbitrary."""

LARGEST_COORDINATE: Final = 1e18
"""Squared distances between points within it stay inside float32, which sampling measures in."""

_CONSTANT_RATIO: Final = 1e-12
"""RMS radius over distance from the origin below which a cloud is one point up to float64 rounding."""


class AlignmentError(BenchError):
    """Two point sets that no similarity is defined for; the message is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """``target = scale * rotation @ source + translation``.

    Attributes:
        scale: positive.
        rotation: [3, 3] float64, orthonormal, determinant +1.
        translation: [3] float64, in the target's unit.
        residual: RMS distance between the corresponding points after alignment, in the target's unit:
            ``sqrt(mean(|apply(source) - target|^2))`` over the pairs that the similarity was fitted to; 0 for one that
            was made by hand.
    """

    scale: float
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    residual: float = 0.0

    @classmethod
    def identity(cls) -> Similarity:
        """The similarity that changes nothing."""
        return cls(1.0, np.eye(3), np.zeros(3))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """[3, 3] ``scale * rotation``."""
        return self.scale * self.rotation

    def apply(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Move [..., 3] points of the source frame into the target frame, in float64."""
        matrix = self.matrix
        x, y, z = (np.asarray(points[..., axis], dtype=np.float64) for axis in range(3))
        moved = np.empty((*x.shape, 3))
        for axis in range(3):
            # written out, not a matrix product: BLAS rounds differently from the compiled kernels
            moved[..., axis] = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z + self.translation[axis]
        return moved

    def inverse(self) -> Similarity:
        """The similarity from the target frame back to the source frame; its residual is in the source's unit."""
        rotation = self.rotation.T.copy()
        return Similarity(
            1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale, self.residual / self.scale
        )


@dataclass(frozen=True, slots=True, eq=False)
class FrameAlignment:
    """A similarity fitted over frames of pixels, with what was used for it.

    Attributes:
        similarity: source frame to target frame.
        used: [P, N] bool, the source pixels that were masked in and finite on both sides.
        n_used: how many these are.
        n_dropped: pixels that were masked in but not finite on one side.
    """

    similarity: Similarity
    used: NDArray[np.bool_]
    n_used: int
    n_dropped: int


def align_points(source: NDArray[Any], target: NDArray[Any], *, scale: ScaleRule = "variance-ratio") -> Similarity:
    """Fit the similarity that moves ``source`` onto ``target``, both [N, 3] and corresponding row by row.

    The rotation is the least-squares one (Umeyama 1991, equation 40), always proper: mirrored input gets the best
    rotation, never a reflection. Sums are float64, shifted by the first pair, whatever the type of the input.

    Args:
        source: [N, 3] real numbers, the frame to move.
        target: [N, 3] real numbers, the frame to reach.
        scale: ``"variance-ratio"``, sqrt(var(target) / var(source)), the released Gen3R code (`eval_utils.py`);
            ``"umeyama"``, trace(D S) / var(source), equation 42 of Umeyama 1991, the least-squares scale;
            ``"none"``, scale 1.

    Raises:
        AlignmentError: fewer than 3 pairs, a non-finite coordinate, a constant cloud, or points on one line.
        InputError: shapes other than [N, 3] twice, or an unknown ``scale``.

    >>> moved = align_points([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[5, 1, 2], [5, 3, 2], [3, 1, 2]])
    >>> round(moved.scale, 6), moved.translation.round(6).tolist()
    (2.0, [5.0, 1.0, 2.0])
    """
    points_source, points_target = (_rows_of_three(p, n) for p, n in ((source, "source"), (target, "target")))
    if points_source.shape != points_target.shape:
        raise InputError(
            f"source of {len(points_source)} and target of {len(points_target)} points",
            expected="corresponding points, as many in both",
        )
    fit = align_frames(
        points_source[None],
        points_target[None],
        np.zeros(1, dtype=np.int64),
        np.ones((1, len(points_source)), dtype=np.bool_),
        scale=scale,
        drop_non_finite=False,
    )
    return fit.similarity


def align_frames(
    source: NDArray[Any],
    target: NDArray[Any],
    target_frames: NDArray[np.int64],
    mask: NDArray[np.bool_],
    *,
    scale: ScaleRule = "variance-ratio",
    drop_non_finite: bool = True,
) -> FrameAlignment:
    """Align pixels of frames: ``source[i]`` [N, 3] corresponds to ``target[target_frames[i]]`` where ``mask`` is set.

    ``mask`` is [F, N] like the target's frames. Reads float32 or float64 arrays as they are, without a copy.

    Raises:
        AlignmentError: as `align_points`; non-finite pixels raise only with ``drop_non_finite=False``.
        InputError: an unknown ``scale``.
    """
    if scale not in SCALE_RULES:
        raise InputError(f"scale {scale!r}", expected=" or ".join(repr(rule) for rule in SCALE_RULES))
    source, target, mask = read_only(source), read_only(target), read_only(mask)
    target_frames = read_only(target_frames)
    used = np.empty(source.shape[:2], dtype=np.bool_)
    kernels = compiled("_alignment_numba")
    sums_of = kernels.corresponding_sums if kernels else _corresponding_sums
    shift, sums = np.zeros(6), np.zeros(17)
    count, dropped = sums_of(source, target, target_frames, mask, used, shift, sums)
    if dropped and not drop_non_finite:
        raise AlignmentError(f"{dropped} of {dropped + count} point pairs are not finite")
    if count < 3:
        text = f"{count} usable point pairs" + (f" ({dropped} more are not finite)" if dropped else "")
        raise AlignmentError(f"{text}; a similarity needs at least 3")
    similarity = _solve(int(count), shift, sums, scale)
    residual_of = kernels.squared_residual if kernels else _squared_residual
    squares = residual_of(source, target, target_frames, used, similarity.matrix, similarity.translation)
    similarity = Similarity(
        similarity.scale, similarity.rotation, similarity.translation, float(np.sqrt(squares / count))
    )
    used.flags.writeable = False
    return FrameAlignment(similarity, used, int(count), int(dropped))


def _solve(count: int, shift: NDArray[np.float64], sums: NDArray[np.float64], scale: ScaleRule) -> Similarity:
    mean_source, mean_target = sums[0:3] / count, sums[3:6] / count
    covariance = sums[6:15].reshape(3, 3) / count - np.outer(mean_source, mean_target)
    var_source = sums[15] / count - mean_source @ mean_source
    var_target = sums[16] / count - mean_target @ mean_target
    mean_source = mean_source + shift[0:3]
    mean_target = mean_target + shift[3:6]
    if not (np.isfinite(covariance).all() and np.isfinite(var_source + var_target)):
        raise AlignmentError("the coordinates are too large: their squares overflow float64")
    for name, var, mean in (("source", var_source, mean_source), ("target", var_target, mean_target)):
        if var <= 0 or var <= _CONSTANT_RATIO**2 * (mean @ mean):
            raise AlignmentError(f"all {count} {name} points are the same point; scale and rotation are undefined")
    u, singular, vt = np.linalg.svd(covariance)
    # a product of spreads: compare with it, since a cross-covariance of zero has no usable ratio of its own
    if singular[1] < COLLINEAR_RATIO * singular[0] or singular[0] < 1e-14 * np.sqrt(var_source * var_target):
        raise AlignmentError(
            f"the {count} point pairs lie on one line (singular values {singular[0]:.3g}, {singular[1]:.3g}); "
            "the rotation about it is undefined"
        )
    sign = np.array([1.0, 1.0, 1.0 if np.linalg.det(vt.T @ u.T) > 0 else -1.0])
    rotation = (vt.T * sign) @ u.T
    if scale == "variance-ratio":
        factor = float(np.sqrt(var_target / var_source))
    elif scale == "umeyama":
        factor = float(singular @ sign / var_source)
    else:
        factor = 1.0
    return Similarity(factor, rotation, mean_target - factor * (rotation @ mean_source))


def _rows_of_three(points: NDArray[Any], name: str) -> NDArray[Any]:
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"{name} has shape {list(array.shape)}", expected="shape [N, 3]")
    return real_points(array, name)


def real_points(points: NDArray[Any], name: str) -> NDArray[Any]:
    """``points`` as they are if float32 or float64, else converted to float64; complex and text are refused."""
    array = np.asarray(points)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} has type {array.dtype}", expected="real numbers")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


# The NumPy fallback: frame by frame, so that the float64 copies stay small.


def _corresponding_sums(
    source: NDArray[Any],
    target: NDArray[Any],
    target_frames: NDArray[np.int64],
    mask: NDArray[np.bool_],
    used: NDArray[np.bool_],
    shift: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> tuple[int, int]:
    count = dropped = 0
    for frame, other in enumerate(target_frames):
        finite = np.isfinite(source[frame]).all(axis=1) & np.isfinite(target[other]).all(axis=1)
        used[frame] = mask[other] & finite
        dropped += int((mask[other] & ~finite).sum())
        a = source[frame][used[frame]].astype(np.float64)
        b = target[other][used[frame]].astype(np.float64)
        if len(a) == 0:
            continue
        if count == 0:
            shift[:3], shift[3:] = a[0], b[0]
        count += len(a)
        a -= shift[:3]
        b -= shift[3:]
        sums[0:3] += a.sum(axis=0)
        sums[3:6] += b.sum(axis=0)
        sums[6:15] += (a.T @ b).ravel()
        sums[15] += (a * a).sum()
        sums[16] += (b * b).sum()
    return count, dropped


def _squared_residual(
    source: NDArray[Any],
    target: NDArray[Any],
    target_frames: NDArray[np.int64],
    used: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    translation: NDArray[np.float64],
) -> float:
    total = 0.0
    moved = Similarity(1.0, matrix, translation)
    for frame, other in enumerate(target_frames):
        off = moved.apply(source[frame][used[frame]]) - target[other][used[frame]]
        total += float((off * off).sum())
    return total
