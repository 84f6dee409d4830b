from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny import tiny_card, tiny_scene

from gen3r_bench.baselines.crossfade import Crossfade, interpolated_poses
from gen3r_bench.baselines.diagnostics import (
    DIAGNOSTICS,
    WOBBLE_DEPTH,
    WOBBLE_RGB,
    WOBBLE_ROTATION_DEG,
    WOBBLE_TRANSLATION,
    true_prediction,
    wobbled_prediction,
)
from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.plane import FIELD_OF_VIEW_DEG
from gen3r_bench.protocols.conditioning import condition


def shown(setting: str, cameras: str = "given"):
    return condition(tiny_scene(), tiny_card(setting=setting, cameras=cameras, frames_scored=("all",)), 1)


@pytest.mark.parametrize("setting", ["1view", "2view", "allview"])
def test_freeze_repeats_the_first_frame_and_camera(setting: str) -> None:
    scene, prediction = tiny_scene(), Freeze().predict(shown(setting))
    for frame in range(4):
        np.testing.assert_array_equal(prediction.rgb[frame], scene.rgb[0])
        np.testing.assert_array_equal(prediction.world_from_cam[frame], np.eye(4))
        np.testing.assert_array_equal(prediction.intrinsics[frame], scene.cameras.intrinsics[0])
    assert bool(prediction.adaptations) == (setting != "1view")


def test_floors_assume_a_field_of_view_where_no_camera_is_given() -> None:
    focal_px = Freeze().predict(shown("1view", "none")).intrinsics[0, 0, 0]
    assert 2 * np.degrees(np.arctan(16 / focal_px)) == pytest.approx(FIELD_OF_VIEW_DEG)


def test_crossfade_starts_and_ends_at_the_given_frames() -> None:
    scene, prediction = tiny_scene(), Crossfade().predict(shown("2view"))
    np.testing.assert_array_equal(prediction.rgb[[0, -1]], scene.rgb[[0, -1]])
    blend = np.rint(scene.rgb[0] * (2 / 3) + scene.rgb[-1] * (1 / 3))
    np.testing.assert_array_equal(prediction.rgb[1], blend)
    np.testing.assert_allclose(prediction.world_from_cam[[0, -1]], scene.cameras.world_from_cam[[0, -1]], atol=1e-12)


def test_crossfade_without_cameras_stands_still() -> None:
    np.testing.assert_array_equal(Crossfade().predict(shown("2view", "none")).world_from_cam[2], np.eye(4))
    assert Crossfade.contract.refusal(shown("1view")) is not None


def test_interpolated_poses_turn_at_constant_speed() -> None:
    last = np.eye(4)
    last[:3, :3] = Rotation.from_rotvec([0, 1.2, 0]).as_matrix()
    last[:3, 3] = [3, 0, 6]
    poses = interpolated_poses(np.eye(4), last, 4)
    np.testing.assert_allclose(Rotation.from_matrix(poses[:, :3, :3]).magnitude(), [0, 0.4, 0.8, 1.2], atol=1e-12)
    np.testing.assert_allclose(poses[:, 0, 3], [0, 1, 2, 3])


def test_the_true_prediction_is_the_scene() -> None:
    scene = tiny_scene()
    prediction = true_prediction(scene, 0)
    np.testing.assert_array_equal(prediction.rgb, scene.rgb)
    difference = np.abs(prediction.world_points() - scene.points_world())[scene.valid]
    assert difference.max() == 0


def test_wobble_has_the_stated_sizes() -> None:
    scene = tiny_scene(frames=40, size=(60, 80))
    prediction = wobbled_prediction(scene, 5)
    ratio = (prediction.depth / scene.depth)[scene.valid]
    assert ratio.std() == pytest.approx(WOBBLE_DEPTH, rel=0.05)
    relative = np.swapaxes(scene.cameras.world_from_cam[:, :3, :3], 1, 2) @ prediction.world_from_cam[:, :3, :3]
    angles = np.degrees(Rotation.from_matrix(relative).as_rotvec())
    assert angles.std() == pytest.approx(WOBBLE_ROTATION_DEG, rel=0.3)
    moved = prediction.world_from_cam[:, :3, 3] - scene.cameras.world_from_cam[:, :3, 3]
    assert moved.std() == pytest.approx(WOBBLE_TRANSLATION * np.median(scene.depth[scene.valid]), rel=0.3)
    grey = (scene.rgb > 30) & (scene.rgb < 225)
    noise = prediction.rgb.astype(float) - scene.rgb
    assert noise[grey].std() == pytest.approx(WOBBLE_RGB, rel=0.05)


def test_wobble_is_reproducible_and_follows_the_seed() -> None:
    scene = tiny_scene()
    first, again, other = (wobbled_prediction(scene, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.depth, again.depth)
    assert (first.depth != other.depth).any()


def test_diagnostics_work_without_depth() -> None:
    scene = tiny_scene(depth=False)
    for row in DIAGNOSTICS.values():
        assert row.predict(scene, 1).depth is None
