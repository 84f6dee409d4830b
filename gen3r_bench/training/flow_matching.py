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


def flow_error(flow: Tensor, clean: Tensor, noise: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error of a flow, over all elements; those off by more than ``OUTLIER`` count as right.

    Args:
        flow: [B, ...].
        clean: of the same shape.
        noise: of the same shape.
        weights: of the squares, broadcast over them; None: one.
    """
    error = flow.float() - (noise - clean).float()
    return _mean_square(torch.where(error.abs() > OUTLIER, 0.0, error), weights)


def clean_error(
    found: Tensor, clean: Tensor, sigmas: Tensor, *, least_sigma: float, weights: Tensor | None = None
) -> Tensor:
    """Mean squared error of clean samples in units of the flow: divided by sigma, and by ``least_sigma`` at least.

    Args:
        found: [B, ...].
        clean: of the same shape.
        sigmas: [B].
        least_sigma: errors weigh no more at lower noise than at this; the flow's own weight has no bound. At 1 every
            noise level weighs the same.
        weights: as ``flow_error``'s.
    """
    divisor = sigmas.clamp(min=least_sigma).view(-1, *[1] * (clean.ndim - 1))
    return _mean_square((found.float() - clean.float()) / divisor, weights)


def _mean_square(error: Tensor, weights: Tensor | None) -> Tensor:
    square = error.square()
    return (square if weights is None else weights * square).mean()
