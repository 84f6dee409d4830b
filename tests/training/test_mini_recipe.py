from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MINI_VERSION
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.recipes import CONFIGS, named_recipe
from gen3r_bench.training.schedule import Schedule


class Small(MiniRecipe):
    width: int
    note: str = "n"

    def facts(self) -> dict[str, Any]:
        return self._facts("small", exclude=["note"], frozen="f")


def small(**changes: Any) -> Small:
    schedule = Schedule(steps=100, learning_rate=1e-3, warmup_steps=10, decay_steps=50)
    return Small(**{"schedule": schedule, "side": 8, "frames": 5, "clips": 2, "width": 3, **changes})


def test_facts_are_all_fields_but_those_that_decide_nothing() -> None:
    facts = small().facts()
    assert facts == json.loads(json.dumps(facts))
    schedule = facts.pop("schedule")
    assert schedule["steps"] == 100
    data = f"mini {MINI_VERSION}, training scenes"
    assert facts == {
        "recipe": "small", "side": 8, "frames": 5, "clips": 2, "width": 3, "frozen": "f", "data": data
    }  # fmt: skip
    assert small(note="m").facts() == small().facts()
    assert small(width=4).facts() != small().facts()


def test_another_length_is_another_schedule_alone() -> None:
    recipe, shorter = small(), small().with_steps(30)
    assert isinstance(shorter, Small)
    assert shorter.schedule == recipe.schedule.with_steps(30)
    assert shorter.model_dump(exclude={"schedule"}) == recipe.model_dump(exclude={"schedule"})


def test_clips_have_the_recipes_size() -> None:
    recipe = small()
    assert recipe._profile == ClipProfile(frames=5, image_size=(8, 8))
    assert recipe._dataset is recipe._dataset
    assert recipe._dataset.train_scene(1, recipe._profile).rgb.shape == (5, 8, 8, 3)


@pytest.mark.parametrize("change", [{"side": 4}, {"frames": 0}, {"clips": 0}, {"colour": 1}])
def test_what_is_no_recipe(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        small(**change)


def test_every_recipe_is_one() -> None:
    for method, configs in CONFIGS.items():
        assert all(isinstance(named_recipe(method, config), MiniRecipe) for config in configs)
