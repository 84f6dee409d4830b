from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_frozen import write_vggt

from gen3r_bench.baselines.vggt_rgb_head import VggtRgbHead
from gen3r_bench.training.loop import train
from gen3r_bench.training.losses import read_losses
from gen3r_bench.training.recipes import named_recipe
from gen3r_bench.training.release import release
from gen3r_bench.training.schedule import Schedule
from gen3r_bench.training.vggt_rgb_head import OFFICIAL, REFERENCE, RgbHeadRecipe


@pytest.fixture
def recipe(tmp_path: Path) -> RgbHeadRecipe:
    return RgbHeadRecipe(
        schedule=Schedule(steps=3, learning_rate=3e-3, warmup_steps=1, decay_steps=1),
        vggt=write_vggt(tmp_path),
        side=16,
        frames=5,
        clips=2,
        batch=2,
        shown=4,
    )


def test_the_loss_is_the_squared_error_of_the_shown_frames(recipe: RgbHeadRecipe) -> None:
    network = recipe.network()
    batch = recipe.draw_batch(np.random.default_rng(0))
    assert len(set(batch.shown.tolist())) == 4
    tokens = recipe._vggt.encode((batch.clips.transpose(1, 2) + 1) / 2)
    with torch.no_grad():
        found = network([layer[:, :, tokens.patch_start :].flatten(0, 1) for layer in tokens.layers], tokens.grid)
    truth = (batch.clips.transpose(1, 2).flatten(0, 1).permute(0, 2, 3, 1) + 1) / 2
    expected = (found - truth)[batch.shown].square().mean()
    torch.testing.assert_close(recipe.losses(network, batch)["total"].detach(), expected)


def test_it_learns_and_vggt_stays(recipe: RgbHeadRecipe) -> None:
    torch.manual_seed(0)
    network, batch = recipe.network(), recipe.draw_batch(np.random.default_rng(1))
    before = {key: tensor.clone() for key, tensor in recipe._vggt.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = recipe.losses(network, batch)["total"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(before[key], tensor) for key, tensor in recipe._vggt.state_dict().items())


def test_its_file_is_a_row(recipe: RgbHeadRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    network = train(recipe, out, cpu=True)
    assert len(read_losses(out)) == 3
    weights, _, _ = release(recipe, network, out, "head")
    method: Any = VggtRgbHead.load(str(weights), device="cpu")
    assert method.side == 16
    shown = recipe.draw_batch(np.random.default_rng(0)).clips
    assert shown.shape[2] == 5
    named: Any = named_recipe("vggt-rgb-head", "reference")
    assert named == REFERENCE
    assert (OFFICIAL.vggt, OFFICIAL.side, OFFICIAL.frames) == ("official", 560, 49)
