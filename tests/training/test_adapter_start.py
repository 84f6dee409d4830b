from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_frozen import ADAPTER

from gen3r_bench.models.geometry_adapter import GeometryAdapter
from gen3r_bench.training.adapter_start import AdapterStart, ScaledAdapter, set_logvar

CHANNELS = ADAPTER.token_channels


def scaled(seed: int, magnitude: float = 1.0) -> ScaledAdapter:
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    mean = magnitude * torch.randn(CHANNELS, generator=draw)
    return ScaledAdapter(GeometryAdapter(ADAPTER), mean, 0.1 + torch.rand(CHANNELS, generator=draw))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 30))
def test_what_ships_does_what_was_trained(seed: int, magnitude: float) -> None:
    """Borders too, and whatever the sizes of the tokens."""
    trained = scaled(seed, magnitude)
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


@pytest.mark.parametrize("logvar", [-6.0, 0.0])
def test_the_posterior_begins_equally_sure_of_everything(logvar: float) -> None:
    adapter = GeometryAdapter(ADAPTER)
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
