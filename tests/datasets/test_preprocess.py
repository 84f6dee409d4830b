from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen3r_bench.datasets.preprocess import resize_crop
from gen3r_bench.errors import InputError

SIDES = st.tuples(st.integers(3, 90), st.integers(3, 90))


def test_the_short_side_reaches_the_target_and_the_centre_stays() -> None:
    plan = resize_crop((480, 640), (560, 560))
    assert plan.resized == (560, 747)
    assert plan.offset == (0, 93)
    portrait = resize_crop((1920, 1080), (560, 560))
    assert portrait.resized == (996, 560)
    assert portrait.offset == (218, 0)


@given(SIDES, SIDES)
def test_the_resized_picture_covers_the_target_and_one_side_is_exact(source, target) -> None:
    plan = resize_crop(source, target)
    margins = [r - t for r, t in zip(plan.resized, target, strict=True)]
    assert min(margins) == 0
    assert all(0 <= o <= m for o, m in zip(plan.offset, margins, strict=True))
    picture = np.zeros((*source, 3), dtype=np.uint8)
    assert plan.rgb(picture).shape == (*target, 3)
    assert plan.nearest(picture[..., 0]).shape == target


@given(SIDES, SIDES, st.floats(-1, 1), st.floats(-1, 1), st.floats(1, 9))
def test_projecting_after_is_projecting_before_then_moving_the_pixel(source, target, x, y, z) -> None:
    plan = resize_crop(source, target)
    before = np.array([[50.0, 0, source[1] / 2], [0, 55.0, source[0] / 3], [0, 0, 1]])
    u, v, w = before @ np.array([x, y, z])
    u_after, v_after, w_after = plan.intrinsics(before) @ np.array([x, y, z])
    assert u_after / w_after == pytest.approx(u / w * plan.resized[1] / source[1] - plan.offset[1], abs=1e-9)
    assert v_after / w_after == pytest.approx(v / w * plan.resized[0] / source[0] - plan.offset[0], abs=1e-9)


@given(SIDES, SIDES, SIDES)
def test_nearest_takes_the_element_that_the_pixel_centre_falls_into(source, target, depth_size) -> None:
    plan = resize_crop(source, target)
    height, width = depth_size
    rows, columns = np.mgrid[:height, :width]
    index = plan.nearest(rows * 1000 + columns)
    for i, j in {(0, 0), (target[0] - 1, target[1] - 1), (target[0] // 2, target[1] // 3)}:
        row = (i + 0.5 + plan.offset[0]) / plan.resized[0] * height
        column = (j + 0.5 + plan.offset[1]) / plan.resized[1] * width
        got_row, got_column = divmod(int(index[i, j]), 1000)
        assert got_row - 1e-9 <= row <= got_row + 1 + 1e-9
        assert got_column - 1e-9 <= column <= got_column + 1 + 1e-9


def test_an_identity_changes_no_pixel_and_an_upscaled_ramp_lands_on_pixel_centres() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    plan = resize_crop((30, 40), (30, 40))
    assert (plan.rgb(picture) == picture).all()
    # a linear ramp stays linear in the coordinates of pixel centres: a half-pixel slip would shift its values by 2
    ramp = np.broadcast_to((np.arange(40, dtype=np.uint8) * 4 + 2)[None, :, None], (30, 40, 3))
    double = resize_crop((30, 40), (60, 80)).rgb(np.ascontiguousarray(ramp)).astype(float)
    expected = (np.arange(80) + 0.5) / 2 * 4
    assert np.abs(double[30, 2:-2, 0] - expected[2:-2]).max() <= 0.5


def test_shrinking_is_antialiased() -> None:
    checker = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = resize_crop((64, 64), (8, 8)).rgb(np.repeat(checker[..., None], 3, axis=2))
    assert np.abs(small.astype(int) - 127).max() <= 12


def test_bad_sizes_and_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="positive"):
        resize_crop((0, 4), (8, 8))
    plan = resize_crop((8, 8), (4, 4))
    with pytest.raises(InputError, match="uint8"):
        plan.rgb(np.zeros((8, 8, 3)))
    with pytest.raises(InputError, match=r"\[8, 8, 3\]"):
        plan.rgb(np.zeros((8, 9, 3), dtype=np.uint8))
