from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_autoencoders import wavy
from torch.distributions import Normal, kl_divergence

from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.training.adapter_losses import (
    adaptive_weight,
    camera_loss,
    cosine_loss,
    distance_loss,
    divergence,
    token_loss,
)

SHAPE = (2, 10, 3, 2, 2)


def huber(error: np.ndarray, beta: float) -> np.ndarray:
    size = np.abs(error)
    return np.where(size < beta, size**2 / (2 * beta), size - beta / 2)


def maps(size: float) -> tuple[np.ndarray, np.ndarray]:
    """A token map of D = 2, and one that is off by up to ``size``."""
    truth = wavy(SHAPE, 1).numpy().astype(np.float64)
    return truth + size * wavy(SHAPE, 2).numpy(), truth


@pytest.mark.parametrize("size", [0.01, 0.2, 3.0])
def test_tokens_are_compared_as_equation_6_says(size: float) -> None:
    """Oracle: written out by numpy; small errors count squared, large ones linearly."""
    found, truth = maps(size)
    patches = huber(found[:, :8] - truth[:, :8], 0.15).mean()
    cameras = huber(found[:, 8:].mean((3, 4)) - truth[:, 8:].mean((3, 4)), 0.1).mean()
    loss = float(token_loss(torch.from_numpy(found), torch.from_numpy(truth)))
    assert loss == pytest.approx(patches + cameras, rel=1e-5)


def test_a_camera_token_is_its_mean_over_the_grid() -> None:
    truth = wavy(SHAPE, 1)
    found = truth.clone()
    found[:, 8:, :, 0, 0] += 1
    found[:, 8:, :, 1, 1] -= 1
    assert float(token_loss(found, truth)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_loss(found, truth)) == pytest.approx(0, abs=1e-6)


def test_the_angle_is_that_of_whole_tokens_layer_by_layer() -> None:
    found, truth = maps(1.0)
    cosines = []
    for layer in range(4):
        a, b = (part[:, 2 * layer : 2 * layer + 2] for part in (found, truth))
        cosines.append((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
    a, b = (part[:, 8:].mean((3, 4)) for part in (found, truth))
    camera = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    loss = float(cosine_loss(torch.from_numpy(found), torch.from_numpy(truth)))
    assert loss == pytest.approx(2 - np.mean(cosines) - camera.mean(), rel=1e-5)
    longer = torch.from_numpy(truth) * 7
    assert float(cosine_loss(longer, torch.from_numpy(truth))) == pytest.approx(0, abs=1e-6)


def test_later_answers_of_the_camera_head_weigh_more() -> None:
    truth = torch.zeros(4, 2, 3, 9)
    losses = []
    for iteration in range(4):
        found = truth.clone()
        found[iteration] = 1
        losses.append(float(camera_loss(found, truth)))
    np.testing.assert_allclose(losses, [0.25 * 2.5 * 0.6 ** (3 - i) for i in range(4)], rtol=1e-6)


@pytest.mark.parametrize(("numbers", "weight"), [(slice(0, 3), 1.0), (slice(3, 7), 1.0), (slice(7, 9), 0.5)])
def test_parts_of_the_pose_have_their_weights(numbers: slice, weight: float) -> None:
    truth = wavy((1, 2, 3, 9), 4)
    found = truth.clone()
    found[..., numbers] -= 0.3
    assert float(camera_loss(found, truth)) == pytest.approx(0.3 * weight, rel=1e-5)


def test_distances_are_lengths_up_to_a_limit() -> None:
    truth = torch.zeros(2, 2, 3)
    found = torch.zeros(2, 2, 3)
    found[0, 0] = torch.tensor([3.0, 4.0, 0.0])
    found[1, 1] = torch.tensor([0.0, 0.0, -1e6])
    assert float(distance_loss(found, truth)) == pytest.approx((5 + 100) / 4)
    assert float(distance_loss(found[..., :1], truth[..., :1])) == pytest.approx(3 / 4)


def gaussians(seed: int) -> DiagonalGaussian:
    shape = (2, 3, 2, 4, 5)
    return DiagonalGaussian(wavy(shape, seed), 2 * wavy(shape, seed + 1) - 1)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(1, 100), aligned=st.booleans())
def test_the_divergence_is_torchs_summed_as_equation_7_is_coded(seed: int, aligned: bool) -> None:
    ours, other = gaussians(seed), gaussians(seed + 50)
    there = Normal(other.mean, other.std) if aligned else Normal(0.0, 1.0)
    each = kl_divergence(Normal(ours.mean, ours.std), there)
    expected = each.sum((1, 2, 3)).mean()
    found = divergence(ours, other if aligned else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float(divergence(ours, ours)) == pytest.approx(0, abs=1e-4)


def test_the_divergence_pulls_towards_the_other() -> None:
    other = gaussians(9)
    mean, logvar = (torch.zeros(2, 3, 2, 4, 5, requires_grad=True) for _ in range(2))
    divergence(DiagonalGaussian(mean, logvar), other).backward()
    assert mean.grad is not None
    assert logvar.grad is not None
    # downhill is towards the other's mean and log variance, number by number
    assert bool((torch.sign(-mean.grad) == torch.sign(other.mean)).all())
    assert bool((torch.sign(-logvar.grad) == torch.sign(other.logvar))[other.logvar.abs() > 1e-3].all())


@given(st.floats(1e-6, 1e4), st.floats(1e-8, 1e8), st.sampled_from([0.1, 1.0]))
def test_the_divergence_never_outweighs_its_share(reconstruction: float, found: float, share: float) -> None:
    weight = adaptive_weight(reconstruction, found, share)
    part = weight * found / reconstruction
    if found <= reconstruction:
        assert weight == share
    else:
        assert 0.0999 * share <= part <= share * 1.0001
        power = math.log10(weight / share)
        assert power == pytest.approx(round(power), abs=1e-9)


def test_nothing_to_reconstruct_leaves_the_share() -> None:
    assert adaptive_weight(0.0, 3.0, 0.1) == 0.1
