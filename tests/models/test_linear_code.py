from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gen3r_bench.models.causal3d import CausalAutoencoder
from gen3r_bench.models.linear_code import (
    CodeDecoder,
    CodeEncoder,
    CodeSize,
    LinearCode,
    Place,
    code_autoencoder,
    fold_chunks,
    start_from,
    unfold_chunks,
)

SIZE = CodeSize(first=3, chunk=12, latent=2, width=6)


class _From(CodeEncoder):
    def _numbers(self, name: Place, part: Tensor) -> Tensor:
        return part if name == "first" else fold_chunks(part)


class _To(CodeDecoder):
    def _part(self, name: Place, numbers: Tensor) -> Tensor:
        return numbers if name == "first" else unfold_chunks(numbers)


def network(seed: int = 0, *, blank: bool = False) -> CausalAutoencoder:
    torch.manual_seed(seed)
    made = code_autoencoder(_From(SIZE, 1), _To(SIZE, 2), mean=(0.0,) * 2, std=(1.0,) * 2)
    if not blank:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def a_code(numbers: int, seed: int) -> LinearCode:
    draw = torch.Generator().manual_seed(seed)
    return LinearCode(
        torch.randn(numbers, generator=draw), torch.randn(2, numbers, generator=draw), torch.randn(numbers, 2)
    )


def test_chunks_are_folded_channel_first_and_come_back() -> None:
    clip = torch.arange(2 * 3 * 8 * 2 * 1).float().reshape(2, 3, 8, 2, 1)
    folded = fold_chunks(clip)
    assert folded.shape == (2, 12, 2, 2, 1)
    assert folded[1, 2 * 4 + 3, 1, 0, 0] == clip[1, 2, 4 + 3, 0, 0]
    assert unfold_chunks(folded).equal(clip)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.integers(1, 4))
def test_pieces_of_any_length_give_the_same(seed: int, latents: int) -> None:
    made = network(seed)
    clip = torch.randn(2, 3, 13, 3, 2)
    whole = made.encode(clip, 4)
    parts = made.encode(clip, latents)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.decode(whole.mean, latents), made.decode(whole.mean, 4), rtol=1e-4, atol=1e-5)


def test_nothing_depends_on_what_comes_later() -> None:
    made = network()
    clip = torch.randn(1, 3, 9, 3, 2)
    changed = torch.cat([clip[:, :, :5], torch.randn(1, 3, 4, 3, 2)], dim=2)
    one, other = (made.encode(each, 3).mean for each in (clip, changed))
    torch.testing.assert_close(one[:, :, :2], other[:, :, :2])
    assert not one[:, :, 2].equal(other[:, :, 2])
    latent = torch.cat([one[:, :, :2], other[:, :, 2:]], dim=2)
    torch.testing.assert_close(made.decode(one, 3)[:, :, :5], made.decode(latent, 3)[:, :, :5])


def test_set_to_a_code_a_new_network_is_that_code() -> None:
    """Oracle: the matrices themselves."""
    made, codes = network(blank=True), (a_code(3, 0), a_code(12, 1))
    start_from(made, *codes)
    clip = torch.randn(1, 3, 9, 2, 2)
    posterior = made.encode(clip, 3)
    decoded = made.decode(posterior.mean, 3)
    for code, place, numbers, fold in (
        (codes[0], slice(1), clip[:, :, :1], lambda part: part),
        (codes[1], slice(1, None), fold_chunks(clip[:, :, 1:]), fold_chunks),
    ):
        centred = numbers[0].flatten(1) - code.mean[:, None]
        torch.testing.assert_close(posterior.mean[0, :, place].flatten(1), code.into @ centred)
        back = fold(decoded[:, :, place])[0].flatten(1)
        torch.testing.assert_close(back, code.out @ code.into @ centred + code.mean[:, None])
    assert posterior.logvar.eq(-8).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_code_of_divided_numbers_and_a_turned_one_give_back_the_same(seed: int) -> None:
    code, vectors = a_code(12, seed), torch.randn(12, 7)
    scale = 0.5 + torch.rand(12)
    there = code.out @ code.into @ (vectors - code.mean[:, None]) + code.mean[:, None]
    divided = code.divided(scale)
    numbers = divided.into @ (vectors / scale[:, None] - divided.mean[:, None])
    torch.testing.assert_close(numbers, code.into @ (vectors - code.mean[:, None]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        (divided.out @ numbers + divided.mean[:, None]) * scale[:, None], there, rtol=1e-4, atol=1e-4
    )
    rotation = torch.linalg.qr(torch.randn(2, 2))[0]
    turned = code.rotated(rotation)
    torch.testing.assert_close(turned.into, rotation @ code.into)
    torch.testing.assert_close(turned.out @ turned.into, code.out @ code.into, rtol=1e-4, atol=1e-4)
