"""Farthest point sampling is the naive definition, index by index, on every kind of cloud."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.farthest_point import farthest_point_indices, farthest_rows


def naive(points: np.ndarray, k: int, start: int = 0) -> np.ndarray:
    """Measure everything at every step: float32, x + y + z, lowest index among the farthest."""
    x, y, z = np.ascontiguousarray(np.asarray(points, dtype=np.float32).T)
    distance = np.full(len(x), np.inf, dtype=np.float32)
    chosen = [start]
    while len(chosen) < min(k, len(x)):
        dx, dy, dz = x - x[chosen[-1]], y - y[chosen[-1]], z - z[chosen[-1]]
        distance = np.minimum(distance, dx * dx + dy * dy + dz * dz)
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


@pytest.fixture(params=["numba", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1" if request.param == "numpy" else "0")
    return str(request.param)


def clouds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(*[np.arange(11)] * 3), axis=-1).reshape(-1, 3)
    return {
        "uniform": rng.random((3000, 3)),
        "gaussian with outliers": np.concatenate([rng.standard_normal((1500, 3)), 100 * rng.standard_normal((9, 3))]),
        "lattice": lattice,
        "shuffled lattice": rng.permutation(lattice),
        "duplicates": rng.integers(0, 4, (700, 3)),
        "one place": np.full((130, 3), 0.1),
        "line": np.arange(300)[:, None] * [1.0, 2, -1],
        "plane": rng.random((1000, 3)) * [1, 1, 0],
        "one point": np.array([[1.0, 2, 3]]),
        "two points": np.array([[1.0, 2, 3], [0, 0, 0]]),
        "just over a leaf": rng.random((65, 3)),
        "just over two leaves": rng.random((129, 3)),
        "far from the origin": rng.random((1000, 3)) + 1e4,
        "tiny": rng.random((1000, 3)) * 1e-20,
        "huge": rng.random((1000, 3)) * 1e17,
    }


@pytest.mark.parametrize("name", clouds())
def test_equals_the_definition(name: str, path: str) -> None:
    points = clouds()[name]
    for start in {0, len(points) // 2, len(points) - 1}:
        chosen = farthest_point_indices(points, 1500, start=start)
        assert np.array_equal(chosen, naive(points, 1500, start))


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 400),
    k=st.integers(1, 450),
    levels=st.sampled_from([0, 2, 3, 7]),
    flat=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_equals_the_definition_on_anything(seed: int, n: int, k: int, levels: int, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, levels, (n, 3)).astype(float) if levels else rng.standard_normal((n, 3))
    if flat:
        points[:, rng.integers(3)] = 1.5
    start = int(rng.integers(n))
    chosen = farthest_point_indices(points, k, start=start)
    assert len(chosen) == min(k, n)
    assert np.array_equal(chosen, naive(points, k, start))


def test_real_points_compiled_and_numpy_are_identical(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.load(shared_dir / "data" / "points_garden" / "test_garden.npz")["means3d"]
    compiled = farthest_point_indices(points, 2000, start=77)
    assert np.array_equal(compiled[:300], naive(points, 300, 77))
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1")
    assert np.array_equal(compiled, farthest_point_indices(points, 2000, start=77))


def test_after_all_places_are_taken_index_0_repeats(path: str) -> None:
    points = np.array([[5.0, 0, 0], [0, 0, 0], [5, 0, 0], [0, 0, 0]])
    assert farthest_point_indices(points, 9, start=3).tolist() == [3, 0, 0, 0]


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 120))
@settings(max_examples=40, deadline=None)
def test_each_sample_is_nearer_than_the_one_before(seed: int, n: int) -> None:
    points = np.random.default_rng(seed).random((n, 3))
    chosen = farthest_point_indices(points, n)
    gaps = [cdist(points[chosen[i : i + 1]], points[chosen[:i]]).min() for i in range(1, n)]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(gaps))
    assert sorted(chosen.tolist()) == list(range(n))
    # no point is farther from the first k samples than the k-th gap: the samples cover the cloud
    k = max(1, n // 2)
    assert cdist(points, points[chosen[:k]]).min(axis=1).max() <= (gaps[k - 1] if k < n else 0) * (1 + 1e-5) + 1e-12


@given(seed=st.integers(0, 2**32 - 1))
@example(seed=5014317)
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_matters_only_for_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((200, 3)).astype(np.float32)
    order = rng.permutation(200)
    once = farthest_point_indices(points, 100, start=int(order[0]))
    again = farthest_point_indices(points[order], 100, start=0)
    again = order[again]
    differ = np.flatnonzero(once != again)
    if len(differ):
        # two points exactly as far from what was chosen before: either is farthest, and the order of rows decides
        chosen, rivals = points[once[: differ[0]]], points[[once[differ[0]], again[differ[0]]]]
        offsets = rivals[:, None] - chosen
        squared = offsets[..., 0] ** 2 + offsets[..., 1] ** 2 + offsets[..., 2] ** 2
        assert squared.min(axis=1)[0] == squared.min(axis=1)[1]


def test_fewer_samples_are_a_prefix(path: str) -> None:
    points = np.random.default_rng(4).random((500, 3))
    assert np.array_equal(farthest_point_indices(points, 37), farthest_point_indices(points, 400)[:37])


def test_the_claim_that_rows_are_sorted_never_changes_the_result(path: str) -> None:
    rng = np.random.default_rng(5)
    columns = rng.integers(0, 6, (3, 900)).astype(np.float32)
    priority = rng.permutation(900).astype(np.int32)
    rows = [farthest_rows(columns, priority, 300, 11, morton_sorted=claim) for claim in (True, False)]
    assert np.array_equal(*rows)
    by_priority = np.argsort(priority)
    expected = naive(columns.T[by_priority], 300, int(priority[11]))
    assert np.array_equal(priority[rows[0]], expected)


@pytest.mark.parametrize(
    ("points", "k", "start", "reason"),
    [
        (np.zeros((0, 3)), 1, 0, r"shape \[0, 3\]"),
        (np.zeros((4, 2)), 1, 0, r"expected shape \[N, 3\]"),
        (np.zeros(3), 1, 0, r"expected shape \[N, 3\]"),
        (np.zeros((4, 3)), 0, 0, "0 samples; expected at least 1"),
        (np.zeros((4, 3)), 2, 4, "start 4 in a cloud of 4 points; expected 0 to 3"),
        (np.zeros((4, 3)), 2, -1, "start -1"),
        (np.array([[0.0, 0, np.nan], [0, 0, 0]]), 2, 0, "a coordinate of nan"),
        (np.array([[0.0, 0, np.inf], [0, 0, 0]]), 2, 0, "a coordinate of inf"),
        (np.array([[0.0, 0, 1e19], [0, 0, 0]]), 2, 0, "below 1e\\+18"),
        (np.array([[True, False, True]]), 1, 0, "real numbers"),
    ],
)
def test_bad_input_is_an_input_error(points: np.ndarray, k: int, start: int, reason: str, path: str) -> None:
    with pytest.raises(InputError, match=reason):
        farthest_point_indices(points, k, start=start)


def test_the_input_is_not_changed(path: str) -> None:
    points = np.random.default_rng(6).random((100, 3)).astype(np.float32)
    before = points.copy()
    points.flags.writeable = False
    farthest_point_indices(points, 50)
    assert np.array_equal(points, before)
