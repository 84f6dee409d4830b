from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import mse_loss

from gen3r_bench.errors import InputError
from gen3r_bench.training.flow_matching import (
    LEVELS,
    OUTLIER,
    clean_error,
    draw_sigmas,
    flow_error,
    noise_levels,
    noised,
)


@pytest.mark.parametrize("shift", [1.0, 2.0, 5.0])
def test_levels_are_those_of_diffusers(shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=LEVELS, shift=shift)
    assert torch.allclose(noise_levels(shift), scheduler.sigmas.flip(0), atol=1e-6)
    assert torch.allclose(noise_levels(shift) * LEVELS, scheduler.timesteps.flip(0), atol=1e-3)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noisy_samples_are_those_of_diffusers(shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=LEVELS, shift=shift)
    clean, noise = torch.randn(2, 3, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0, 400, LEVELS - 1])
    expected = scheduler.scale_noise(clean, scheduler.timesteps.flip(0)[levels], noise)
    assert torch.allclose(noised(clean, noise, noise_levels(shift)[levels]), expected, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan")])
def test_a_shift_that_is_none(shift: float) -> None:
    with pytest.raises(InputError, match="expected a positive number"):
        noise_levels(shift)


@given(st.integers(1, 40), st.floats(0.2, 8), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_batch_spreads_over_the_levels(count: int, shift: float, seed: int) -> None:
    levels = noise_levels(shift)
    drawn = draw_sigmas(np.random.default_rng(seed), count, shift)
    assert drawn.shape == (count,)
    places = torch.searchsorted(levels, drawn).sort().values.double()
    assert torch.equal(levels[places.long()], drawn.sort().values)
    # the k-th of them lies in the k-th of the equal parts
    parts = torch.arange(count) / count
    assert bool((places + 1 > LEVELS * parts).all() and (places < LEVELS * (parts + 1 / count)).all())


def test_every_level_is_as_likely_as_another() -> None:
    rng = np.random.default_rng(0)
    drawn = torch.cat([draw_sigmas(rng, 7, 2.0) for _ in range(20_000)])
    counts = torch.bincount(torch.searchsorted(noise_levels(2.0), drawn), minlength=LEVELS)
    assert counts.sum() == 140_000
    # expected 140 a level; five standard deviations of a Poisson count are 59
    assert counts.min() > 80
    assert counts.max() < 200


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_right_answer_has_no_error_and_leads_to_the_clean_sample(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 4, 3, 2, generator=generator, dtype=torch.float64)
    sigmas = torch.rand(4, generator=generator, dtype=torch.float64)
    noisy = noised(clean, noise, sigmas)
    assert flow_error(noise - clean, clean, noise) == 0
    assert clean_error(clean, clean, sigmas, least_sigma=0.2) == 0
    # Euler steps along the right flow lead to the clean sample from every level
    assert torch.allclose(noised(clean, noise, sigmas * 0.5), noisy - (sigmas * 0.5).view(-1, 1, 1) * (noise - clean))


def test_the_error_is_the_mean_square_without_outliers() -> None:
    clean, noise = torch.zeros(2, 4), torch.zeros(2, 4)
    flow = torch.tensor([[1.0, -2.0, 0.0, 3.0], [OUTLIER + 1, -OUTLIER - 1, OUTLIER, 0.0]])
    assert flow_error(flow, clean, noise) == (1 + 4 + 9 + OUTLIER**2) / 8
    flow.requires_grad_()
    flow_error(flow, clean, noise).backward()
    assert flow.grad is not None
    assert flow.grad[1, :2].tolist() == [0, 0]
    assert flow.grad[0].tolist() == [0.25, -0.5, 0, 0.75]


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_an_error_of_clean_samples_is_that_of_the_flow_which_follows(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, noise, found = torch.randn(3, 4, 3, 2, generator=generator, dtype=torch.float64)
    least = 0.3
    sigmas = least + (1 - least) * torch.rand(4, generator=generator, dtype=torch.float64)
    flow = (noised(clean, noise, sigmas) - found) / sigmas.view(-1, 1, 1)
    error = clean_error(found, clean, sigmas, least_sigma=least)
    assert float(error) == pytest.approx(float(flow_error(flow, clean, noise)), rel=1e-4)
    # with less noise it weighs no more
    silent = clean_error(found, clean, sigmas * 0, least_sigma=least)
    assert silent == clean_error(found, clean, sigmas * 0 + least, least_sigma=least)
    # at 1 all levels weigh the same: torch's own mean squared error
    even = clean_error(found, clean, sigmas, least_sigma=1)
    assert float(even) == pytest.approx(float(mse_loss(found.float(), clean.float())), rel=1e-5)


def test_weights_count_an_element_more_or_not_at_all() -> None:
    clean, found = torch.zeros(2, 3, 4), torch.arange(24.0).view(2, 3, 4)
    weights = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1)
    expected = (found[:, 1].square().sum() + 2 * found[:, 2].square().sum()) / 24
    sigmas = torch.ones(2)
    assert clean_error(found, clean, sigmas, least_sigma=1, weights=weights) == expected
    assert flow_error(found, clean, clean, weights) == expected
    assert flow_error(found, clean, clean, torch.ones(1, 3, 1)) == flow_error(found, clean, clean)
