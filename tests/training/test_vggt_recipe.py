from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open

from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.models.vggt import Vggt, VggtConfig, cameras_from_pose_encoding
from gen3r_bench.scene import Conditioning, unproject_depth
from gen3r_bench.training import vggt
from gen3r_bench.training.geometry_losses import camera_loss, confident_loss, relative_pose_loss, scene_unit
from gen3r_bench.training.loop import train
from gen3r_bench.training.losses import read_losses
from gen3r_bench.training.matches import patch_flow, patch_matches
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import recipe_sha256, release
from gen3r_bench.training.schedule import Schedule
from gen3r_bench.training.vggt import OFFICIAL, REFERENCE, LossWeights, VggtRecipe

ALL = LossWeights(
    camera=5.0, depth=1.0, points=0.5, doubt=0.2, relative=2.0, attention=0.3, flow=5.0, coarse_points=0.5
)
PLAIN = LossWeights(camera=1.0, depth=1.0, points=1.0, doubt=0.2)


def tiny_config() -> VggtConfig:
    return VggtConfig.of_fields(
        {**VggtConfig.tiny().to_fields(), "patch_size": 8, "encoder_depth": 1, "camera_depth": 1}, "test"
    )


def tiny_recipe(**changes: Any) -> VggtRecipe:
    fields: dict[str, Any] = {
        "model": tiny_config(),
        "schedule": Schedule(steps=3, learning_rate=2e-3, warmup_steps=1, decay_steps=2, save_every=2),
        "weights": ALL,
        "side": 16,
        "frames": 4,
        "clips": 2,
        "views": (4,),
        "frames_a_batch": 8,
        "depth_frames": 3,
        "point_frames": 2,
        "told_blocks": (1, 2),
        "branch_start": 1.0,
        "token_deviation": 0.5,
    }
    return VggtRecipe(**{**fields, **changes})


def test_a_batch_holds_as_many_clips_as_fit() -> None:
    recipe = tiny_recipe(views=(1, 3, 4))
    counts = set()
    for seed in range(12):
        batch = recipe.draw_batch(np.random.default_rng(seed))
        clips, views = batch.images.shape[:2]
        counts.add((clips, views))
        assert batch.images.shape == (clips, views, 3, 16, 16)
        assert batch.pose.shape == (clips, views, 9)
        assert batch.points.shape == (*batch.depth.shape, 3) == (clips, views, 16, 16, 3)
        assert batch.matches.shape == (clips, (views - 1) * 4, 4)
        assert batch.flow.shape == (*batch.flow_known.shape, 2) == (clips, views, 4, 2)
        assert len(set(batch.depth_frames.tolist())) == 3
        assert int(batch.point_frames.max()) < clips * views
        again = recipe.draw_batch(np.random.default_rng(seed))
        assert all(ours.equal(theirs) for ours, theirs in zip(batch, again, strict=True))
    assert counts == {(8, 1), (2, 3), (2, 4)}


def test_a_batch_is_one_geometry() -> None:
    """Depth through the encoded cameras is the points, whose mean distance is 1; matches and flow are the scene's."""
    batch = tiny_recipe(clips=1).draw_batch(np.random.default_rng(3))
    for clip in range(2):
        cameras = cameras_from_pose_encoding(batch.pose[clip], (16, 16))
        points = unproject_depth(batch.depth[clip].numpy(), cameras)
        valid = batch.valid[clip].numpy()
        np.testing.assert_allclose(points[valid], batch.points[clip].numpy()[valid], atol=1e-4)
        assert np.linalg.norm(points[valid], axis=-1).mean() == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(cameras.world_from_cam[0], np.eye(4), atol=1e-6)


