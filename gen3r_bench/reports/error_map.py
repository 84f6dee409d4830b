"""Colours of an error: blue where a predicted frame is right, red where it is wrong, as in the paper's Figure 4."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ERROR_RANGE: Final = 0.5
"""Mean absolute difference of the colour channels, of a range of 1, from which on an error map is fully red."""
ERROR_COLOURS: Final = "coolwarm"
"""matplotlib's name of the scale; the leaderboard's style sheet draws the same one in its legend."""


def error_map(predicted: NDArray[np.uint8], true: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W, 3] colours of two [H, W, 3] frames' mean absolute difference: blue for 0, red from `ERROR_RANGE` on."""
    from matplotlib import colormaps

    difference = np.abs(predicted.astype(np.float64) - true).mean(axis=-1) / 255.0
    coloured = colormaps[ERROR_COLOURS](np.clip(difference / ERROR_RANGE, 0, 1), bytes=True)
    found: NDArray[np.uint8] = np.asarray(coloured)[..., :3]
    return found
