"""Linear codes from data: principal components, and how one is turned toward another."""

from __future__ import annotations

import torch
from torch import Tensor

from gen3r_bench.models.linear_code import LinearCode


def principal_components(patches: Tensor, count: int) -> LinearCode:
    """The ``count`` directions of largest variance of patches [B, D, k, h, w], each with its largest entry positive.

    A number of the code is what lies along a direction over its standard deviation. A direction that the patches hardly
    use counts as having a thousandth of the largest deviation.
    """
    vectors = patches.transpose(0, 1).flatten(1).double()
    mean = vectors.mean(1)
    centred = vectors - mean[:, None]
    variances, directions = torch.linalg.eigh(centred @ centred.T / vectors.shape[1])
    directions = directions[:, -count:].flip(1).T
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * largest.sign()
    deviation = variances[-count:].flip(0).clamp(min=0).sqrt()
    deviation = deviation.clamp(min=max(1e-3 * float(deviation[0]), 1e-6))
    return LinearCode(
        mean.float(), (directions / deviation[:, None]).float(), (directions * deviation[:, None]).T.float()
    )


def rotation_toward(numbers: Tensor, others: Tensor) -> Tensor:
    """The orthogonal [c, c] that turns ``numbers`` [B, c, …] nearest to ``others`` of the same shape.

    Orthogonal Procrustes (Schoenemann 1966), of what both have beside their means.
    """
    flat, flat_others = (part.transpose(0, 1).flatten(1).double() for part in (numbers, others))
    centred, centred_others = (part - part.mean(1, keepdim=True) for part in (flat, flat_others))
    left, _, right = torch.linalg.svd(centred_others @ centred.T)
    rotation: Tensor = (left @ right).float()
    return rotation
