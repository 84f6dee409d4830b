"""Chamfer distance against the full distance matrix, its properties and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import chamfer
from gen3r_bench.metrics.alignment import Similarity

sizes = st.integers(1, 80)
seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, n=sizes, m=sizes, lattice=st.booleans())
@settings(max_examples=60, deadline=None)
def test_equals_the_distance_matrix(seed: int, n: int, m: int, lattice: bool) -> None:
    rng = np.random.default_rng(seed)
    pred, gt = (rng.integers(0, 3, (k, 3)) if lattice else rng.standard_normal((k, 3)) for k in (n, m))
    distances = cdist(pred, gt)
    result = chamfer(pred, gt)
    assert_allclose(result.accuracy, distances.min(axis=1).mean(), rtol=1e-12, atol=1e-15)
    assert_allclose(result.completeness, distances.min(axis=0).mean(), rtol=1e-12, atol=1e-15)
    assert result.chamfer == (result.accuracy + result.completeness) / 2


@given(seed=seeds, n=sizes, m=sizes)
@settings(max_examples=40, deadline=None)
def test_symmetry_order_and_bounds(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    pred, gt = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    one, other = chamfer(pred, gt), chamfer(gt, pred)
    assert (one.accuracy, one.completeness, one.chamfer) == (other.completeness, other.accuracy, other.chamfer)
    assert_allclose(chamfer(rng.permutation(pred), rng.permutation(gt)).chamfer, one.chamfer, rtol=1e-12)
    assert 0 <= one.chamfer <= cdist(pred, gt).max()
    assert chamfer(pred, pred).chamfer == 0
    # one cloud inside the other is accurate but not complete
    assert chamfer(gt[:1], gt).accuracy == 0


@given(seed=seeds, scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_moving_both_clouds_scales_the_distance(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    pred, gt = rng.standard_normal((2, 30, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    move = Similarity(scale, turn, rng.standard_normal(3))
    assert_allclose(chamfer(move.apply(pred), move.apply(gt)).chamfer, scale * chamfer(pred, gt).chamfer, rtol=1e-9)


def test_a_shift_smaller_than_the_spacing_is_the_distance() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
    assert_allclose(chamfer(grid + np.array([0.25, 0, 0]), grid).chamfer, 0.25)


def test_noise_makes_it_larger() -> None:
    rng = np.random.default_rng(0)
    gt, noise = rng.random((2, 2000, 3))
    distances = [chamfer(gt + size * (noise - 0.5), gt).chamfer for size in (0, 0.01, 0.03, 0.1, 0.3, 1)]
    assert distances == sorted(distances)
    assert distances[0] == 0


def test_real_points(shared_dir: Path) -> None:
    points = np.load(shared_dir / "data" / "points_garden" / "test_garden.npz")["means3d"][::100]
    pred, gt = points[::2], points[1::2]
    distances = cdist(pred, gt)
    assert_allclose(chamfer(pred, gt).accuracy, distances.min(axis=1).mean(), rtol=1e-10)


@pytest.mark.parametrize(
    ("pred", "gt", "reason"),
    [
        (np.zeros((0, 3)), np.zeros((2, 3)), r"pred of shape \[0, 3\]"),
        (np.zeros((2, 3)), np.zeros((0, 3)), r"gt of shape \[0, 3\]"),
        (np.zeros((2, 2)), np.zeros((2, 3)), r"expected shape \[N, 3\]"),
        (np.array([[0, 0, np.nan]]), np.zeros((2, 3)), "1 of 1 points of pred are not finite"),
        (np.zeros((2, 3)), np.array([[0, 0, np.inf], [0, 0, 0]]), "1 of 2 points of gt are not finite"),
    ],
)
def test_bad_input_is_an_input_error(pred: np.ndarray, gt: np.ndarray, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        chamfer(pred, gt)
