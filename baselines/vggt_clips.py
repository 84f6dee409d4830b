"""What the rows that begin with VGGT's reading of a whole clip share: its sizes, its network, frames and maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from gen3r_bench.models.vggt import Vggt

SIDE_UNIT: Final = 56
"""Pixels of 4 VGGT patches, and of 7 latent positions: a side is a multiple of it."""
RELEASED_SIDE: Final = 560
"""Short side in pixels that the released networks see."""


def check_short_side(short_side: int | None) -> None:
    """Raise InputError where a short side is not one that both networks take."""
    if short_side is not None and (short_side < SIDE_UNIT or short_side % SIDE_UNIT):
        raise InputError(f"a short side of {short_side} px", expected=f"a multiple of {SIDE_UNIT}")


def working_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """(height, width) that the networks see: multiples of 56; the short one ``short_side``, or each the nearest."""
    scale = 1.0 if short_side is None else short_side / min(size)
    least = short_side or SIDE_UNIT
    height, width = (max(least, round(side * scale / SIDE_UNIT) * SIDE_UNIT) for side in size)
    return height, width


def load_vggt(folder: Path, device: str) -> Vggt:
    """VGGT in a folder like ``vggt/`` of Gen3R's checkpoint, in float32."""
    import torch

    from gen3r_bench.models.vggt_checkpoint import load_vggt as read

    return read(folder, device=device, dtype=torch.float32)


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
