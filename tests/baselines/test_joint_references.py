"""The shipped joint diffusions: each belongs to its card, its recipe and the networks that were frozen beside it."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_card import checked_card, sha256

from gen3r_bench.locations import shipped_weights
from gen3r_bench.models.joint.file import read_file
from gen3r_bench.training.recipes import named_recipe

MOST_BYTES = 60_000_000
"""Of all shipped weights."""
METHODS = ("gen3r", "gen3r-two-stage", "gen3r-without-kl", "wvd")


@pytest.mark.parametrize("method", METHODS)
def test_files_card_and_recipe_belong_together(method: str) -> None:
    checked_card(method, most_bytes=6_000_000)


@pytest.mark.parametrize("method", METHODS)
def test_networks_beside_a_file_are_those_that_ship(method: str) -> None:
    recipe: Any = named_recipe(method, "reference")
    facts = read_file(shipped_weights(method)).facts
    assert (facts.style, facts.sampling) == (recipe.style, recipe.sampling)
    assert "wan-vae" in facts.parts
    for name, part in facts.parts.items():
        assert part.sha256 == sha256(shipped_weights(name, part.checkpoint))
    begun_from = recipe.facts()["frozen_sha256"].get("start")
    base = sha256(shipped_weights("gen3r-two-stage"))
    assert begun_from == (None if method == "gen3r-two-stage" else base)


def test_all_that_ships_stays_small() -> None:
    assert sum(path.stat().st_size for path in shipped_weights("gen3r").parent.glob("*.safetensors")) <= MOST_BYTES
