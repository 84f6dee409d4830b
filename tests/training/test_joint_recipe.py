from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from tiny_frozen import write_adapter, write_autoencoder, write_vggt
from torch import Tensor, nn

from gen3r_bench.models.checkpoint import weights_sha256
from gen3r_bench.models.joint.conditioning import ConditionStyle, camera_condition
from gen3r_bench.models.joint.file import FileNetworks, read_file
from gen3r_bench.models.joint.pipeline import Sampling
from gen3r_bench.models.wan import transformer
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig, JointDit
from gen3r_bench.training import gen3r, gen3r_two_stage, gen3r_without_kl, wvd
from gen3r_bench.training.joint import JointRecipe
from gen3r_bench.training.loop import train
from gen3r_bench.training.losses import read_losses
from gen3r_bench.training.movement import movement_metric
from gen3r_bench.training.recipes import CONFIGS, named_recipe
from gen3r_bench.training.release import recipe_sha256, release
from gen3r_bench.training.schedule import Schedule

Make = Callable[..., JointRecipe]
ALONE: dict[str, Any] = {
    "method": "gen3r-two-stage", "geometry": "none", "axis": "alone", "vggt": None, "adapter": None,
    "model": dataclasses.replace(DitConfig.tiny(), halves=1),
}  # fmt: skip


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("frozen")
    fields: dict[str, Any] = {
        "method": "gen3r",
        "model": DitConfig.tiny(),
        "text": dataclasses.replace(TextConfig.tiny(), vocab=80),
        "image": ImageConfig.tiny(),
        "schedule": Schedule(steps=4, learning_rate=2e-3, warmup_steps=1, decay_steps=2, save_every=2),
        "style": ConditionStyle(fill="nearest", moment_gain=2.0, turn_gain=3.0),
        "autoencoder": write_autoencoder(folder),
        "geometry": "tokens",
        "vggt": write_vggt(folder),
        "adapter": write_adapter(folder),
        "side": 16,
        "frames": 5,
        "clips": 2,
        "batch": 4,
    }
    return lambda **changes: JointRecipe(**{**fields, **changes})


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEN3R_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_batch_follows_from_its_draws(make: Make) -> None:
    recipe = make()
    batch, again, other = (recipe.draw_batch(draw(seed)) for seed in (1, 1, 2))
    shapes = {name: tuple(tensor.shape) for name, tensor in batch._asdict().items()}
    assert shapes == {
        "latents": (4, 16, 2, 2, 4),
        "noise": (4, 16, 2, 2, 4),
        "sigmas": (4,),
        "condition": (4, 20, 2, 2, 4),
        "text": (4, 16, 24),
        "image": (4, 5, 32),
        "rays": (4, 24, 2, 16, 32),
        "weights": (4, 16, 1, 1, 4),
        "matches": (4, 0, 0),
    }
    assert batch.weights.eq(1).all()
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    assert not torch.equal(batch.latents, other.latents)


def test_latents_are_draws_of_the_frozen_posteriors(make: Make) -> None:
    recipe = make(clips=1, batch=64)
    latents = recipe.draw_batch(draw()).latents
    clips = [recipe._clips.clip(0, variant) for variant in range(4)]
    nearest = Counter[int]()
    for latent in latents:
        scores = []
        for clip in clips:
            assert clip.geometry is not None
            halves = ((latent[..., :2], clip.seen["allview"]), (latent[..., 2:], clip.geometry))
            scores.append(sum(float(((half - at.mean) / at.std).square().mean()) for half, at in halves) / 2)
        # a draw of a posterior: squared deviations of one on average, over 128 numbers
        assert min(scores) == pytest.approx(1, abs=0.6)
        nearest[int(np.argmin(scores))] += 1
    assert sorted(nearest) == [0, 1, 2, 3]


