"""Compiled voxel grid over masked, moved points; see voxel.py.

Points are first sorted into blocks of 2**BLOCK_BITS voxels a side, then averaged block by block: a block's voxels fit
the processor's cache, and walking blocks and voxels along the Morton curve leaves the means spatially sorted, which is
what farthest point sampling wants. Every sum runs over its points in their given order.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics._numba import kernel

BLOCK_BITS: Final = 4
BLOCK_VOXELS: Final = 1 << (3 * BLOCK_BITS)
_SIDE: Final = 1 << BLOCK_BITS
_INTERLEAVED: Final = np.array([sum((i >> bit & 1) << 3 * bit for bit in range(BLOCK_BITS)) for i in range(_SIDE)])
"""A voxel's coordinate inside its block -> its bits, three apart."""
_BIT_OF_LOWEST: Final = np.zeros(67, dtype=np.int64)
"""A power of two modulo 67, where they all differ -> its exponent."""
_BIT_OF_LOWEST[[2**bit % 67 for bit in range(64)]] = np.arange(64)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


@kernel
def spread_bits(value: np.uint64) -> np.uint64:
    """Move bit i of a 21-bit number to bit 3 i."""
    x = np.uint64(value)
    x = (x | (x << np.uint64(32))) & np.uint64(0x1F00000000FFFF)
    x = (x | (x << np.uint64(16))) & np.uint64(0x1F0000FF0000FF)
    x = (x | (x << np.uint64(8))) & np.uint64(0x100F00F00F00F00F)
    x = (x | (x << np.uint64(4))) & np.uint64(0x10C30C30C30C30C3)
    return (x | (x << np.uint64(2))) & np.uint64(0x1249249249249249)


@kernel
def bounds(
    points: NDArray[Any],
    valid: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    translation: NDArray[np.float64],
    corners: NDArray[np.float64],
) -> int:
    """How many points are valid; writes their lowest (0:3) and highest (3:6) coordinates after the move."""
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    t0, t1, t2 = translation[0], translation[1], translation[2]
    low0 = low1 = low2 = np.inf
    high0 = high1 = high2 = -np.inf
    count = 0
    for i in range(points.shape[0]):
        if not valid[i]:
            continue
        count += 1
        a0, a1, a2 = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        x = m00 * a0 + m01 * a1 + m02 * a2 + t0
        y = m10 * a0 + m11 * a1 + m12 * a2 + t1
        z = m20 * a0 + m21 * a1 + m22 * a2 + t2
        low0, high0 = x if x < low0 else low0, x if x > high0 else high0
        low1, high1 = y if y < low1 else low1, y if y > high1 else high1
        low2, high2 = z if z < low2 else low2, z if z > high2 else high2
    corners[0], corners[1], corners[2] = low0, low1, low2
    corners[3], corners[4], corners[5] = high0, high1, high2
    return count


@kernel
def fill_table(codes: NDArray[np.uint64], table: NDArray[np.int32]) -> None:
    """Enter block numbers under their codes into an empty (-1) table, whose length is a power of two."""
    last = len(table) - 1
    for block in range(codes.shape[0]):
        slot = np.int64((codes[block] * _GOLDEN) >> np.uint64(32)) & last
        while table[slot] >= 0:
            slot = (slot + 1) & last
        table[slot] = block


@kernel
def assign_blocks(
    points: NDArray[Any],
    valid: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    translation: NDArray[np.float64],
    origin: NDArray[np.float64],
    voxel_size: float,
    block_of_point: NDArray[np.int32],
    begin: int,
    blocks: int,
    codes: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    table: NDArray[np.int32],
) -> tuple[int, int]:
    """Number the blocks of points from ``begin`` on in order of appearance; -1 for points that are not valid.

    Writes Morton codes and numbers of points of the blocks, and enters new blocks into the hash ``table``. Stops where
    ``codes`` is full, for the caller to make room: returns the next point and the number of blocks.
    """
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    t0, t1, t2 = translation[0], translation[1], translation[2]
    o0, o1, o2 = origin[0], origin[1], origin[2]
    last_slot = len(table) - 1
    last0 = last1 = last2 = block = np.int64(-1)
    for i in range(begin, points.shape[0]):
        if not valid[i]:
            block_of_point[i] = -1
            continue
        a0, a1, a2 = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        # coordinates are never below the origin, so truncation is the floor
        b0 = np.int64((m00 * a0 + m01 * a1 + m02 * a2 + t0 - o0) / voxel_size) >> BLOCK_BITS
        b1 = np.int64((m10 * a0 + m11 * a1 + m12 * a2 + t1 - o1) / voxel_size) >> BLOCK_BITS
        b2 = np.int64((m20 * a0 + m21 * a1 + m22 * a2 + t2 - o2) / voxel_size) >> BLOCK_BITS
        if b0 != last0 or b1 != last1 or b2 != last2:
            code = (
                (spread_bits(np.uint64(b0)) << np.uint64(2))
                | (spread_bits(np.uint64(b1)) << np.uint64(1))
                | spread_bits(np.uint64(b2))
            )
            slot = np.int64((code * _GOLDEN) >> np.uint64(32)) & last_slot
            while table[slot] >= 0 and codes[table[slot]] != code:
                slot = (slot + 1) & last_slot
            if table[slot] < 0:
                if blocks == codes.shape[0]:
                    return i, blocks
                table[slot] = blocks
                codes[blocks] = code
                sizes[blocks] = 0
                blocks += 1
            block = np.int64(table[slot])
            last0, last1, last2 = b0, b1, b2
        sizes[block] += 1
        block_of_point[i] = block
    return points.shape[0], blocks


