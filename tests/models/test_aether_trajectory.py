from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tiny_aether import camera_path

from gen3r_bench.errors import InputError
from gen3r_bench.models.aether.reconstruction import STRIDE, clip_length, shown_frames
from gen3r_bench.models.aether.trajectory import (
    Window,
    gaussian_smoothed,
    joined,
    kalman_smoothed,
    smoothed,
    window_starts,
)
from gen3r_bench.scene import Cameras

SIZE = (64, 96)


def window(poses: NDArray[np.float64], first: int = 0, *, scale: float = 1.0) -> Window:
    """Frames whose every number says which frame it is; in the world of the first, in another unit."""
    frames = np.arange(first, first + len(poses))
    K = np.repeat(np.array([[50.0, 0, 48], [0, 50, 32], [0, 0, 1]])[None], len(poses), axis=0)
    rebased = Cameras(poses, K, SIZE).rebased().world_from_cam.copy()
    rebased[:, :3, 3] *= scale
    return Window(
        rgb=np.broadcast_to((frames / 100)[:, None, None, None], (len(poses), 2, 3, 3)).astype(np.float32),
        disparity=np.broadcast_to((1 + frames)[:, None, None] / scale, (len(poses), 2, 3)).astype(np.float32),
        world_from_cam=rebased,
        focal_px=100.0 + frames,
    )


@given(frames=st.integers(1, 200), length=st.integers(2, 60), stride=st.integers(1, 59))
def test_windows_cover_every_frame_and_overlap(frames: int, length: int, stride: int) -> None:
    if not stride < length <= frames:
        with pytest.raises(InputError, match=f"windows of {length} frames"):
            window_starts(frames, length, stride)
        return
    starts = window_starts(frames, length, stride)
    assert starts[0] == 0
    assert starts[-1] + length == frames
    assert all(0 < b - a <= stride for a, b in itertools.pairwise(starts))