def test_settings_cameras_and_prompts_are_dropped_as_said(make: Make) -> None:
    recipe = make(batch=240)
    batch = recipe.draw_batch(draw(3))
    masks = batch.condition[:, 16:, :, 0, :]
    assert (masks[..., 2:] == 0).all()  # no geometry is ever given
    assert (batch.condition[:, :16, ..., 2:] == 0).all()
    shown = Counter(tuple(mask[:, 1].tolist()) for mask in masks[..., 0])
    assert set(shown) == {(0, 0, 0, 0), (0, 0, 0, 1), (1, 1, 1, 1)}
    assert all(55 < count < 105 for count in shown.values())
    assert (masks[..., 0][:, :, 0] == 1).all()
    without = [not rays.any() for rays in batch.rays]
    assert 90 < sum(without) < 150
    empty = recipe._padded(recipe._no_prompt)
    assert 25 < sum(torch.equal(text, empty) for text in batch.text) < 75
    assert not make(drop_prompt=0.0, drop_cameras=1.0).draw_batch(draw()).rays.any()


def test_what_is_given_is_the_clip_as_its_setting_shows_it(make: Make) -> None:
    recipe = make(clips=1, batch=30, drop_cameras=0.0)
    batch = recipe.draw_batch(draw(5))
    clips = [recipe._clips.clip(0, variant) for variant in range(4)]
    known = [camera_condition(clip.cameras, 5, (16, 16), style=recipe.style)[0] for clip in clips]
    settings = {(0.0,) * 4: "1view", (0.0, 0.0, 0.0, 1.0): "2view", (1.0,) * 4: "allview"}
    for index in range(30):
        (variant,) = [place for place, rays in enumerate(known) if torch.equal(rays, batch.rays[index])]
        setting: Any = settings[tuple(batch.condition[index, 16:, 1, 0, 0].tolist())]
        posterior = clips[variant].seen[setting]
        deviation = (batch.condition[index, :16, ..., :2] - posterior.mean) / posterior.std
        assert float(deviation.square().mean()) == pytest.approx(1, abs=0.6)
        assert torch.equal(batch.image[index], clips[variant].image)


class Oracle(nn.Module):
    """Knows the answer."""

    def __init__(self, flow: Tensor) -> None:
        super().__init__()
        self.flow = flow
        self.given: dict[str, Any] = {}

    def forward(self, latents: Tensor, timestep: Tensor, **given: Tensor) -> Tensor:
        self.given = {"latents": latents, "timestep": timestep, **given}
        return self.flow


@pytest.mark.parametrize("axis", ["width", "channel"])
def test_the_loss_is_the_error_of_the_flow_and_of_its_halves(make: Make, axis: str) -> None:
    model = DitConfig.tiny()
    if axis == "channel":
        model = dataclasses.replace(model, halves=1, out_dim=32, in_dim=52)
    recipe = make(method="wvd", geometry="points", adapter=None, axis=axis, model=model)
    batch = recipe.draw_batch(draw())
    flow = batch.noise - batch.latents
    oracle = Oracle(flow)
    assert all(float(loss) == 0 for loss in recipe.losses(oracle, batch).values())
    assert torch.equal(oracle.given["timestep"], batch.sigmas * 1000)
    first = batch.sigmas[0]
    expected = (1 - first) * batch.latents[0] + first * batch.noise[0]
    torch.testing.assert_close(oracle.given["latents"][0], expected)

    wrong = flow.clone()
    half = wrong[..., 2:] if axis == "width" else wrong[:, 16:]
    half += 3
    losses = recipe.losses(Oracle(wrong), batch)
    assert {name: round(float(loss), 4) for name, loss in losses.items()} == {
        "total": 4.5, "appearance": 0.0, "geometry": 9.0
    }  # fmt: skip


def test_the_loss_of_clean_answers(make: Make) -> None:
    recipe = make(style=ConditionStyle(answer="clean"))
    batch = recipe.draw_batch(draw())._replace(sigmas=torch.full((4,), 0.5))
    assert all(float(loss) == 0 for loss in recipe.losses(Oracle(batch.latents), batch).values())
    losses = recipe.losses(Oracle(batch.latents + 1), batch)
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(dict.fromkeys(losses, 4.0), rel=1e-4)


