"""Compiled farthest point sampling: a lazy tree over spatially sorted points; see farthest_point.py."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics._numba import kernel

LEAF_POINTS: Final = 128
_UNKNOWN: Final = -1


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
def leaf_boxes(
    x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32], node: NDArray[np.float32]
) -> None:
    """Write the boxes of LEAF_POINTS consecutive points each into columns 0:6 of ``node`` [leaves, 8]."""
    n = x.shape[0]
    for leaf in range(node.shape[0]):
        begin = leaf * LEAF_POINTS
        x0, y0, z0 = x[begin], y[begin], z[begin]
        x1, y1, z1 = x0, y0, z0
        for i in range(begin + 1, begin + LEAF_POINTS if begin + LEAF_POINTS < n else n):
            x0, x1 = x[i] if x[i] < x0 else x0, x[i] if x[i] > x1 else x1
            y0, y1 = y[i] if y[i] < y0 else y0, y[i] if y[i] > y1 else y1
            z0, z1 = z[i] if z[i] < z0 else z0, z[i] if z[i] > z1 else z1
        node[leaf, 0], node[leaf, 1], node[leaf, 2] = x0, y0, z0
        node[leaf, 3], node[leaf, 4], node[leaf, 5] = x1, y1, z1


@kernel
def refresh(node_bits: NDArray[np.int32], i: int) -> None:
    """Set the largest distance and its lowest priority of an inner node from its children."""
    a, b = 2 * i, 2 * i + 1
    top_a, top_b = node_bits[a, 6], node_bits[b, 6]
    lowest_a, lowest_b = node_bits[a, 7], node_bits[b, 7]
    node_bits[i, 6] = top_a if top_a > top_b else top_b
    # between equals -1, unknown, is the smaller and wins
    node_bits[i, 7] = lowest_a if top_a > top_b or (top_a == top_b and lowest_a < lowest_b) else lowest_b


@kernel
def farthest_rows(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    priority: NDArray[np.int32],
    distance: NDArray[np.float32],
    distance_bits: NDArray[np.int32],
    node: NDArray[np.float32],
    node_bits: NDArray[np.int32],
    visited: NDArray[np.int32],
    start: int,
    rows: NDArray[np.int64],
) -> None:
    """Write the rows of the samples; unique ``priority`` breaks ties, lowest first.

    ``node`` [2 L, 8] is a complete binary tree over L leaves of LEAF_POINTS consecutive points, its root at 1. A node
    is 8 numbers of 4 bytes: its box (low x, y, z, high x, y, z), the largest squared ``distance`` of its points to the
    samples so far, and as an integer the lowest priority (>= 0) among the points that attain it, or -1 while nobody
    needed to know. The ``bits`` arrays are the same memory as int32: squared distances are >= 0, where both orders
    agree, and the integer maximum is the one that vectorises without fast-math. ``visited`` [2 L] is scratch.
    """
    n = x.shape[0]
    first_leaf = node.shape[0] // 2
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
            if i >= first_leaf:
                continue
            for child in (2 * i, 2 * i + 1):
                # Never above the float32 distance of a point inside: rounding is monotone, and the operations are the
                # same in the same order. At most one side of a box is beyond the sample along each axis.
                dx, dy, dz = node[child, 0] - qx, node[child, 1] - qy, node[child, 2] - qz
                ex, ey, ez = qx - node[child, 3], qy - node[child, 4], qz - node[child, 5]
                dx = dx if dx > ex else ex
                dy = dy if dy > ey else ey
                dz = dz if dz > ez else ez
                dx = dx if dx > 0 else np.float32(0)
                dy = dy if dy > 0 else np.float32(0)
                dz = dz if dz > 0 else np.float32(0)
                if dx * dx + dy * dy + dz * dz < node[child, 6]:
                    visited[tail] = child
                    tail += 1
        for back in range(tail - 1, -1, -1):
            i = visited[back]
            if i < first_leaf:
                refresh(node_bits, i)
                continue
            begin = (i - first_leaf) * LEAF_POINTS
            end = begin + LEAF_POINTS if begin + LEAF_POINTS < n else n
            # slices, because their indices are known not to be negative, which lets the loops vectorise
            leaf_x, leaf_y, leaf_z = x[begin:end], y[begin:end], z[begin:end]
            leaf_distance, leaf_bits = distance[begin:end], distance_bits[begin:end]
            for j in range(leaf_x.shape[0]):
                dx, dy, dz = leaf_x[j] - qx, leaf_y[j] - qy, leaf_z[j] - qz
                new = dx * dx + dy * dy + dz * dz
                old = leaf_distance[j]
                leaf_distance[j] = new if new < old else old
            top = np.int32(-1)
            for j in range(leaf_x.shape[0]):
                top = leaf_bits[j] if leaf_bits[j] > top else top
            node_bits[i, 6] = top
            node_bits[i, 7] = _UNKNOWN
        while node_bits[1, 7] == _UNKNOWN:
            i = 1
            while i < first_leaf:
                left = 2 * i
                needed = node_bits[left, 6] == node_bits[i, 6] and node_bits[left, 7] == _UNKNOWN
                i = left if needed else left + 1
            begin = (i - first_leaf) * LEAF_POINTS
            end = begin + LEAF_POINTS if begin + LEAF_POINTS < n else n
            lowest = -1
            for j in range(begin, end):
                if distance_bits[j] == node_bits[i, 6] and (lowest < 0 or priority[j] < priority[lowest]):
                    lowest = j
            node_bits[i, 7] = priority[lowest]
            while i > 1:
                i //= 2
                refresh(node_bits, i)
        i = 1
        while i < first_leaf:
            i = 2 * i if node_bits[2 * i, 7] == node_bits[1, 7] else 2 * i + 1
        row = (i - first_leaf) * LEAF_POINTS
        while priority[row] != node_bits[1, 7]:
            row += 1
