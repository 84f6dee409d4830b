from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.distributions import Normal, kl_divergence

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.models.autoencoder_checkpoint import load_autoencoder
from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder, chunk_patches
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig
from gen3r_bench.training.latents import as_clip, statistics_of
from gen3r_bench.training.loop import train
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import recipe_sha256, release
from gen3r_bench.training.schedule import Schedule
from gen3r_bench.training.wan_vae import (
    OFFICIAL,
    REFERENCE,
    ClipBatch,
    WanVaeRecipe,
    divergence_from_normal,
)


def tiny_recipe(**changes: Any) -> WanVaeRecipe:
    fields: dict[str, Any] = {
        "model": PatchAutoencoderConfig.tiny(),
        "schedule": Schedule(steps=4, learning_rate=2e-3, warmup_steps=1, decay_steps=2, save_every=2),
        "side": 32,
        "frames": 5,
        "clips": 2,
        "batch": 2,
        "square_weight": 1.0,
        "absolute_weight": 0.25,
        "divergence_weight": 1e-4,
        "principal_clips": 2,
        "measured_clips": 2,
    }
    return WanVaeRecipe(**{**fields, **changes})


def drawn(recipe: WanVaeRecipe, seed: int = 0) -> ClipBatch:
    return recipe.draw_batch(np.random.default_rng(seed))


def test_a_batch_is_training_clips_and_noise() -> None:
    recipe = tiny_recipe()
    frames = {
        as_clip(MiniDataset().train_scene(index, ClipProfile(frames=5, image_size=(32, 32))).rgb[[place]])
        .numpy()
        .tobytes()
        for index in range(2)
        for place in range(5)
    }
    for seed in range(3):
        batch = drawn(recipe, seed)
        assert batch.clips.shape == (2, 3, 5, 32, 32)
        assert batch.noise.shape == (2, 16, 2, 4, 4)
        assert all(ours.equal(theirs) for ours, theirs in zip(batch, drawn(recipe, seed), strict=True))
        for clip in batch.clips:
            # each is a clip's own first or last frame, or its mirror image: colours stay
            first = clip[:, :1].contiguous()
            assert first.numpy().tobytes() in frames or first.flip(-1).contiguous().numpy().tobytes() in frames
    assert not drawn(recipe, 1).noise.equal(drawn(recipe, 2).noise)


def test_the_noise_is_normal() -> None:
    noise = torch.cat([drawn(tiny_recipe(), seed).noise.flatten() for seed in range(4)])
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1) < 0.05


def test_training_begins_at_the_principal_components() -> None:
    recipe = tiny_recipe(clips=6, principal_clips=6)
    network = recipe.network()
    assert isinstance(network, PatchVideoAutoencoder)
    scenes = [MiniDataset().train_scene(index, ClipProfile(frames=5, image_size=(32, 32))) for index in range(6)]
    clips = torch.stack([as_clip(scene.rgb) for scene in scenes])
    vectors = chunk_patches(clips[:, :, 1:]).transpose(0, 1).flatten(1).numpy().T.astype(np.float64)
    centred = vectors - vectors.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:16]
    best = ((centred - centred @ directions.T @ directions) ** 2).mean()
    with torch.no_grad():
        decoded = network.decode(network.encode(clips).mean, clamp=False)
    assert float((decoded - clips)[:, :, 1:].square().mean()) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("weights", [(1.0, 0.25, 1e-4), (0.0, 3.0, 3e-6)])
def test_losses_are_the_stated_sums(weights: tuple[float, float, float]) -> None:
    recipe = tiny_recipe(square_weight=weights[0], absolute_weight=weights[1], divergence_weight=weights[2])
    torch.manual_seed(0)
    network, batch = recipe.network(), drawn(recipe)
    with torch.no_grad():
        losses = recipe.losses(network, batch)
        posterior = network.encode(batch.clips)
        latent = posterior.mean + (posterior.logvar / 2).exp() * batch.noise
        difference = network.decode(latent, clamp=False) - batch.clips
    torch.testing.assert_close(losses["square"], (difference**2).mean())
    torch.testing.assert_close(losses["absolute"], difference.abs().mean())
    expected = weights[0] * losses["square"] + weights[1] * losses["absolute"] + weights[2] * losses["divergence"]
    torch.testing.assert_close(losses["total"], expected)


