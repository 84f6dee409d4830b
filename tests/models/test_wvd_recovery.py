from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini.dataset import MiniDataset
from gen3r_bench.errors import InputError
from gen3r_bench.models.wvd.recovery import RecoveryError, RecoveryOptions, recover_cameras
from gen3r_bench.models.wvd.refinement import _normal_equations, _residuals, refine
from gen3r_bench.scene import Cameras, invert_rigid, unproject_depth

SIDE = 40
FEW = RecoveryOptions(pixels_per_frame=300)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def some_cameras(frames: int, focal: float = 45.0, seed: int | None = None) -> Cameras:
    random = np.random.default_rng(seed or 0)
    jitter = 0.0 if seed is None else 0.02
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for i in range(frames):
        turn = np.array([0.01 * i, 0.05 * i, 0.02 * i]) + (jitter * random.standard_normal(3) if i else 0)
        poses[i, :3, :3] = Rotation.from_rotvec(turn).as_matrix()
        poses[i, :3, 3] = np.array([0.12, 0.03, 0.05]) * i + (jitter * random.standard_normal(3) if i else 0)
    intrinsics = np.tile([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]], (frames, 1, 1))
    return Cameras(poses, intrinsics, (SIDE, SIDE))


def waves(frames: int, seed: int = 0) -> np.ndarray:
    """A depth a frame that is no plane; frames need not show one scene, since each point says where it lies."""
    random = np.random.default_rng(seed)
    column, row = np.meshgrid(np.linspace(0, 6, SIDE), np.linspace(0, 6, SIDE))
    phase = random.uniform(0, 6, (frames, 1, 1))
    return (3 + np.sin(column + phase) + 0.7 * np.cos(1.3 * row + 2 * phase)).astype(np.float32)


def plane(cameras: Cameras, normal: tuple[float, float, float]) -> np.ndarray:
    """Points of a plane that meets the z axis at 3, as every camera sees it."""
    centres = np.arange(SIDE) + 0.5
    column, row = np.meshgrid(centres, centres)
    pixels = np.stack([column, row, np.ones_like(row)], axis=-1)
    maps = []
    for pose, intrinsics in zip(cameras.world_from_cam, cameras.intrinsics, strict=True):
        rays = pixels @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
        reach = (3 * normal[2] - pose[:3, 3] @ normal) / (rays @ normal)
        maps.append(pose[:3, 3] + rays * reach[..., None])
    return np.array(maps)


def errors(found: Cameras, true: Cameras) -> tuple[float, float, float]:
    """Relative error of the focal length, largest turn in radians, largest shift over the extent of the path."""
    turns = np.swapaxes(true.world_from_cam[:, :3, :3], 1, 2) @ found.world_from_cam[:, :3, :3]
    shifts = np.linalg.norm(found.world_from_cam[:, :3, 3] - true.world_from_cam[:, :3, 3], axis=1)
    extent = max(float(np.linalg.norm(true.world_from_cam[:, :3, 3], axis=1).max()), 1e-9)
    focal = abs(found.intrinsics[0, 0, 0] / true.intrinsics[0, 0, 0] - 1)
    return focal, float(Rotation.from_matrix(turns).magnitude().max()), float(shifts.max()) / extent


