from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_autoencoders import (
    VAE_CONFIG,
    clip,
    distance,
    key_digest,
    latent,
    relative_difference,
    shapes,
    summary,
    tiny_vae,
)
from torch import nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.video_autoencoder import Tiling, _in_tiles
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "adapter.json").read_text(encoding="utf-8"))
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def official() -> nn.Module:
    with torch.device("meta"):
        return WanVae(WanVaeConfig.official())


def test_official_size(official: nn.Module) -> None:
    assert sum(parameter.numel() for parameter in official.parameters()) == 126_892_531
    assert len(official.state_dict()) == 194


def test_official_names_and_shapes_are_the_released_ones(official: nn.Module) -> None:
    assert key_digest(official) == GOLDEN["official_keys"]["vae"]


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("encoder.conv1.weight", [96, 3, 3, 3, 3]),
        ("encoder.downsamples.2.resample.1.weight", [96, 96, 3, 3]),
        ("encoder.downsamples.3.shortcut.weight", [192, 96, 1, 1, 1]),
        ("encoder.downsamples.5.time_conv.weight", [192, 192, 3, 1, 1]),
        ("encoder.downsamples.8.time_conv.weight", [384, 384, 3, 1, 1]),
        ("encoder.downsamples.10.residual.6.weight", [384, 384, 3, 3, 3]),
        ("encoder.middle.1.to_qkv.weight", [1152, 384, 1, 1]),
        ("encoder.head.2.weight", [32, 384, 3, 3, 3]),
        ("conv1.weight", [32, 32, 1, 1, 1]),
        ("conv2.weight", [16, 16, 1, 1, 1]),
        ("decoder.conv1.weight", [384, 16, 3, 3, 3]),
        ("decoder.upsamples.3.time_conv.weight", [768, 384, 3, 1, 1]),
        ("decoder.upsamples.3.resample.1.weight", [192, 384, 3, 3]),
        ("decoder.upsamples.4.shortcut.weight", [384, 192, 1, 1, 1]),
        ("decoder.upsamples.11.resample.1.weight", [96, 192, 3, 3]),
        ("decoder.upsamples.14.residual.0.gamma", [96, 1, 1, 1]),
        ("decoder.head.0.gamma", [96, 1, 1, 1]),
        ("decoder.head.2.weight", [3, 96, 3, 3, 3]),
    ],
)
def test_official_entries(official: nn.Module, key: str, shape: list[int]) -> None:
    assert shapes(official)[f"model.{key}"] == shape


def test_outputs_are_the_released_codes_numbers() -> None:
    vae = tiny_vae()
    posterior = vae.encode(clip())
    found = {
        "vae_mean": posterior.mean,
        "vae_logvar": posterior.logvar,
        "vae_clip": vae.decode(0.3 * latent(3, (6, 8))),
    }
    for name, tensor in found.items():
        assert distance(summary(tensor), GOLDEN["outputs"][name]) < 3e-4, name


def diffusers_key(key: str) -> str:
    """Name in diffusers' ``AutoencoderKLWan`` of a tensor of ours."""
    key = key.removeprefix("model.")
    for pattern, name in (
        (r"^conv1\.", "quant_conv."),
        (r"^conv2\.", "post_quant_conv."),
        (r"coder\.conv1\.", "coder.conv_in."),
        (r"head\.0\.", "norm_out."),
        (r"head\.2\.", "conv_out."),
        (r"middle\.0\.", "mid_block.resnets.0."),
        (r"middle\.1\.", "mid_block.attentions.0."),
        (r"middle\.2\.", "mid_block.resnets.1."),
        (r"residual\.0\.", "norm1."),
        (r"residual\.2\.", "conv1."),
        (r"residual\.3\.", "norm2."),
        (r"residual\.6\.", "conv2."),
        (r"shortcut\.", "conv_shortcut."),
        (r"downsamples\.", "down_blocks."),
    ):
        key = re.sub(pattern, name, key)
    if match := re.match(r"decoder\.upsamples\.(\d+)\.(.*)", key):
        stage, layer = divmod(int(match[1]), 4)  # three residual blocks, then the resampling
        within = "upsamplers.0" if layer == 3 else f"resnets.{layer}"
        key = f"decoder.up_blocks.{stage}.{within}.{match[2]}"
    return key


