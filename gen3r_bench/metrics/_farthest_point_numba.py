"""Compiled farthest point sampling: a lazy tree over spatially sorted points; see farthest_point.py."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics._numba import kernel

LEAF_POINTS: Final = 64
_NONE: Final = 0x7FFFFFFF


@kernel
def morton_order(columns: NDArray[np.float32], low: NDArray[np.float32], scale: float) -> NDArray[np.int32]:
    """Order of [3, N] points along the Morton curve of 1024 cells an axis, by radix sort."""
    n = columns.shape[1]
    code = np.empty(n, np.uint32)
    order = np.empty(n, np.int32)
    for i in range(n):
        key = np.uint32(0)
        for axis in range(3):
            x = np.uint32(min(np.float64(columns[axis, i] - low[axis]) * scale, 1023.0))
            x = (x | (x << np.uint32(16))) & np.uint32(0x030000FF)
            x = (x | (x << np.uint32(8))) & np.uint32(0x0300F00F)
            x = (x | (x << np.uint32(4))) & np.uint32(0x030C30C3)
            x = (x | (x << np.uint32(2))) & np.uint32(0x09249249)
            key = (key << np.uint32(1)) | x
        code[i] = key
        order[i] = i
    other_code = np.empty(n, np.uint32)
    other_order = np.empty(n, np.int32)
    for shift in (0, 10, 20):
        place = np.zeros(1025, np.int64)
        for i in range(n):
            place[((code[i] >> np.uint32(shift)) & np.uint32(1023)) + 1] += 1
        for digit in range(1024):
            place[digit + 1] += place[digit]
        for i in range(n):
            digit = (code[i] >> np.uint32(shift)) & np.uint32(1023)
            other_code[place[digit]] = code[i]
            other_order[place[digit]] = order[i]
            place[digit] += 1
        code, other_code = other_code, code
        order, other_order = other_order, order
    return order


@kernel
def farthest_rows(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    priority: NDArray[np.int32],
    start: int,
    rows: NDArray[np.int64],
) -> None:
    """Write the rows of the samples; ``priority`` (unique) breaks ties, lowest first.

    A complete binary tree over leaves of LEAF_POINTS consecutive points. A node is 8 numbers of 4 bytes: its box (low
    x, y, z, high x, y, z), the largest squared distance of its points to the samples so far, and the lowest priority
    among the points that attain it. Squared distances are >= 0, where float32 and int32 bit patterns order alike; the
    integer maximum is the one that vectorises without fast-math.
    """
    n = x.shape[0]
    leaves = (n + LEAF_POINTS - 1) // LEAF_POINTS
    first_leaf = 1
    while first_leaf < leaves:
        first_leaf *= 2
    node = np.empty((2 * first_leaf, 8), np.float32)
    bits = node.view(np.int32)
    distance = np.full(n, np.inf, np.float32)
    distance_bits = distance.view(np.int32)
    for i in range(2 * first_leaf):
        node[i, 0] = node[i, 1] = node[i, 2] = np.inf
        node[i, 3] = node[i, 4] = node[i, 5] = -np.inf
        node[i, 6] = -1.0  # no point: below every squared distance
        bits[i, 7] = _NONE
    for leaf in range(leaves):
        i = first_leaf + leaf
        for j in range(leaf * LEAF_POINTS, min(n, (leaf + 1) * LEAF_POINTS)):
            node[i, 0], node[i, 3] = min(node[i, 0], x[j]), max(node[i, 3], x[j])
            node[i, 1], node[i, 4] = min(node[i, 1], y[j]), max(node[i, 4], y[j])
            node[i, 2], node[i, 5] = min(node[i, 2], z[j]), max(node[i, 5], z[j])
        node[i, 6] = np.inf
    for i in range(first_leaf - 1, 0, -1):
        a, b = 2 * i, 2 * i + 1
        for axis in range(3):
            node[i, axis] = min(node[a, axis], node[b, axis])
            node[i, axis + 3] = max(node[a, axis + 3], node[b, axis + 3])
        node[i, 6] = max(node[a, 6], node[b, 6])
    visited = np.empty(2 * first_leaf, np.int32)
    zero = np.float32(0.0)
    row = start
    for sample in range(rows.shape[0]):
        rows[sample] = row
        if sample == rows.shape[0] - 1:
            break
        qx, qy, qz = x[row], y[row], z[row]
        # Breadth first: children come after their parents, so walking back refreshes bottom up.
        visited[0] = 1
        head, tail = 0, 1
        while head < tail:
            i = visited[head]
            head += 1
            if i < first_leaf:
                for child in (2 * i, 2 * i + 1):
                    # never above the float32 distance of a point inside: rounding is monotone, the operations are
                    # the same and come in the same order
                    dx = max(max(node[child, 0] - qx, qx - node[child, 3]), zero)
                    dy = max(max(node[child, 1] - qy, qy - node[child, 4]), zero)
                    dz = max(max(node[child, 2] - qz, qz - node[child, 5]), zero)
                    if dx * dx + dy * dy + dz * dz < node[child, 6]:
                        visited[tail] = child
                        tail += 1
        for back in range(tail - 1, -1, -1):
            i = visited[back]
            if i < first_leaf:
                a, b = 2 * i, 2 * i + 1
                if bits[a, 6] > bits[b, 6] or (bits[a, 6] == bits[b, 6] and bits[a, 7] < bits[b, 7]):
                    bits[i, 6], bits[i, 7] = bits[a, 6], bits[a, 7]
                else:
                    bits[i, 6], bits[i, 7] = bits[b, 6], bits[b, 7]
                continue
            begin = (i - first_leaf) * LEAF_POINTS
            end = min(n, begin + LEAF_POINTS)
            for j in range(begin, end):
                dx, dy, dz = x[j] - qx, y[j] - qy, z[j] - qz
                new = dx * dx + dy * dy + dz * dz
                distance[j] = new if new < distance[j] else distance[j]
            top = np.int32(-1)
            for j in range(begin, end):
                top = max(top, distance_bits[j])
            lowest = np.int32(_NONE)
            for j in range(begin, end):
                lowest = min(lowest, priority[j] if distance_bits[j] == top else np.int32(_NONE))
            bits[i, 6], bits[i, 7] = top, lowest
        i = 1
        while i < first_leaf:
            i = 2 * i if bits[2 * i, 7] == bits[1, 7] else 2 * i + 1
        row = (i - first_leaf) * LEAF_POINTS
        while priority[row] != bits[1, 7]:
            row += 1
