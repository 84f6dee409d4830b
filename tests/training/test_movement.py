from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor

from gen3r_bench.training.movement import in_metric, movement_metric, square_root


def linear(weights: Tensor, offset: float = 50.0):
    """[F, H, W, n] of a latent [1, c, f, h, w], place by place; the first frame by weights[0], four others by [1]."""

    def decode(latent: Tensor) -> Tensor:
        first = torch.einsum("nc,chw->hwn", weights[0], latent[0, :, 0])[None]
        rest = torch.einsum("nc,cfhw->fhwn", weights[1], latent[0, :, 1:]).repeat_interleave(4, dim=0)
        return torch.cat([first, rest]) + offset

    return decode


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), numbers=st.sampled_from([1, 3]))
def test_the_metric_of_a_linear_decoder_is_its_weights_squared(seed: int, numbers: int) -> None:
    """Oracle: the decoder's own matrix; far from the origin, so that every distance is nearly the same."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, numbers, 5, generator=draw)
    latents = [0.1 * torch.randn(1, 5, 3, 4, 4, generator=draw) for _ in range(2)]
    found = movement_metric(linear(weights, offset=500.0), latents)
    squares = weights.mT @ weights
    expected = 5 * squares / squares.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2).sum(1), torch.full((2,), 5.0))
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-4


def test_what_is_near_counts_more_than_what_is_far() -> None:
    """A relative movement: the second channel moves depths a hundred times as far away by as many metres."""

    def decode(latent: Tensor) -> Tensor:
        near, far = 1 + 0.1 * latent[0, 0], 100 + 0.1 * latent[0, 1]
        return torch.cat([near, far], dim=-1)[..., None]

    metric = movement_metric(decode, [torch.zeros(1, 2, 2, 3, 3)])
    torch.testing.assert_close(metric[:, 1, 1] / metric[:, 0, 0], torch.full((2,), 1e-4), rtol=0.05, atol=0)


def test_what_moves_nothing_leaves_every_channel_alike() -> None:
    metric = movement_metric(lambda latent: torch.ones(5, 2, 2, 1), [torch.zeros(1, 4, 2, 2, 2)])
    assert metric.eq(0).all()
    torch.testing.assert_close(square_root(metric, 0.75), 0.5 * torch.eye(4).expand(2, 4, 4))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_squares_count_in_the_metric(share: float) -> None:
    """Oracle: SciPy's square root of a matrix, and the quadratic form itself."""
    torch.manual_seed(0)
    half = torch.randn(2, 6, 6)
    metric = half @ half.mT
    root = square_root(metric, share)
    whole = share * metric + (1 - share) * torch.eye(6)
    np.testing.assert_allclose(root, [np.real(sqrtm(each.double().numpy())) for each in whole], atol=1e-4)
    latents = torch.randn(2, 6, 3, 2, 2)
    moved = in_metric(latents, root).square().sum(1)
    for place, frames in ((0, slice(1)), (1, slice(1, None))):
        part = latents[:, :, frames]
        expected = torch.einsum("bcfhw,cd,bdfhw->bfhw", part, whole[place], part)
        torch.testing.assert_close(moved[:, frames], expected, rtol=1e-3, atol=1e-3)
