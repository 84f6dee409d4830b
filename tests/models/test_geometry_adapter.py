from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_autoencoders import (
    ADAPTER_CONFIG,
    distance,
    key_digest,
    latent,
    relative_difference,
    shapes,
    summary,
    tiny_adapter,
    token_map,
    wavy,
    with_formula_weights,
)
from torch import nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.adapter_checkpoint import load_adapter
from gen3r_bench.models.geometry_adapter import (
    GeometryAdapter,
    GeometryAdapterConfig,
    pack_tokens,
    unpack_tokens,
)
from gen3r_bench.models.vggt import VggtTokens

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "adapter.json").read_text(encoding="utf-8"))
WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = (4, 8)
"""A token grid for tests that need no particular size; its latent is 7 x 14."""


@pytest.fixture(scope="module")
def official() -> nn.Module:
    with torch.device("meta"):
        return GeometryAdapter(GeometryAdapterConfig.official())


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_official_size(official: nn.Module) -> None:
    assert count(official) == 317_844_304
    assert count(official.model.encoder) == 155_133_216
    assert count(official.model.decoder) == 162_709_760
    assert len(official.state_dict()) == 202


def test_official_names_and_shapes_are_the_released_ones(official: nn.Module) -> None:
    assert key_digest(official) == GOLDEN["official_keys"]["adapter"]


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("encoder.init_block.resample.1.weight", [1024, 10240, 3, 3]),
        ("encoder.conv1.weight", [512, 1024, 3, 3, 3]),
        ("encoder.downsamples.1.residual.6.weight", [512, 512, 3, 3, 3]),
        ("encoder.downsamples.2.resample.0.weight", [512, 512, 3, 3]),
        ("encoder.downsamples.3.shortcut.weight", [256, 512, 1, 1, 1]),
        ("encoder.downsamples.3.residual.0.gamma", [512, 1, 1, 1]),
        ("encoder.downsamples.5.resample.0.weight", [256, 256, 3, 3]),
        ("encoder.downsamples.5.time_conv.weight", [256, 256, 3, 1, 1]),
        ("encoder.downsamples.6.shortcut.bias", [128]),
        ("encoder.downsamples.8.time_conv.weight", [128, 128, 3, 1, 1]),
        ("encoder.downsamples.10.residual.3.gamma", [128, 1, 1, 1]),
        ("encoder.middle.1.norm.gamma", [128, 1, 1]),
        ("encoder.middle.1.to_qkv.weight", [384, 128, 1, 1]),
        ("encoder.middle.1.proj.bias", [128]),
        ("encoder.head.0.gamma", [128, 1, 1, 1]),
        ("encoder.head.2.weight", [32, 128, 3, 3, 3]),
        ("conv1.weight", [32, 32, 1, 1, 1]),
        ("conv2.weight", [16, 16, 1, 1, 1]),
        ("decoder.conv1.weight", [128, 16, 3, 3, 3]),
        ("decoder.middle.2.residual.2.weight", [128, 128, 3, 3, 3]),
        ("decoder.upsamples.3.time_conv.weight", [256, 128, 3, 1, 1]),
        ("decoder.upsamples.3.resample.0.weight", [64, 128, 3, 3]),
        ("decoder.upsamples.4.shortcut.weight", [128, 64, 1, 1, 1]),
        ("decoder.upsamples.7.time_conv.bias", [256]),
        ("decoder.upsamples.8.shortcut.weight", [256, 64, 1, 1, 1]),
        ("decoder.upsamples.11.resample.0.weight", [128, 256, 3, 3]),
        ("decoder.upsamples.12.shortcut.weight", [512, 128, 1, 1, 1]),
        ("decoder.upsamples.14.residual.6.bias", [512]),
        ("decoder.head.2.weight", [1024, 512, 3, 3, 3]),
        ("decoder.out_block.resample.2.weight", [10240, 1024, 3, 3]),
    ],
)
def test_official_entries(official: nn.Module, key: str, shape: list[int]) -> None:
    assert shapes(official)[f"model.{key}"] == shape


