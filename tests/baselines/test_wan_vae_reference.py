"""The RGB autoencoder that ships: it belongs to its card and recipe, and keeps what an autoencoder must keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shipped_card import checked_card

import gen3r_bench.baselines
from gen3r_bench.baselines.wan_vae import WanVaeMethod
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.metrics.image import psnr
from gen3r_bench.models.patch_autoencoder import PatchVideoAutoencoder
from gen3r_bench.scene import Conditioning, Scene
from gen3r_bench.training.latents import as_clip
from gen3r_bench.training.wan_vae import REFERENCE

FOLDER = Path(gen3r_bench.baselines.__file__).parent / "weights"
PROFILE = ClipProfile(frames=13, image_size=(64, 64))
SCENES = ("test/001", "test/008", "test/014")


@pytest.fixture(scope="module")
def method() -> WanVaeMethod:
    return WanVaeMethod.load("reference", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [MiniDataset().load(name, PROFILE) for name in SCENES]


def test_files_card_and_recipe_belong_together(method: WanVaeMethod) -> None:
    card = checked_card("wan-vae", most_bytes=15_000_000)
    assert card["weights"]["sha256"] == method.checkpoint_sha256
    assert len(card["origin"]["commit"]) == 40
    assert (FOLDER / card["curves"]).stat().st_size <= 100_000
    assert (method.contract.licence, method.contract.training_sets) == ("MIT", ())
    assert isinstance(method.vae, PatchVideoAutoencoder)
    sizes = method.vae.config
    assert (sizes.width, sizes.encoder_blocks) == (REFERENCE.model.width, REFERENCE.model.encoder_blocks)


def test_test_scenes_come_back(method: WanVaeMethod, scenes: list[Scene]) -> None:
    """On three scenes, through a draw; all forty are measured by benchmarks/rgb_autoencoder.py."""
    found = []
    for scene in scenes:
        every = tuple(range(scene.num_frames))
        prediction = method.predict(Conditioning("allview", every, scene.rgb, None, 13, (64, 64), "", 0))
        assert prediction.adaptations == ("a patch autoencoder in place of the Wan VAE",)
        found.append(float(psnr(prediction.rgb, scene.rgb).mean()))
    assert np.mean(found) > 27.5


def test_its_latents_are_normalised_and_nearly_certain(method: WanVaeMethod, scenes: list[Scene]) -> None:
    with torch.inference_mode():
        posterior = method.vae.encode(torch.stack([as_clip(scene.rgb) for scene in scenes]))
    assert abs(float(posterior.mean.mean())) < 0.2
    assert 0.7 < float(posterior.mean.std()) < 1.3
    assert float(posterior.std.mean()) < 0.2