def test_channels_of_which_the_posterior_is_sure_weigh_more(make: Make) -> None:
    recipe = make(clips=1, weigh_channels="posterior", style=ConditionStyle(answer="clean"), least_sigma=1.0)
    batch = recipe.draw_batch(draw())
    weights = batch.weights[:, :, 0, 0]
    expected = []
    for variant in range(4):
        posterior = recipe._clips.clip(0, variant).seen["allview"]
        precision = 1 / posterior.std.square().mean(dim=(1, 2, 3))
        expected.append(precision / precision.mean())
    distance = (weights[:, None, :, 0] - torch.stack(expected)).abs().amax(-1)
    assert distance.amin(-1).max() < 1e-4
    torch.testing.assert_close(weights[..., :2].mean(dim=(1, 2)), torch.ones(4))
    assert weights[..., 2:].eq(1).all()  # the geometry

    off = torch.zeros_like(batch.latents)
    off[:, 5, ..., :2] = 1
    losses = recipe.losses(Oracle(batch.latents + off), batch)
    assert float(losses["appearance"]) == pytest.approx(float(weights[:, 5, 0].mean()) / 16, rel=1e-5)
    assert float(losses["geometry"]) == 0
    assert float(losses["total"]) == pytest.approx(float(losses["appearance"]) / 2)


@pytest.mark.parametrize("changes", [{}, {"method": "wvd", "geometry": "points", "adapter": None}])
def test_errors_of_the_geometry_count_by_how_far_they_move_depth(make: Make, changes: dict[str, Any]) -> None:
    """Oracle: the quadratic form, of errors along the metric's own directions."""
    recipe = make(depth_share=0.5, style=ConditionStyle(answer="clean"), least_sigma=1.0, **changes)
    batch = recipe.draw_batch(draw())
    means = [recipe._clips.clip(index, 0).geometry.mean[None] for index in range(2)]
    values, vectors = torch.linalg.eigh(movement_metric(recipe._clips.networks.decoded_geometry, means))
    assert float(values[1, -1]) > 3 * float(values[1, 0])
    for place in (0, -1):
        off = torch.zeros_like(batch.latents)
        off[:, :, 1, :, 2:] = vectors[1, :, place].view(1, 16, 1, 1)
        losses = recipe.losses(Oracle(batch.latents + off), batch)
        # one of two latent frames, a unit vector of 16 channels
        assert float(losses["geometry"]) == pytest.approx((0.5 * float(values[1, place]) + 0.5) / 32, rel=1e-3)
        assert float(losses["appearance"]) == 0
        assert float(losses["total"]) == pytest.approx(float(losses["geometry"]) / 2, rel=1e-4)
    assert recipe_sha256(recipe) != recipe_sha256(make(**changes))
    assert "depth_share" not in make(**changes).facts()


@pytest.mark.parametrize("axis", ["width", "alone"])
def test_attention_is_told_where_the_first_frame_shows_a_patch(make: Make, axis: str) -> None:
    told = {"matching_blocks": (1,), "matching_heads": 1, "matching_weight": 0.5, "side": 32, "drop_cameras": 0.5}
    recipe = make(**{**told, "batch": 24, **(ALONE if axis == "alone" else {})})
    batch = recipe.draw_batch(draw(4))
    halves = 2 if axis == "width" else 1
    first, tokens = 2 * 2 * halves, 2 * 2 * 2 * halves
    assert batch.matches.shape == (24, tokens, first)
    seen = [recipe._clips.clip(scene, variant).matches for scene in range(2) for variant in range(4)]
    for index, matches in enumerate(batch.matches):
        every = batch.condition[index, 16:, 1, 0, 0].all()
        silent = bool(every) or not batch.rays[index].any()
        assert silent == (not matches.any())
        if silent:
            continue
        grid = matches.view(2, 2, 2 * halves, 2, 2 * halves)
        if axis == "width":  # both halves look for the appearance
            assert torch.equal(grid[:, :, :2], grid[:, :, 2:])
            assert not grid[..., 2:].any()
        known = grid[:, :, :2, :, :2].reshape(2, 4, 4)
        assert any(torch.equal(known, matches) for matches in seen)

    torch.manual_seed(0)
    network = recipe.network()
    with torch.no_grad():
        losses = recipe.losses(network, batch)
        rest = recipe.model_copy(update={"matching_weight": 0.0}).losses(network, batch)
    assert "matching" not in rest
    assert float(losses["total"]) == pytest.approx(float(rest["total"]) + 0.5 * float(losses["matching"]), rel=1e-5)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    before = float(losses["matching"])
    for _ in range(10):
        optimiser.zero_grad()
        losses = recipe.losses(network, batch)
        losses["matching"].backward()
        optimiser.step()
    assert float(losses["matching"].detach()) < before


