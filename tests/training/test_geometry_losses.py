from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny import tiny_scene

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.cameras import relative_pose_errors
from gen3r_bench.models.vggt import cameras_from_pose_encoding
from gen3r_bench.scene import Cameras
from gen3r_bench.training.geometry_losses import (
    DIRECTION_WEIGHT,
    camera_loss,
    confident_loss,
    masked_l1,
    pose_encoding,
    relative_pose_loss,
    rotation_matrices,
    scene_unit,
)


def some_cameras(seed: int = 0, frames: int = 4) -> Cameras:
    draw = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(draw.normal(size=(frames, 3)) * 0.6).as_matrix()
    poses[:, :3, 3] = draw.normal(size=(frames, 3))
    intrinsics = np.tile(np.array([[70.0, 0, 32], [0, 50, 24], [0, 0, 1]]), (frames, 1, 1))
    return Cameras(poses, intrinsics, (48, 64))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_an_encoding_is_read_back_as_its_cameras(seed: int, unit: float) -> None:
    cameras = some_cameras(seed)
    code = pose_encoding(cameras, unit)
    assert code.dtype == np.float32
    assert (code[:, 6] >= 0).all()
    back = cameras_from_pose_encoding(torch.from_numpy(code), (48, 64))
    np.testing.assert_allclose(back.world_from_cam[:, :3, :3], cameras.world_from_cam[:, :3, :3], atol=1e-5)
    centres = cameras.world_from_cam[:, :3, 3] / unit
    np.testing.assert_allclose(back.world_from_cam[:, :3, 3], centres, atol=1e-5 * (1 + np.abs(centres).max()))
    np.testing.assert_allclose(back.intrinsics, cameras.intrinsics, rtol=1e-5)


def test_the_unit_is_the_mean_distance_of_known_points() -> None:
    scene = tiny_scene()
    points = scene.points_world()
    expected = np.mean([np.linalg.norm(points[place].astype(float)) for place in zip(*np.nonzero(scene.valid))])  # noqa: B905
    assert scene_unit(scene) == pytest.approx(expected)
    with pytest.raises(InputError, match="has no depth"):
        scene_unit(tiny_scene(depth=False))


def test_camera_loss_weighs_later_answers_more() -> None:
    """Oracle: far from the truth the Huber error is the absolute one less half of its delta."""
    truth = torch.zeros(2, 3, 9)
    answers = torch.zeros(2, 2, 3, 9)
    answers[0, ..., :3] = 1.0
    answers[1, ..., 3:7] = 2.0
    answers[1, ..., 7:] = 3.0
    first, second = 1 - 0.005, (2 - 0.005) + 0.5 * (3 - 0.005)
    torch.testing.assert_close(camera_loss(answers, truth), torch.tensor((0.6 * first + second) / 2))
    torch.testing.assert_close(camera_loss(truth[None], truth), torch.tensor(0.0))


def reference_confident_loss(found, truth, confidence, valid, alpha) -> float:
    """VGGT's equation, pixel by pixel."""
    frames, height, width, _ = found.shape
    values, across, down = [], [], []
    error = found - truth
    for n, row, column in np.ndindex(frames, height, width):
        if not valid[n, row, column]:
            continue
        c = confidence[n, row, column]
        values.append(c * np.linalg.norm(error[n, row, column]) - alpha * np.log(c))
        for there, kept in (((n, row, column + 1), across), ((n, row + 1, column), down)):
            if there[1] < height and there[2] < width and valid[there]:
                kept.append(c * np.linalg.norm(error[there] - error[n, row, column]))
    return sum(float(np.mean(kept)) if kept else 0.0 for kept in (values, across, down))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]), st.floats(0, 1))
