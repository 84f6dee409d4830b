from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_frozen import write_adapter, write_autoencoder, write_vggt
from tiny_gen3r import fill

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.models.adapter_checkpoint import load_adapter
from gen3r_bench.models.autoencoder_checkpoint import load_autoencoder
from gen3r_bench.models.geometry_adapter import pack_tokens, unpack_tokens
from gen3r_bench.models.joint.words import WordTokenizer
from gen3r_bench.models.vggt import cameras_from_pose_encoding
from gen3r_bench.models.vggt_checkpoint import load_vggt
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder
from gen3r_bench.models.wvd.normalisation import fit_normaliser
from gen3r_bench.models.wvd.pipeline import encode_points
from gen3r_bench.scene import unproject_depth
from gen3r_bench.training.augmentation import mirrored
from gen3r_bench.training.frozen_clips import FrozenClips, FrozenNetworks
from gen3r_bench.training.latents import as_clip
from gen3r_bench.training.matches import latent_matches

PROFILE = ClipProfile(frames=5, image_size=(16, 16))
Networks = Callable[..., FrozenNetworks]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    folder = tmp_path_factory.mktemp("frozen")
    fields: dict[str, Any] = {
        "autoencoder": load_autoencoder(Path(write_autoencoder(folder))),
        "vggt": load_vggt(Path(write_vggt(folder))),
        "adapter": load_adapter(Path(write_adapter(folder))),
        "text": fill(TextEncoder(TextConfig.tiny())).eval(),
        "image": fill(ImageEncoder(ImageConfig.tiny())).eval(),
        "tokenizer": WordTokenizer(("camera", "room")),
        "text_len": 6,
        "fill": "nearest",
        "normalisation": "max-abs",
    }
    return lambda **changes: FrozenNetworks(**{**fields, **changes})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_CACHE", str(tmp_path))


def clips(made: Callable[[], FrozenNetworks], geometry: Any = "a", appearance: Any = "frames") -> FrozenClips:
    return FrozenClips(made, appearance={"of": appearance}, geometry=geometry and {"of": geometry}, profile=PROFILE)


