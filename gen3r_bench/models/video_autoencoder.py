"""What every video autoencoder does, whatever its network: clips in [-1, 1] to normalised latents, and back.

A latent has 1/4 of the frames (the first frame is one of its own) and 1/8 of the height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import DiagonalGaussian, check_clip, latent_frames
from gen3r_bench.models.latent_autoencoder import LatentAutoencoder

SPATIAL_RATIO: Final = 8


@dataclass(frozen=True, slots=True)
class Tiling:
    """Compute overlapping tiles of the frames one by one and blend them: less memory, slightly other numbers.

    Attributes:
        size_px: side of a tile in pixels, a multiple of 8.
        overlap_px: pixels that neighbours share, a multiple of 8; blended by linear ramps.
    """

    size_px: int = 256
    overlap_px: int = 64

    def __post_init__(self) -> None:
        legal = 0 < self.overlap_px < self.size_px
        if not legal or self.size_px % SPATIAL_RATIO or self.overlap_px % SPATIAL_RATIO:
            raise InputError(
                f"tiles of {self.size_px} px that overlap by {self.overlap_px} px",
                expected="multiples of 8, the overlap smaller than the tile and not 0",
            )


class VideoAutoencoder(LatentAutoencoder):
    """Between clips [B, 3, F, H, W] in [-1, 1] and normalised latents [B, c, 1 + (F - 1) / 4, H / 8, W / 8]."""

    def encode(self, clip: Tensor, *, latents_per_chunk: int = 1, tiling: Tiling | None = None) -> DiagonalGaussian:
        """Posterior of a clip.

        Args:
            clip: [B, 3, F, H, W] in [-1, 1]; F is 1 + 4 k, H and W are multiples of 8.
            latents_per_chunk: latent frames computed at once; trades memory for speed, never changes the result.
            tiling: tiles for frames that do not fit into memory; mean and log variance are blended.

        Returns:
            mean and logvar [B, c, 1 + (F - 1) / 4, H / 8, W / 8]; the mean is normalised by the configured statistics,
            logvar is not.

        Raises:
            InputError: on another shape.
        """
        check_clip(clip, 3, "clip")
        latent_frames(clip.shape[2])
        height, width = clip.shape[3:]
        if height % SPATIAL_RATIO or width % SPATIAL_RATIO:
            raise InputError(f"frames of {height} x {width}", expected="multiples of 8", fix="crop or pad them")

        def moments(part: Tensor) -> Tensor:
            posterior = self.model.encode(part, latents_per_chunk)
            return torch.cat([posterior.mean, posterior.logvar], dim=1)

        if tiling is None:
            return self.model.encode(clip, latents_per_chunk)
        mean, logvar = _in_tiles(
            clip, moments, tiling.size_px, tiling.overlap_px, lambda pixels: pixels // SPATIAL_RATIO
        ).chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar)

    def decode(
        self, latent: Tensor, *, latents_per_chunk: int = 1, tiling: Tiling | None = None, clamp: bool = True
    ) -> Tensor:
        """Clip [B, 3, 1 + 4 (f - 1), 8 h, 8 w] of a normalised latent [B, c, f, h, w].

        Args:
            latent: in the encoder's normalisation.
            latents_per_chunk: as in `encode`.
            tiling: as in `encode`.
            clamp: keep the clip in [-1, 1]; turn it off in training, where the clamp would stop gradients.

        Raises:
            InputError: on another number of channels.
        """
        check_clip(latent, self.config.latent_channels, "latent")
        if tiling is None:
            clip = self.model.decode(latent, latents_per_chunk)
        else:
            clip = _in_tiles(
                latent,
                lambda part: self.model.decode(part, latents_per_chunk),
                tiling.size_px // SPATIAL_RATIO,
                tiling.overlap_px // SPATIAL_RATIO,
                lambda positions: positions * SPATIAL_RATIO,
            )
        return clip.clamp(-1, 1) if clamp else clip

    def forward(self, clip: Tensor, noise: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """Posterior of a clip, and what a draw from it decodes to, without the clamp: what training looks at.

        Args:
            clip: as for `encode`.
            noise: of the latent's shape, standard normal.
        """
        posterior = self.encode(clip, latents_per_chunk=latent_frames(clip.shape[2]))
        drawn = posterior.mean + posterior.std * noise
        return posterior, self.decode(drawn, latents_per_chunk=drawn.shape[2], clamp=False)


def _in_tiles(
    clip: Tensor, function: Callable[[Tensor], Tensor], size: int, overlap: int, scaled: Callable[[int], int]
) -> Tensor:
    """``function`` of overlapping tiles of [B, C, F, H, W], blended; ``scaled`` maps input positions to output ones."""
    rows, columns = (_tile_starts(length, size, overlap) for length in clip.shape[3:])
    total: Tensor | None = None
    weights = torch.zeros(())
    for row in rows:
        for column in columns:
            part = function(clip[..., row : row + size, column : column + size])
            if total is None:
                height, width = (scaled(length) for length in clip.shape[3:])
                # float32: sums of many bfloat16 tiles would lose digits
                total = torch.zeros(*part.shape[:3], height, width, dtype=torch.float32, device=part.device)
                weights = total.new_zeros(height, width)
            weight = torch.outer(
                _ramps(part.shape[3], scaled(overlap), total), _ramps(part.shape[4], scaled(overlap), total)
            )
            place = (
                slice(scaled(row), scaled(row) + part.shape[3]),
                slice(scaled(column), scaled(column) + part.shape[4]),
            )
            total[(..., *place)] += part * weight
            weights[place] += weight
            dtype = part.dtype
    assert total is not None
    return (total / weights).to(dtype)


def _tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Starts of tiles that cover ``length``; the last one is moved back so that every tile is whole."""
    if length <= size:
        return [0]
    step = size - overlap
    return [*range(0, length - size, step), length - size]


def _ramps(length: int, overlap: int, like: Tensor) -> Tensor:
    """Weights of a tile's positions: rising from its border over the overlap, one in the middle."""
    position = torch.arange(length, dtype=like.dtype, device=like.device) + 0.5
    return torch.minimum(position, length - position).div(overlap).clamp(max=1.0)
