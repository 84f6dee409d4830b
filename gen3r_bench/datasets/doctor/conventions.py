"""Which convention a clip's cameras follow: errors of matches and depth as read, and under the usual mistakes.

Cameras that were read rightly send each match to its partner's epipolar line, and each depth to the other frame's
depth. Wrong ones miss by tens of pixels, unless the mistake that was made is undone. Some mistakes cannot be undone
with the poses of a Scene alone, because a Scene has forgotten its first camera's pose in the world of the file, and the
inverse of a pose that was moved by it is no longer the inverse. For those the first camera is searched for: six
numbers, against five that every pair of frames checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from gen3r_bench.datasets.doctor.correspondence import PairMatches, spread
from gen3r_bench.scene import Cameras, invert_rigid

AS_READ: Final = "as-read"

_OPENCV_FROM_NED: Final = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])

AXES: Final[dict[str, NDArray[np.float64]]] = {
    "opengl": np.diag([1.0, -1.0, -1.0]),
    "pytorch3d": np.diag([-1.0, -1.0, 1.0]),
    "ned": _OPENCV_FROM_NED.T,
    "ned-twice": _OPENCV_FROM_NED,
}
"""By mistake, the rotation that undoes it on the camera's side: the true pose's rotation is the one read times it."""

EXPLANATIONS: Final[dict[str, str]] = {
    AS_READ: "as read",
    "opengl": "with y and z flipped (OpenGL axes were taken for OpenCV, or flipped twice)",
    "pytorch3d": "with x and y flipped (PyTorch3D axes were taken for OpenCV, or flipped twice)",
    "ned": "with NED axes turned into OpenCV's (the conversion is missing)",
    "ned-twice": "without a conversion from NED (OpenCV axes were converted)",
    "swapped-k": "with x and y of K swapped (K is transposed, or width and height are)",
    "inverted": "as world-to-camera (the poses are inverted)",
    "transposed-w2c": "with the rotation of world-to-camera transposed",
    "transposed-c2w": "with the rotation of camera-to-world transposed",
    "ray-depth": "with depth along the ray (it was taken for the z coordinate)",
    "depth-mm": "with depth divided by 1000 (millimetres were taken for metres)",
    "depth-km": "with depth times 1000 (it was divided once too often)",
}

FAMILIES: Final = ("inverted", "transposed-w2c", "transposed-c2w")
"""Mistakes that need the first camera's pose to be undone; whatever the axes, since a turn of them is part of it."""
_STARTS: Final = 240
_REFINED: Final = 6
_ROBUST_PX: Final = 2.0
_FIT_PAIRS: Final = 24
_FIT_MATCHES: Final = 30
_DEPTH_STEP: Final = 3  # pixels between the samples of a depth map
_MIN_OVERLAP: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """Cameras of a clip as they would be without one mistake.

    Attributes:
        name: a key of `EXPLANATIONS`.
        intrinsics: [F, 3, 3] pixels.
        relative: (one, two) frames to [4, 4], what takes points of camera ``one`` into camera ``two``.
    """

    name: str
    intrinsics: NDArray[np.float64]
    relative: Callable[[int, int], NDArray[np.float64]]


def fixed_hypotheses(cameras: Cameras) -> list[Hypothesis]:
    """The cameras as read, and under every mistake that can be undone without the first camera's pose."""
    poses = cameras.world_from_cam
    found = [Hypothesis(AS_READ, cameras.intrinsics, _relative_of(poses))]
    for name, turn in AXES.items():
        turned = poses.copy()
        turned[:, :3, :3] = poses[:, :3, :3] @ turn
        found.append(Hypothesis(name, cameras.intrinsics, _relative_of(turned)))
    swapped = cameras.intrinsics[:, [1, 0, 2]][:, :, [1, 0, 2]]
    # a square crop's K is nearly the same either way, and then says nothing
    if np.abs(swapped - cameras.intrinsics).max() > 0.02 * cameras.intrinsics[:, 0, 0].max():
        found.append(Hypothesis("swapped-k", swapped, _relative_of(poses)))
    return found


