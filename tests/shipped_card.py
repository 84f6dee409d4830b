"""What every shipped network's test asks first: its file, its card and its recipe belong together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gen3r_bench.locations import shipped_weights
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import recipe_sha256


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checked_card(network: str, config: str = "reference", *, most_bytes: int) -> dict[str, Any]:
    """The card of a shipped network; ``most_bytes`` is how large its file may be."""
    weights, recipe = shipped_weights(network, config), named_recipe(network, config)
    card: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["weights"]["file"] == weights.name
    assert card["weights"]["sha256"] == sha256(weights)
    assert weights.stat().st_size == card["weights"]["bytes"] <= most_bytes
    assert card["recipe"] == json.loads(json.dumps(recipe.facts()))
    assert card["recipe_sha256"] == recipe_sha256(recipe)
    assert card["licence"] == "MIT"
    assert (weights.parent / card["curves"]).stat().st_size <= 150_000
    return card
