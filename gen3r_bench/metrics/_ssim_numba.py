"""The compiled inner loop of SSIM; see image.py for its meaning and its NumPy counterpart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics._numba import kernel


@kernel
def mean_ssim(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    step: int,
    covariance_factor: float,
    c1: float,
    c2: float,
) -> float:
    """Mean SSIM of all windows inside two [H, W * step] planes of interleaved channels, rows filtered as they come.

    The next pixel of a channel lies ``step`` columns away, so all channels pass through the same loops.
    """
    height, width = x.shape
    taps = len(weights)
    columns = width - (taps - 1) * step
    column_x, column_y, column_xy, column_xx = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    mean_x, mean_y, mean_xy, mean_xx = np.empty(columns), np.empty(columns), np.empty(columns), np.empty(columns)
    total = 0.0
    for top in range(height - taps + 1):
        column_x[:] = 0.0
        column_y[:] = 0.0
        column_xy[:] = 0.0
        column_xx[:] = 0.0
        for tap in range(taps):
            weight = weights[tap]
            for column in range(width):
                a = x[top + tap, column]
                b = y[top + tap, column]
                column_x[column] += weight * a
                column_y[column] += weight * b
                column_xy[column] += weight * (a * b)
                column_xx[column] += weight * (a * a + b * b)
        mean_x[:] = 0.0
        mean_y[:] = 0.0
        mean_xy[:] = 0.0
        mean_xx[:] = 0.0
        for tap in range(taps):
            weight = weights[tap]
            shift = tap * step
            for column in range(columns):
                mean_x[column] += weight * column_x[column + shift]
                mean_y[column] += weight * column_y[column + shift]
                mean_xy[column] += weight * column_xy[column + shift]
                mean_xx[column] += weight * column_xx[column + shift]
        row = 0.0
        for column in range(columns):
            product = mean_x[column] * mean_y[column]
            squares = mean_x[column] * mean_x[column] + mean_y[column] * mean_y[column]
            covariance = covariance_factor * (mean_xy[column] - product)
            variances = covariance_factor * (mean_xx[column] - squares)
            row += ((2.0 * product + c1) * (2.0 * covariance + c2)) / ((squares + c1) * (variances + c2))
        total += row
    return float(total / ((height - taps + 1) * columns))