def fitted_hypotheses(cameras: Cameras, pairs: Sequence[PairMatches]) -> list[Hypothesis]:
    """The mistakes that need the first camera's pose, with the one that fits ``pairs`` best."""
    chosen = [pairs[i] for i in spread(len(pairs), _FIT_PAIRS)] if pairs else []
    return [_fitted(name, cameras, chosen) for name in FAMILIES] if chosen else []


def _relative_of(poses: NDArray[np.float64]) -> Callable[[int, int], NDArray[np.float64]]:
    inverse = invert_rigid(poses)
    return lambda one, two: inverse[two] @ poses[one]


def epipolar_distances(
    two_from_one: NDArray[np.float64],
    intrinsics: tuple[NDArray[np.float64], NDArray[np.float64]],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Symmetric epipolar distance in pixels of matched points, [M] float64; not finite where there is no motion.

    The mean of the distances of ``y`` from the line of ``x`` in the second picture, and of ``x`` from that of ``y`` in
    the first. The length of the motion does not matter, and nor does the world.

    Args:
        two_from_one: [4, 4] rigid, takes points of the first camera into the second.
        intrinsics: [3, 3] each, pixels.
        x: [M, 2] (column, row) in the first picture.
        y: [M, 2] in the second.
    """
    tx, ty, tz = two_from_one[:3, 3]
    essential = np.array([[0.0, -tz, ty], [tz, 0.0, -tx], [-ty, tx, 0.0]]) @ two_from_one[:3, :3]
    fundamental = np.linalg.inv(intrinsics[1]).T @ essential @ np.linalg.inv(intrinsics[0])
    ones = np.ones((len(x), 1))
    lines_two = np.concatenate([x, ones], axis=1) @ fundamental.T
    lines_one = np.concatenate([y, ones], axis=1) @ fundamental
    algebraic = np.abs(np.sum(np.concatenate([y, ones], axis=1) * lines_two, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse_norms = 1.0 / np.linalg.norm(lines_one[:, :2], axis=1) + 1.0 / np.linalg.norm(lines_two[:, :2], axis=1)
        distances: NDArray[np.float64] = 0.5 * algebraic * inverse_norms
    return distances


def epipolar_error(hypothesis: Hypothesis, pairs: Sequence[PairMatches]) -> float:
    """Median symmetric epipolar distance in pixels over all matches of ``pairs``; NaN where none can be measured."""
    parts = [
        epipolar_distances(
            hypothesis.relative(pair.one, pair.two),
            (hypothesis.intrinsics[pair.one], hypothesis.intrinsics[pair.two]),
            pair.x,
            pair.y,
        )
        for pair in pairs
    ]
    distances = np.concatenate(parts) if parts else np.empty(0)
    distances = distances[np.isfinite(distances)]
    return float(np.median(distances)) if len(distances) else float("nan")


def depth_changes(
    cameras: Cameras, depth: NDArray[np.float32], frames: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """[F, H, W] depth as it would be without one mistake, by the mistake's name; 0 outside ``frames``."""
    height, width = cameras.image_size
    chosen = list(frames)
    fx, fy, cx, cy = (cameras.intrinsics[chosen, a, b, None, None] for a, b in ((0, 0), (1, 1), (0, 2), (1, 2)))
    column, row = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    rays = np.sqrt(1 + ((column - cx) / fx) ** 2 + ((row - cy) / fy) ** 2).astype(np.float32)
    for name, factor in (("ray-depth", 1 / rays), ("depth-mm", np.float32(1e-3)), ("depth-km", np.float32(1e3))):
        out = np.zeros_like(depth)
        out[chosen] = depth[chosen] * factor
        yield name, out


def depth_error(
    hypothesis: Hypothesis, depth: NDArray[np.float32], valid: NDArray[np.bool_], pairs: Sequence[tuple[int, int]]
) -> float:
    """Median relative error of depth that is carried from one frame into the other; NaN where too little overlaps.

    Of each (one, two) pair, pixels of ``one`` are moved into ``two`` and their z compared with the depth found there;
    the median over pixels, then over pairs. What one camera alone sees is in the tail, which a median does not feel.

    Args:
        hypothesis: cameras.
        depth: [F, H, W] float32 z-depth in the unit of the poses.
        valid: [F, H, W] bool.
        pairs: (one, two) frames.
    """
    medians = [_pair_depth_error(hypothesis, depth, valid, one, two) for one, two in pairs]
    known = [value for value in medians if np.isfinite(value)]
    return float(np.median(known)) if 2 * len(known) >= len(medians) > 0 else float("nan")


def _pair_depth_error(
    hypothesis: Hypothesis, depth: NDArray[np.float32], valid: NDArray[np.bool_], one: int, two: int
) -> float:
    height, width = depth.shape[1:]
    rows, columns = np.nonzero(valid[one, ::_DEPTH_STEP, ::_DEPTH_STEP])
    rows, columns = rows * _DEPTH_STEP, columns * _DEPTH_STEP
    z = depth[one, rows, columns].astype(np.float64)
    points = np.linalg.inv(hypothesis.intrinsics[one]) @ (np.stack([columns + 0.5, rows + 0.5, np.ones(len(z))]) * z)
    two_from_one = hypothesis.relative(one, two)
    u, v, w = hypothesis.intrinsics[two] @ (two_from_one[:3, :3] @ points + two_from_one[:3, 3:])
    ahead = w > 1e-9 * (np.abs(z).max() if len(z) else 1.0)
    u, v, w = u[ahead] / w[ahead], v[ahead] / w[ahead], w[ahead]
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    row, column, w = v[inside].astype(np.intp), u[inside].astype(np.intp), w[inside]
    seen = valid[two, row, column]
    if seen.sum() < max(_MIN_OVERLAP * len(z), 30):
        return float("nan")
    return float(np.median(np.abs(depth[two, row, column][seen] / w[seen] - 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Rays:
    """Thinned matches of P pairs of frames, N in all, as rays; and the poses as read."""

    one: NDArray[np.intp]  # [P] frames
    two: NDArray[np.intp]
    pair: NDArray[np.intp]  # [N] which pair a match belongs to
    x: NDArray[np.float64]  # [N, 3] on the plane z = 1 of camera one
    y: NDArray[np.float64]
    focal: NDArray[np.float64]  # [N] pixels
    rotation: NDArray[np.float64]  # [F, 3, 3]
    centre: NDArray[np.float64]  # [F, 3], in units of the longest


def _fitted(name: str, cameras: Cameras, pairs: Sequence[PairMatches]) -> Hypothesis:
    """The first camera's pose that brings a family of mistakes nearest to the matches.

    With the poses as read ``Q`` (first one the identity) and the unknown first pose (X, s), every family has relative
    rotations ``X Q_j Q_i^T X^T``, and translations that are linear in ``s``. So X is searched over all rotations, s is
    solved for, and both are refined together on a robust distance.
    """
    rays = _rays(cameras, pairs)
    starts = Rotation.concatenate([Rotation.identity(), Rotation.random(_STARTS, random_state=0)])
    tried = []
    for start in starts:
        parameters = np.concatenate([start.as_rotvec(), _solved_shift(name, rays, start.as_matrix())])
        tried.append((float(np.median(np.abs(_residuals(parameters, name, rays)))), parameters))
    tried.sort(key=lambda entry: entry[0])
    results = [
        least_squares(_residuals, parameters, loss="cauchy", f_scale=_ROBUST_PX, args=(name, rays), max_nfev=60)
        for _, parameters in tried[:_REFINED]
    ]
    best = min(results, key=lambda result: float(result.cost))
    turn, shift = Rotation.from_rotvec(best.x[:3]).as_matrix(), best.x[3:]

    def relative(one: int, two: int) -> NDArray[np.float64]:
        out = np.eye(4)
        frames = np.array([one]), np.array([two])
        rotation, a, b = _family(name, rays, *frames, turn)
        out[:3, :3], out[:3, 3] = rotation[0], a[0] + b[0] @ shift
        out[:3, 3] *= _longest(cameras)  # depth has the unit of the poses
        return out

    return Hypothesis(name, cameras.intrinsics, relative)


def _longest(cameras: Cameras) -> float:
    return float(np.linalg.norm(cameras.world_from_cam[:, :3, 3], axis=1).max()) or 1.0


def _rays(cameras: Cameras, pairs: Sequence[PairMatches]) -> _Rays:
    keep = [spread(len(pair.x), _FIT_MATCHES) for pair in pairs]
    index = np.repeat(np.arange(len(pairs)), [len(kept) for kept in keep])
    one, two = np.array([pair.one for pair in pairs]), np.array([pair.two for pair in pairs])
    inverse = np.linalg.inv(cameras.intrinsics)
    ones = np.ones((len(index), 1))
    x = np.concatenate([np.concatenate([p.x[k] for p, k in zip(pairs, keep, strict=True)]), ones], axis=1)
    y = np.concatenate([np.concatenate([p.y[k] for p, k in zip(pairs, keep, strict=True)]), ones], axis=1)
    return _Rays(
        one,
        two,
        index,
        np.einsum("nij,nj->ni", inverse[one[index]], x),
        np.einsum("nij,nj->ni", inverse[two[index]], y),
        cameras.intrinsics[one[index], 0, 0],
        cameras.world_from_cam[:, :3, :3],
        cameras.world_from_cam[:, :3, 3] / _longest(cameras),
    )


def _family(
    name: str, rays: _Rays, one: NDArray[np.intp], two: NDArray[np.intp], turn: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """True relative rotations [P, 3, 3], and (a [P, 3], B [P, 3, 3]) of the true relative translations ``a + B s``."""
    r1, r2, q1, q2 = rays.rotation[one], rays.rotation[two], rays.centre[one], rays.centre[two]
    rotation = turn @ r2 @ r1.transpose(0, 2, 1) @ turn.T
    if name == "inverted":  # what was read is world-to-camera, so two_from_one = P_two inv(P_one)
        a = q2 - _times(r2 @ r1.transpose(0, 2, 1), q1)
        return rotation, a @ turn.T, np.eye(3) - rotation
    if name == "transposed-w2c":  # world-to-camera is (R^T, t) of the inverse of what was read; s is X^T t_0
        r1, r2 = r1.transpose(0, 2, 1), r2.transpose(0, 2, 1)
        return rotation, _times(rotation @ r1, q1) - _times(r2, q2), rotation @ r1 - r2
    # transposed-c2w: the pose is (R^T, t) of what was read
    return rotation, _times(turn @ r2 @ turn, q1 - q2), np.zeros_like(r1)


def _times(matrices: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return (matrices @ vectors[..., None])[..., 0]


def _solved_shift(name: str, rays: _Rays, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of ``(R x × y) · (a + B s) = 0``, which is the epipolar constraint."""
    rotation, a, b = _family(name, rays, rays.one, rays.two, turn)
    normals = np.cross(_times(rotation[rays.pair], rays.x), rays.y)
    rows = np.einsum("ni,nij->nj", normals, b[rays.pair])
    right = -np.sum(normals * a[rays.pair], axis=1)
    solution: NDArray[np.float64] = np.linalg.lstsq(rows, right, rcond=1e-6)[0]
    return solution


def _residuals(parameters: NDArray[np.float64], name: str, rays: _Rays) -> NDArray[np.float64]:
    """Sampson distances in pixels."""
    turn = Rotation.from_rotvec(parameters[:3]).as_matrix()
    rotation, a, b = _family(name, rays, rays.one, rays.two, turn)
    t = a + b @ parameters[3:]
    zero = np.zeros(len(t))
    cross = np.stack([zero, -t[:, 2], t[:, 1], t[:, 2], zero, -t[:, 0], -t[:, 1], t[:, 0], zero], axis=1)
    essential = (cross.reshape(-1, 3, 3) @ rotation)[rays.pair]
    lines_two, lines_one = _times(essential, rays.x), _times(essential.transpose(0, 2, 1), rays.y)
    norm = np.sqrt((lines_two[:, :2] ** 2).sum(axis=1) + (lines_one[:, :2] ** 2).sum(axis=1))
    distances: NDArray[np.float64] = rays.focal * np.sum(rays.y * lines_two, axis=1) / np.maximum(norm, 1e-12)
    return distances
