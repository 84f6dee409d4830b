"""The shipped Gen3R: it belongs to its card, its recipe and the networks that were frozen beside it."""

from __future__ import annotations

import hashlib
import json

from gen3r_bench.baselines.official_weights import shipped_weights
from gen3r_bench.models.joint.file import read_file
from gen3r_bench.training.gen3r import REFERENCE
from gen3r_bench.training.release import recipe_sha256

WEIGHTS = shipped_weights("gen3r")


def test_files_card_and_recipe_belong_together() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == card["weights"]["sha256"]
    assert WEIGHTS.stat().st_size == card["weights"]["bytes"] <= 6_000_000
    assert card["recipe"] == json.loads(json.dumps(REFERENCE.facts()))
    assert card["recipe_sha256"] == recipe_sha256(REFERENCE)
    facts = read_file(WEIGHTS).facts
    assert (facts.style, facts.sampling) == (REFERENCE.style, REFERENCE.sampling)
    for name, part in facts.parts.items():
        assert part.sha256 == hashlib.sha256(shipped_weights(name).read_bytes()).hexdigest()
