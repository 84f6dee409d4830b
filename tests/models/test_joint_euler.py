from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.euler import EulerConfig, EulerFlow, shifted


@given(st.integers(1, 60), st.floats(0.3, 8), st.sampled_from([100, 1000]))
@settings(max_examples=25, deadline=None)
def test_levels_and_steps_are_those_of_diffusers(steps: int, shift: float, levels: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(num_train_timesteps=levels, shift=shift)
    ours = EulerFlow(EulerConfig(levels, shift))
    theirs.set_timesteps(steps, device="cpu")
    ours.set_timesteps(steps, device="cpu")
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, atol=1e-3, rtol=1e-6)
    sample = other = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0))
    for our_time, their_time in zip(ours.timesteps, theirs.timesteps, strict=True):
        flow = torch.sin(3 * sample)
        (sample,) = ours.step(flow, our_time, sample)
        other = theirs.step(torch.sin(3 * other), their_time, other, return_dict=False)[0]
    torch.testing.assert_close(sample, other, atol=1e-4, rtol=1e-4)


@given(st.integers(1, 30), st.floats(0.5, 5), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_right_flow_leads_to_the_clean_sample(steps: int, shift: float, seed: int) -> None:
    clean, sample = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(seed))
    solver = EulerFlow(EulerConfig(1000, shift))
    solver.set_timesteps(steps)
    flow = sample - clean
    for timestep in solver.timesteps:
        (sample,) = solver.step(flow, timestep, sample)
    torch.testing.assert_close(sample, clean, atol=1e-4, rtol=1e-4)


def test_steps_out_of_order_are_refused() -> None:
    solver = EulerFlow(EulerConfig(1000, 2.0))
    solver.set_timesteps(3)
    with pytest.raises(InputError, match="each of the timesteps once"):
        solver.step(torch.zeros(1), solver.timesteps[1], torch.zeros(1))
    for timestep in solver.timesteps:
        solver.step(torch.zeros(1), timestep, torch.zeros(1))
    with pytest.raises(InputError, match="in their order"):
        solver.step(torch.zeros(1), solver.timesteps[2], torch.zeros(1))


def test_a_shift_of_one_changes_nothing_and_the_ends_stay() -> None:
    even = np.linspace(0.1, 1, 10)
    np.testing.assert_allclose(shifted(even, 1.0), even)
    assert shifted(np.array([0.0, 1.0]), 3.0).tolist() == [0.0, 1.0]
