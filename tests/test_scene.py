from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gen3r_bench.errors import InputError
from gen3r_bench.scene import (
    Cameras,
    Conditioning,
    Prediction,
    Scene,
    conditioning_indices,
    invert_rigid,
    nearest_rotations,
    unproject_depth,
)

SEEDS = st.integers(0, 2**32 - 1)
FRAMES, HEIGHT, WIDTH = 3, 4, 5
SHAPE = (FRAMES, HEIGHT, WIDTH)
EYE = np.tile(np.eye(4), (FRAMES, 1, 1))
K = np.tile([[6.0, 0.0, 2.5], [0.0, 7.0, 2.0], [0.0, 0.0, 1.0]], (FRAMES, 1, 1))


def random_poses(seed: int, frames: int = FRAMES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.random(frames, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(frames, 3))
    return poses


def cameras_of(seed: int = 0) -> Cameras:
    return Cameras(random_poses(seed), K, (HEIGHT, WIDTH))


def changed(array: np.ndarray, index: Any, value: Any) -> np.ndarray:
    copy = array.copy()
    copy[index] = value
    return copy


def refuses(words: str):
    return pytest.raises(InputError, match=re.escape(words))


class TestCameras:
    def test_keeps_what_it_is_given(self) -> None:
        poses = random_poses(0)
        cameras = Cameras(poses.astype(np.float32), K.tolist(), (HEIGHT, WIDTH))
        assert len(cameras) == FRAMES
        assert cameras.world_from_cam.dtype == cameras.intrinsics.dtype == np.float64
        np.testing.assert_allclose(cameras.world_from_cam, poses, atol=1e-6)

    def test_is_read_only_and_leaves_the_callers_array_alone(self) -> None:
        poses = random_poses(0)
        cameras = Cameras(poses, K, (HEIGHT, WIDTH))
        with pytest.raises(ValueError, match="read-only"):
            cameras.world_from_cam[0, 0, 0] = 2
        assert poses.flags.writeable

    @pytest.mark.parametrize(
        ("poses", "intrinsics", "size", "words"),
        [
            (None, K, (4, 5), "world_from_cam is missing"),
            (EYE[:, :3], K, (4, 5), "world_from_cam has shape [3, 3, 4]; expected shape [any, 4, 4]"),
            (EYE[0], K, (4, 5), "world_from_cam has shape [4, 4]"),
            ([[1.0], [1.0, 2.0]], K, (4, 5), "world_from_cam is not an array"),
            (EYE.astype(str), K, (4, 5), "real numbers"),
            (EYE.astype(bool), K, (4, 5), "real numbers"),
            (EYE[:0], K[:0], (4, 5), "cameras of 0 frames"),
            (EYE, K[:2], (4, 5), "intrinsics has shape [2, 3, 3]; expected shape [3, 3, 3]"),
            (EYE, None, (4, 5), "intrinsics is missing"),
            (changed(EYE, (1, 0, 3), np.nan), K, (4, 5), "world_from_cam holds 1 non-finite values of 48"),
            (EYE, changed(K, (1, 0, 0), np.inf), (4, 5), "intrinsics holds 1 non-finite values of 27"),
            (changed(EYE, (1, 0, 0), 1.001), K, (4, 5), "the rotation of frame 1 is off by 0.002"),
            (changed(EYE, (2, 0, 1), 0.1), K, (4, 5), "the rotation of frame 2 is off by"),
            (changed(EYE, (2, 1, 1), -1), K, (4, 5), "the rotation of frame 2 is a reflection"),
            (2 * EYE, K, (4, 5), "the rotation of frame 0 is off by 3"),
            (changed(EYE, (0, 3, 0), 1), K, (4, 5), "a last row is not 0 0 0 1"),
            (EYE, changed(K, (1, 1, 1), 0), (4, 5), "a focal length is 0 px"),
            (EYE, changed(K, (1, 0, 0), -6), (4, 5), "a focal length is -6 px"),
            (EYE, changed(K, (1, 2, 0), 2.5), (4, 5), "a last row is not 0 0 1"),
            (EYE, K, (0, 5), "image size (0, 5); expected (height, width) in whole pixels"),
            (EYE, K, (4.5, 5), "image size (4.5, 5)"),
            (EYE, K, (4,), "image size (4,)"),
            (EYE, K, (4, 5, 3), "image size (4, 5, 3)"),
            (EYE, K, (float("nan"), 5), "image size (nan, 5)"),
            (EYE, K, "ab", "image size ab"),
        ],
    )
    def test_refuses(self, poses: Any, intrinsics: Any, size: Any, words: str) -> None:
        with refuses(words):
            Cameras(poses, intrinsics, size)

    def test_float32_storage_is_rigid_enough(self) -> None:
        for seed in range(50):
            Cameras(random_poses(seed).astype(np.float32), K, (HEIGHT, WIDTH))

    @given(SEEDS)
    def test_rebased_keeps_relative_poses(self, seed: int) -> None:
        cameras = cameras_of(seed)
        rebased = cameras.rebased()
        np.testing.assert_array_equal(rebased.world_from_cam[0], np.eye(4))
        for i in range(FRAMES):
            before = np.linalg.inv(cameras.world_from_cam[0]) @ cameras.world_from_cam[i]
            np.testing.assert_allclose(rebased.world_from_cam[i], before, atol=1e-12)
        assert rebased.image_size == cameras.image_size
        np.testing.assert_allclose(rebased.rebased().world_from_cam, rebased.world_from_cam, atol=1e-15)


class TestPoses:
    @given(SEEDS)
    def test_invert_rigid(self, seed: int) -> None:
        poses = random_poses(seed, 5)
        inverse = invert_rigid(poses)
        np.testing.assert_allclose(inverse @ poses, np.tile(np.eye(4), (5, 1, 1)), atol=1e-12)
        np.testing.assert_allclose(inverse, np.linalg.inv(poses), atol=1e-12)
        np.testing.assert_allclose(invert_rigid(inverse), poses, atol=1e-14)
        np.testing.assert_array_equal(invert_rigid(poses[2]), inverse[2])

    @given(SEEDS, st.floats(0.01, 100))
    def test_nearest_rotations_undoes_scale(self, seed: int, scale: float) -> None:
        poses = random_poses(seed)
        scaled = poses.copy()
        scaled[:, :3, :3] *= scale
        before = scaled.copy()
        np.testing.assert_allclose(nearest_rotations(scaled), poses, atol=1e-12)
        np.testing.assert_array_equal(scaled, before)

    @given(SEEDS, st.floats(0.0, 2.0))
    def test_nearest_rotations_are_rotations_and_none_is_nearer(self, seed: int, noise: float) -> None:
        rng = np.random.default_rng(seed)
        rough = random_poses(seed)
        rough[:, :3, :3] += noise * rng.normal(size=(FRAMES, 3, 3))
        fixed = nearest_rotations(rough)
        Cameras(fixed, K, (HEIGHT, WIDTH))
        np.testing.assert_array_equal(fixed[:, :3, 3], rough[:, :3, 3])
        distance = np.linalg.norm(fixed - rough, axis=(1, 2))
        others = [fixed[:, :3, :3] @ Rotation.from_rotvec(0.1 * rng.normal(size=3)).as_matrix() for _ in range(5)]
        for other in (*others, *(random_poses(seed + 1 + i)[:, :3, :3] for i in range(5))):
            assert (np.linalg.norm(other - rough[:, :3, :3], axis=(1, 2)) >= distance - 1e-9).all()

    def test_nearest_rotations_of_a_reflection(self) -> None:
        Cameras(nearest_rotations(changed(EYE, (1, 2, 2), -1.0)), K, (HEIGHT, WIDTH))


class TestUnproject:
    @given(SEEDS)
    def test_equals_naive_projection(self, seed: int) -> None:
        """Each point, seen by its own camera, lies at its pixel's centre and at its depth."""
        cameras = cameras_of(seed)
        depth = np.random.default_rng(seed).uniform(0.5, 5, SHAPE).astype(np.float32)
        points = unproject_depth(depth, cameras)
        assert points.shape == (*SHAPE, 3)
        assert points.dtype == np.float32
        for f in range(FRAMES):
            cam_from_world = np.linalg.inv(cameras.world_from_cam[f])
            for row in range(HEIGHT):
                for column in range(WIDTH):
                    seen = K[f] @ (cam_from_world @ [*points[f, row, column].astype(np.float64), 1.0])[:3]
                    assert seen[2] == pytest.approx(depth[f, row, column], rel=1e-5)
                    np.testing.assert_allclose(seen[:2] / seen[2], [column + 0.5, row + 0.5], atol=1e-4)

    def test_depth_is_z_and_not_the_ray(self) -> None:
        cameras = Cameras(EYE, K, (HEIGHT, WIDTH))
        points = unproject_depth(np.full(SHAPE, 2.0, np.float32), cameras)
        np.testing.assert_array_equal(points[..., 2], 2.0)
        assert points[0, 0, 0, 0] == pytest.approx(2 * (0.5 - 2.5) / 6)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
    def test_non_finite_depth_gives_non_finite_points_in_silence(self, value: float) -> None:
        cameras = Cameras(EYE, changed(K, (slice(None), 0, 0), 0.01), (HEIGHT, WIDTH))
        depth = changed(np.ones(SHAPE, np.float32), (1, 2, 2), value)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            points = unproject_depth(changed(depth, (0, 0, 0), value), cameras)
        assert not np.isfinite(points[0, 0, 0]).all()
        assert np.isfinite(points[2]).all()

    @pytest.mark.parametrize("shape", [(2, 4, 5), (3, 5, 4), (3, 4, 5, 1), (4, 5)])
    def test_refuses_another_shape(self, shape: tuple[int, ...]) -> None:
        with refuses("expected the same frames and size for both"):
            unproject_depth(np.ones(shape, np.float32), cameras_of())


def scene_of(**fields: Any) -> Scene:
    good: dict[str, Any] = {
        "dataset": "d",
        "scene_id": "a/b",
        "rgb": np.zeros((*SHAPE, 3), np.uint8),
        "cameras": cameras_of().rebased(),
        "depth": np.full(SHAPE, 2.0, np.float32),
        "valid": np.ones(SHAPE, bool),
        "prompt": "",
        "scale": "metric",
    }
    return Scene(**(good | fields))


class TestScene:
    def test_holds_its_parts(self) -> None:
        scene = scene_of()
        assert scene.num_frames == FRAMES
        assert scene.image_size == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(scene.points_world(), unproject_depth(scene.depth, scene.cameras))
        for array in (scene.rgb, scene.depth, scene.valid):
            assert not array.flags.writeable

    def test_points_are_zero_where_nothing_is_known(self) -> None:
        valid = np.random.default_rng(0).random(SHAPE) < 0.5
        depth = np.where(valid, np.float32(2), np.float32(np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            points = scene_of(depth=depth, valid=valid).points_world()
        np.testing.assert_array_equal(points[~valid], 0)
        np.testing.assert_array_equal(points[valid], scene_of().points_world()[valid])

    def test_without_depth(self) -> None:
        scene = scene_of(depth=None, valid=np.zeros(SHAPE, bool))
        with refuses("scene a/b of d has no depth"):
            scene.points_world()

    def test_any_depth_where_invalid(self) -> None:
        depth = np.full(SHAPE, 2.0, np.float32)
        depth[0, 0, :3] = [np.nan, np.inf, -1]
        scene_of(depth=depth, valid=changed(np.ones(SHAPE, bool), (0, 0, slice(3)), False))

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"scale": "feet"}, "scale 'feet'; expected metric or sfm or unit"),
            (
                {"rgb": np.zeros((*SHAPE, 3))},
                "rgb has type float64; expected uint8 (fix: convert it to uint8 yourself)",
            ),
            ({"rgb": np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)}, "rgb has shape [2, 4, 5, 3]"),
            ({"rgb": np.zeros((FRAMES, WIDTH, HEIGHT, 3), np.uint8)}, "rgb has shape [3, 5, 4, 3]"),
            ({"rgb": None}, "rgb is missing"),
            ({"valid": np.ones(SHAPE, np.uint8)}, "valid has type uint8; expected bool"),
            ({"valid": None}, "valid is missing"),
            ({"valid": np.ones(SHAPE[1:], bool)}, "valid has shape [4, 5]"),
            ({"depth": None}, "valid pixels without depth"),
            ({"depth": np.ones((FRAMES, WIDTH, HEIGHT))}, "depth has shape [3, 5, 4]"),
            ({"depth": np.ones(SHAPE, complex)}, "real numbers"),
            ({"depth": np.zeros(SHAPE)}, "not finite and positive"),
            ({"depth": changed(np.ones(SHAPE), (1, 1, 1), np.nan)}, "not finite and positive"),
            ({"depth": changed(np.ones(SHAPE), (1, 1, 1), -1)}, "not finite and positive"),
            ({"depth": changed(np.ones(SHAPE), (1, 1, 1), 1e300)}, "not finite and positive"),
            ({"cameras": cameras_of()}, "the first camera is not the world"),
        ],
    )
    def test_refuses(self, fields: dict[str, Any], words: str) -> None:
        with refuses(words):
            scene_of(**fields)