def test_what_is_told_is_what_the_attention_compares(make: Make) -> None:
    """Oracle: the weights that torch's own attention gives, of the head that is told."""
    recipe = make(matching_blocks=(0,), matching_heads=1, matching_weight=1.0, side=32, drop_cameras=0.0, batch=6)
    batch, network = recipe.draw_batch(draw(2)), recipe.network()
    torch.manual_seed(3)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    scores = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        identity = torch.eye(key.shape[1]).expand(*key.shape[:1], key.shape[2], -1, -1).transpose(1, 2)
        weights = plain(query, key, identity.contiguous())
        scores.append(weights.unflatten(-1, (key.shape[2], -1))[:, :, 0])
        return plain(query, key, value)

    plain = transformer._attend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "_attend", attend)
        losses = recipe.losses(network, batch)
    weights = scores[0].detach()  # of the first block's attention among tokens
    rows = batch.matches.sum(-1) > 0
    places = batch.matches.shape[-1]
    entropy = -(batch.matches * weights[..., :places].log()).sum(-1)[rows].mean()
    assert float(losses["matching"].detach()) == pytest.approx(float(entropy), rel=1e-4)


def test_a_recipe_without_geometry(make: Make) -> None:
    recipe = make(**ALONE)
    batch = recipe.draw_batch(draw())
    assert batch.latents.shape == (4, 16, 2, 2, 2)
    assert batch.rays.shape == (4, 24, 2, 16, 16)
    losses = recipe.losses(recipe.network(), batch)
    assert set(losses) == {"total"}


