"""The shipped geometry adapter: it belongs to its card and recipe, and VGGT's heads read what it gives back."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import numpy as np
import pytest
import torch
from shipped_card import checked_card
from three_scenes import answer, mean_chamfer, three_scenes

from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.gen3r_vae_only import Gen3rVaeOnly
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.baselines.vggt_clips import resized_images
from gen3r_bench.locations import shipped_weights
from gen3r_bench.metrics.cameras import pose_auc, relative_pose_errors
from gen3r_bench.models.geometry_adapter import pack_tokens
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Prediction, Scene
from gen3r_bench.training.geometry_adapter import REFERENCE

WEIGHTS = shipped_weights("geometry-adapter")


@pytest.fixture(scope="module")
def method() -> Gen3rVaeOnly:
    return Gen3rVaeOnly.load("reference", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return three_scenes()


def auc(prediction: Prediction, scene: Scene) -> float:
    assert prediction.world_from_cam is not None
    return pose_auc(relative_pose_errors(prediction.world_from_cam, scene.cameras.world_from_cam))


def test_files_card_and_recipe_belong_together(method: Gen3rVaeOnly) -> None:
    card = checked_card("geometry-adapter", most_bytes=7_000_000)
    assert re.fullmatch("[0-9a-f]{40}", card["origin"]["commit"])
    assert (WEIGHTS.parent / card["curves"]).stat().st_size <= 100_000
    config = method.adapter.config
    statistics = {name: getattr(config, name) for name in ("latent_mean", "latent_std")}
    assert config == dataclasses.replace(REFERENCE.model, **statistics)


def test_it_is_the_two_shipped_networks_at_their_size(method: Gen3rVaeOnly) -> None:
    digests = [hashlib.sha256(shipped_weights(name).read_bytes()).hexdigest() for name in ("vggt", "geometry-adapter")]
    assert method.checkpoint_sha256 == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert method.vggt.config == VggtConfig.reference()
    assert (method.short_side, method.side_unit) == (64, 8)
    by_path = Gen3rVaeOnly.load(str(WEIGHTS), device="cpu")
    assert (by_path.checkpoint_sha256, by_path.short_side) == (method.checkpoint_sha256, 64)


def test_its_row_tells_its_own_licence_data_and_size(method: Gen3rVaeOnly) -> None:
    contract = method.contract
    assert (contract.licence, contract.training_sets) == ("MIT", ())
    assert (contract.native_frames, contract.native_size) == (13, (64, 64))
    assert make_row("gen3r-vae-only@reference", device="cpu").entry.training_sets == ()
    assert Gen3rVaeOnly.contract.training_sets != ()


def test_frames_are_reduced_to_what_it_was_trained_on(method: Gen3rVaeOnly, scenes: list[Scene]) -> None:
    prediction = answer(method, scenes[0])
    assert prediction.depth is not None
    assert prediction.depth.shape == (13, 112, 112)
    assert prediction.adaptations == ("frames resized from 112 x 112 to 64 x 64, depth and cameras back",)


def test_geometry_comes_back_near_vggts(method: Gen3rVaeOnly, scenes: list[Scene]) -> None:
    """On three scenes; all forty are measured by benchmarks/reference_vae_only.py."""
    rows = method, VggtMethod.load("reference", device="cpu"), Freeze()
    answers = [[answer(row, scene) for scene in scenes] for row in rows]
    ours, upper, floor = (mean_chamfer(row, scenes) for row in answers)
    assert ours < 1.2 * upper
    assert ours < 0.75 * floor
    aucs = [np.mean([auc(*pair) for pair in zip(row, scenes, strict=True)]) for row in answers]
    assert aucs[0] > aucs[1] - 0.1
    assert aucs[0] > 0.15  # cameras that stand still get 0


def test_its_latents_are_normalised_and_nearly_certain(method: Gen3rVaeOnly, scenes: list[Scene]) -> None:
    """They are learned to lie as the appearance's do: see the same test of the RGB autoencoder."""
    clips = torch.stack([resized_images(torch.from_numpy(scene.rgb.copy()), (64, 64)) for scene in scenes])
    with torch.inference_mode():
        posterior = method.adapter.encode(pack_tokens(method.vggt.encode(clips)))
    assert posterior.mean.shape == (3, 16, 4, 8, 8)
    assert abs(float(posterior.mean.mean())) < 0.2
    assert 0.7 < float(posterior.mean.std()) < 1.3
    assert float(posterior.std.mean()) < 0.1