def test_confident_loss_is_vggts_equation(seed: int, channels: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    found, truth = draw.normal(size=(2, 2, 4, 5, channels))
    confidence, valid = 1 + draw.random((2, 4, 5)), draw.random((2, 4, 5)) < share
    loss = confident_loss(*(torch.from_numpy(a) for a in (found, truth, confidence, valid)), alpha=0.3)
    expected = reference_confident_loss(found, truth, confidence, valid, 0.3)
    assert float(loss) == pytest.approx(expected, abs=1e-9)


def test_what_is_not_known_moves_nothing() -> None:
    """Not even where the unknown truth is not a number, and not where the answer is exact."""
    valid = torch.tensor([[[True, True, False], [True, True, False]]])
    truth = torch.where(valid[..., None], 1.0, torch.nan)
    found = torch.ones(1, 2, 3, 1, requires_grad=True)
    confidence = torch.full((1, 2, 3), 2.0, requires_grad=True)
    confident_loss(found, truth, confidence, valid, alpha=0.2).backward()
    assert found.grad.eq(0).all()
    torch.testing.assert_close(confidence.grad[valid], torch.full((4,), -0.2 / 2 / 4))
    assert confidence.grad[~valid].eq(0).all()


def test_more_doubt_where_errors_are_large() -> None:
    """The best confidence for an error e is alpha / e: the loss falls towards it from both sides."""
    truth, valid = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)
    losses = [
        float(confident_loss(truth + 0.1, truth, torch.full((1, 1, 1), c), valid, alpha=0.2)) for c in (1.0, 2.0, 4.0)
    ]
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_relative_poses_do_not_depend_on_the_world(seed: int) -> None:
    truth, other = some_cameras(seed), some_cameras(seed + 1)
    code, found = (torch.from_numpy(pose_encoding(c, 1.0)).double()[None] for c in (truth, other))
    move = some_cameras(seed + 2).world_from_cam[0]
    moved = Cameras(move @ truth.world_from_cam, truth.intrinsics, truth.image_size)
    elsewhere = torch.from_numpy(pose_encoding(moved, 1.0)).double()[None]
    torch.testing.assert_close(
        relative_pose_loss(found, elsewhere), relative_pose_loss(found, code), rtol=1e-4, atol=1e-4
    )
    assert float(relative_pose_loss(code, elsewhere)) < 0.01 * float(relative_pose_loss(found, code))


def test_relative_pose_loss_is_rotation_motion_and_direction() -> None:
    """Oracle: relative poses as the metric has them, entry by entry; its angle is that of the direction term."""
    truth, other = some_cameras(3, frames=2), some_cameras(4, frames=2)
    code, found = (torch.from_numpy(pose_encoding(c, 1.0)).double()[None] for c in (truth, other))

    def relative(cameras: Cameras) -> np.ndarray:
        return np.linalg.inv(cameras.world_from_cam[0]) @ cameras.world_from_cam[1]

    (t, o), motion = (relative(truth), relative(other)), np.linalg.norm(relative(truth)[:3, 3])
    cosine = t[:3, 3] @ o[:3, 3] / motion / np.hypot(np.linalg.norm(o[:3, 3]), 0.02)
    expected = np.abs(t[:3, :3] - o[:3, :3]).mean() + np.abs(t[:3, 3] - o[:3, 3]).mean()
    expected += DIRECTION_WEIGHT * motion / (motion + 0.02) * (1 - cosine)
    assert float(relative_pose_loss(found, code)) == pytest.approx(expected, rel=1e-4)
    angle = relative_pose_errors(other.world_from_cam, truth.world_from_cam).translation_deg[0]
    assert abs(cosine) == pytest.approx(np.cos(np.radians(angle)), abs=2e-3)


def test_standing_still_is_no_way_out() -> None:
    """At zero motion the direction term still pulls towards the true one."""
    truth = torch.from_numpy(pose_encoding(some_cameras(1, frames=2), 1.0))[None]
    found = truth.clone()
    found[..., :3] = 0
    found.requires_grad_(True)
    relative_pose_loss(found, truth).backward()
    gradient = found.grad[0, 1, :3]
    assert torch.isfinite(found.grad).all()
    assert gradient.norm() > 1


def test_one_frame_has_no_relative_pose() -> None:
    code = torch.zeros(2, 1, 9)
    assert float(relative_pose_loss(code, code)) == 0


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_rotation_matrices_are_scipys(quaternion: list[float]) -> None:
    found = rotation_matrices(torch.tensor(quaternion, dtype=torch.float64))
    np.testing.assert_allclose(found, Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)


def test_masked_l1_takes_the_known_entries() -> None:
    found, truth = torch.tensor([[1.0, 3.0], [9.0, 9.0]]), torch.zeros(2, 2)
    assert float(masked_l1(found, truth, torch.tensor([True, False]))) == 2
    assert float(masked_l1(found, truth, torch.tensor([False, False]))) == 0
