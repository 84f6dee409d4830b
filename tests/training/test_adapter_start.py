from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_frozen import ADAPTER

from gen3r_bench.models.adapter_checkpoint import KnownAdapterConfig, build_adapter
from gen3r_bench.models.code_adapter import CodeAdapter, CodeAdapterConfig
from gen3r_bench.training.adapter_start import AdapterStart, ScaledAdapter, set_logvar, start_code
from gen3r_bench.training.principal_components import principal_components

CHANNELS = ADAPTER.token_channels
CODE = CodeAdapterConfig.tiny(CHANNELS)


def scaled(seed: int, magnitude: float = 1.0, config: KnownAdapterConfig = ADAPTER) -> ScaledAdapter:
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    mean = magnitude * torch.randn(CHANNELS, generator=draw)
    return ScaledAdapter(build_adapter(config), mean, 0.1 + torch.rand(CHANNELS, generator=draw))


@pytest.mark.parametrize("config", [ADAPTER, CODE])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), magnitude=st.floats(0, 30))
def test_what_ships_does_what_was_trained(config: KnownAdapterConfig, seed: int, magnitude: float) -> None:
    """Borders too, and whatever the sizes of the tokens."""
    trained = scaled(seed, magnitude, config)
    tokens = trained.mean.view(1, -1, 1, 1, 1) + trained.std.view(1, -1, 1, 1, 1) * torch.randn(1, CHANNELS, 5, 3, 2)
    before = trained.adapter.state_dict()["model.conv1.weight"].clone()
    shipped = trained.unscaled()
    with torch.no_grad():
        noise = torch.randn_like(shipped.encode(tokens).mean)
        posterior, decoded = shipped(tokens, noise)
        same, again = trained(tokens, noise)
    torch.testing.assert_close(posterior.mean, same.mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(decoded, again, rtol=1e-3, atol=1e-4 * (1 + magnitude))
    # a copy: training may go on
    assert trained.adapter.state_dict()["model.conv1.weight"].equal(before)
    assert shipped.state_dict().keys() == trained.adapter.state_dict().keys()


def test_the_network_inside_sees_and_says_numbers_of_size_one() -> None:
    trained = scaled(0, magnitude=50)
    seen: list[Any] = []
    trained.adapter.model.encoder.init_block.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    tokens = trained.mean.view(1, -1, 1, 1, 1) + trained.std.view(1, -1, 1, 1, 1) * torch.randn(2, CHANNELS, 5, 4, 4)
    with torch.no_grad():
        trained.adapter.model.decoder.out_block.resample["2"].weight.zero_()
        trained.adapter.model.decoder.out_block.resample["2"].bias.zero_()
        posterior = trained.adapter.encode(tokens)
        seen.clear()
        _, decoded = trained(tokens, torch.zeros_like(posterior.mean))
    size = torch.cat(seen, dim=2).square().mean((0, 2, 3, 4)).sqrt()
    torch.testing.assert_close(size, torch.ones(CHANNELS), rtol=0.2, atol=0)
    torch.testing.assert_close(decoded, trained.mean.view(1, -1, 1, 1, 1).expand_as(decoded))


def test_a_way_in_without_borders_takes_the_mean_away() -> None:
    trained = scaled(0, magnitude=50, config=CODE)
    tokens = trained.mean.view(1, -1, 1, 1, 1) + trained.std.view(1, -1, 1, 1, 1) * torch.randn(2, CHANNELS, 5, 9, 9)
    seen = trained.scaled(tokens).transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen.mean(1), torch.zeros(CHANNELS), rtol=0, atol=0.2)
    torch.testing.assert_close(seen.std(1), torch.ones(CHANNELS), rtol=0.15, atol=0)


def clips_of_tokens(rank: int) -> torch.Tensor:
    """Token maps of ``rank`` numbers a place, mixed over the channels."""
    return torch.einsum("cd,bdfhw->bcfhw", torch.randn(CHANNELS, rank), torch.randn(6, rank, 9, 4, 4))


def test_a_code_begins_as_principal_components() -> None:
    """Oracle: what numpy's decomposition of the narrowed tokens leaves; all of it where 16 numbers are enough."""
    torch.manual_seed(0)
    tokens = clips_of_tokens(rank=4)
    adapter = CodeAdapter(CODE).requires_grad_(False)
    start_code(adapter, tokens, None)
    posterior = adapter.encode(tokens)
    decoded = adapter.decode(posterior.mean)
    torch.testing.assert_close(decoded[:, :, :1], tokens[:, :, :1], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(decoded[:, :, 1:], tokens[:, :, 1:], rtol=1e-2, atol=1e-2)
    flat = posterior.mean[:, :4].transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.std(1), torch.ones(4), rtol=0.02, atol=0)


def test_with_more_than_a_code_holds_it_keeps_what_varies_most() -> None:
    torch.manual_seed(1)
    tokens = clips_of_tokens(rank=12)
    adapter = CodeAdapter(CODE).requires_grad_(False)
    start_code(adapter, tokens, None)
    decoded = adapter.decode(adapter.encode(tokens).mean)
    # four frames' tokens of a place side by side, as one vector
    vectors = tokens[:, :, 1:].reshape(6, CHANNELS, 2, 4, 4, 4).permute(1, 3, 0, 2, 4, 5).flatten(2).flatten(0, 1)
    code = principal_components(vectors[None, :, :, None, None], 16)
    best = code.out @ code.into @ (vectors - code.mean[:, None]) + code.mean[:, None]
    left, least = (decoded - tokens)[:, :, 1:].square().sum(), (best - vectors).square().sum()
    assert float(left) == pytest.approx(float(least), rel=1e-3)


def test_a_code_is_turned_toward_the_appearance() -> None:
    torch.manual_seed(2)
    tokens = clips_of_tokens(rank=12)
    plain, turned = (CodeAdapter(CODE).requires_grad_(False) for _ in range(2))
    start_code(plain, tokens, None)
    means = plain.encode(tokens).mean
    rotation = torch.linalg.qr(torch.randn(16, 16))[0]
    appearance = torch.einsum("cd,bdfhw->bcfhw", rotation, means)
    start_code(turned, tokens, appearance)
    torch.testing.assert_close(turned.encode(tokens).mean, appearance, rtol=1e-2, atol=2e-2)
    torch.testing.assert_close(turned.decode(turned.encode(tokens).mean), plain.decode(means), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("config", [ADAPTER, CODE])
@pytest.mark.parametrize("logvar", [-6.0, 0.0])
def test_the_posterior_begins_equally_sure_of_everything(logvar: float, config: KnownAdapterConfig) -> None:
    adapter = build_adapter(config)
    set_logvar(adapter, logvar)
    tokens = torch.randn(1, CHANNELS, 5, 2, 2)
    with torch.no_grad():
        posterior, other = adapter.encode(tokens), adapter.encode(2 + tokens)
    assert posterior.logvar.eq(logvar).all()
    assert other.logvar.eq(logvar).all()
    assert not posterior.mean.equal(other.mean)


def test_a_start_measures_something() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        AdapterStart(clips=0, logvar=-6)
