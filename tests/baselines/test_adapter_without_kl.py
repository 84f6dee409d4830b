"""The shipped adapter without alignment belongs to its card and recipe, and is what Gen3R w/o L_KL is trained on."""

from __future__ import annotations

import hashlib
import json

from gen3r_bench.locations import shipped_weights
from gen3r_bench.training import gen3r_without_kl
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import recipe_sha256

WEIGHTS = shipped_weights("geometry-adapter", "without-kl")


def test_files_card_and_recipe_belong_together() -> None:
    recipe = named_recipe("geometry-adapter", "without-kl")
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest == card["weights"]["sha256"]
    assert WEIGHTS.stat().st_size == card["weights"]["bytes"] <= 7_000_000
    assert card["recipe"] == json.loads(json.dumps(recipe.facts()))
    assert card["recipe_sha256"] == recipe_sha256(recipe)
    assert gen3r_without_kl.REFERENCE.facts()["frozen_sha256"]["adapter"] == digest
