from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gen3r_bench.baselines.vggt_clips import check_short_side, working_size
from gen3r_bench.errors import InputError


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((560, 560), (560, 560)),
        ((112, 112), (560, 560)),
        ((480, 640), (560, 728)),
        ((720, 1280), (560, 1008)),
        ((1000, 100), (5600, 560)),
        ((571, 570), (560, 560)),
    ],
)
def test_sizes_that_released_networks_see(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(size, 560, 56) == expected


def test_other_networks_see_the_nearest_legal_size() -> None:
    assert working_size((112, 112), None, 56) == (112, 112)
    assert working_size((24, 150), None, 56) == (56, 168)
    assert working_size((24, 150), None, 8) == (24, 152)


SIDES = st.integers(1, 2000)


@given(SIDES, SIDES, st.integers(1, 60), st.none() | st.integers(1, 20))
def test_sides_are_whole_units_near_the_frames_own(height: int, width: int, unit: int, units: int | None) -> None:
    short_side = None if units is None else units * unit
    found = working_size((height, width), short_side, unit)
    assert all(side % unit == 0 and side >= unit for side in found)
    scale = 1.0 if short_side is None else short_side / min(height, width)
    if short_side is not None:
        assert min(found) == short_side
    for side, own in zip(found, (height, width), strict=True):
        assume(own * scale >= unit)  # a smaller side becomes one unit
        assert abs(side - own * scale) <= unit / 2 + 1e-9 * side


@pytest.mark.parametrize(("short_side", "unit"), [(560, 56), (64, 8), (8, 8), (None, 56)])
def test_legal_short_sides(short_side: int | None, unit: int) -> None:
    check_short_side(short_side, unit)


@pytest.mark.parametrize(("short_side", "unit"), [(518, 56), (64, 56), (60, 8), (0, 8), (-8, 8)])
def test_other_short_sides_are_refused(short_side: int, unit: int) -> None:
    with pytest.raises(InputError, match=f"a short side of {short_side} px; expected a multiple of {unit}"):
        check_short_side(short_side, unit)