def conditioning_of(**fields: Any) -> Conditioning:
    good: dict[str, Any] = {
        "setting": "2view",
        "frame_indices": (0, FRAMES - 1),
        "rgb": np.zeros((2, HEIGHT, WIDTH, 3), np.uint8),
        "cameras": None,
        "num_frames": FRAMES,
        "image_size": (HEIGHT, WIDTH),
        "prompt": "",
        "seed": 0,
    }
    return Conditioning(**(good | fields))


class TestConditioning:
    @pytest.mark.parametrize(("setting", "indices"), [("1view", (0,)), ("2view", (0, 6)), ("allview", tuple(range(7)))])
    def test_indices(self, setting: Any, indices: tuple[int, ...]) -> None:
        assert conditioning_indices(setting, 7) == indices

    @pytest.mark.parametrize(
        ("setting", "frames", "words"),
        [
            ("3view", 7, "setting '3view'; expected 1view or 2view or allview"),
            ("2view", 1, "2view of a clip of 1 frame"),
            ("1view", 0, "a clip of 0 frames"),
            ("allview", 0, "a clip of 0 frames"),
        ],
    )
    def test_indices_refuse(self, setting: Any, frames: int, words: str) -> None:
        with refuses(words):
            conditioning_indices(setting, frames)

    def test_accepts_cameras_of_all_target_frames(self) -> None:
        conditioning = conditioning_of(cameras=cameras_of(), frame_indices=[0, 2], image_size=[HEIGHT, WIDTH])
        assert conditioning.frame_indices == (0, 2)
        assert conditioning.image_size == (HEIGHT, WIDTH)
        assert not conditioning.rgb.flags.writeable

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"frame_indices": (0, 1)}, "frame indices [0, 1] for 2view; expected [0, 2]"),
            ({"setting": "1view"}, "frame indices [0, 2] for 1view; expected [0]"),
            ({"rgb": np.zeros((*SHAPE, 3), np.uint8)}, "rgb has shape [3, 4, 5, 3]; expected shape [2, 4, 5, 3]"),
            ({"rgb": np.zeros((2, HEIGHT, WIDTH, 3))}, "rgb has type float64"),
            ({"image_size": (WIDTH, HEIGHT)}, "rgb has shape"),
            ({"image_size": (0, HEIGHT)}, "image size"),
            ({"cameras": Cameras(EYE[:2], K[:2], (HEIGHT, WIDTH))}, "cameras of 2 frames at (4, 5); expected 3 frames"),
            ({"cameras": Cameras(EYE, K, (8, 10))}, "cameras of 3 frames at (8, 10)"),
        ],
    )
    def test_refuses(self, fields: dict[str, Any], words: str) -> None:
        with refuses(words):
            conditioning_of(**fields)