def test_windows_of_the_papers_clip() -> None:
    assert window_starts(49, 41, STRIDE) == [0, 8]
    assert window_starts(41, 41, STRIDE) == [0]
    assert window_starts(100, 41, STRIDE) == [0, 24, 48, 59]


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(20, 90), length=st.integers(10, 20), scale=st.floats(0.3, 3), seed=st.integers(0, 999))
def test_windows_of_one_clip_give_the_clip_back(frames: int, length: int, scale: float, seed: int) -> None:
    """Whatever the unit of each window: every frame once, in its place, in the first window's world and unit."""
    random = np.random.default_rng(seed)
    path = camera_path(frames, SIZE, shake=0.2).world_from_cam
    starts = window_starts(frames, length, length // 2)
    scales = [1.0, *random.uniform(min(scale, 1), max(scale, 1), len(starts) - 1)]
    windows = [window(path[s : s + length], s, scale=u) for s, u in zip(starts, scales, strict=True)]
    whole = joined(windows, starts)
    expected = window(path)
    assert whole.rgb == pytest.approx(expected.rgb, abs=1e-6)
    assert whole.focal_px == pytest.approx(expected.focal_px)
    assert whole.disparity == pytest.approx(expected.disparity, rel=1e-5)
    assert whole.world_from_cam == pytest.approx(expected.world_from_cam, abs=1e-6)


def largest_error(path: NDArray[np.float64], joining: str) -> float:
    starts = [0, 8]
    whole = joined([window(path[:41]), window(path[8:], 8)], starts, joining)  # type: ignore[arg-type]
    return float(np.abs(whole.world_from_cam - window(path).world_from_cam).max())


def test_the_released_fit_bends_the_path_of_a_turning_camera() -> None:
    """Why it is not the default: exact windows of a curved path do not give it back."""
    path = camera_path(49, SIZE).world_from_cam
    assert largest_error(path, "similarity") < 1e-9
    assert largest_error(path, "released") > 0.05
    straight = path.copy()
    straight[:, :3, :3] = np.eye(3)
    assert largest_error(straight, "released") < 1e-9


def test_a_standing_camera_is_joined() -> None:
    path = np.repeat(np.eye(4)[None], 49, axis=0)
    assert largest_error(path, "similarity") == pytest.approx(0)


def test_black_windows_keep_their_scale() -> None:
    path = camera_path(20, SIZE).world_from_cam
    first, second = window(path[:12]), window(path[8:], 8)
    black = Window(second.rgb, second.disparity * 0, second.world_from_cam, second.focal_px)
    assert not joined([first, black], [0, 8]).disparity[12:].any()


def test_windows_apart_are_refused() -> None:
    path = camera_path(20, SIZE).world_from_cam
    with pytest.raises(InputError, match="share 0 frames"):
        joined([window(path[:10]), window(path[10:], 10)], [0, 10])


def test_one_window_is_itself() -> None:
    one = window(camera_path(5, SIZE).world_from_cam)
    assert joined([one], [0]) is one


@pytest.mark.parametrize("smooth", [smoothed, kalman_smoothed, gaussian_smoothed])
def test_smoothing_keeps_what_is_smooth(smooth) -> None:  # type: ignore[no-untyped-def]
    """Poses stay rigid, a constant pose stays, and jitter shrinks."""
    still = np.repeat(camera_path(3, SIZE).world_from_cam[2:], 30, axis=0)
    assert smooth(still) == pytest.approx(still, abs=1e-6)
    path, shaken = (camera_path(41, SIZE, shake=shake).world_from_cam for shake in (0.0, 0.3))
    calm = smooth(shaken)
    rotations = calm[:, :3, :3]
    assert rotations @ rotations.transpose(0, 2, 1) == pytest.approx(np.repeat(np.eye(3)[None], 41, axis=0))

    def roughness(poses: NDArray[np.float64]) -> float:
        return float(np.abs(np.diff(poses[:, :3, 3], n=2, axis=0)).mean())

    assert roughness(calm) < 0.7 * roughness(shaken)
    assert np.abs(smooth(path)[5:, :3, 3] - path[5:, :3, 3]).max() < 0.1


def test_quaternions_of_either_sign_are_one_rotation() -> None:
    """A camera that turns once around passes the seam where a quaternion's sign flips."""
    turns = Rotation.from_euler("Y", np.linspace(0, 2 * np.pi, 40)[:, None])
    poses = np.repeat(np.eye(4)[None], 40, axis=0)
    poses[:, :3, :3] = turns.as_matrix()
    for calm in (gaussian_smoothed(poses), kalman_smoothed(poses)):
        off = (turns.inv() * Rotation.from_matrix(calm[:, :3, :3])).magnitude()
        assert off[3:-3].max() < 1e-6
        assert off.max() < 0.1


@pytest.mark.parametrize("motion", [0.002, 0.004, 0.005, 0.008, 0.01])
def test_nearly_standing_cameras_are_smoothed_by_odd_windows(motion: float) -> None:
    """The released code stops with an error wherever its window's length comes out even."""
    path = camera_path(41, SIZE, motion=motion, shake=0.1).world_from_cam
    assert smoothed(path).shape == path.shape


@given(frames=st.integers(1, 120))
def test_frames_that_are_shown(frames: int) -> None:
    length = clip_length(frames)
    assert length in {17, 25, 33, 41}
    shown = shown_frames(frames, length)
    assert shown[0] == 0
    assert shown[-1] == frames - 1
    assert len(shown) == length
    steps = np.diff(shown)
    assert (steps >= (1 if length <= frames else 0)).all()
    if length > frames:
        # every frame is shown, and taken back from a place that shows it
        taken = shown_frames(length, frames)
        assert [shown[place] for place in taken] == list(range(frames))


def test_frames_of_the_papers_clip() -> None:
    shown = shown_frames(49, 41)
    assert clip_length(49) == 41
    assert len(set(shown)) == 41
    assert shown[:4] == [0, 1, 2, 4]
    assert shown == [round(x) for x in np.linspace(0, 48, 41)]
