"""Exact farthest point sampling.

Each next sample is the point farthest from all samples so far. The plain loop measures every point at every step;
here points are sorted along the Morton curve and cut into blocks with bounding boxes, and a block is opened only if
the new sample is nearer to its box than the block's largest distance. That leaves out only updates that change nothing,
so the result is the plain loop's, index by index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics._numba import compiled, read_only
from gen3r_bench.metrics.alignment import LARGEST_COORDINATE, real_points


def farthest_point_indices(points: NDArray[Any], k: int, *, start: int = 0) -> NDArray[np.int64]:
    """Indices [min(k, N)] of the samples in the order in which they are chosen, for [N, 3] points.

    Equals the definition index by index: distances are squared float32, summed x, y, z; the farthest point comes next,
    the lowest index among equals. When all distinct points are taken, index 0 repeats. Where PyTorch3D's
    ``sample_farthest_points`` pads with zeros (k > N), this stops at N.

    Args:
        points: [N, 3] finite real numbers, rounded to float32.
        k: how many samples, at least 1.
        start: index of the first sample.

    Raises:
        InputError: no points, a wrong shape, a coordinate that is not finite in float32, k < 1, or ``start`` outside
            the cloud.

    >>> farthest_point_indices([[0, 0, 0], [1, 0, 0], [9, 0, 0], [5, 0, 0]], 3).tolist()
    [0, 2, 3]
    """
    array = real_points(points, "points")
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
        raise InputError(f"points of shape {list(array.shape)}", expected="shape [N, 3] with N >= 1")
    if k < 1:
        raise InputError(f"{k} samples", expected="at least 1")
    if not 0 <= start < len(array):
        raise InputError(f"start {start} in a cloud of {len(array)} points", expected=f"0 to {len(array) - 1}")
    columns = np.ascontiguousarray(as_float32(array).T)
    priority = np.arange(len(array), dtype=np.int32)
    return farthest_rows(columns, priority, k, start, morton_sorted=False)


def as_float32(points: NDArray[Any]) -> NDArray[np.float32]:
    """``points`` rounded to float32.

    Raises:
        InputError: where a coordinate is not finite, or its square would overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.asarray(points, dtype=np.float32)
        largest = float(np.abs(rounded).max())
    if not largest < LARGEST_COORDINATE:
        raise InputError(f"a coordinate of {largest:g}", expected=f"finite coordinates below {LARGEST_COORDINATE:g}")
    return rounded


def farthest_rows(
    columns: NDArray[np.float32], priority: NDArray[np.int32], k: int, start: int, *, morton_sorted: bool
) -> NDArray[np.int64]:
    """Rows of the samples among [3, N] ``columns``, from row ``start`` on; unique ``priority`` [N] breaks ties.

    ``morton_sorted`` says that neighbouring rows are neighbours in space, which saves the sort; it never changes the
    result. Input is not checked.
    """
    kernels = compiled("_farthest_point_numba")
    n = columns.shape[1]
    if not morton_sorted:
        order = _morton_order(columns)
        start = int(np.flatnonzero(order == start)[0])
        columns, priority = columns[:, order], priority[order]
    x, y, z = columns
    if kernels is None:
        rows = _farthest_rows_numpy(x, y, z, priority, start, min(k, n))
    else:
        rows = np.empty(min(k, n), dtype=np.int64)
        node = _tree(columns, kernels)
        distance = np.full(n, np.inf, dtype=np.float32)
        kernels.farthest_rows(
            *(read_only(column) for column in (x, y, z, priority)),
            *(distance, distance.view(np.int32), node, node.view(np.int32), np.empty(len(node), dtype=np.int32)),
            *(start, rows),
        )
    return rows if morton_sorted else order[rows]