class TestPrediction:
    def test_parts_and_size(self) -> None:
        prediction = Prediction(np.arange(FRAMES), depth=np.ones(SHAPE), world_from_cam=EYE)
        assert prediction.parts() == ("depth", "world_from_cam")
        assert prediction.frame_indices == (0, 1, 2)
        assert prediction.image_size == (HEIGHT, WIDTH)
        assert prediction.depth is not None
        assert prediction.depth.dtype == np.float32
        assert prediction.world_points() is None
        assert Prediction((0, 4, 9), world_from_cam=EYE).image_size is None
        points = np.zeros((*SHAPE, 3), np.float32)
        assert Prediction((0, 1, 2), points_world=points).image_size == (HEIGHT, WIDTH)
        assert Prediction((0, 1, 2), rgb=points.astype(np.uint8)).parts() == ("rgb",)

    def test_world_points(self) -> None:
        cameras = cameras_of()
        depth = np.full(SHAPE, 2.0, np.float32)
        parts = {"depth": depth, "world_from_cam": cameras.world_from_cam, "intrinsics": K}
        expected = unproject_depth(depth, cameras)
        np.testing.assert_array_equal(Prediction((0, 1, 2), **parts).world_points(), expected)
        own = np.ones((*SHAPE, 3), np.float32)
        np.testing.assert_array_equal(Prediction((0, 1, 2), points_world=own, **parts).world_points(), own)

    def test_non_finite_geometry_is_legal(self) -> None:
        depth = changed(np.ones(SHAPE, np.float32), (0, 0, 0), np.nan)
        points = np.full((*SHAPE, 3), np.inf, np.float32)
        Prediction((0, 1, 2), depth=depth, points_world=points)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({}, "a prediction without any part"),
            ({"valid": np.ones(SHAPE, bool)}, "a prediction without any part"),
            ({"frame_indices": ()}, "frame_indices []"),
            ({"frame_indices": (0, 2, 1)}, "strictly increasing"),
            ({"frame_indices": (0, 1, 1)}, "strictly increasing"),
            ({"frame_indices": (-1, 0, 1)}, "strictly increasing"),
            ({"frame_indices": (0, 1.5, 2)}, "whole numbers"),
            ({"frame_indices": (0, 1), "depth": np.ones(SHAPE)}, "prediction.depth has shape [3, 4, 5]"),
            ({"rgb": np.zeros((*SHAPE, 3))}, "prediction.rgb has type float64"),
            ({"rgb": np.zeros(SHAPE, np.uint8)}, "prediction.rgb has shape"),
            ({"depth": np.ones(SHAPE), "valid": np.ones((3, 8, 10), bool)}, "prediction.valid has shape [3, 8, 10]"),
            ({"depth": np.ones(SHAPE), "confidence": np.ones((3, 4))}, "prediction.confidence has shape [3, 4]"),
            ({"points_world": np.ones((*SHAPE, 4))}, "prediction.points_world has shape [3, 4, 5, 4]"),
            ({"world_from_cam": 2 * EYE}, "prediction.world_from_cam: the rotation of frame 0"),
            ({"world_from_cam": EYE * np.nan}, "non-finite"),
            ({"world_from_cam": EYE[:2]}, "prediction.world_from_cam has shape [2, 4, 4]"),
            ({"intrinsics": 0 * K}, "prediction.intrinsics: a focal length is 0 px"),
            ({"intrinsics": K[:, :2]}, "prediction.intrinsics has shape"),
        ],
    )
    def test_refuses(self, fields: dict[str, Any], words: str) -> None:
        with refuses(words):
            Prediction(**({"frame_indices": (0, 1, 2)} | fields))
