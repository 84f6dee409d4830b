from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_scene

from gen3r_bench.baselines.frames import nearest_maps, resized_rgb, scaled_cameras
from gen3r_bench.scene import unproject_depth


def test_depth_is_resized_without_mixing() -> None:
    depth = np.array([[[1.0, 2.0], [3.0, 4.0]]], dtype=np.float32)
    assert nearest_maps(depth, (4, 4))[0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert nearest_maps(nearest_maps(depth, (6, 10)), (2, 2)).tolist() == depth.tolist()


def test_a_size_kept_changes_nothing() -> None:
    scene = tiny_scene()
    assert resized_rgb(scene.rgb, scene.image_size) is scene.rgb
    assert scene.depth is not None
    assert nearest_maps(scene.depth, scene.image_size) is scene.depth


def test_an_even_colour_stays_even() -> None:
    rgb = np.full((2, 10, 6, 3), (10, 128, 255), dtype=np.uint8)
    assert resized_rgb(rgb, (7, 16)).shape == (2, 7, 16, 3)
    assert (resized_rgb(rgb, (7, 16)) == (10, 128, 255)).all()


@settings(deadline=None)
@given(factor=st.integers(1, 4))
def test_points_of_scaled_cameras_lie_where_they_were(factor: int) -> None:
    """A plane parallel to the image: the corners of the pixels' centres move towards the image's border only."""
    cameras = tiny_scene(frames=1).cameras
    large = scaled_cameras(cameras, (24 * factor, 32 * factor))
    small_points = unproject_depth(np.ones((1, 24, 32), dtype=np.float32), cameras)
    large_points = unproject_depth(np.ones((1, 24 * factor, 32 * factor), dtype=np.float32), large)
    blocks = large_points.reshape(1, 24, factor, 32, factor, 3).mean(axis=(2, 4))
    assert blocks == pytest.approx(small_points, abs=1e-5)
