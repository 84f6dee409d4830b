"""What the released evaluation does to decoded cameras: smooth them, and join those of overlapping windows.

Pose arrays are ``world_from_cam`` [F, 4, 4] float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from gen3r_bench.errors import InputError

Joining = Literal["similarity", "released"]
SMOOTHED_FRAMES: Final = 5
"""Length of the smoothing windows; a Gaussian's sigma is a sixth of it."""
STATIC_MOTION: Final = 0.01
"""Mean motion from frame to frame (of centres, and of rotation matrices) below which a camera counts as standing."""
LONGEST_SMOOTHED: Final = 41
NOISE: Final = 0.1
"""Variance that the Kalman filter gives to each measured centre, and to the state in each step."""


def smoothed(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses as the released code smooths them: by a strong Gaussian where the camera stands, else a Kalman filter."""
    moved = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).mean()
    turned = np.linalg.norm(np.diff(poses[:, :3, :3], axis=0), axis=(1, 2)).mean()
    if moved < STATIC_MOTION and turned < STATIC_MOTION:
        share = STATIC_MOTION * 10 / max(moved + turned, 1e-6)
        frames = min(LONGEST_SMOOTHED, max(SMOOTHED_FRAMES, int(SMOOTHED_FRAMES * share)))
        # the released code stops at even lengths; the next odd one is meant
        return gaussian_smoothed(poses, frames + 1 - frames % 2)
    return kalman_smoothed(poses)


def gaussian_smoothed(poses: NDArray[np.float64], frames: int = SMOOTHED_FRAMES) -> NDArray[np.float64]:
    """Centres and quaternions under a Gaussian of ``frames`` / 6, the ends repeated."""
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    # q and -q are one rotation: each takes the sign that is nearer to its neighbour's
    turns = np.sum(quaternions[1:] * quaternions[:-1], axis=1) < 0
    quaternions[1:] *= np.where(np.cumsum(turns) % 2, -1.0, 1.0)[:, None]
    centres, quaternions = (
        gaussian_filter1d(values, frames / 6, axis=0, mode="nearest") for values in (poses[:, :3, 3], quaternions)
    )
    return _poses(Rotation.from_quat(quaternions).as_matrix(), centres)


def kalman_smoothed(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-smoothed centres through a filter of constant velocity (forwards only, starting at rest), and each
    rotation as a weighted mean of its neighbours.
    """
    measured = gaussian_smoothed(poses)[:, :3, 3]
    step = np.eye(6)
    step[:3, 3:] = np.eye(3)
    state = np.concatenate([measured[0], np.zeros(3)])
    covariance = np.eye(6)
    centres = measured.copy()
    for frame in range(1, len(poses)):
        state = step @ state
        covariance = step @ covariance @ step.T + NOISE * np.eye(6)
        gain = covariance[:, :3] @ np.linalg.inv(covariance[:3, :3] + NOISE * np.eye(3))
        state = state + gain @ (measured[frame] - state[:3])
        covariance = covariance - gain @ covariance[:3]
        centres[frame] = state[:3]
    return _poses(_neighbour_mean(Rotation.from_matrix(poses[:, :3, :3]).as_quat()), centres)


def _neighbour_mean(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, 3, 3] means of each quaternion and those up to two frames away, weighted by a Gaussian of one frame."""
    half = SMOOTHED_FRAMES // 2
    means = np.empty_like(quaternions)
    for frame, quaternion in enumerate(quaternions):
        places = np.arange(max(0, frame - half), min(len(quaternions), frame + half + 1))
        near = quaternions[places]
        near = near * np.where(near @ quaternion < 0, -1.0, 1.0)[:, None]
        means[frame] = np.exp(-0.5 * ((places - frame) / (half / 2)) ** 2) @ near
    return np.asarray(Rotation.from_quat(means).as_matrix())


def _poses(rotations: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    poses = np.repeat(np.eye(4)[None], len(centres), axis=0)
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = centres
    return poses


def window_starts(frames: int, length: int, stride: int) -> list[int]:
    """First frames of windows of ``length`` that cover ``frames``: every ``stride``, and one that ends with the clip.

    Raises:
        InputError: where the clip is shorter than a window, or windows would not overlap.
    """
    if not (0 < stride < length <= frames):
        raise InputError(
            f"windows of {length} frames every {stride} over {frames}", expected="0 < stride < length <= frames"
        )
    last = frames - length
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Geometry of some neighbouring frames.

    Attributes:
        rgb: [n, H, W, 3] float32 in [0, 1].
        disparity: [n, H, W] float32.
        world_from_cam: [n, 4, 4].
        focal_px: [n].
    """

    rgb: NDArray[np.float32]
    disparity: NDArray[np.float32]
    world_from_cam: NDArray[np.float64]
    focal_px: NDArray[np.float64]


def joined(windows: Sequence[Window], starts: Sequence[int], joining: Joining = "similarity") -> Window:
    """One window of overlapping ones: each is brought to those before it, and faded in over the frames they share.

    Disparity takes the scale of least squares over the shared frames. Poses take a similarity of the world
    ("similarity"), or the one that the released evaluation fits: it takes the camera's axes for the world's, which
    is the same where the camera only moves along or turns about one axis, and bends other paths.

    Args:
        windows: in order.
        starts: their first frames, ascending; each begins before its predecessors end.
        joining: of the poses.
    """
    whole = windows[0]
    for window, start in zip(windows[1:], starts[1:], strict=True):
        whole = _join(whole, window, len(whole.focal_px) - start, joining)
    return whole


def _join(before: Window, after: Window, shared: int, joining: Joining) -> Window:
    if shared < 1:
        raise InputError(f"windows that share {shared} frames", expected="windows that overlap")
    weight = np.linspace(1, 0, shared)

    def faded(old: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.float32]:
        share = weight.reshape(-1, *[1] * (old.ndim - 1)).astype(old.dtype)
        return np.concatenate([old[:-shared], old[-shared:] * share + new[:shared] * (1 - share), new[shared:]])

    own, other = after.disparity[:shared].astype(np.float64), before.disparity[-shared:]
    power = np.sum(own * own)
    disparity = after.disparity * np.float32(np.sum(own * other) / power if power > 0 else 1.0)
    transform = _similarity if joining == "similarity" else _released_transform
    poses = transform(after.world_from_cam, before.world_from_cam[-shared:])
    between = np.stack(
        [
            _between(old, new, 1 - share)
            for old, new, share in zip(before.world_from_cam[-shared:], poses[:shared], weight, strict=True)
        ]
    )
    return Window(
        rgb=faded(before.rgb, after.rgb),
        disparity=faded(before.disparity, disparity),
        world_from_cam=np.concatenate([before.world_from_cam[:-shared], between, poses[shared:]]),
        focal_px=np.concatenate(
            [
                before.focal_px[:-shared],
                before.focal_px[-shared:] * weight + after.focal_px[:shared] * (1 - weight),
                after.focal_px[shared:],
            ]
        ),
    )


def _between(a: NDArray[np.float64], b: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The pose that lies ``share`` of the way from one to another: centres on a line, rotations on a great circle."""
    first, second = (Rotation.from_matrix(pose[:3, :3]) for pose in (a, b))
    pose = np.eye(4)
    pose[:3, :3] = (first * Rotation.from_rotvec(share * (first.inv() * second).as_rotvec())).as_matrix()
    pose[:3, 3] = (1 - share) * a[:3, 3] + share * b[:3, 3]
    return pose


def _similarity(poses: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses in another world, such that the first of them lie best on ``reference``: the mean relative rotation, then
    scale and shift of least squares (scale 1 where the camera does not move).
    """
    own = poses[: len(reference)]
    turn = _mean_rotation(reference[:, :3, :3] @ own[:, :3, :3].transpose(0, 2, 1))
    centres = own[:, :3, 3] @ turn.T
    scale = _scale(centres, reference[:, :3, 3])
    moved = poses.copy()
    moved[:, :3, :3] = turn @ poses[:, :3, :3]
    moved[:, :3, 3] = (scale * (poses[:, :3, 3] - own[:, :3, 3].mean(axis=0))) @ turn.T
    moved[:, :3, 3] += reference[:, :3, 3].mean(axis=0)
    return moved


def _released_transform(poses: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The released fit, written for ``cam_from_world`` and given ``world_from_cam``."""
    own = poses[: len(reference)]
    turn = _mean_rotation(own[:, :3, :3].transpose(0, 2, 1) @ reference[:, :3, :3])
    centres, goal = (np.einsum("fj,fjk->fk", part[:, :3, 3], own[:, :3, :3]) for part in (own, reference))
    scale = _scale(centres, goal)
    shift = goal.mean(axis=0) - scale * centres.mean(axis=0)
    moved = poses.copy()
    moved[:, :3, :3] = poses[:, :3, :3] @ turn
    moved[:, :3, 3] = poses[:, :3, :3] @ shift + scale * poses[:, :3, 3]
    return moved


def _scale(values: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
    values, goal = values - values.mean(axis=0), goal - goal.mean(axis=0)
    return float(np.sum(values * goal) / power) if (power := np.sum(values**2)) > 1e-12 else 1.0


def _mean_rotation(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    u, _, vt = np.linalg.svd(rotations.mean(axis=0))
    return np.asarray(u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt)
