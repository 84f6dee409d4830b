"""Compiled passes over corresponding points; see alignment.py for what they are for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics._numba import kernel


@kernel
def corresponding_sums(
    source: NDArray[Any],
    target: NDArray[Any],
    target_frames: NDArray[np.int64],
    mask: NDArray[np.bool_],
    used: NDArray[np.bool_],
    shift: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> tuple[int, int]:
    """One pass: writes which pixels are ``used``, returns how many they are and how many were dropped.

    ``shift`` becomes the first used pair, ``sums`` those of the pairs less that one: source 0:3, target 3:6,
    source-target products 6:15, squared norms 15 and 16.
    """
    frames, pixels = source.shape[0], source.shape[1]
    count = 0
    dropped = 0
    s0 = s1 = s2 = t0 = t1 = t2 = ss = tt = 0.0
    h00 = h01 = h02 = h10 = h11 = h12 = h20 = h21 = h22 = 0.0
    for frame in range(frames):
        other = target_frames[frame]
        for pixel in range(pixels):
            if not mask[other, pixel]:
                used[frame, pixel] = False
                continue
            a0 = np.float64(source[frame, pixel, 0])
            a1 = np.float64(source[frame, pixel, 1])
            a2 = np.float64(source[frame, pixel, 2])
            b0 = np.float64(target[other, pixel, 0])
            b1 = np.float64(target[other, pixel, 1])
            b2 = np.float64(target[other, pixel, 2])
            # x - x is 0 for finite x only, so one comparison tests all six
            if (a0 - a0) + (a1 - a1) + (a2 - a2) + (b0 - b0) + (b1 - b1) + (b2 - b2) != 0.0:
                used[frame, pixel] = False
                dropped += 1
                continue
            used[frame, pixel] = True
            if count == 0:
                shift[0], shift[1], shift[2] = a0, a1, a2
                shift[3], shift[4], shift[5] = b0, b1, b2
            count += 1
            a0 -= shift[0]
            a1 -= shift[1]
            a2 -= shift[2]
            b0 -= shift[3]
            b1 -= shift[4]
            b2 -= shift[5]
            s0 += a0
            s1 += a1
            s2 += a2
            t0 += b0
            t1 += b1
            t2 += b2
            h00 += a0 * b0
            h01 += a0 * b1
            h02 += a0 * b2
            h10 += a1 * b0
            h11 += a1 * b1
            h12 += a1 * b2
            h20 += a2 * b0
            h21 += a2 * b1
            h22 += a2 * b2
            ss += a0 * a0 + a1 * a1 + a2 * a2
            tt += b0 * b0 + b1 * b1 + b2 * b2
    sums[0], sums[1], sums[2] = s0, s1, s2
    sums[3], sums[4], sums[5] = t0, t1, t2
    sums[6], sums[7], sums[8] = h00, h01, h02
    sums[9], sums[10], sums[11] = h10, h11, h12
    sums[12], sums[13], sums[14] = h20, h21, h22
    sums[15], sums[16] = ss, tt
    return count, dropped


@kernel
def squared_residual(
    source: NDArray[Any],
    target: NDArray[Any],
    target_frames: NDArray[np.int64],
    used: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    translation: NDArray[np.float64],
) -> float:
    """Sum of the squared distances of used pairs after ``matrix @ source + translation``."""
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    t0, t1, t2 = translation[0], translation[1], translation[2]
    total = 0.0
    for frame in range(source.shape[0]):
        other = target_frames[frame]
        for pixel in range(source.shape[1]):
            if not used[frame, pixel]:
                continue
            a0 = np.float64(source[frame, pixel, 0])
            a1 = np.float64(source[frame, pixel, 1])
            a2 = np.float64(source[frame, pixel, 2])
            d0 = m00 * a0 + m01 * a1 + m02 * a2 + t0 - target[other, pixel, 0]
            d1 = m10 * a0 + m11 * a1 + m12 * a2 + t1 - target[other, pixel, 1]
            d2 = m20 * a0 + m21 * a1 + m22 * a2 + t2 - target[other, pixel, 2]
            total += d0 * d0 + d1 * d1 + d2 * d2
    return total
