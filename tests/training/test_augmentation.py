from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_scene

from gen3r_bench.scene import Scene
from gen3r_bench.training.augmentation import augmented, mirrored, reordered


def pixels_that_agree(scene: Scene, a: int, b: int) -> float:
    """Share of frame a's points that lie, seen from frame b, where b's own depth puts them (within 3 %)."""
    points = scene.points_world()[a][scene.valid[a]].astype(np.float64)
    pose, K = scene.cameras.world_from_cam[b], scene.cameras.intrinsics[b]
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    at = np.floor((local @ K.T)[:, :2] / local[:, 2:]).astype(int)
    height, width = scene.image_size
    inside = (at >= 0).all(1) & (at < [width, height]).all(1)
    column, row = at[inside].T
    inside[inside] = scene.valid[b, row, column]
    column, row = at[inside].T
    return float((np.abs(scene.depth[b, row, column] - local[inside, 2]) < 0.03 * local[inside, 2]).mean())


@pytest.fixture(scope="module")
def scene() -> Scene:
    from gen3r_bench.datasets.base import ClipProfile
    from gen3r_bench.datasets.mini import MiniDataset

    return MiniDataset().train_scene(3, ClipProfile(frames=5, image_size=(32, 48)))


def test_a_mirrored_scene_is_a_scene(scene: Scene) -> None:
    other = mirrored(scene)
    np.testing.assert_array_equal(other.rgb, scene.rgb[:, :, ::-1])
    share = pixels_that_agree(scene, 0, 4)  # the rest is hidden from the last frame
    assert share > 0.6
    assert pixels_that_agree(other, 0, 4) == pytest.approx(share, abs=0.02)
    points, flipped = scene.points_world(), other.points_world()[:, :, ::-1]
    np.testing.assert_allclose(flipped * [-1, 1, 1], points, atol=1e-4)
    # poses of an unflipped world under flipped frames do not agree
    wrong = Scene(**{name: getattr(other, name) for name in other.__dataclass_fields__} | {"cameras": scene.cameras})
    assert pixels_that_agree(wrong, 0, 4) < 0.7 * share


def test_a_mirror_twice_is_no_mirror() -> None:
    scene = tiny_scene()
    back = mirrored(mirrored(scene))
    np.testing.assert_array_equal(back.rgb, scene.rgb)
    np.testing.assert_array_equal(back.depth, scene.depth)
    np.testing.assert_allclose(back.cameras.world_from_cam, scene.cameras.world_from_cam, atol=1e-15)
    np.testing.assert_allclose(back.cameras.intrinsics, scene.cameras.intrinsics, atol=1e-12)


def test_the_first_of_the_chosen_frames_becomes_the_world() -> None:
    scene = tiny_scene()
    other = reordered(scene, np.array([2, 0, 3]))
    np.testing.assert_array_equal(other.rgb, scene.rgb[[2, 0, 3]])
    np.testing.assert_allclose(other.cameras.world_from_cam[0], np.eye(4))
    move = scene.cameras.world_from_cam[2]
    points = other.points_world()[1][scene.valid[0]] @ move[:3, :3].T + move[:3, 3]
    np.testing.assert_allclose(points, scene.points_world()[0][scene.valid[0]], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_augmented_scenes_keep_their_geometry_and_their_colours(seed: int) -> None:
    scene = tiny_scene()
    other = augmented(scene, np.random.default_rng(seed))
    assert sorted(other.rgb.sum((0, 1, 2))) == sorted(scene.rgb.sum((0, 1, 2)))
    np.testing.assert_array_equal(other.cameras.world_from_cam[0].round(9), np.eye(4))
    moved = [np.linalg.norm(s.cameras.world_from_cam[-1, :3, 3]) for s in (scene, other)]
    assert moved[0] == pytest.approx(moved[1])
    again = augmented(scene, np.random.default_rng(seed))
    np.testing.assert_array_equal(other.rgb, again.rgb)


def test_every_augmentation_occurs() -> None:
    scene = tiny_scene()
    seen = {augmented(scene, np.random.default_rng(seed)).rgb.tobytes() for seed in range(300)}
    assert len(seen) == 2 * 2 * 6
