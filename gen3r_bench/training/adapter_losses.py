"""What Gen3R's geometry adapter is trained on (arXiv 2601.04090, equations 5 to 7, as the released code weighs them).

Equation 5 is the way through: tokens to a posterior, a draw from it to tokens again. Equation 6 compares the tokens,
and what VGGT's frozen heads say of them. Equation 7 adds how far the posterior is from that of the clip's appearance.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, smooth_l1_loss

from gen3r_bench.models.causal3d import LOGVAR_RANGE, DiagonalGaussian

PATCH_BETA: Final = 0.15
"""Error of a patch token's number from which on it counts linearly."""
CAMERA_BETA: Final = 0.1
"""The same for camera tokens."""
REFINEMENT_DISCOUNT: Final = 0.6
"""Weight of a camera head's answer beside that of the next one."""
FIELD_OF_VIEW_WEIGHT: Final = 0.5
"""Of the field of view beside translation and rotation."""
FARTHEST: Final = 100.0
"""An error of depth or of a point counts as this much at most."""


def token_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Smooth absolute errors of patch tokens and of camera tokens (their mean over the grid), each a mean.

    Args:
        found: token map [B, 5 D, F, h, w], see ``pack_tokens``.
        truth: the same.
    """
    (patches, camera), (true_patches, true_camera) = _parts(found), _parts(truth)
    of_patches = smooth_l1_loss(patches, true_patches, beta=PATCH_BETA)
    of_cameras = smooth_l1_loss(camera, true_camera, beta=CAMERA_BETA)
    total: Tensor = of_patches + of_cameras
    return total


def cosine_loss(found: Tensor, truth: Tensor) -> Tensor:
    """One minus the cosine between tokens: its mean over patch tokens of each layer, plus that over camera tokens."""
    (patches, camera), (true_patches, true_camera) = _parts(found), _parts(truth)
    layered, true_layered = (torch.stack(part.chunk(4, dim=1), dim=1) for part in (patches, true_patches))
    of_patches = 1 - cosine_similarity(layered, true_layered, dim=2).mean()
    of_cameras = 1 - cosine_similarity(camera, true_camera, dim=1).mean()
    total: Tensor = of_patches + of_cameras
    return total


def _parts(token_map: Tensor) -> tuple[Tensor, Tensor]:
    """Patch tokens [B, 4 D, F, h, w] and camera tokens [B, D, F]."""
    channels = token_map.shape[1] // 5 * 4
    return token_map[:, :channels].float(), token_map[:, channels:].float().mean((3, 4))


def camera_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Absolute error of pose encodings over all refinements of the camera head, later ones weighing more.

    Args:
        found: [iterations, B, F, 9].
        truth: the same.
    """
    error = (found.float() - truth.float()).abs()
    parts = [error[..., part].mean((1, 2, 3)) for part in (slice(3), slice(3, 7), slice(7, None))]
    each = parts[0] + parts[1] + FIELD_OF_VIEW_WEIGHT * parts[2]
    weights = REFINEMENT_DISCOUNT ** torch.arange(len(each) - 1, -1, -1, device=each.device)
    mean: Tensor = (weights * each).mean()
    return mean


def distance_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of depths or points [..., channels], none counting more than ``FARTHEST``."""
    mean: Tensor = (found.float() - truth.float()).norm(dim=-1).clamp(max=FARTHEST).mean()
    return mean


def divergence(posterior: DiagonalGaussian, other: DiagonalGaussian | None) -> Tensor:
    """KL(posterior || other), summed over channel, time and height, and averaged over batch and width.

    Args:
        posterior: of [B, c, f, h, w].
        other: of the same shape; None for a standard normal.
    """
    mean, logvar = posterior.mean.float(), posterior.logvar.float().clamp(*LOGVAR_RANGE)
    if other is None:
        there, there_logvar = torch.zeros_like(mean), torch.zeros_like(logvar)
    else:
        there, there_logvar = other.mean.float(), other.logvar.float().clamp(*LOGVAR_RANGE)
    each = (mean - there).square() * (-there_logvar).exp() + (logvar - there_logvar).exp() - 1 - logvar + there_logvar
    total: Tensor = 0.5 * each.sum((1, 2, 3)).mean()
    return total


def adaptive_weight(reconstruction: float, found: float, share: float) -> float:
    """By what a divergence is multiplied, so that it is at most ``share`` of the reconstruction's loss.

    ``share``, times a power of ten where the divergence is larger: what is left then lies between a tenth of that share
    and the whole.
    """
    if found <= reconstruction or reconstruction <= 0:
        return share
    return share * 10.0 ** math.floor(math.log10(reconstruction / found))
