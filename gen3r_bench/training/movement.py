"""How much each direction of a latent moves what is decoded from it: the metric in which errors of geometry count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor

STEP: Final = 0.1
"""By how much a channel is moved, in units of a normalised latent."""


@torch.no_grad()
def movement_metric(decode: Callable[[Tensor], Tensor], latents: Iterable[Tensor]) -> Tensor:
    """[2, c, c] metrics of the first latent frame and of the others, positive, each of trace c.

    Entry (i, j) is the mean over all pixels of the product of two relative movements: of a depth, or of a point as seen
    from the origin, when channel i of the latent is moved a little, and when channel j is. Signs alternate at random
    from place to place, so that what is asked for is local.

    Args:
        decode: of a latent [1, c, f, h, w] to depths [F, H, W, 1] or points [F, H, W, 3].
        latents: to take the mean over.
    """
    signs = torch.Generator().manual_seed(0)
    total: Tensor | float = 0.0
    for latent in latents:
        before = decode(latent)
        distance = before.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        sign = torch.randint(0, 2, latent[:, 0].shape, generator=signs).to(latent) * 2 - 1
        moved = []
        for channel in range(latent.shape[1]):
            changed = latent.clone()
            changed[:, channel] += STEP * sign
            moved.append((decode(changed) - before) / distance)
        movements = torch.stack(moved)
        parts = (movements[:, :1].flatten(1), movements[:, 1:].flatten(1))
        total = total + torch.stack([part @ part.T for part in parts])
    assert isinstance(total, Tensor)
    return _of_trace_c(total)


def square_root(metric: Tensor, share: float) -> Tensor:
    """[2, c, c] by which a latent is multiplied so that squared errors count in ``metric``, and evenly for the rest.

    Args:
        metric: [2, c, c] of trace c.
        share: of it; what is left counts every channel alike.
    """
    whole = share * metric + (1 - share) * torch.eye(metric.shape[-1]).to(metric)
    values, vectors = torch.linalg.eigh(whole.double())
    root: Tensor = vectors @ torch.diag_embed(values.clamp(min=0).sqrt()) @ vectors.mT
    return root.to(metric)


def in_metric(latents: Tensor, root: Tensor) -> Tensor:
    """Latents [B, c, f, h, w] times ``square_root``'s matrices: the first one for the first latent frame."""
    first = torch.einsum("cd,bdfhw->bcfhw", root[0].to(latents), latents[:, :, :1])
    rest = torch.einsum("cd,bdfhw->bcfhw", root[1].to(latents), latents[:, :, 1:])
    return torch.cat([first, rest], dim=2)


def _of_trace_c(metric: Tensor) -> Tensor:
    traces = metric.diagonal(dim1=1, dim2=2).sum(1).clamp(min=torch.finfo(metric.dtype).tiny)
    of_trace_c: Tensor = metric / traces[:, None, None] * metric.shape[-1]
    return of_trace_c
