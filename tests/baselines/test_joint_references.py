"""The shipped joint diffusions: each belongs to its card, its recipe and the networks that were frozen beside it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from gen3r_bench.locations import shipped_weights
from gen3r_bench.models.joint.file import read_file
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import recipe_sha256

METHODS = ("gen3r", "gen3r-two-stage", "wvd")


@pytest.mark.parametrize("method", METHODS)
def test_files_card_and_recipe_belong_together(method: str) -> None:
    weights, recipe = shipped_weights(method), named_recipe(method, "reference")
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == card["weights"]["sha256"]
    assert weights.stat().st_size == card["weights"]["bytes"] <= 6_000_000
    assert card["recipe"] == json.loads(json.dumps(recipe.facts()))
    assert card["recipe_sha256"] == recipe_sha256(recipe)


@pytest.mark.parametrize("method", METHODS)
def test_networks_beside_a_file_are_those_that_ship(method: str) -> None:
    recipe: Any = named_recipe(method, "reference")
    facts = read_file(shipped_weights(method)).facts
    assert (facts.style, facts.sampling) == (recipe.style, recipe.sampling)
    assert "wan-vae" in facts.parts
    for name, part in facts.parts.items():
        assert part.sha256 == hashlib.sha256(shipped_weights(name).read_bytes()).hexdigest()
    begun_from = recipe.facts()["frozen_sha256"].get("start")
    base = hashlib.sha256(shipped_weights("gen3r-two-stage").read_bytes()).hexdigest()
    assert begun_from == (None if method == "gen3r-two-stage" else base)
