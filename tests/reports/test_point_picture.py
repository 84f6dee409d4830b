from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen3r_bench.reports.point_picture import BACKGROUND, View, draw_points, fixed_view

AHEAD = View(np.eye(4), 0.5, 1.0)
RED, BLUE = np.array([200, 0, 0], np.uint8), np.array([0, 0, 200], np.uint8)


def drawn(points: list[list[float]], colours: list[np.ndarray], size: int = 20, frame_width: int = 1000) -> np.ndarray:
    return draw_points(np.array(points, dtype=float), np.stack(colours), AHEAD, size, frame_width)


def test_a_point_on_the_axis_is_in_the_middle_and_x_is_to_the_right() -> None:
    picture = drawn([[0, 0, 2], [1, 0.5, 2]], [RED, BLUE])
    assert picture[10, 10].tolist() == RED.tolist()
    # half a picture's width a unit at depth 1: 1 / 2 * 0.5 * 20 = 5 pixels to the right, 2.5 down
    assert picture[12, 15].tolist() == BLUE.tolist()
    assert (picture == BACKGROUND).all(axis=-1).sum() == 20 * 20 - 2


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("frame_width", [1000, 4])
def test_the_nearest_is_in_front_whatever_the_order(order: list[int], frame_width: int) -> None:
    points, colours = [[0, 0, 5], [0, 0, 2]], [BLUE, RED]
    picture = drawn([points[i] for i in order], [colours[i] for i in order], frame_width=frame_width)
    assert picture[10, 10].tolist() == RED.tolist()
    assert not (picture == BLUE).all(axis=-1).any()


def test_a_near_point_hides_a_far_one_beside_it_where_their_squares_overlap() -> None:
    # squares of three pixels, their centres one pixel apart
    picture = drawn([[0, 0, 2], [1.05, 0, 10]], [RED, BLUE], frame_width=4)
    assert (picture == RED).all(axis=-1).sum() == 9
    assert 0 < (picture == BLUE).all(axis=-1).sum() < 9


def test_what_is_behind_outside_or_not_finite_is_left_out() -> None:
    picture = drawn([[0, 0, -1], [100, 0, 1], [np.nan, 0, 1], [0, np.inf, 2]], [RED] * 4)
    assert (picture == BACKGROUND).all()
    assert (draw_points(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), AHEAD, 8, 100) == BACKGROUND).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50))
@settings(max_examples=20, deadline=None)
def test_the_fixed_view_looks_at_the_middle_from_behind_and_above_at_any_scale(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points = scale * (rng.uniform([-1, -1, 1], [1, 1, 4], (200, 3)))
    view = fixed_view(points)
    rotation, eye = view.world_from_eye[:3, :3], view.world_from_eye[:3, 3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert eye[1] < 0  # y points down
    assert eye[2] < 0
    seen = (np.median(points, axis=0) - eye) @ rotation
    np.testing.assert_allclose(seen[:2], 0, atol=1e-6 * scale)
    assert seen[2] > 0
    # the picture of a scene does not depend on its unit
    colours = rng.integers(0, 200, (200, 3), dtype=np.uint8)
    ours, unit = (
        draw_points(points, colours, view, 64, 640),
        draw_points(points / scale, colours, fixed_view(points / scale), 64, 640),
    )
    assert (ours != unit).any(axis=-1).mean() < 0.01  # rounding may move a point by a pixel


def test_a_view_of_nothing_is_a_view() -> None:
    for nothing in (np.zeros((0, 3)), np.full((4, 3), np.nan), np.array([[0.0, 0.0, -1.0]])):
        assert np.isfinite(fixed_view(nothing).world_from_eye).all()


def test_skipping_points_of_a_large_cloud_leaves_no_column_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen3r_bench.reports.point_picture._LARGEST", 1600)
    column, row = np.meshgrid(np.arange(80), np.arange(80))
    plane = np.stack([(column + 0.5) / 40 - 1, (row + 0.5) / 40 - 1, np.ones((80, 80))], axis=-1).reshape(-1, 3)
    picture = draw_points(plane, np.zeros((6400, 3), np.uint8), AHEAD, 80, 80)
    drawn_columns = (picture == 0).all(axis=-1).any(axis=0)
    assert drawn_columns.all()
