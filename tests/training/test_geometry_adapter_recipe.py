from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_frozen import ADAPTER, write_autoencoder, write_vggt
from torch.distributions import Normal, kl_divergence

from gen3r_bench.baselines.gen3r_vae_only import Gen3rVaeOnly
from gen3r_bench.errors import InputError
from gen3r_bench.models.adapter_checkpoint import load_adapter
from gen3r_bench.models.code_adapter import CodeAdapter, CodeAdapterConfig
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig, pack_tokens, unpack_tokens
from gen3r_bench.training import geometry_adapter
from gen3r_bench.training.adapter_start import AdapterStart, ScaledAdapter
from gen3r_bench.training.geometry_adapter import OFFICIAL, REFERENCE, WITHOUT_KL, GeometryAdapterRecipe
from gen3r_bench.training.latents import as_clip
from gen3r_bench.training.loop import train
from gen3r_bench.training.losses import read_losses
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import recipe_sha256, release
from gen3r_bench.training.schedule import Schedule


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., GeometryAdapterRecipe]:
    """Recipes between a tiny VGGT and a tiny autoencoder, whose latents have the grid of the patches."""
    folder = tmp_path_factory.mktemp("frozen")
    vggt, autoencoder = write_vggt(folder), write_autoencoder(folder)

    def recipe(**changes: Any) -> GeometryAdapterRecipe:
        fields: dict[str, Any] = {
            "model": ADAPTER,
            "schedule": Schedule(steps=4, learning_rate=2e-3, warmup_steps=1, decay_steps=2, save_every=2),
            "vggt": vggt,
            "autoencoder": autoencoder,
            "side": 16,
            "frames": 5,
            "clips": 2,
            "batch": 2,
            "dense_frames": 3,
            "measured_clips": 2,
        }
        return GeometryAdapterRecipe(**{**fields, **changes})

    return recipe


Make = Callable[..., GeometryAdapterRecipe]


def drawn(recipe: GeometryAdapterRecipe, seed: int = 0) -> geometry_adapter.AdapterBatch:
    return recipe.draw_batch(np.random.default_rng(seed))


def started(recipe: GeometryAdapterRecipe) -> GeometryAdapter:
    torch.manual_seed(0)
    return recipe.network()


def test_a_batch_is_clips_noise_and_chosen_frames(make: Make) -> None:
    recipe = make()
    seen = set()
    for seed in range(6):
        batch = drawn(recipe, seed)
        assert batch.clips.shape == (2, 3, 5, 16, 16)
        assert float(batch.clips.abs().max()) <= 1
        assert batch.noise.shape == (2, 16, 2, 2, 2)
        assert len(set(batch.dense_frames.tolist())) == 3
        seen |= set(batch.dense_frames.tolist())
        assert all(ours.equal(theirs) for ours, theirs in zip(batch, drawn(recipe, seed), strict=True))
    assert seen <= set(range(10))
    assert len(seen) > 6


@pytest.mark.parametrize("toward", ["appearance", "normal"])
def test_losses_are_equations_5_to_7(make: Make, toward: str) -> None:
    """Oracle: the same quantities from the networks' public calls, written out."""
    recipe = make(toward=toward, dense_frames=10)
    network, batch = started(recipe), drawn(recipe)
    vggt, autoencoder = recipe._vggt, recipe._autoencoder
    with torch.no_grad():
        losses = recipe.losses(network, batch)
        tokens = vggt.encode((batch.clips.transpose(1, 2) + 1) / 2)
        truth, truth_map = vggt.decode(tokens, (16, 16)), pack_tokens(tokens)
        posterior = network.encode(truth_map)
        latent = posterior.mean + (posterior.logvar / 2).exp() * batch.noise
        found_map = network.decode(latent)
        found_tokens = unpack_tokens(found_map)
        found = vggt.decode(found_tokens, (16, 16))
        assert found.points is not None
        assert truth.points is not None
        expected = {
            "depth": (found.depth - truth.depth).abs().clamp(max=100).mean(),
            "points": (found.points - truth.points).norm(dim=-1).clamp(max=100).mean(),
        }
        answers, true_answers = (vggt.camera_head(part.layers[-1][:, :, 0]) for part in (found_tokens, tokens))
        weights = torch.tensor([1.0] * 7 + [0.5] * 2) / torch.tensor([3.0] * 3 + [4.0] * 4 + [2.0] * 2)
        per_iteration = ((answers - true_answers).abs() * weights).sum(-1).mean((1, 2))
        expected["camera"] = (torch.tensor([0.6**3, 0.6**2, 0.6, 1.0]) * per_iteration).sum() / 4
        appearance = autoencoder.encode(batch.clips)
        there = Normal(appearance.mean, appearance.std) if toward == "appearance" else Normal(0.0, 1.0)
        each = kl_divergence(Normal(posterior.mean, posterior.std), there)
        expected["divergence"] = each.sum((1, 2, 3)).mean()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-3, atol=1e-5)
    reconstruction = 0.5 * (losses["tokens"] + 10 * losses["camera"] + 2 * losses["depth"] + losses["points"])
    rest = float(losses["total"] - reconstruction - 0.1 * losses["cosine"])
    ratio = float(reconstruction / losses["divergence"])
    scale = 0.1 * (10 ** np.floor(np.log10(ratio)) if ratio < 1 else 1)
    assert rest == pytest.approx(2 * scale * float(losses["divergence"]), rel=1e-3)
    assert 0 < rest <= 0.2001 * float(reconstruction)


