"""What the rows that begin with VGGT's reading of a whole clip share: its sizes, its network, frames and maps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final, TypeVar

from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from gen3r_bench.models.vggt import Vggt

Network = TypeVar("Network", bound="nn.Module")
RELEASED_SIDE: Final = 560
"""Short side in pixels that the released networks see."""


def check_short_side(short_side: int | None, unit: int) -> None:
    """Raise InputError where a short side is not one that both networks take.

    Args:
        short_side: pixels, or None where none is known.
        unit: pixels; what the networks take are multiples of it.
    """
    if short_side is not None and (short_side < unit or short_side % unit):
        raise InputError(f"a short side of {short_side} px", expected=f"a multiple of {unit}")


def working_size(size: tuple[int, int], short_side: int | None, unit: int) -> tuple[int, int]:
    """(height, width) that the networks see: multiples of ``unit``; the short one ``short_side``, or each the nearest.

    >>> working_size((480, 640), 560, 56), working_size((112, 112), 64, 8), working_size((100, 150), None, 56)
    ((560, 728), (64, 64), (112, 168))
    """
    scale = 1.0 if short_side is None else short_side / min(size)
    least = short_side or unit
    height, width = (max(least, round(side * scale / unit) * unit) for side in size)
    return height, width


def load_vggt(path: Path, device: str) -> Vggt:
    """VGGT in a folder like ``vggt/`` of Gen3R's checkpoint, or in a file that says its sizes, in float32."""
    import torch

    from gen3r_bench.models.vggt_checkpoint import load_vggt as read

    return read(path, device=device, dtype=torch.float32)


def in_float64(network: Network) -> Network:
    """A copy of a network that computes in float64."""
    import torch

    return copy.deepcopy(network).to(torch.float64)


def resized_images(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """[F, H, W, 3] uint8 as [F, 3, *size] in [0, 1]."""
    from torch.nn.functional import interpolate

    images = rgb.permute(0, 3, 1, 2).float() / 255
    if images.shape[2:] != size:
        images = interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    return images


def nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[F, h, w] by nearest neighbour as [F, *size]: depth has edges, and a mean of two surfaces lies on neither."""
    from torch.nn.functional import interpolate

    return interpolate(maps[:, None], size=size, mode="nearest-exact")[:, 0]