def test_clips_in_order_are_the_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggt, "augmented", lambda scene, draw: scene)
    scene = MiniDataset().train_scene(0, ClipProfile(frames=4, image_size=(16, 16)))
    batch = tiny_recipe(clips=1, ordered=1.0).draw_batch(np.random.default_rng(0))
    expected = torch.tensor(scene.rgb.copy()).permute(0, 3, 1, 2).float() / 255
    assert batch.images[0].equal(expected)
    unit = scene_unit(scene)
    np.testing.assert_allclose(batch.depth[0][batch.valid[0]], scene.depth[scene.valid] / unit, rtol=1e-6)
    np.testing.assert_array_equal(batch.matches[0, 4:8], patch_matches(scene, 2, [0], 8))
    flow, known = patch_flow(scene, 0, 8)
    np.testing.assert_array_equal(batch.flow[0], flow)
    np.testing.assert_array_equal(batch.flow_known[0], known)
    some = tiny_recipe(clips=1, ordered=0.0, views=(2,)).draw_batch(np.random.default_rng(0)).images
    first = {int((expected - image).abs().sum((1, 2, 3)).argmin()) for image in some[:, 0]}
    assert first != {0}


def test_losses_are_those_of_the_networks_own_answer() -> None:
    """Oracle: ``Vggt.forward`` on the same images, and attention recomputed from the block's own layers."""
    recipe = tiny_recipe(told_blocks=(1,), depth_frames=8, point_frames=8)
    torch.manual_seed(0)
    network = recipe.network().eval()
    batch = recipe.draw_batch(np.random.default_rng(1))
    caught: list[torch.Tensor] = []
    block = network.vggt.aggregator.global_blocks[1]
    hook = block.norm1.register_forward_hook(lambda module, given, out: caught.append(out))
    with torch.no_grad():
        losses = recipe.losses(network, batch)
        hook.remove()
        output = network.vggt(batch.images, bfloat16=False)
        tokens = network.vggt.encode(batch.images, bfloat16=False)
        poses = network.vggt.camera_head(tokens.layers[-1][:, :, 0])
        attention = block.attn
        query, key, _ = attention.qkv(caught[0]).chunk(3, dim=-1)
        rotation = vggt.Rotation.of_frame((2, 2), 5, 16, 100.0, torch.device("cpu")).repeated(4)
        query, key = rotation(attention.q_norm(query[..., :16])), rotation(attention.k_norm(key[..., :16]))
        shares = torch.softmax(query @ key.transpose(1, 2) / 4, dim=-1)
        later = shares.reshape(2, 4, 9, -1)[:, 1:, 5:, 5:9].reshape(2, 12, 4)  # later frames' patches to the first's
        rows = batch.matches.sum(-1) > 0
        entropy = -(batch.matches * later.log()).sum(-1)[rows].mean()
        said = network.readout(tokens.layers[-2][:, :, 5:])
    order = batch.depth_frames
    depth, points, valid = (t.flatten(0, 1)[order] for t in (output.depth, output.points, batch.valid))
    truth = batch.depth.flatten(0, 1)[order]
    confidence = output.depth_confidence.flatten(0, 1)[order]
    expected = {
        "camera": camera_loss(poses, batch.pose),
        "relative": relative_pose_loss(output.pose_encoding, batch.pose),
        "depth": confident_loss(depth[..., None], truth[..., None], confidence, valid, alpha=0.2),
        "points": confident_loss(
            points, batch.points.flatten(0, 1)[order], output.points_confidence.flatten(0, 1)[order], valid, alpha=0.2
        ),
        "attention": entropy,
        "flow": (said[..., :2] - batch.flow).abs().mean(-1)[batch.flow_known].mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5, msg=name)
    total = sum(getattr(ALL, name) * losses[name] for name in (*expected, "coarse_points"))
    torch.testing.assert_close(losses["total"], total)


def test_coarse_points_are_means_over_known_pixels() -> None:
    batch = tiny_recipe().draw_batch(np.random.default_rng(1))
    mean, known = vggt._by_patch(batch, 8)
    clip, frame, patch = 1, 2, 3  # the lower right one of 2 x 2
    inside = batch.points[clip, frame, 8:, 8:][batch.valid[clip, frame, 8:, 8:]]
    torch.testing.assert_close(mean[clip, frame, patch], inside.mean(0))
    assert known.shape == (2, 4, 4)
    assert bool(known[clip, frame, patch])


def test_vggts_own_losses_need_no_more_than_vggt() -> None:
    recipe = tiny_recipe(weights=PLAIN, branch_start=None)
    network = recipe.network()
    batch = recipe.draw_batch(np.random.default_rng(1))
    losses = recipe.losses(network, batch)
    assert losses.keys() == {"total", "camera", "depth", "points"}
    assert network.readout is None
    assert batch.matches.numel() == batch.flow.numel() == 0
    assert float(network.vggt.aggregator.global_blocks[0].ls1.gamma.detach().max()) == pytest.approx(0.01)


