from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gen3r_bench.errors import InputError
from gen3r_bench.models.wvd.normalisation import NORMALISATIONS, Normalisation, fit_normaliser

CLOUDS = arrays(np.float32, (2, 3, 4, 3), elements=st.floats(-1e3, 1e3, width=32))


@settings(max_examples=40, deadline=None)
@given(points=CLOUDS, kind=st.sampled_from(NORMALISATIONS))
def test_there_and_back(points: np.ndarray, kind: Normalisation) -> None:
    try:
        normaliser = fit_normaliser(points, kind)
    except InputError:
        assert np.abs(points).max() == 0 or np.ptp(points.reshape(-1, 3), axis=0).max() == 0 or kind == "percentile"
        return
    normalised = normaliser.to_range(points)
    assert np.abs(normalised).max() <= 1
    inside = (np.abs(points - normaliser.centre) <= normaliser.scale * (1 + 1e-6)).all(axis=-1)
    assert inside.all() or kind == "percentile"
    bound = 1e-5 * float(np.abs(points).max())
    np.testing.assert_allclose(normaliser.to_world(normalised)[inside], points[inside], atol=bound, rtol=0)


def test_each_kind_by_hand() -> None:
    points = np.array([[0.0, 0, 1], [0, -2, 4], [1, 2, 3]], np.float32)
    largest = fit_normaliser(points)
    assert largest.scale == 4
    assert largest.to_range(points)[1].tolist() == [0, -0.5, 1]
    assert largest.to_range(np.zeros((1, 3))).tolist() == [[0, 0, 0]]  # the first camera stays at the origin
    box = fit_normaliser(points, "box")
    assert (box.scale, box.centre.tolist()) == (2, [0.5, 0, 2.5])
    assert box.to_range(points).min() == -1


def test_far_points_are_clipped_where_asked() -> None:
    points = np.ones((100, 3), np.float32)
    points[0] = 1e4
    assert fit_normaliser(points).scale == 1e4
    normaliser = fit_normaliser(points, "percentile")
    assert normaliser.scale == 1
    assert normaliser.to_world(normaliser.to_range(points))[0].tolist() == [1, 1, 1]


def test_points_that_do_not_count() -> None:
    points = np.full((4, 3), 2.0, np.float32)
    points[0], points[1] = np.nan, 1e6
    normaliser = fit_normaliser(points, usable=np.array([True, False, True, True]))
    assert normaliser.scale == 2
    assert normaliser.to_range(points)[0].tolist() == [0, 0, 0]


def test_what_cannot_be_normalised() -> None:
    with pytest.raises(InputError, match="no finite point"):
        fit_normaliser(np.full((2, 3), np.inf))
    with pytest.raises(InputError, match="in one place"):
        fit_normaliser(np.zeros((2, 3)))
    with pytest.raises(InputError, match="in one place"):
        fit_normaliser(np.ones((2, 3)), "box")
    with pytest.raises(InputError, match="max-abs or box or percentile"):
        fit_normaliser(np.ones((2, 3)), "log")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\[4, 2\]"):
        fit_normaliser(np.ones((4, 2)))