def _tree(columns: NDArray[np.float32], kernels: Any) -> NDArray[np.float32]:
    """The tree that the compiled `farthest_rows` describes, before the first sample: every distance is infinite."""
    n = columns.shape[1]
    leaves = -(-n // kernels.LEAF_POINTS)
    first_leaf = 1 << (leaves - 1).bit_length()
    node = np.empty((2 * first_leaf, 8), dtype=np.float32)
    node[:, :3], node[:, 3:6] = np.inf, -np.inf
    node[:, 6] = -1.0  # no point: below every squared distance
    node.view(np.int32)[:, 7] = -1
    kernels.leaf_boxes(*(read_only(column) for column in columns), node[first_leaf : first_leaf + leaves])
    node[first_leaf : first_leaf + leaves, 6] = np.inf
    while first_leaf > 1:
        below = node[first_leaf : 2 * first_leaf].reshape(-1, 2, 8)
        first_leaf //= 2
        parents = node[first_leaf : 2 * first_leaf]
        parents[:, :3] = below[:, :, :3].min(axis=1)
        parents[:, 3:7] = below[:, :, 3:7].max(axis=1)
    return node


def _morton_order(columns: NDArray[np.float32]) -> NDArray[Any]:
    low = columns.min(axis=1)
    span = float((columns.max(axis=1) - low).max())
    scale = 1023.0 / span if span > 0 else 0.0
    kernels = compiled("_farthest_point_numba")
    if kernels is not None:
        order: NDArray[np.int32] = kernels.morton_order(read_only(columns), low, scale)
        return order
    key = np.zeros(columns.shape[1], dtype=np.uint32)
    for axis in range(3):
        x = np.minimum((columns[axis] - low[axis]).astype(np.float64) * scale, 1023.0).astype(np.uint32)
        for shift, bits in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            x = (x | (x << np.uint32(shift))) & np.uint32(bits)
        key = (key << np.uint32(1)) | x
    return np.argsort(key, kind="stable")


def _farthest_rows_numpy(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    priority: NDArray[np.int32],
    start: int,
    k: int,
) -> NDArray[np.int64]:
    """The same idea without the tree: all boxes are tested at once, the points of opened blocks are updated at once."""
    n = len(x)
    size = int(np.clip(np.sqrt(n / 40.0), 32, 1024))  # balances the boxes tested against the points opened
    blocks = -(-n // size)
    # rows beyond the end repeat the last one; at distance -1 they are never the farthest and never updated
    padded = np.minimum(np.arange(blocks * size), n - 1)
    px, py, pz, names = (column[padded].reshape(blocks, size) for column in (x, y, z, priority))
    distance = np.full((blocks, size), np.inf, dtype=np.float32)
    distance.reshape(-1)[n:] = -1.0
    boxes = [(column.min(axis=1), column.max(axis=1)) for column in (px, py, pz)]
    top = np.full(blocks, np.inf, dtype=np.float32)
    lowest = np.full(blocks, np.iinfo(np.int32).max, dtype=np.int32)
    zero = np.float32(0)
    rows = np.empty(k, dtype=np.int64)
    row = start
    for sample in range(k):
        rows[sample] = row
        query = x[row], y[row], z[row]
        box_distance = np.zeros(blocks, dtype=np.float32)
        for q, (low, high) in zip(query, boxes, strict=True):
            outside = np.maximum(np.maximum(low - q, q - high), zero)
            box_distance += outside * outside
        opened = np.flatnonzero(box_distance < top)
        dx, dy, dz = (column[opened] - q for q, column in zip(query, (px, py, pz), strict=True))
        nearest = np.minimum(distance[opened], dx * dx + dy * dy + dz * dz)
        distance[opened] = nearest
        top[opened] = nearest.max(axis=1)
        is_top = nearest == top[opened][:, None]
        lowest[opened] = np.where(is_top, names[opened], np.iinfo(np.int32).max).min(axis=1)
        tied = np.flatnonzero(top == top.max())
        block = int(tied[lowest[tied].argmin()])
        row = block * size + int(np.flatnonzero(names[block] == lowest[block])[0])
    return rows
