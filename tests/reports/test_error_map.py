from __future__ import annotations

import re
from importlib import resources

import numpy as np
import pytest
from matplotlib import colormaps, colors

from gen3r_bench.reports.error_map import ERROR_COLOURS, ERROR_RANGE, error_map


def test_no_error_is_the_blue_end_and_a_large_one_the_red() -> None:
    frame = np.full((2, 3, 3), 100, np.uint8)
    blue, red = error_map(frame, frame)[0, 0].astype(int), error_map(frame * 0, frame * 0 + 255)[0, 0].astype(int)
    assert blue[2] > blue[0] + 100
    assert red[0] > red[2] + 100
    just = np.full((2, 3, 3), 100 + round(255 * ERROR_RANGE), np.uint8)
    assert error_map(frame, just)[0, 0].tolist() == pytest.approx(red, abs=3)
    half = error_map(frame, np.full((2, 3, 3), 100 + round(255 * ERROR_RANGE / 2), np.uint8))[0, 0].astype(int)
    assert abs(half[0] - half[2]) < 20


def test_the_leaderboards_legend_has_the_same_colours() -> None:
    style = resources.files("gen3r_bench.reports.leaderboard").joinpath("page.css").read_text()
    stops = re.search(r"\.ramp\.error .*?gradient\(90deg, ([^)]*)\)", style)[1].split(", ")
    drawn = [colors.to_hex(colormaps[ERROR_COLOURS](share)) for share in np.linspace(0, 1, len(stops))]
    assert stops == drawn