@kernel
def sort_by_block(block_of_point: NDArray[np.int32], cursor: NDArray[np.int64], point_order: NDArray[np.int32]) -> None:
    """Stable counting sort; ``cursor`` holds where each block starts in ``point_order`` and is consumed."""
    for i in range(block_of_point.shape[0]):
        block = block_of_point[i]
        if block >= 0:
            point_order[cursor[block]] = i
            cursor[block] += 1


@kernel
def average_voxels(
    points: NDArray[Any],
    matrix: NDArray[np.float64],
    translation: NDArray[np.float64],
    origin: NDArray[np.float64],
    voxel_size: float,
    ends: NDArray[np.int64],
    point_order: NDArray[np.int32],
    row_of_voxel: NDArray[np.int32],
    occupied: NDArray[np.uint64],
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    lowest: NDArray[np.int32],
    means: NDArray[Any],
    first: NDArray[np.int32],
) -> int:
    """Average block by block; ``ends`` are the blocks' ends in ``point_order``, in Morton order.

    Scratch for one block: ``row_of_voxel`` [BLOCK_VOXELS] all -1, ``occupied`` a bit a voxel, all 0, and rows of
    ``sums`` [BLOCK_VOXELS, 3], ``counts`` and ``lowest``.
    Writes the means to ``means`` [3, capacity], the lowest point number of each voxel to ``first`` [capacity], and
    returns the number of voxels.
    """
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    t0, t1, t2 = translation[0], translation[1], translation[2]
    o0, o1, o2 = origin[0], origin[1], origin[2]
    written = 0
    begin = 0
    for block in range(ends.shape[0]):
        rows = 0
        for position in range(begin, ends[block]):
            i = point_order[position]
            a0, a1, a2 = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
            x = m00 * a0 + m01 * a1 + m02 * a2 + t0
            y = m10 * a0 + m11 * a1 + m12 * a2 + t1
            z = m20 * a0 + m21 * a1 + m22 * a2 + t2
            voxel = (
                (_INTERLEAVED[np.int64((x - o0) / voxel_size) & (_SIDE - 1)] << 2)
                | (_INTERLEAVED[np.int64((y - o1) / voxel_size) & (_SIDE - 1)] << 1)
                | _INTERLEAVED[np.int64((z - o2) / voxel_size) & (_SIDE - 1)]
            )
            row = row_of_voxel[voxel]
            if row < 0:
                row = rows
                rows += 1
                row_of_voxel[voxel] = row
                occupied[voxel >> 6] |= np.uint64(1) << np.uint64(voxel & 63)
                sums[row, 0] = sums[row, 1] = sums[row, 2] = 0.0
                counts[row] = 0
                lowest[row] = i
            sums[row, 0] += x
            sums[row, 1] += y
            sums[row, 2] += z
            counts[row] += 1
        begin = ends[block]
        for word in range(occupied.shape[0]):
            bits = occupied[word]
            occupied[word] = 0
            while bits != np.uint64(0):
                lowest_bit = bits & (~bits + np.uint64(1))
                bits ^= lowest_bit
                voxel = (word << 6) + _BIT_OF_LOWEST[np.int64(lowest_bit % np.uint64(67))]
                row = row_of_voxel[voxel]
                row_of_voxel[voxel] = -1
                means[0, written] = sums[row, 0] / counts[row]
                means[1, written] = sums[row, 1] / counts[row]
                means[2, written] = sums[row, 2] / counts[row]
                first[written] = lowest[row]
                written += 1
    return written