def test_dense_heads_answer_the_chosen_frames(make: Make) -> None:
    recipe = make()
    network, batch = started(recipe), drawn(recipe)
    with torch.no_grad():
        parts = [recipe.losses(network, batch._replace(dense_frames=torch.tensor([frame]))) for frame in range(10)]
        whole = recipe.losses(network, batch._replace(dense_frames=torch.arange(10)))
    for name in ("depth", "points"):
        torch.testing.assert_close(torch.stack([part[name] for part in parts]).mean(), whole[name])
        assert len({round(float(part[name]), 7) for part in parts}) > 1


def test_gradients_pass_the_heads_and_reach_the_adapter_alone(make: Make) -> None:
    recipe = make()
    network, batch = started(recipe), drawn(recipe)
    frozen = {
        name: {key: tensor.clone() for key, tensor in module.state_dict().items()}
        for name, module in (("vggt", recipe._vggt), ("autoencoder", recipe._autoencoder))
    }
    for name in ("tokens", "camera", "depth", "points", "cosine", "divergence"):
        network.zero_grad()
        recipe.losses(network, batch)[name].backward()
        reached = [key for key, value in network.named_parameters() if value.grad is not None and value.grad.any()]
        assert any(key.startswith("model.encoder") for key in reached), name
        assert any(key.startswith("model.decoder") for key in reached) == (name != "divergence"), name
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    recipe.losses(network, batch)["total"].backward()
    optimiser.step()
    for name, module in (("vggt", recipe._vggt), ("autoencoder", recipe._autoencoder)):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.parameters())
        assert all(module.state_dict()[key].equal(tensor) for key, tensor in frozen[name].items())
    assert not any(key.startswith(("vggt", "autoencoder")) for key in network.state_dict())


def test_it_learns_and_the_alignment_draws_it_to_the_appearance(make: Make) -> None:
    def trained(**changes: Any) -> tuple[list[dict[str, float]], float]:
        recipe = make(**changes)
        network, batch = started(recipe), drawn(recipe)
        optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
        found = []
        for _ in range(18):
            losses = recipe.losses(network, batch)
            losses["total"].backward()
            optimiser.step()
            optimiser.zero_grad()
            found.append({name: float(value.detach()) for name, value in losses.items()})
        with torch.no_grad():
            aligned = make().losses(network, batch)["divergence"]
        return found, float(aligned)

    losses, aligned = trained()
    assert losses[-1]["tokens"] < 0.9 * losses[0]["tokens"]
    assert losses[-1]["divergence"] < losses[0]["divergence"]
    # the ablation is an ordinary autoencoder: it ends up farther from the appearance
    assert trained(toward="normal")[1] > aligned


def test_latents_are_measured_when_training_is_done(make: Make) -> None:
    recipe = make()
    trained = started(recipe).eval()
    shipped = recipe.shipped(trained)
    clips = torch.stack([as_clip(recipe._dataset.train_scene(index, recipe._profile).rgb) for index in range(2)])
    with torch.no_grad():
        tokens = pack_tokens(recipe._tokens(clips))
        raw, normal = trained.encode(tokens).mean, shipped.encode(tokens).mean
        torch.testing.assert_close(normal.mean((0, 2, 3, 4)), torch.zeros(16), atol=1e-3, rtol=0)
        torch.testing.assert_close(normal.std((0, 2, 3, 4), correction=0), torch.ones(16), atol=1e-3, rtol=0)
        torch.testing.assert_close(shipped.decode(normal), trained.decode(raw), atol=1e-4, rtol=1e-3)


def test_trained_killed_resumed_and_released(tmp_path: Path, make: Make) -> None:
    recipe = make()

    class StopError(Exception):
        pass

    def stop(step: int, losses: dict[str, float]) -> None:
        if step == 3:
            raise StopError

    whole = train(recipe, tmp_path / "whole", cpu=True)
    with pytest.raises(StopError):
        train(recipe, tmp_path / "killed", cpu=True, on_step=stop)
    train(recipe, tmp_path / "killed", cpu=True)
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "whole")
    weights, card, _ = release(recipe, whole, tmp_path / "whole", "tiny")
    adapter = load_adapter(weights, dtype=torch.float32)
    assert adapter.config == recipe.shipped(whole).config
    method = Gen3rVaeOnly.load(str(weights), device="cpu")
    assert method.vggt.state_dict().keys() == recipe._vggt.state_dict().keys()
    assert (method.adapter.config, method.short_side, method.side_unit) == (adapter.config, 16, 8)
    content = json.loads(card.read_text())
    assert content["recipe"]["toward"] == "appearance"
    assert {len(digest) for digest in content["recipe"]["frozen_sha256"].values()} == {64}