def test_appearance_is_what_each_setting_shows(networks: Networks) -> None:
    made = networks()
    found = clips(lambda: made).clip(3, 0)
    scene = MiniDataset().train_scene(3, PROFILE)
    video = as_clip(scene.rgb)[None]
    shown = {"1view": [0] * 5, "2view": [0, 0, 0, 4, 4], "allview": range(5)}
    for setting, places in shown.items():
        posterior = made.autoencoder.encode(video[:, :, list(places)])
        torch.testing.assert_close(found.seen[setting].mean, posterior.mean[0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found.seen[setting].logvar, posterior.logvar[0], atol=2e-5, rtol=1e-4)  # type: ignore[index]
    np.testing.assert_array_equal(found.cameras.world_from_cam, scene.cameras.world_from_cam)
    assert found.text.shape == (6, made.text.config.dim)  # a long prompt is cut
    assert found.image.shape == (made.image.config.num_tokens, made.image.config.dim)
    assert len(made.text_features("")) == 1


def test_tokens_pass_the_adapter_and_points_the_autoencoder(networks: Networks) -> None:
    scene = MiniDataset().train_scene(1, PROFILE)
    made = networks()
    assert made.vggt is not None
    assert made.adapter is not None
    with torch.no_grad():
        tokens = made.vggt.encode((as_clip(scene.rgb).transpose(0, 1)[None] + 1) / 2)
        expected = made.adapter.encode(pack_tokens(tokens)).mean[0]
        output = made.vggt.decode(tokens, (16, 16))
    found = clips(lambda: made).clip(1, 0).geometry
    assert found is not None
    torch.testing.assert_close(found.mean, expected, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        back = unpack_tokens(made.adapter.decode(found.mean[None]), patch_start=tokens.patch_start)
        depth = made.vggt.decode(back, (16, 16)).depth[0]
    torch.testing.assert_close(made.decoded_geometry(found.mean[None]), depth, atol=1e-5, rtol=1e-4)

    points = unproject_depth(
        output.depth[0].numpy(), cameras_from_pose_encoding(output.pose_encoding[0], scene.image_size)
    )
    normalised = fit_normaliser(points, "max-abs").to_range(points)
    point_networks = networks(adapter=None)
    found = clips(lambda: point_networks, geometry="points").clip(1, 0).geometry
    assert found is not None
    with torch.no_grad():
        video = made.autoencoder.decode(found.mean[None], clamp=False)[0]
    torch.testing.assert_close(
        point_networks.decoded_geometry(found.mean[None]), video.permute(1, 2, 3, 0), atol=1e-5, rtol=1e-4
    )
    generator, same = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    drawn = encode_points(made.autoencoder, normalised, generator=generator)[0]
    noise = torch.randn(drawn[None].shape, generator=same)[0]
    torch.testing.assert_close(found.mean + found.std * noise, drawn, atol=1e-4, rtol=1e-4)


def test_variants_are_the_clip_mirrored_backwards_and_both(networks: Networks) -> None:
    made = networks(vggt=None)
    cache = clips(lambda: made, geometry=None)
    plain, mirror, back, both = (cache.clip(0, variant) for variant in range(4))
    assert plain.geometry is None
    scene = MiniDataset().train_scene(0, PROFILE)
    np.testing.assert_allclose(mirror.cameras.world_from_cam, mirrored(scene).cameras.world_from_cam)
    expected = made.autoencoder.encode(as_clip(scene.rgb[:, :, ::-1].copy())[None]).mean[0]
    torch.testing.assert_close(mirror.seen["allview"].mean, expected, atol=2e-5, rtol=1e-4)
    expected = made.autoencoder.encode(as_clip(scene.rgb[::-1].copy())[None]).mean[0]
    torch.testing.assert_close(back.seen["allview"].mean, expected, atol=2e-5, rtol=1e-4)
    expected = made.autoencoder.encode(as_clip(scene.rgb[::-1, :, ::-1].copy())[None]).mean[0]
    torch.testing.assert_close(both.seen["allview"].mean, expected, atol=2e-5, rtol=1e-4)


def test_matches_are_asked_for_by_their_patch(networks: Networks) -> None:
    assert clips(networks).clip(0, 1).matches is None
    made = FrozenClips(networks, appearance={}, geometry=None, profile=PROFILE, matched_patches=8)
    scene = mirrored(MiniDataset().train_scene(0, PROFILE))
    for _ in ("computed", "read again"):
        matches = made.clip(0, 1).matches
        assert matches is not None
        np.testing.assert_allclose(matches, latent_matches(scene, 8), atol=1e-3)
    finer = FrozenClips(networks, appearance={}, geometry=None, profile=PROFILE, matched_patches=4)
    assert finer.clip(0, 1).matches.shape == (2, 16, 16)


def test_answers_are_kept_and_other_facts_have_their_own(networks: Networks, tmp_path: Path) -> None:
    made = []

    def make() -> FrozenNetworks:
        made.append(networks())
        return made[-1]

    first = clips(make).clip(2, 1)
    again = clips(make).clip(2, 1)
    assert len(made) == 1
    assert torch.equal(first.seen["1view"].mean, again.seen["1view"].mean)
    assert torch.equal(first.text, again.text)
    clips(make, geometry="b").clip(2, 1)
    assert len(made) == 2
    folders = list((tmp_path / "frozen-clips").iterdir())
    assert len(folders) == 3  # one appearance, two geometries
    # a damaged file is computed anew
    for file in (tmp_path / "frozen-clips").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-3])
    repaired = clips(make).clip(2, 1)
    assert len(made) == 3
    assert torch.equal(first.seen["2view"].mean, repaired.seen["2view"].mean)