@pytest.mark.parametrize("scene_id", ["test/003", "test/017", "test/031"])
def test_exact_points_give_exact_cameras(scene_id: str) -> None:
    scene = MiniDataset().load(scene_id, ClipProfile(frames=5, image_size=(SIDE, SIDE)))
    found = recover_cameras(scene.points_world(), scene.valid, FEW)
    assert max(errors(found.cameras, scene.cameras)) < 1e-4
    np.testing.assert_allclose(found.depth[scene.valid], scene.depth[scene.valid], rtol=1e-4)
    assert np.array_equal(found.valid, scene.valid)
    assert found.support == 1
    assert np.array_equal(found.cameras.world_from_cam[0], np.eye(4))


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(1, 10_000),
    focal=st.floats(25, 110),
    outliers=st.sampled_from([0.0, 0.1, 0.3]),
    noise=st.sampled_from([0.0, 0.002, 0.01]),
    scale=st.sampled_from([0.05, 1.0, 40.0]),
)
def test_any_world_with_noise_and_outliers(
    seed: int, focal: float, outliers: float, noise: float, scale: float
) -> None:
    """Moved, scaled, noisy and partly wrong point maps: the cameras, up to the world that the points were given in."""
    random = np.random.default_rng(seed)
    cameras = some_cameras(3, focal, seed)
    points = unproject_depth(waves(3, seed), cameras).astype(np.float64)
    points += noise * 3 * random.standard_normal(points.shape)
    wrong = random.random(points.shape[:3]) < outliers
    points[wrong] = random.uniform(-5, 5, (int(wrong.sum()), 3))
    world = Rotation.random(random_state=seed).as_matrix()
    moved = scale * points @ world.T + random.uniform(-9, 9, 3)
    found = recover_cameras(moved, None, FEW)
    shifts = found.cameras.world_from_cam.copy()
    shifts[:, :3, 3] /= scale
    focal_error, turn, shift = errors(Cameras(shifts, found.cameras.intrinsics, (SIDE, SIDE)), cameras)
    bound = 1e-4 + 6 * noise
    assert focal_error < bound
    assert turn < bound
    assert shift < 10 * bound  # the path is a twelfth of the scene's depth
    if noise == 0:
        np.testing.assert_allclose(found.depth[~wrong] / scale, waves(3, seed)[~wrong], rtol=1e-3)
        # a wrong point lies near its pixel's ray once in a hundred times
        assert found.valid[~wrong].all()
        assert found.valid[wrong].mean() < 0.1 if wrong.any() else True


def test_beside_opencv() -> None:
    """OpenCV refines poses under the true focal length; ours finds the focal length too, and agrees."""
    import cv2

    cameras = some_cameras(3)
    points = unproject_depth(waves(3), cameras).astype(np.float64)
    points += 0.003 * np.random.default_rng(0).standard_normal(points.shape)
    found = recover_cameras(points, None, RecoveryOptions(pixels_per_frame=SIDE * SIDE))
    grid = np.stack(np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5), axis=-1).reshape(-1, 2)
    poses = []
    for frame in points:
        _, turn, shift = cv2.solvePnP(frame.reshape(-1, 3), grid, cameras.intrinsics[0], None)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
        poses.append(pose)
    theirs = Cameras(invert_rigid(np.array(poses)), cameras.intrinsics, (SIDE, SIDE)).rebased()
    focal, turn_error, shift_error = errors(found.cameras, theirs)
    assert focal < 2e-3
    assert turn_error < 2e-3
    assert shift_error < 1e-2


def test_derivatives_by_differences() -> None:
    """The gradient that the refinement steps along is that of the weighted squares of its residuals."""
    cameras = some_cameras(2, 1.1 * SIDE)
    points = unproject_depth(waves(2), cameras).reshape(2, -1, 3)[:, ::37].astype(np.float64)
    random = np.random.default_rng(0)
    pixels = random.uniform(-0.5, 0.5, (*points.shape[:2], 2))
    poses = invert_rigid(cameras.world_from_cam)
    sigma, log_focal, step = 0.1, 0.1, 1e-6

    def cost(turned: np.ndarray, moved: np.ndarray, focal: float) -> float:
        changed = poses.copy()
        changed[1, :3, :3] = Rotation.from_rotvec(turned).as_matrix() @ poses[1, :3, :3]
        changed[1, :3, 3] = Rotation.from_rotvec(turned).as_matrix() @ poses[1, :3, 3] + moved
        squares = (_residuals(points, pixels, changed, focal) ** 2).sum(axis=-1)
        return float((squares / (1 + squares / (3 * sigma) ** 2)).sum()) / 2  # what the weights are the derivative of

    residuals = _residuals(points, pixels, poses, log_focal)
    normal = _normal_equations(points, pixels, residuals, poses, log_focal, sigma)
    zero = np.zeros(3)
    for axis, unit in enumerate(np.eye(3) * step):
        turn = (cost(unit, zero, log_focal) - cost(-unit, zero, log_focal)) / (2 * step)
        move = (cost(zero, unit, log_focal) - cost(zero, -unit, log_focal)) / (2 * step)
        assert normal.pose_gradient[1, axis] == pytest.approx(turn, rel=1e-4, abs=1e-6)
        assert normal.pose_gradient[1, 3 + axis] == pytest.approx(move, rel=1e-4, abs=1e-6)
    focal = (cost(zero, zero, log_focal + step) - cost(zero, zero, log_focal - step)) / (2 * step)
    assert normal.focal_gradient == pytest.approx(focal, rel=1e-4, abs=1e-6)


