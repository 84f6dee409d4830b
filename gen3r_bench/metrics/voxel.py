"""Voxel averaging on the grid of Open3D's legacy ``voxel_down_sample``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics._numba import compiled, kernel, read_only
from gen3r_bench.metrics.alignment import LARGEST_COORDINATE, Similarity, real_points

MAX_VOXELS_PER_AXIS: Final = 1 << 21
"""Three indices of 21 bits make one 63-bit key; 10 km at 5 mm."""

_MAX_POINTS: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class VoxelMeans:
    """Occupied voxels, in no promised order.

    Attributes:
        means: [3, N] mean point of each voxel: one row a coordinate, which is how sampling reads them.
        first: [N] int32, the lowest row of the input that fell into the voxel: unique, and increasing in the order
            of first appearance.
        origin: [3] float64, the lowest corner of the grid.
        morton_sorted: whether neighbours in this order are neighbours in space.
    """

    means: NDArray[Any]
    first: NDArray[np.int32]
    origin: NDArray[np.float64]
    morton_sorted: bool

    def __len__(self) -> int:
        return len(self.first)


def voxel_downsample(points: NDArray[Any], voxel_size: float) -> NDArray[np.float64]:
    """Mean point of every occupied voxel: [N, 3] points give [M, 3] float64, in order of first appearance.

    The grid is that of Open3D's legacy ``voxel_down_sample``: its origin is the lowest corner of the cloud minus half
    a voxel, an index is ``floor((point - origin) / voxel_size)``, and each mean sums its points in input order. The
    set of rows depends on the set of points only (up to rounding), and equals Open3D's.

    Args:
        points: [N, 3] finite real numbers.
        voxel_size: edge of a voxel, in the points' unit.

    Raises:
        InputError: no points, a wrong shape, a non-finite coordinate, a voxel size that is not positive, or one so
            small that an axis would have 2**21 voxels or more.

    >>> voxel_downsample([[0, 0, 0], [5, 0, 0], [0.2, 0, 0]], 1.0).tolist()
    [[0.1, 0.0, 0.0], [5.0, 0.0, 0.0]]
    """
    array = real_points(points, "points")
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"points of shape {list(array.shape)}", expected="shape [N, 3]")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise InputError(f"{bad} of {len(array)} points are not finite", expected="finite points", fix="drop them")
    voxels = average_voxels(array, np.ones(len(array), dtype=np.bool_), None, voxel_size, np.float64)
    return np.ascontiguousarray(voxels.means[:, np.argsort(voxels.first)].T)


def average_voxels(
    points: NDArray[Any],
    valid: NDArray[np.bool_],
    moved_by: Similarity | None,
    voxel_size: float,
    dtype: DTypeLike = np.float32,
) -> VoxelMeans:
    """Voxel means of the ``valid`` rows of [N, 3] ``points`` after ``moved_by``, without copying the points.

    Positions and sums are float64; ``dtype`` is only that of the means written. Valid rows must be finite.

    Raises:
        InputError: as `voxel_downsample`.
    """
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise InputError(f"voxel size {voxel_size}", expected="a positive length in the points' unit")
    if len(points) > _MAX_POINTS:
        raise InputError(f"{len(points)} points", expected=f"at most {_MAX_POINTS}", fix="score fewer frames at once")
    similarity = moved_by or Similarity.identity()
    points, valid = read_only(points), read_only(valid)
    kernels = compiled("_voxel_numba")
    if kernels is None:
        return _average_voxels_numpy(points, valid, similarity, voxel_size, dtype)
    matrix, translation = read_only(similarity.matrix), read_only(similarity.translation)
    corners = np.zeros(6)
    count = kernels.bounds(points, valid, matrix, translation, corners)
    origin = _grid_origin(count, corners[:3], corners[3:], voxel_size)
    block_of_point = np.empty(len(points), dtype=np.int32)
    blocks = done = 0
    codes, sizes = np.empty(1 << 14, dtype=np.uint64), np.empty(1 << 14, dtype=np.int64)
    while done < len(points):
        if blocks == len(codes):
            codes, sizes = (np.concatenate([held, np.empty(3 * blocks, held.dtype)]) for held in (codes, sizes))
        table = np.full(2 * len(codes), -1, dtype=np.int32)
        kernels.fill_table(codes[:blocks], table)
        done, blocks = kernels.assign_blocks(
            *(points, valid, matrix, translation, origin, voxel_size),
            *(block_of_point, done, blocks, codes, sizes, table),
        )
    codes, sizes = codes[:blocks], sizes[:blocks]
    by_code = np.argsort(codes)
    ends = np.cumsum(sizes[by_code])
    cursor = np.empty_like(ends)
    cursor[by_code] = ends - sizes[by_code]
    point_order = np.empty(count, dtype=np.int32)
    kernels.sort_by_block(block_of_point, cursor, point_order)
    del block_of_point
    # room for a voxel a point; pages that are never written never become resident
    means, first = np.empty((3, count), dtype=dtype), np.empty(count, dtype=np.int32)
    side = kernels.BLOCK_VOXELS
    n = kernels.average_voxels(
        *(points, matrix, translation, origin, voxel_size, ends, point_order),
        *(np.full(side, -1, dtype=np.int32), np.zeros(side // 64, dtype=np.uint64)),
        *(np.empty((side, 3)), np.empty(side, dtype=np.int64), np.empty(side, dtype=np.int32)),
        *(means, first),
    )
    return VoxelMeans(means[:, :n], first[:n], origin, morton_sorted=True)


def _grid_origin(
    count: int, low: NDArray[np.float64], high: NDArray[np.float64], voxel_size: float
) -> NDArray[np.float64]:
    if count == 0:
        raise InputError("a cloud without points", expected="at least one valid point")
    largest = float(max(np.abs(low).max(), np.abs(high).max()))
    if not largest < LARGEST_COORDINATE:
        raise InputError(f"a coordinate of {largest:g}", expected=f"coordinates below {LARGEST_COORDINATE:g}")
    origin: NDArray[np.float64] = low - 0.5 * voxel_size
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = float(((high - origin) / voxel_size).max())
    if not voxels < MAX_VOXELS_PER_AXIS - 1:
        extent = float((high - low).max())
        raise InputError(
            f"a cloud {extent:.6g} units wide in voxels of {voxel_size:g}: {voxels:.3g} along one axis",
            expected=f"fewer than {MAX_VOXELS_PER_AXIS} voxels along each axis",
            fix="mask out far points, or choose a larger voxel size",
        )
    return origin


def voxel_indices(points: NDArray[np.float64], origin: NDArray[np.float64], voxel_size: float) -> NDArray[np.int64]:
    """[N, 3] integer coordinates of the voxels of [N, 3] moved points."""
    return np.floor((points - origin) / voxel_size).astype(np.int64)


def _average_voxels_numpy(
    points: NDArray[Any],
    valid: NDArray[np.bool_],
    similarity: Similarity,
    voxel_size: float,
    dtype: DTypeLike,
) -> VoxelMeans:
    rows = np.flatnonzero(valid)
    moved = similarity.apply(points[rows])
    low, high = (moved.min(axis=0), moved.max(axis=0)) if len(rows) else (np.zeros(3), np.zeros(3))
    origin = _grid_origin(len(rows), low, high, voxel_size)
    index = voxel_indices(moved, origin, voxel_size)
    key = (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2]
    _, first, voxel, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    # bincount adds in input order, as the kernel does
    means = np.stack([np.bincount(voxel, weights=moved[:, axis]) / counts for axis in range(3)])
    return VoxelMeans(means.astype(dtype), rows[first].astype(np.int32), origin, morton_sorted=False)


# Open3D returns voxels in the order of a libstdc++ unordered_map, and the released code starts sampling at its row 0.

_BUCKET_COUNTS: Final = (
    *(13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061, 712697, 1447153),
    *(2938679, 5967347, 12117689, 24607243, 49969847, 99969577, 199979033, 400080239, 800319389, 1600623371),
)
"""The sizes through which a libstdc++ hash table grows, one element at a time, at load factor 1."""


def open3d_row_order(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where Open3D's rows come from: row i of its output is the voxel created as number ``result[i]``.

    ``indices`` are the [N, 3] coordinates of the voxels in order of first appearance. Emulates the iteration order of
    ``std::unordered_map<Eigen::Vector3i, ..., hash_eigen>`` of libstdc++, which Open3D's Linux wheels are built with;
    other standard libraries give other orders.
    """
    hashes = np.zeros(len(indices), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for axis in range(3):
            mixed = indices[:, axis].astype(np.uint64) + np.uint64(0x9E3779B9)
            hashes ^= mixed + (hashes << np.uint64(6)) + (hashes >> np.uint64(2))
    relink = _relink_compiled() if compiled("_voxel_numba") else _relink
    order = np.empty(0, dtype=np.int64)
    for buckets in _BUCKET_COUNTS:
        # growing puts the nodes into the new table in the order of the old list; later ones come as they are created
        held = min(len(indices), buckets)
        inserted = np.concatenate([order, np.arange(len(order), held)])
        order = relink((hashes[:held] % np.uint64(buckets)).astype(np.int64), inserted, buckets)
        if held == len(indices):
            break
    return order


def _relink(bucket: NDArray[np.int64], inserted: NDArray[np.int64], buckets: int) -> NDArray[np.int64]:
    """Order of the table's single list after inserting the nodes ``inserted`` one by one into ``buckets`` buckets."""
    follower = np.full(len(inserted), -1, np.int64)
    before = np.full(buckets, -2, np.int64)  # the node before a bucket's first; -1: it heads the list; -2: empty
    head = -1
    for node in inserted:
        home = bucket[node]
        if before[home] >= 0:
            follower[node] = follower[before[home]]
            follower[before[home]] = node
            continue
        if before[home] == -2 and head >= 0:
            before[bucket[head]] = node
        before[home] = -1
        follower[node] = head
        head = node
    order = np.empty(len(inserted), np.int64)
    node = head
    for position in range(len(inserted)):
        order[position] = node
        node = follower[node]
    return order


@functools.cache
def _relink_compiled() -> Any:
    return kernel(_relink)