def test_diffusers_says_the_same() -> None:
    diffusers = pytest.importorskip("diffusers", reason="no second oracle for the Wan VAE: diffusers is not installed")
    vae = tiny_vae().double()
    oracle = diffusers.AutoencoderKLWan(
        base_dim=VAE_CONFIG.dim,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        temperal_downsample=[False, True, True],
    ).double()
    oracle.load_state_dict({diffusers_key(key): tensor for key, tensor in vae.state_dict().items()})
    assert tuple(oracle.config.latents_mean) == VAE_CONFIG.latent_mean
    assert tuple(oracle.config.latents_std) == VAE_CONFIG.latent_std
    shift, scale = (
        torch.tensor(part, dtype=torch.float64)[:, None, None, None]
        for part in (VAE_CONFIG.latent_mean, VAE_CONFIG.latent_std)
    )
    frames, code = clip().double(), 0.3 * latent(3, (6, 8)).double()
    with torch.no_grad():
        theirs, ours = oracle.encode(frames).latent_dist, vae.encode(frames)
        assert relative_difference(ours.mean * scale + shift, theirs.mean) < 1e-10
        assert relative_difference(ours.logvar, theirs.logvar) < 1e-10
        # it casts to float32 before it repeats pixels
        assert relative_difference(vae.decode(code), oracle.decode(code * scale + shift).sample) < 1e-4


@settings(max_examples=6, deadline=None)
@given(frames=st.sampled_from([1, 5, 13]), latents_per_chunk=st.integers(1, 4))
def test_chunks_never_change_the_result(frames: int, latents_per_chunk: int) -> None:
    vae, video = tiny_vae().double(), clip(frames, (16, 24)).double()
    one, other = vae.encode(video), vae.encode(video, latents_per_chunk=latents_per_chunk)
    assert relative_difference(other.mean, one.mean) < 1e-10
    whole = vae.decode(one.mean, clamp=False)
    chunked = vae.decode(one.mean, clamp=False, latents_per_chunk=latents_per_chunk)
    assert relative_difference(chunked, whole) < 1e-10


def test_49_frames_become_13_and_49_again() -> None:
    vae = tiny_vae()
    posterior = vae.encode(clip(49, (16, 16)))
    assert posterior.mean.shape == posterior.logvar.shape == (1, 16, 13, 2, 2)
    assert vae.decode(posterior.mean).shape == (1, 3, 49, 16, 16)


def test_the_first_frame_is_independent_of_later_ones() -> None:
    vae, video, code = tiny_vae().double(), clip(5, (16, 16)).double(), latent(2, (2, 2)).double()
    torch.testing.assert_close(vae.encode(video).mean[:, :, :1], vae.encode(video[:, :, :1]).mean)
    torch.testing.assert_close(vae.decode(code)[:, :, :1], vae.decode(code[:, :, :1]))


def test_decoding_clamps_unless_told_not_to() -> None:
    vae, code = tiny_vae(), latent(2, (2, 2))
    free = vae.decode(code, clamp=False)
    assert free.abs().max() > 1
    torch.testing.assert_close(vae.decode(code), free.clamp(-1, 1))


