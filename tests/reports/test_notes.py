from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen3r_bench.reports.notes import shortened

WORDS = "a metric that needs files which are not here "


@given(st.text(max_size=600))
def test_a_reason_is_one_line_of_bounded_length(reason: str) -> None:
    line = shortened(reason)
    assert len(line) <= 160
    assert line == " ".join(line.split())
    whole = " ".join(reason.split())
    assert line == whole or "…" in line


def test_what_is_short_stays() -> None:
    assert shortened("no  depth\nwas returned") == "no depth was returned"
    assert shortened("x" * 160) == "x" * 160


@pytest.mark.parametrize("times", [4, 40])
def test_the_remedy_is_kept(times: int) -> None:
    line = shortened(WORDS * times + "(fix: gen3r-bench weights fetch lpips)")
    assert line.startswith("a metric that needs")
    assert line.endswith("… (fix: gen3r-bench weights fetch lpips)")
    assert len(line) == 160


def test_a_remedy_that_would_leave_no_reason_is_cut() -> None:
    line = shortened(WORDS * 2 + "(fix: " + "one of many things; " * 9 + ")")
    assert line.startswith(WORDS * 2 + "(fix: one of")
    assert line.endswith("…")
    assert len(line) == 160