@settings(max_examples=10, deadline=None)
@given(mean=st.floats(-3, 3), logvar=st.floats(-9, 3))
def test_the_divergence_is_torchs(mean: float, logvar: float) -> None:
    posterior = DiagonalGaussian(torch.tensor([mean, 0.0]), torch.tensor([logvar, 0.0]))
    whole = kl_divergence(Normal(mean, float(np.exp(logvar / 2))), Normal(0.0, 1.0)) / 2
    assert float(divergence_from_normal(posterior)) == pytest.approx(float(whole), rel=1e-4, abs=1e-6)


def test_latents_are_measured_when_training_is_done() -> None:
    """What ships has normalised latents over the measured clips, and decodes as the trained network did."""
    recipe = tiny_recipe()
    trained = recipe.network().eval()
    with torch.no_grad():
        for name, value in (("bias", 0.5), ("weight", 1.5)):
            parameter = trained.model.conv1.get_parameter(name)
            parameter.copy_(parameter * value + 0.1)
    shipped = recipe.shipped(trained)
    scenes = [MiniDataset().train_scene(index, ClipProfile(frames=5, image_size=(32, 32))) for index in range(2)]
    clips = torch.stack([as_clip(scene.rgb) for scene in scenes])
    with torch.no_grad():
        raw, normal = trained.encode(clips).mean, shipped.encode(clips).mean
        torch.testing.assert_close(normal.mean((0, 2, 3, 4)), torch.zeros(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(normal.std((0, 2, 3, 4), correction=0), torch.ones(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(shipped.decode(normal), trained.decode(raw), atol=1e-4, rtol=1e-4)
    assert statistics_of(raw) == (shipped.config.latent_mean, shipped.config.latent_std)


def test_it_learns() -> None:
    recipe = tiny_recipe(absolute_weight=0.0)
    torch.manual_seed(0)
    network, batch = recipe.network(), drawn(recipe)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    found = []
    for _ in range(25):
        losses = recipe.losses(network, batch)
        losses["total"].backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(float(losses["square"].detach()))
    assert found[-1] < 0.8 * found[0]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_wan_vae_is_trained_by_the_same_recipe() -> None:
    recipe = tiny_recipe(model=WanVaeConfig(dim=4, latent_mean=(0.0,) * 16, latent_std=(1.0,) * 16), batch=1)
    network = recipe.network()
    assert isinstance(network, WanVae)
    losses = recipe.losses(network, drawn(recipe))
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    shipped = recipe.shipped(network)
    assert isinstance(shipped, WanVae)
    assert shipped.config.latent_std != (1.0,) * 16


def test_trained_twice_released_and_read(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    network, again = (train(recipe, tmp_path / name, cpu=True) for name in ("one", "two"))
    assert all(again.state_dict()[key].equal(tensor) for key, tensor in network.state_dict().items())
    weights, card, _ = release(recipe, network, tmp_path / "one", "tiny")
    read = load_autoencoder(weights, dtype=torch.float32)
    assert isinstance(read, PatchVideoAutoencoder)
    assert read.config == recipe.shipped(network).config
    content = json.loads(card.read_text())
    assert content["recipe"]["autoencoder"] == "PatchVideoAutoencoder"
    assert content["recipe_sha256"] == recipe_sha256(recipe)
    assert content["mean_losses_of_the_last_steps"].keys() == {"steps", "total", "square", "absolute", "divergence"}


def test_named_recipes_are_data() -> None:
    for recipe in (REFERENCE, OFFICIAL):
        facts = json.loads(json.dumps(recipe.facts()))
        fields = {name: value for name, value in facts.items() if name not in {"recipe", "autoencoder", "data"}}
        assert WanVaeRecipe(**fields) == recipe
    assert named_recipe("wan-vae", "reference") is REFERENCE
    assert OFFICIAL.facts()["autoencoder"] == "AutoencoderKLWan"
    assert isinstance(OFFICIAL.model, WanVaeConfig)
    assert OFFICIAL.model.dim == WanVaeConfig.official().dim
    assert OFFICIAL.with_steps(10).schedule.steps == 10


@pytest.mark.parametrize("change", [{"side": 60}, {"frames": 12}, {"square_weight": -1.0}, {"epochs": 3}])
def test_recipes_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        tiny_recipe(**change)
