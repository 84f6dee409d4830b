"""The shipped adapter without alignment belongs to its card and recipe, and is what Gen3R w/o L_KL is trained on."""

from __future__ import annotations

from shipped_card import checked_card

from gen3r_bench.training import gen3r_without_kl


def test_files_card_and_recipe_belong_together() -> None:
    card = checked_card("geometry-adapter", "without-kl", most_bytes=7_000_000)
    assert gen3r_without_kl.REFERENCE.facts()["frozen_sha256"]["adapter"] == card["weights"]["sha256"]
