from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_autoencoders import with_formula_weights

from gen3r_bench.errors import InputError
from gen3r_bench.models.adapter_checkpoint import load_adapter
from gen3r_bench.models.code_adapter import CodeAdapter, CodeAdapterConfig
from gen3r_bench.models.linear_code import LinearCode, fold_chunks

CONFIG = CodeAdapterConfig.tiny()
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny() -> CodeAdapter:
    return with_formula_weights(CodeAdapter(CONFIG)).eval()


def tokens(frames: int, grid: tuple[int, int] = (3, 2), seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 40, frames, *grid, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.integers(1, 4))
def test_latents_have_the_grid_of_the_tokens(chunks: int, grid: tuple[int, int], together: int) -> None:
    adapter, clip = tiny(), tokens(1 + 4 * chunks, grid)
    with torch.no_grad():
        posterior = adapter.encode(clip, latents_per_chunk=together)
        whole = adapter.encode(clip, latents_per_chunk=9)
        decoded = adapter.decode(posterior.mean, latents_per_chunk=together)
    assert posterior.mean.shape == posterior.logvar.shape == (1, 16, 1 + chunks, *grid)
    assert decoded.shape == clip.shape
    torch.testing.assert_close(posterior.mean, whole.mean, rtol=1e-4, atol=1e-5)


def test_set_to_codes_a_new_one_is_those_codes() -> None:
    """Oracle: the matrices themselves, of tokens and of what they are narrowed to."""
    torch.manual_seed(0)
    adapter = CodeAdapter(CONFIG).requires_grad_(False)
    of_tokens, first, chunk = (
        LinearCode(torch.randn(wide), torch.randn(narrow, wide), torch.randn(wide, narrow))
        for wide, narrow in ((40, 16), (16, 16), (64, 16))
    )
    adapter.start_from(of_tokens, first, chunk)
    clip = tokens(9)
    posterior = adapter.encode(clip)
    narrowed = torch.einsum("cd,bdfhw->bcfhw", of_tokens.into, clip - of_tokens.mean.view(-1, 1, 1, 1))
    for code, place, numbers in (
        (first, slice(1), narrowed[:, :, :1]),
        (chunk, slice(1, None), fold_chunks(narrowed[:, :, 1:])),
    ):
        expected = torch.einsum("cd,bdfhw->bcfhw", code.into, numbers - code.mean.view(-1, 1, 1, 1))
        torch.testing.assert_close(posterior.mean[:, :, place], expected, rtol=1e-4, atol=1e-3)
    first_back = first.out @ posterior.mean[0, :, 0].flatten(1) + first.mean[:, None]
    torch.testing.assert_close(
        adapter.decode(posterior.mean)[0, :, 0].flatten(1),
        of_tokens.out @ first_back + of_tokens.mean[:, None],
        rtol=1e-4,
        atol=1e-1,
    )


def test_saved_and_read_back(tmp_path: Path) -> None:
    adapter = tiny()
    adapter.save(tmp_path)
    back = load_adapter(tmp_path)
    assert isinstance(back, CodeAdapter)
    assert back.config == adapter.config
    assert not back.training
    assert back.encode(tokens(5)).mean.equal(adapter.encode(tokens(5)).mean)


def test_statistics_shift_and_scale_the_latents_and_change_no_token() -> None:
    mean, std = tuple(0.1 * i for i in range(16)), tuple(1 + 0.1 * i for i in range(16))
    config = CodeAdapterConfig(
        token_channels=40, narrow=16, width=8, encoder_blocks=1, decoder_blocks=2, latent_mean=mean, latent_std=std
    )
    plain, measured = tiny(), with_formula_weights(CodeAdapter(config))
    shift, scale = (torch.tensor(part).view(-1, 1, 1, 1) for part in (mean, std))
    with torch.no_grad():
        raw, normal = plain.encode(tokens(5)), measured.encode(tokens(5))
        torch.testing.assert_close(normal.mean * scale + shift, raw.mean, rtol=1e-4, atol=1e-5)
        assert normal.logvar.equal(raw.logvar)
        torch.testing.assert_close(measured.decode(normal.mean), plain.decode(raw.mean), rtol=1e-4, atol=1e-4)


def test_shapes_that_it_does_not_take() -> None:
    adapter = tiny()
    with pytest.raises(InputError, match="tokens of shape"):
        adapter.encode(torch.zeros(1, 39, 5, 2, 2))
    with pytest.raises(InputError, match="4 frames"):
        adapter.encode(tokens(4))
    with pytest.raises(InputError, match="latent of shape"):
        adapter.decode(torch.zeros(1, 15, 2, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"narrow": None}, "lacks 'narrow'"),
        ({"spatial_compression_ratio": 16}, "spatial_compression_ratio 16; expected 8"),
        ({"hidden_dim": 4}, "unknown keys hidden_dim"),
        ({"latent_channels": 8}, "8 latent channels; expected 16"),
        ({"token_channels": 41}, "41 token channels; expected a multiple of 5"),
        ({"narrow": 15}, "narrowed to 15 and 16; expected no more at each step"),
        ({"narrow": 41}, "narrowed to 41 and 16"),
        ({"width": 0}, "width 0"),
        ({"decoder_blocks": -1}, "-1 blocks"),
        ({"latent_std": [0.0] * 16}, "positive deviation"),
    ],
)
def test_configurations_that_this_network_is_not(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "config.json"
    content = {**CONFIG.to_json(), **change}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        CodeAdapterConfig.from_json(path)


def test_weights_must_cover_the_network_exactly(tmp_path: Path) -> None:
    tiny().save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    del tensors["model.encoder.narrow.bias"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"code adapter in .*\(1 missing: encoder\.narrow\.bias"):
        load_adapter(tmp_path)


def test_training_reaches_every_parameter() -> None:
    adapter = tiny().requires_grad_(True).train()
    posterior = adapter.encode(tokens(9))
    adapter.decode(posterior.sample(torch.Generator().manual_seed(0))).square().mean().backward()
    assert [name for name, parameter in adapter.named_parameters() if not parameter.grad.abs().sum() > 0] == []
