from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gen3r_bench.training.schedule import Schedule


def test_rises_holds_and_falls() -> None:
    schedule = Schedule(steps=100, learning_rate=2.0, warmup_steps=10, decay_steps=40)
    assert schedule.rate(0) == pytest.approx(0.2)
    assert schedule.rate(9) == schedule.rate(10) == schedule.rate(60) == 2.0
    assert schedule.rate(80) == pytest.approx(1.0)
    assert schedule.rate(99) == pytest.approx(1 + math.cos(math.pi * 39 / 40))
    assert schedule.rate(100) == pytest.approx(0)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 300))
def test_one_rise_and_one_fall(steps: int, warmup: int, decay: int) -> None:
    if warmup + decay > steps:
        with pytest.raises(ValidationError, match="do not fit"):
            Schedule(steps=steps, learning_rate=1.0, warmup_steps=warmup, decay_steps=decay)
        return
    schedule = Schedule(steps=steps, learning_rate=1.0, warmup_steps=warmup, decay_steps=decay)
    rates = [schedule.rate(step) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@given(st.integers(1, 500))
def test_another_length_always_fits(steps: int) -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, warmup_steps=10, decay_steps=40)
    other = schedule.with_steps(steps)
    assert other.steps == steps
    if steps >= 50:
        assert (other.warmup_steps, other.decay_steps) == (10, 40)
    assert other.model_dump(exclude={"steps", "warmup_steps", "decay_steps"}) == schedule.model_dump(
        exclude={"steps", "warmup_steps", "decay_steps"}
    )


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="momentum"):
        Schedule(steps=1, learning_rate=1.0, warmup_steps=0, decay_steps=0, momentum=0.9)
