"""The shipped adapter without alignment belongs to its card and recipe, and is what Gen3R w/o L_KL is trained on."""

from __future__ import annotations

import numpy as np
from shipped_card import checked_card
from three_scenes import answer, mean_chamfer, three_scenes

from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.gen3r_vae_only import Gen3rVaeOnly
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.locations import shipped_weights
from gen3r_bench.training import gen3r_without_kl


def test_files_card_and_recipe_belong_together() -> None:
    card = checked_card("geometry-adapter", "without-kl", most_bytes=7_000_000)
    assert gen3r_without_kl.REFERENCE.facts()["frozen_sha256"]["adapter"] == card["weights"]["sha256"]


def test_its_latents_tell_scenes_apart() -> None:
    """An adapter whose posterior has collapsed gives back one depth map for all, and no better points than a wall."""
    scenes = three_scenes()
    rows = (
        Gen3rVaeOnly.load(str(shipped_weights("geometry-adapter", "without-kl")), device="cpu"),
        VggtMethod.load("reference", device="cpu"),
        Freeze(),
    )
    answers = [[answer(row, scene) for scene in scenes] for row in rows]
    ours, upper, floor = (mean_chamfer(row, scenes) for row in answers)
    assert ours < 1.2 * upper
    assert ours < 0.75 * floor
    given_back, read = (np.stack([prediction.depth for prediction in row]) for row in answers[:2])
    apart = np.abs(given_back[:, None] - read[None]).mean((2, 3, 4))
    assert apart.argmin(1).tolist() == [0, 1, 2]
