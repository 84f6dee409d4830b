from __future__ import annotations

from gen3r_bench.training.origins import continued, for_card

A, B = {"commit": "a", "torch_threads": 1}, {"commit": "b", "torch_threads": 1}


def test_one_origin_is_told_by_its_facts_alone() -> None:
    once = continued((), 0, A)
    assert for_card(once) == A
    assert continued(once, 4, A) == once


def test_several_origins_say_from_which_step_on() -> None:
    told = for_card(continued(continued(continued((), 0, A), 4, B), 9, A))
    assert told == [{"from_step": 1, **A}, {"from_step": 5, **B}, {"from_step": 10, **A}]


def test_steps_of_which_nothing_is_known_are_not_claimed() -> None:
    assert for_card(continued((), 4, A)) == [{"from_step": 1}, {"from_step": 5, **A}]
    assert for_card(()) == {}
