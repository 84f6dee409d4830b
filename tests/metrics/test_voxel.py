"""The voxel grid: the naive definition, Open3D, order, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.alignment import Similarity
from gen3r_bench.metrics.voxel import average_voxels, open3d_row_order, voxel_downsample, voxel_indices


def naive(points: np.ndarray, size: float) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    origin = points.min(axis=0) - size / 2
    cells: dict[tuple[int, ...], list[np.ndarray]] = {}
    for point in points:
        cells.setdefault(tuple(np.floor((point - origin) / size).astype(int)), []).append(point)
    means = []
    for members in cells.values():
        total = np.zeros(3)
        for point in members:
            total += point
        means.append(total / len(members))
    return np.array(means)


@pytest.fixture(params=["numba", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1" if request.param == "numpy" else "0")
    return str(request.param)


def clouds() -> dict[str, tuple[np.ndarray, float]]:
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)
    return {
        "random": (rng.random((3000, 3)), 0.07),
        "float32": (rng.random((3000, 3), dtype=np.float32), 0.07),
        "lattice on voxel borders": (lattice * 0.5, 0.5),
        "duplicates": (lattice[rng.integers(0, 216, 1000)], 0.9),
        "one point": (np.array([[3.0, -2, 1]]), 0.1),
        "one voxel": (rng.random((50, 3)), 10.0),
        "every point alone": (rng.random((4000, 3)) * 1000, 0.005),
        "planar, negative": (rng.standard_normal((500, 3)) * [1, 1, 0] - 50, 0.2),
        "a long line": (np.linspace(0, 1e4, 1000)[:, None] * [1.0, 0, 0], 0.005),
    }


@pytest.mark.parametrize("name", clouds())
def test_equals_the_definition_in_order_of_first_appearance(name: str, path: str) -> None:
    points, size = clouds()[name]
    assert np.array_equal(voxel_downsample(points, size), naive(points, size))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200), size=st.floats(0.01, 5))
@settings(max_examples=60, deadline=None)
def test_rows_depend_on_the_set_of_points_only(seed: int, n: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 2, (n, 3))
    means = voxel_downsample(points, size)
    shuffled = voxel_downsample(rng.permutation(points), size)
    assert len(means) == len(shuffled) <= n
    assert_allclose(means[np.lexsort(means.T.round(9))], shuffled[np.lexsort(shuffled.T.round(9))], atol=1e-12)
    # means stay inside the cloud's box, and every point has a mean within the diagonal of a voxel
    assert (means >= points.min(axis=0) - 1e-12).all()
    assert (means <= points.max(axis=0) + 1e-12).all()
    nearest = np.sqrt(((points[:, None] - means) ** 2).sum(axis=2)).min(axis=1)
    assert nearest.max() <= size * np.sqrt(3) + 1e-9


def test_real_points(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.load(shared_dir / "data" / "points_garden" / "test_garden.npz")["means3d"]
    compiled = voxel_downsample(points, 0.05)
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1")
    assert np.array_equal(compiled, voxel_downsample(points, 0.05))
    assert 1000 < len(compiled) < len(points)


def test_many_blocks_make_the_table_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    points = rng.random((60000, 3)) * 100  # nearly every point in a block of its own, four times the first table
    compiled = voxel_downsample(points, 0.01)
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1")
    assert np.array_equal(compiled, voxel_downsample(points, 0.01))


def test_moved_and_masked_rows_equal_moving_and_masking_first(path: str) -> None:
    rng = np.random.default_rng(2)
    points = rng.random((500, 3)).astype(np.float32)
    valid = rng.random(500) < 0.7
    points[~valid] = np.nan
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved_by = Similarity(2.5, turn, np.array([1.0, -2, 3]))
    voxels = average_voxels(points, valid, moved_by, 0.3)
    order = np.argsort(voxels.first)
    expected = voxel_downsample(moved_by.apply(points[valid]), 0.3)
    assert np.array_equal(voxels.means[:, order].T, expected.astype(np.float32))
    assert np.array_equal(
        points[voxels.first[order]], points[valid][np.sort(np.searchsorted(np.flatnonzero(valid), voxels.first))]
    )
    assert valid[voxels.first].all()
    assert len(np.unique(voxels.first)) == len(voxels)


@pytest.mark.parametrize(
    ("points", "size", "reason"),
    [
        (np.zeros((0, 3)), 0.1, "without points"),
        (np.zeros((5, 2)), 0.1, r"shape \[5, 2\]"),
        (np.array([[0.0, 0, np.nan], [0, 0, 0]]), 0.1, "1 of 2 points are not finite"),
        (np.array([[0.0, 0, np.inf]]), 0.1, "1 of 1 points are not finite"),
        (np.eye(3), 0.0, "voxel size 0"),
        (np.eye(3), -1.0, "expected a positive length"),
        (np.eye(3), float("nan"), "expected a positive length"),
        (np.eye(3) * 1e5, 0.005, "fewer than 2097152 voxels along each axis"),
        (np.eye(3) * 1e30, 1e29, "coordinates below 1e\\+18"),
        (np.array([["a", "b", "c"]]), 0.1, "real numbers"),
    ],
)
def test_bad_input_is_an_input_error(points: np.ndarray, size: float, reason: str, path: str) -> None:
    with pytest.raises(InputError, match=reason):
        voxel_downsample(points, size)


def test_the_widest_legal_grid(path: str) -> None:
    points = np.array([[0.0, 0, 0], [2**21 - 3, 0, 0], [0, 2**21 - 3, 2**21 - 3]])
    assert np.array_equal(voxel_downsample(points, 1.0), points)


# Open3D itself


def test_equals_open3d(shared_dir: Path) -> None:
    open3d = pytest.importorskip(
        "open3d", reason="parity with Open3D needs open3d and libusb-1.0-0", exc_type=ImportError
    )
    cases = list(clouds().values())
    garden = np.load(shared_dir / "data" / "points_garden" / "test_garden.npz")["means3d"]
    cases += [(garden, 0.02), (garden, 0.2)]
    for points, size in cases:
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
        theirs = np.asarray(cloud.voxel_down_sample(size).points)
        ours = voxel_downsample(points, size)
        creators = average_voxels(points, np.ones(len(points), bool), None, size)
        first = points[np.sort(creators.first)].astype(np.float64)
        order = open3d_row_order(voxel_indices(first, creators.origin, size))
        assert np.array_equal(ours[order], theirs)  # rows, order and all bits


def test_open3d_row_order_is_a_permutation_and_the_same_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    cells = np.unique(rng.integers(0, 40, (3000, 3)), axis=0)
    rng.shuffle(cells)
    orders = []
    for off in ("0", "1"):
        monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", off)
        orders.append(open3d_row_order(cells))
    assert np.array_equal(*orders)
    assert np.array_equal(np.sort(orders[0]), np.arange(len(cells)))
    assert np.array_equal(open3d_row_order(cells[:1]), [0])