def test_training_reaches_every_parameter() -> None:
    vae = tiny_vae().requires_grad_(True).train()
    posterior = vae.encode(clip(9, (16, 16)))
    vae.decode(posterior.sample(torch.Generator().manual_seed(0)), clamp=False).square().mean().backward()
    assert [name for name, parameter in vae.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_one_tile_is_no_tiling() -> None:
    vae, video = tiny_vae(), clip(5, (16, 24))
    whole = vae.encode(video)
    tiled = vae.encode(video, tiling=Tiling(size_px=32, overlap_px=8))
    torch.testing.assert_close(tiled.mean, whole.mean)
    torch.testing.assert_close(tiled.logvar, whole.logvar)
    one = vae.decode(whole.mean, tiling=Tiling(size_px=32, overlap_px=8))
    torch.testing.assert_close(one, vae.decode(whole.mean))


@pytest.mark.parametrize("size", [(40, 56), (32, 16), (24, 72), (24, 24)])
def test_tiles_blend_to_what_no_tiles_give_where_neighbours_do_not_matter(size: tuple[int, int]) -> None:
    video = clip(1, size)

    def shrink(part: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool3d(part, (1, 8, 8))

    def enlarge(part: torch.Tensor) -> torch.Tensor:
        return part.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)

    shrunk = _in_tiles(video, shrink, 24, 8, lambda pixels: pixels // 8)
    torch.testing.assert_close(shrunk, shrink(video))
    torch.testing.assert_close(_in_tiles(shrunk, enlarge, 3, 1, lambda cells: cells * 8), enlarge(shrunk))


def test_tiles_of_the_network_have_the_shape_of_the_whole() -> None:
    vae, video = tiny_vae(), clip(1, (64, 64))
    tiling = Tiling(size_px=48, overlap_px=24)
    whole, tiled = vae.encode(video), vae.encode(video, tiling=tiling)
    assert tiled.mean.shape == whole.mean.shape
    assert tiled.logvar.shape == whole.logvar.shape
    decoded = vae.decode(whole.mean, tiling=tiling)
    assert decoded.shape == video.shape
    assert decoded.abs().max() <= 1


@pytest.mark.parametrize(("size", "overlap"), [(20, 8), (24, 4), (24, 0), (24, 24)])
def test_other_tiles_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        Tiling(size, overlap)


def test_other_sizes_and_lengths_are_refused() -> None:
    vae = tiny_vae()
    with pytest.raises(InputError, match=r"a clip of 4 frames; .* use 1 or 5"):
        vae.encode(clip(4, (16, 16)))
    with pytest.raises(InputError, match=r"frames of 16 x 20; expected multiples of 8"):
        vae.encode(clip(1, (16, 20)))
    with pytest.raises(InputError, match=r"expected \[batch, 3, frames, height, width\]"):
        vae.encode(latent(1, (16, 16)))
    with pytest.raises(InputError, match=r"expected \[batch, 16, frames, height, width\]"):
        vae.decode(clip(1, (16, 16)))


def test_a_saved_vae_comes_back(tmp_path: Path) -> None:
    vae = tiny_vae()
    vae.save(tmp_path)
    back = WanVae.from_folder(tmp_path)
    assert back.config == vae.config
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), vae.state_dict().values(), strict=True))


def test_keys_without_prefix_are_read(tmp_path: Path) -> None:
    vae = tiny_vae()
    vae.save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({key.removeprefix("model."): tensor for key, tensor in tensors.items()}, tmp_path / WEIGHTS)
    torch.testing.assert_close(
        WanVae.from_folder(tmp_path).encode(clip(1, (16, 16))).mean, vae.encode(clip(1, (16, 16))).mean
    )


def test_the_official_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    content = {
        "_class_name": "AutoencoderKLWan",
        "_diffusers_version": "0.33.1",
        "latent_channels": 16,
        "spacial_compression_ratio": 8,
        "temporal_compression_ratio": 4,
    }
    path.write_text(json.dumps(content))
    assert WanVaeConfig.from_json(path) == WanVaeConfig.official()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_channels": None}, "lacks 'latent_channels'"),
        ({"latent_channels": 48}, "48 latent channels; expected 16"),
        ({"temporal_compression_ratio": 8}, "temporal_compression_ratio 8; expected 4"),
        ({"z_dim": 16}, "unknown keys z_dim"),
        ({"width_multipliers": [1, 2, 4]}, "four stages"),
    ],
)
def test_configurations_that_this_network_is_not(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = {**VAE_CONFIG.to_json(), **change}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        WanVaeConfig.from_json(path)


def test_no_configuration_means_no_guess(tmp_path: Path) -> None:
    tiny_vae().save(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        WanVae.from_folder(tmp_path)


def test_a_single_file_is_the_public_size_or_refused(tmp_path: Path) -> None:
    tiny_vae().save(tmp_path)
    with pytest.raises(InputError, match=r"of another shape: conv1|of another shape: encoder\.conv1"):
        WanVae.from_folder(tmp_path / WEIGHTS)