def test_a_new_transformer_answers_zero_and_learns(make: Make) -> None:
    recipe = make()
    torch.manual_seed(0)
    network, batch = recipe.network(), recipe.draw_batch(draw())
    silence = float((batch.noise - batch.latents).square().mean())
    losses = recipe.losses(network, batch)
    assert float(losses["total"].detach()) == pytest.approx(silence, rel=1e-2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(12):
        optimiser.zero_grad()
        losses = recipe.losses(network, batch)
        losses["total"].backward()
        optimiser.step()
    assert float(losses["total"].detach()) < 0.9 * silence
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert unused == []


def test_it_begins_from_a_transformer_with_fewer_channels(make: Make, tmp_path: Path) -> None:
    narrow = JointDit(dataclasses.replace(DitConfig.tiny(), in_dim=32))
    path = tmp_path / "base.safetensors"
    save_file(narrow.state_dict(), path)
    network = make(start=str(path)).network()
    given = {"timestep": torch.tensor([300.0]), "text": torch.ones(1, 3, 24), "image": torch.ones(1, 5, 32)}
    latents, condition = torch.randn(1, 16, 2, 2, 4), torch.randn(1, 20, 2, 2, 4)
    with torch.no_grad():
        expected = narrow(latents, condition=condition[:, :16], **given)
        torch.testing.assert_close(network(latents, condition=condition, **given), expected)


def test_what_it_begins_from_is_told_by_its_hash(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    save_file(JointDit(DitConfig.tiny()).state_dict(), path)
    assert "start" not in make().facts()["frozen_sha256"]
    assert make(start=str(path)).facts()["frozen_sha256"]["start"] == weights_sha256(path)


def test_a_training_ends_in_a_file_that_says_everything(make: Make, tmp_path: Path) -> None:
    recipe = make(sampling=Sampling(steps=3, guidance=1.0))
    network = train(recipe, tmp_path, cpu=True)
    assert len(read_losses(tmp_path)) == 4
    weights, card, _ = release(recipe, network, tmp_path, "gen3r-tiny")
    content = read_file(weights)
    assert (content.side, content.frames) == (16, 5)
    assert content.facts.class_name == "Gen3r"
    assert content.facts.style == recipe.style
    assert content.facts.sampling == recipe.sampling
    assert content.facts.scheduler == {"num_train_timesteps": 1000, "shift": 2.0}
    assert set(content.facts.parts) == {"wan-vae", "geometry-adapter", "vggt"}
    assert content.facts.parts["vggt"].sha256 == recipe.facts()["frozen_sha256"]["vggt"]
    assert {"camera", "the"} <= set(content.facts.words)
    assert json.loads(card.read_text())["recipe_sha256"] == recipe_sha256(recipe)
    shipped = recipe.shipped(network)
    assert isinstance(shipped, FileNetworks)
    # encoders are drawn the same in every process, and how clips are drawn later is no part of the training
    same = make(sampling=Sampling(steps=9))
    assert recipe_sha256(same) == recipe_sha256(recipe)
    for ours, theirs in zip(recipe._encoders, same._encoders, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapter": None}, "tokens need adapter"),
        ({"geometry": "points", "vggt": None}, "points need vggt"),
        ({"axis": "alone"}, "'tokens' along the axis 'alone'"),
        ({"geometry": "none"}, "'none' along the axis 'width'"),
        ({**ALONE, "depth_share": 0.5}, "depth_share 0.5 without geometry"),
        ({"depth_share": -0.1}, "greater than or equal to 0"),
        ({"drop_prompt": 1.5}, "less than or equal to 1"),
    ],
)
def test_recipes_that_contradict_themselves(make: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make(**changes)


def test_rows_differ_in_their_geometry_alone() -> None:
    base = gen3r.REFERENCE.model_dump()
    for recipe, different in (
        (wvd.REFERENCE, {"method", "geometry", "adapter"}),
        (gen3r_without_kl.REFERENCE, {"method", "adapter"}),
        (
            gen3r_two_stage.REFERENCE,
            {
                "method",
                "geometry",
                "axis",
                "vggt",
                "adapter",
                "model",
                "schedule",
                "drop_cameras",
                "start",
                "depth_share",
            },
        ),
    ):
        other = recipe.model_dump()
        assert {name for name in base if base[name] != other[name]} == different
        assert named_recipe(recipe.method, "reference") == recipe
    assert {**base["model"], "halves": 1} == gen3r_two_stage.REFERENCE.model_dump()["model"]


def test_official_recipes_are_the_papers() -> None:
    for method in ("gen3r", "wvd", "gen3r-two-stage"):
        assert "official" in CONFIGS[method]
        recipe: Any = named_recipe(method, "official")
        schedule = recipe.schedule
        assert (schedule.steps, schedule.learning_rate, schedule.warmup_steps) == (8000, 1e-5, 50)
        assert (schedule.accumulate, recipe.batch, schedule.weight_decay) == (2, 4, 3e-2)
        assert (recipe.shift, recipe.drop_cameras, recipe.drop_prompt) == (2.0, 0.5, 0.2)
        assert (recipe.side, recipe.frames, recipe.style) == (560, 49, ConditionStyle())
        assert dataclasses.replace(recipe.model, halves=2) == DitConfig.official()
        with torch.device("meta"):
            assert sum(p.numel() for p in JointDit(recipe.model).parameters()) == 1_616_337_728