def test_outputs_are_the_released_codes_numbers() -> None:
    adapter = tiny_adapter()
    posterior = adapter.encode(token_map())
    found = {
        "adapter_mean": posterior.mean,
        "adapter_logvar": posterior.logvar,
        "adapter_tokens": adapter.decode(latent(3, (70, 70))),
    }
    for name, tensor in found.items():
        assert distance(summary(tensor), GOLDEN["outputs"][name]) < 1e-4, name


@settings(max_examples=6, deadline=None)
@given(frames=st.sampled_from([1, 5, 13, 17]), latents_per_chunk=st.integers(1, 5))
def test_chunks_never_change_the_result(frames: int, latents_per_chunk: int) -> None:
    adapter = tiny_adapter().double()
    tokens = token_map(frames, SMALL).double()
    one, other = adapter.encode(tokens), adapter.encode(tokens, latents_per_chunk=latents_per_chunk)
    assert relative_difference(other.mean, one.mean) < 1e-10
    assert relative_difference(other.logvar, one.logvar) < 1e-10
    whole = adapter.decode(one.mean)
    assert relative_difference(adapter.decode(one.mean, latents_per_chunk=latents_per_chunk), whole) < 1e-10


def test_49_frames_become_13_and_49_again() -> None:
    adapter = tiny_adapter()
    posterior = adapter.encode(token_map(49, (4, 4)))
    assert posterior.mean.shape == posterior.logvar.shape == (1, 16, 13, 7, 7)
    assert adapter.decode(posterior.mean).shape == (1, 40, 49, 4, 4)


def test_the_first_frame_is_independent_of_later_ones() -> None:
    adapter, tokens = tiny_adapter(), token_map(5, SMALL)
    code = latent(2, (7, 14))
    torch.testing.assert_close(adapter.encode(tokens).mean[:, :, :1], adapter.encode(tokens[:, :, :1]).mean)
    torch.testing.assert_close(adapter.decode(code)[:, :, :1], adapter.decode(code[:, :, :1]))


def test_clips_of_a_batch_do_not_meet() -> None:
    adapter = tiny_adapter()
    pair = torch.cat([token_map(5, SMALL), -token_map(5, SMALL)])
    both = adapter.encode(pair).mean
    torch.testing.assert_close(both[1:], adapter.encode(pair[1:]).mean, rtol=1e-4, atol=1e-5)


def test_the_mean_is_normalised_and_the_log_variance_is_not() -> None:
    plain = dataclasses.replace(ADAPTER_CONFIG, latent_mean=(0.0,) * 16, latent_std=(1.0,) * 16)
    adapter, raw = tiny_adapter(), GeometryAdapter(plain)
    raw.load_state_dict(adapter.state_dict())
    tokens = token_map(5, SMALL)
    with torch.no_grad():
        ours, theirs = adapter.encode(tokens), raw.encode(tokens)
        shift, scale = (
            torch.tensor(part)[:, None, None, None] for part in (ADAPTER_CONFIG.latent_mean, ADAPTER_CONFIG.latent_std)
        )
        torch.testing.assert_close(ours.mean, (theirs.mean - shift) / scale)
        torch.testing.assert_close(ours.logvar, theirs.logvar)
        torch.testing.assert_close(adapter.decode(ours.mean), raw.decode(theirs.mean), rtol=1e-3, atol=1e-4)


def test_statistics_keep_their_digits_in_bfloat16() -> None:
    adapter = tiny_adapter()
    expected = adapter.encode(token_map(1, SMALL)).mean
    lowered = adapter.bfloat16().encode(token_map(1, SMALL).bfloat16())
    assert lowered.mean.dtype == torch.bfloat16
    assert (lowered.mean.float() - expected).abs().mean() < 0.05


@pytest.mark.parametrize("shape", [(1, 40, 5, 4), (1, 39, 5, 4, 4), (0, 40, 5, 4, 4)])
def test_other_token_maps_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \[batch, 40, frames, height, width\]"):
        tiny_adapter().encode(torch.zeros(shape))