def test_every_weight_of_the_network_is_taught() -> None:
    recipe = tiny_recipe(depth_frames=8, point_frames=8)
    torch.manual_seed(0)
    network = recipe.network()
    recipe.losses(network, recipe.draw_batch(np.random.default_rng(1)))["total"].backward()
    untaught = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert untaught == {"vggt.aggregator.patch_embed.mask_token"}
    assert not network.vggt.aggregator.global_blocks[1].attn.q_norm._forward_hooks


def test_it_learns_one_clip() -> None:
    recipe = tiny_recipe(clips=1)
    torch.manual_seed(0)
    network = recipe.network()
    batch = recipe.draw_batch(np.random.default_rng(2))
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    found: list[dict[str, float]] = []
    for _ in range(25):
        losses = recipe.losses(network, batch)
        losses["total"].backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append({name: float(value.detach()) for name, value in losses.items()})
    for name in ("camera", "depth", "points", "relative", "attention", "flow", "coarse_points"):
        assert found[-1][name] < 0.85 * found[0][name], name


def test_trained_killed_resumed_released_and_used(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(step: int, losses: dict[str, float]) -> None:
        if step == 2:
            raise StopError

    recipe = tiny_recipe()
    whole = train(recipe, tmp_path / "whole", cpu=True)
    with pytest.raises(StopError):
        train(recipe, tmp_path / "killed", cpu=True, on_step=stop)
    network = train(recipe, tmp_path / "killed", cpu=True)
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "whole")
    weights, card, curves = release(recipe, network, tmp_path / "killed", "tiny")
    with safe_open(weights, framework="pt") as file:
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {  # noqa: SIM118  # not a mapping
            name: tensor.shape for name, tensor in Vggt(recipe.model).state_dict().items()
        }
        assert VggtConfig.of_fields(json.loads(file.metadata()["config"]), "here") == recipe.model
        assert file.metadata()["side"] == "16"
    assert json.loads(card.read_text())["recipe"] == recipe.facts()
    assert curves.read_bytes().startswith(b"\x89PNG")
    method = VggtMethod.load(str(weights), device="cpu")
    rgb = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    given = Conditioning("2view", (0, 1), rgb, None, 2, (16, 16), "", 0)
    prediction = method.predict(given)
    assert prediction.adaptations == ()
    with torch.inference_mode():
        images = torch.tensor(rgb).permute(0, 3, 1, 2)[None] / 255
        expected = whole.vggt(images).depth[0]
    np.testing.assert_allclose(prediction.depth, expected, rtol=0.02)  # float16 weights


def test_named_recipes_are_data() -> None:
    for config, recipe in (("reference", REFERENCE), ("official", OFFICIAL)):
        assert named_recipe("vggt", config) is recipe
        facts = json.loads(json.dumps(recipe.facts()))
        fields = {name: value for name, value in facts.items() if name not in {"recipe", "data"}}
        assert VggtRecipe(**fields) == recipe
        assert recipe.side % recipe.model.patch_size == 0
    assert recipe_sha256(REFERENCE) != recipe_sha256(OFFICIAL)


def test_official_is_the_papers_training() -> None:
    """VGGT, section 4: 160 K steps, a peak of 2e-4 after 8 K, one cosine, clipped at 1, bfloat16, 2 to 24 frames."""
    schedule = OFFICIAL.schedule
    assert OFFICIAL.model == VggtConfig.official()
    assert (schedule.steps, schedule.learning_rate, schedule.warmup_steps) == (160_000, 2e-4, 8000)
    assert schedule.decay_steps == schedule.steps - schedule.warmup_steps
    assert (schedule.clip_norm, schedule.precision) == (1.0, "bfloat16")
    assert OFFICIAL.views == tuple(range(2, 25))
    assert OFFICIAL.side == 518
    assert OFFICIAL.weights == PLAIN  # the paper's losses, each at weight 1, and none of ours
    assert not OFFICIAL.weights.readouts


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="batch"):
        tiny_recipe(batch=3)
