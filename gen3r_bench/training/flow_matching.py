"""Flow matching: how noisy a sample is, what the network is asked for, and how far off its answer is.

A clean sample x and noise e make ``(1 - sigma) x + sigma e``; the network answers with the flow ``e - x``, or with x.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.euler import shifted

LEVELS: Final = 1000
"""Noise levels that training knows; the network is told sigma times this number."""
OUTLIER: Final = 50.0
"""Elements that are off by more do not count, as in Gen3R's released training code."""

LEAST_SIGMA: Final = 0.2
"""Errors of clean samples weigh no more at lower noise than at this: the flow's own weight has no bound."""


def noise_levels(shift: float) -> Tensor:
    """[LEVELS] sigmas, ascending to 1: even steps, bent towards noise by ``shift`` (1 leaves them even).

    As in diffusers' FlowMatchEulerDiscreteScheduler.

    Raises:
        InputError: where ``shift`` is not positive.
    """
    if not shift > 0:
        raise InputError(f"a shift of {shift}", expected="a positive number, such as 2 (Gen3R's)")
    return torch.from_numpy(shifted(np.arange(1, LEVELS + 1) / LEVELS, shift)).float()


def draw_sigmas(draw: np.random.Generator, count: int, shift: float) -> Tensor:
    """[count] sigmas, each level as likely as another, one from each of ``count`` equal parts of the levels.

    Raises:
        InputError: where ``shift`` is not positive.
    """
    # in parts, as the released code does over its processes: a batch always sees both early and late levels
    parts = (draw.permutation(count) + draw.random(count)) / count
    return noise_levels(shift)[torch.from_numpy((parts * LEVELS).astype(np.int64))]


def noised(clean: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """The noisy samples, [B, ...] like ``clean``, at a sigma [B] each."""
    sigma = sigmas.view(-1, *[1] * (clean.ndim - 1))
    return (1 - sigma) * clean + sigma * noise


def flow_error(flow: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of a flow, over all elements; those off by more than ``OUTLIER`` count as right."""
    error = flow.float() - (noise - clean).float()
    return torch.where(error.abs() > OUTLIER, 0.0, error).square().mean()


def clean_error(found: Tensor, clean: Tensor, sigmas: Tensor) -> Tensor:
    """Mean squared error of clean samples in units of the flow: divided by sigma, and by ``LEAST_SIGMA`` at least."""
    divisor = sigmas.clamp(min=LEAST_SIGMA).view(-1, *[1] * (clean.ndim - 1))
    return ((found.float() - clean.float()) / divisor).square().mean()