def test_refinement_from_far_off() -> None:
    cameras = some_cameras(3, 1.2 * SIDE)
    points = unproject_depth(waves(3), cameras).reshape(3, -1, 3)[:, ::11].astype(np.float64)
    grid = np.stack(np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5), axis=-1).reshape(-1, 2) / SIDE - 0.5
    start = invert_rigid(cameras.world_from_cam)
    start[:, :3, 3] += 0.2
    refined = refine(points, np.broadcast_to(grid[::11], (3, len(grid[::11]), 2)), 0.9, start)
    assert refined.focal == pytest.approx(1.2, rel=1e-5)
    np.testing.assert_allclose(invert_rigid(refined.cam_from_world), cameras.world_from_cam, atol=1e-5)


@pytest.mark.parametrize("tilt", [0.02, 0.3])
def test_planes_that_several_cameras_see(tilt: float) -> None:
    """Also one nearly head-on, where PnP alone takes the mirrored pose in one of the frames."""
    cameras = some_cameras(5)
    found = recover_cameras(plane(cameras, (tilt, 0.2 * tilt, 1.0)), None, FEW)
    assert max(errors(found.cameras, cameras)) < 1e-4


def test_a_single_frame_that_is_no_plane() -> None:
    cameras = some_cameras(1)
    assert max(errors(recover_cameras(unproject_depth(waves(1), cameras), None, FEW).cameras, cameras)) < 1e-4


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones((2, SIDE, SIDE, 3)), "one place"),
        (np.full((2, SIDE, SIDE, 3), np.nan), "frame 0 has 0 usable points"),
        (np.linspace(0, 1, SIDE * SIDE).reshape(1, SIDE, SIDE, 1) * np.ones(3), "on a line"),
        (plane(some_cameras(1), (0, 0, 1)), "leave the focal length open"),
        (unproject_depth(waves(2), some_cameras(2))[:, :4, :4], "16 usable points; expected at least 24"),
        (np.random.default_rng(0).standard_normal((2, SIDE, SIDE, 3)), "agree with any pinhole camera"),
    ],
    ids=["constant", "nan", "line", "head-on plane", "tiny", "noise"],
)
def test_what_leaves_cameras_open_is_refused(points: np.ndarray, message: str) -> None:
    with pytest.raises(RecoveryError, match=message):
        recover_cameras(points, None, FEW)


def test_points_that_are_not_finite_stay_so_and_are_left_out() -> None:
    cameras = some_cameras(2)
    points = unproject_depth(waves(2), cameras)
    points[1, :5] = np.nan
    found = recover_cameras(points, None, FEW)
    assert max(errors(found.cameras, cameras)) < 1e-4
    assert not found.valid[1, :5].any()
    assert found.valid[1, 5:].all()
    assert np.isnan(found.depth[1, :5]).all()


def test_one_empty_frame_is_named() -> None:
    points = unproject_depth(waves(3), some_cameras(3))
    usable = np.ones(points.shape[:3], dtype=bool)
    usable[2] = False
    with pytest.raises(RecoveryError, match="frame 2 has 0 usable points"):
        recover_cameras(points, usable, FEW)


def test_inputs_that_do_not_fit() -> None:
    points = unproject_depth(waves(1), some_cameras(1))
    with pytest.raises(InputError, match=r"expected \[F, H, W, 3\] real"):
        recover_cameras(points[0])
    with pytest.raises(InputError, match="a mask of shape"):
        recover_cameras(points, np.ones((1, 3, 3), dtype=bool))
    with pytest.raises(InputError, match="between 0 and 1"):
        RecoveryOptions(inlier_share=1.5)
    with pytest.raises(InputError, match="at least 24"):
        RecoveryOptions(pixels_per_frame=4)
