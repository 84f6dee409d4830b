from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.models.lvsm import LvsmConfig
from gen3r_bench.training import lvsm
from gen3r_bench.training.loop import train
from gen3r_bench.training.losses import read_losses
from gen3r_bench.training.lvsm import OFFICIAL, REFERENCE, LvsmRecipe
from gen3r_bench.training.release import recipe_sha256, release
from gen3r_bench.training.schedule import Schedule


def tiny_recipe(**changes: Any) -> LvsmRecipe:
    fields: dict[str, Any] = {
        "model": LvsmConfig.tiny(),
        "schedule": Schedule(steps=4, learning_rate=2e-3, warmup_steps=1, decay_steps=2, save_every=2),
        "side": 16,
        "frames": 4,
        "clips": 2,
        "batch": 2,
        "matching_blocks": (0, 1),
        "matching_heads": 1,
        "matching_weight": 0.01,
    }
    return LvsmRecipe(**{**fields, **changes})


def test_a_batch_is_views_and_targets_of_training_clips() -> None:
    recipe = tiny_recipe(targets=3)
    counts = set()
    for seed in range(8):
        batch = recipe.draw_batch(np.random.default_rng(seed))
        views = batch.images.shape[1]
        counts.add(views)
        assert batch.images.shape == (2, views, 3, 16, 16)
        assert batch.rays.shape == (2, views, 6, 16, 16)
        assert batch.target_images.shape == (2, 3, 3, 16, 16)
        assert batch.target_rays.shape == (2, 3, 6, 16, 16)
        assert batch.matches.shape == (2, 3, 16, views * 16)
        again = recipe.draw_batch(np.random.default_rng(seed))
        assert all(ours.equal(theirs) for ours, theirs in zip(batch, again, strict=True))
    assert counts == {1, 2}
    assert not recipe.draw_batch(np.random.default_rng(9)).images.equal(batch.images)


def test_a_frame_comes_with_the_rays_of_its_own_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without augmentation every frame of a batch is found in its clip, and its rays are that frame's."""
    from gen3r_bench.models.lvsm import normalised_poses, pluecker_rays

    monkeypatch.setattr(lvsm, "augmented", lambda scene, draw: scene)
    recipe = tiny_recipe(clips=1, two_views=1.0)
    scene = MiniDataset().train_scene(0, ClipProfile(frames=4, image_size=(16, 16)))
    rays = pluecker_rays(normalised_poses(scene.cameras.world_from_cam), scene.cameras, 16)
    frames = torch.tensor(scene.rgb).permute(0, 3, 1, 2).float() / 255
    seen = set()
    for seed in range(12):
        batch = recipe.draw_batch(np.random.default_rng(seed))
        for images, their_rays in ((batch.images, batch.rays), (batch.target_images, batch.target_rays)):
            for image, ray in zip(images.flatten(0, 1), their_rays.flatten(0, 1), strict=True):
                frame = int((frames - image).abs().sum((1, 2, 3)).argmin())
                assert image.equal(frames[frame])
                assert ray.equal(rays[frame])
                seen.add(frame)
    assert seen == {0, 1, 2, 3}


def test_views_as_the_suite_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvsm, "augmented", lambda scene, draw: scene)
    scene = MiniDataset().train_scene(0, ClipProfile(frames=4, image_size=(16, 16)))
    batch = tiny_recipe(clips=1, two_views=1.0, protocol_views=1.0).draw_batch(np.random.default_rng(0))
    expected = torch.tensor(scene.rgb[[0, 3]]).permute(0, 3, 1, 2).float() / 255
    assert all(images.equal(expected) for images in batch.images)


def test_losses_are_the_squared_error_and_the_cross_entropy_of_attention() -> None:
    """Oracle: attention of the first head, recomputed from the block's own layers."""
    recipe = tiny_recipe(matching_blocks=(1,), matching_weight=0.5)
    torch.manual_seed(0)
    network = recipe.network().eval()
    batch = recipe.draw_batch(np.random.default_rng(1))
    caught: list[torch.Tensor] = []
    hook = network.transformer_blocks[1].norm1.register_forward_hook(lambda module, given, out: caught.append(out))
    with torch.no_grad():
        losses = recipe.losses(network, batch)
        hook.remove()
        rendered = network(batch.images, batch.rays, batch.target_rays)
        attention, known = network.transformer_blocks[1].attn, batch.matches[:, 0].sum(-1) > 0
        q, k, _ = attention.to_qkv(caught[0]).chunk(3, dim=-1)
        q, k = attention.q_norm(q[..., :16]), attention.k_norm(k[..., :16])
        shares = torch.softmax(q @ k.transpose(1, 2) / 4, dim=-1)
        views = batch.matches.shape[-1]
        entropy = -(batch.matches[:, 0] * shares[:, views:, :views].log()).sum(-1)[known].mean()
    torch.testing.assert_close(losses["image"], (rendered - batch.target_images).square().mean())
    torch.testing.assert_close(losses["matching"], entropy)
    torch.testing.assert_close(losses["total"], losses["image"] + 0.5 * entropy)


def test_without_matching_there_is_only_the_image() -> None:
    recipe = tiny_recipe(matching_weight=0.0)
    batch = recipe.draw_batch(np.random.default_rng(1))
    losses = recipe.losses(recipe.network(), batch)
    assert losses.keys() == {"total", "image"}
    assert losses["total"].equal(losses["image"])


def test_attention_learns_what_it_is_told() -> None:
    recipe = tiny_recipe(matching_weight=1.0)
    torch.manual_seed(0)
    network = recipe.network()
    batch = recipe.draw_batch(np.random.default_rng(2))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    found = []
    for _ in range(25):
        losses = recipe.losses(network, batch)
        losses["total"].backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(float(losses["matching"].detach()))
    assert found[-1] < 0.7 * found[0]
    assert not network.transformer_blocks[0].attn.q_norm._forward_hooks


def test_trained_killed_resumed_and_released(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(step: int, losses: dict[str, float]) -> None:
        if step == 3:
            raise StopError

    recipe = tiny_recipe()
    whole = train(recipe, tmp_path / "whole", cpu=True)
    with pytest.raises(StopError):
        train(recipe, tmp_path / "killed", cpu=True, on_step=stop)
    network = train(recipe, tmp_path / "killed", cpu=True)
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "whole")
    weights, card, curves = release(recipe, network, tmp_path / "killed", "tiny")
    with safe_open(weights, framework="pt") as file:
        assert file.metadata() == {"side": "16"}
    stored = load_file(weights)
    assert stored.keys() == whole.state_dict().keys()
    for key, tensor in whole.state_dict().items():
        assert stored[key].equal(tensor.half())
    content = json.loads(card.read_text())
    assert content["recipe"] == recipe.facts()
    assert content["recipe_sha256"] == recipe_sha256(recipe)
    assert content["weights"]["bytes"] == weights.stat().st_size
    assert content["licence"] == "MIT"
    assert curves.read_bytes().startswith(b"\x89PNG")
    assert curves.stat().st_size < 100_000


def test_named_recipes_are_data() -> None:
    for recipe in (REFERENCE, OFFICIAL):
        facts = json.loads(json.dumps(recipe.facts()))
        fields = {name: value for name, value in facts.items() if name not in {"recipe", "data"}}
        assert LvsmRecipe(**fields) == recipe
    assert recipe_sha256(REFERENCE) != recipe_sha256(OFFICIAL)
    assert OFFICIAL.model == LvsmConfig.official()


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="batch_size"):
        tiny_recipe(batch_size=3)