def test_a_start_of_its_own_is_trained_and_folded_in(make: Make, tmp_path: Path) -> None:
    recipe = make(toward="normal", start=AdapterStart(clips=2, logvar=-5.0))
    begun = recipe.network()
    assert isinstance(begun, ScaledAdapter)
    clips = torch.stack([as_clip(recipe._dataset.train_scene(index, recipe._profile).rgb) for index in range(2)])
    tokens = pack_tokens(recipe._tokens(clips))
    torch.testing.assert_close(begun.mean, tokens.mean((0, 2, 3, 4)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(begun.std, tokens.transpose(0, 1).flatten(1).std(1, correction=0), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert begun.adapter.encode(tokens).logvar.eq(-5).all()
    trained = train(recipe, tmp_path, cpu=True)
    weights, _, _ = release(recipe, trained, tmp_path, "tiny")
    shipped = load_adapter(weights, dtype=torch.float32)
    assert isinstance(trained, ScaledAdapter)
    mean, std = (
        torch.tensor(each).view(1, -1, 1, 1, 1) for each in (shipped.config.latent_mean, shipped.config.latent_std)
    )
    noise = torch.zeros(2, 16, 2, 2, 2)
    with torch.no_grad():
        posterior, decoded = trained(tokens, noise)
        again = shipped.encode(tokens)
        torch.testing.assert_close(again.mean * std + mean, posterior.mean, rtol=0.02, atol=0.02)
        torch.testing.assert_close(shipped.decode(again.mean), decoded, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("toward", ["appearance", "normal"])
def test_a_code_adapter_begins_as_its_clips_code_and_is_released(make: Make, tmp_path: Path, toward: str) -> None:
    recipe = make(
        model=dataclasses.replace(CodeAdapterConfig.tiny(ADAPTER.token_channels), narrow=40),
        toward=toward,
        start=AdapterStart(clips=2, logvar=-5.0),
    )
    begun = recipe.network()
    assert isinstance(begun, ScaledAdapter)
    clips = torch.stack([as_clip(recipe._dataset.train_scene(index, recipe._profile).rgb) for index in range(2)])
    with torch.no_grad():
        tokens = pack_tokens(recipe._tokens(clips))
        posterior, decoded = begun(tokens, torch.zeros(2, 16, 2, 2, 2))
        assert posterior.logvar.eq(-5).all()
        # two clips' first frames have eight places, which sixteen numbers hold
        torch.testing.assert_close(decoded[:, :, 0], tokens[:, :, 0], rtol=1e-2, atol=1e-2)
        agreement = (posterior.mean * recipe._autoencoder.encode(clips).mean).mean()
        turned = make(**{**recipe.model_dump(), "toward": "appearance"}).network()
        best = (turned(tokens, torch.zeros(2, 16, 2, 2, 2))[0].mean * recipe._autoencoder.encode(clips).mean).mean()
    assert float(agreement) <= float(best) + 1e-6
    assert (float(agreement) < float(best) - 1e-3) == (toward == "normal")
    trained = train(recipe, tmp_path, cpu=True)
    weights, card, _ = release(recipe, trained, tmp_path, "tiny")
    shipped = load_adapter(weights, dtype=torch.float32)
    assert isinstance(shipped, CodeAdapter)
    assert "narrow" in json.loads(card.read_text())["recipe"]["model"]
    with torch.no_grad():
        again = shipped.decode(shipped.encode(tokens).mean)
        left = (again - trained(tokens, torch.zeros(2, 16, 2, 2, 2))[1]).abs().mean()
    # it ships in float16, and so few clips have components of next to no size
    assert float(left) < 0.05 * float(tokens.std())


def test_named_recipes_are_data() -> None:
    for name, recipe in (("reference", REFERENCE), ("without-kl", WITHOUT_KL), ("official", OFFICIAL)):
        facts = json.loads(json.dumps(recipe.facts()))
        assert ("start" in facts) == (name != "official")
        fields = {name: value for name, value in facts.items() if name not in {"recipe", "frozen_sha256", "data"}}
        assert GeometryAdapterRecipe(**fields) == recipe
        assert named_recipe("geometry-adapter", name) is recipe
    assert len({recipe_sha256(recipe) for recipe in (REFERENCE, WITHOUT_KL, OFFICIAL)}) == 3
    assert isinstance(OFFICIAL.model, GeometryAdapterConfig)
    assert OFFICIAL.model.widths == GeometryAdapterConfig.official().widths
    assert isinstance(REFERENCE.model, CodeAdapterConfig)
    assert (WITHOUT_KL.toward, WITHOUT_KL.weights.divergence) == ("normal", 0.0)


def test_what_it_builds_on_must_be_there(make: Make, tmp_path: Path) -> None:
    recipe = make(vggt=str(tmp_path / "nothing.safetensors"))
    assert recipe.facts()["frozen_sha256"].keys() == {"autoencoder"}
    with pytest.raises(InputError, match=r"no whole weights in .*nothing\.safetensors; expected a file or folder of"):
        recipe.network()
    with pytest.raises(InputError, match=r"nothing\.safetensors"):
        drawn(recipe)