def test_other_sizes_and_lengths_are_refused() -> None:
    adapter = tiny_adapter()
    with pytest.raises(InputError, match=r"a clip of 6 frames; .* use 5 or 9"):
        adapter.encode(token_map(6, SMALL))
    with pytest.raises(InputError, match=r"a token grid of 37 x 40; expected multiples of 4 .*560"):
        adapter.encode(token_map(1, (37, 40)))
    with pytest.raises(InputError, match=r"a latent of 70 x 69; expected multiples of 7"):
        adapter.decode(latent(1, (70, 69)))
    with pytest.raises(InputError, match="0 latent frames a chunk"):
        adapter.decode(latent(1, (7, 7)), latents_per_chunk=0)


def test_sizes_of_grid_and_latent() -> None:
    assert ADAPTER_CONFIG.latent_size((40, 40)) == (70, 70)
    assert ADAPTER_CONFIG.grid_size((70, 70)) == (40, 40)
    same = dataclasses.replace(ADAPTER_CONFIG, grid_unit=1, latent_unit=1)
    assert same.latent_size((5, 8)) == same.grid_size((5, 8)) == (5, 8)


@pytest.mark.parametrize("units", [(0, 7), (4, 8), (4, -7)])
def test_units_that_are_no_ratio_are_refused(units: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="without a common factor"):
        GeometryAdapterConfig(
            token_channels=40, hidden_dim=4, resample_scale=5, grid_unit=units[0], latent_unit=units[1]
        )


@pytest.mark.parametrize(("units", "grid", "size"), [((1, 1), (3, 5), (3, 5)), ((2, 3), (4, 2), (6, 3))])
def test_other_ratios_go_there_and_back(
    units: tuple[int, int], grid: tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    config = dataclasses.replace(ADAPTER_CONFIG, grid_unit=units[0], latent_unit=units[1])
    adapter = with_formula_weights(GeometryAdapter(config))
    tokens = token_map(5, grid)
    posterior, decoded = adapter(tokens, torch.zeros(1, 16, 2, *size))
    assert posterior.mean.shape == (1, 16, 2, *size)
    assert decoded.shape == tokens.shape
    assert decoded.equal(adapter.decode(adapter.encode(tokens, latents_per_chunk=2).mean, latents_per_chunk=2))
    adapter.save(tmp_path)
    assert load_adapter(tmp_path).config == config


def vggt_tokens(frames: int = 3, grid: tuple[int, int] = (4, 8)) -> VggtTokens:
    count = 5 + grid[0] * grid[1]
    return VggtTokens(tuple(wavy((2, frames, count, 8), layer) for layer in range(4)), 5, grid)


def test_packed_tokens_are_laid_out_as_the_adapter_was_trained() -> None:
    tokens = vggt_tokens()
    packed = pack_tokens(tokens)
    assert packed.shape == (2, 40, 3, 4, 8)
    for layer in range(4):
        row, column = 2, 5
        expected = tokens.layers[layer][1, 2, 5 + row * 8 + column]
        torch.testing.assert_close(packed[1, 8 * layer : 8 * layer + 8, 2, row, column], expected)
    camera = tokens.layers[3][:, :, 0]
    torch.testing.assert_close(packed[:, 32:, :, 3, 1], camera.transpose(1, 2))
    torch.testing.assert_close(packed[:, 32:, :, 0, 0], packed[:, 32:, :, 3, 7])


def test_unpacking_gives_back_what_the_heads_read() -> None:
    tokens = vggt_tokens()
    back = unpack_tokens(pack_tokens(tokens))
    assert (back.patch_start, back.grid) == (5, (4, 8))
    for before, after in zip(tokens.layers, back.layers, strict=True):
        assert after.shape == before.shape
        torch.testing.assert_close(after[:, :, 5:], before[:, :, 5:], rtol=0, atol=0)
        for special in range(5):
            torch.testing.assert_close(after[:, :, special], tokens.layers[3][:, :, 0], rtol=1e-5, atol=1e-6)


def test_the_camera_token_is_the_mean_over_positions() -> None:
    whole = wavy((1, 40, 2, 4, 4), 5)
    camera = unpack_tokens(whole, patch_start=3).layers[0][0, 1, 2]
    torch.testing.assert_close(camera, whole[0, 32:, 1].mean(dim=(1, 2)))
    with pytest.raises(InputError, match="5 D"):
        unpack_tokens(whole[:, :39])


def test_a_saved_adapter_comes_back(tmp_path: Path) -> None:
    adapter = tiny_adapter()
    adapter.save(tmp_path)
    back = load_adapter(tmp_path)
    assert back.config == adapter.config
    assert not back.training
    assert all(
        torch.equal(a, b) for a, b in zip(back.state_dict().values(), adapter.state_dict().values(), strict=True)
    )


def test_the_official_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    content = {
        "_class_name": "GeometryAdapter",
        "_diffusers_version": "0.33.1",
        "hidden_dim": 128,
        "input_dim": 10240,
        "latent_channels": 16,
        "output_dim": 10240,
        "resample_scale": 10,
        "spatial_compression_ratio": 8,
        "temporal_compression_ratio": 4,
    }
    path.write_text(json.dumps(content))
    assert GeometryAdapterConfig.from_json(path) == GeometryAdapterConfig.official()


@pytest.mark.parametrize("trainer", [False, True])
def test_keys_without_prefix_and_a_trainers_statistics_are_read(tmp_path: Path, trainer: bool) -> None:
    adapter = tiny_adapter()
    adapter.save(tmp_path)
    bare = {key.removeprefix("model."): tensor for key, tensor in load_file(tmp_path / WEIGHTS).items()}
    (tmp_path / WEIGHTS).unlink()
    extra = {"mean": torch.zeros(16), "std": torch.ones(16)} if trainer else {}
    save_file({**bare, **extra}, tmp_path / ("geo_adapter.safetensors" if trainer else WEIGHTS))
    back = load_adapter(tmp_path)
    torch.testing.assert_close(back.encode(token_map(1, SMALL)).mean, adapter.encode(token_map(1, SMALL)).mean)


def test_no_configuration_means_no_guess(tmp_path: Path) -> None:
    tiny_adapter().save(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_adapter(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_dim": None}, "lacks 'hidden_dim'"),
        ({"output_dim": 80}, "input_dim and output_dim differ"),
        ({"spatial_compression_ratio": 16}, "spatial_compression_ratio 16; expected 8"),
        ({"attn_scales": [1]}, "unknown keys attn_scales"),
        ({"latent_channels": 8}, "8 latent channels; expected 16"),
        ({"input_dim": 41, "output_dim": 41}, "41 token channels"),
        ({"halve_time": [True, True, True]}, "halve_time"),
    ],
)
def test_configurations_that_this_network_is_not(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = {**ADAPTER_CONFIG.to_json(), **change}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        GeometryAdapterConfig.from_json(path)


def test_configurations_that_are_no_object(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, message in (("{", "is not JSON"), ("[]", "holds a list")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            GeometryAdapterConfig.from_json(path)


def test_weights_must_cover_the_network_exactly(tmp_path: Path) -> None:
    tiny_adapter().save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    moved = tensors.pop("model.encoder.conv1.weight")
    save_file({**tensors, "model.encoder.conv9.weight": moved}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"1 missing: encoder\.conv1\.weight.*1 unexpected: encoder\.conv9\.weight"):
        load_adapter(tmp_path)


def test_training_reaches_every_parameter() -> None:
    adapter = tiny_adapter().requires_grad_(True).train()
    posterior = adapter.encode(token_map(9, SMALL))
    (adapter.decode(posterior.sample(torch.Generator().manual_seed(0))).square().mean()).backward()
    assert [name for name, parameter in adapter.named_parameters() if not parameter.grad.abs().sum() > 0] == []
