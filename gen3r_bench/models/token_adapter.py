"""What every geometry adapter does, whatever its network: VGGT's tokens of a clip to normalised latents, and back.

A latent has 1/4 of the frames (the first frame is one of its own); its height and width follow from the token grid.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from gen3r_bench.models.causal3d import DiagonalGaussian, check_clip, latent_frames
from gen3r_bench.models.latent_autoencoder import LatentAutoencoder, LatentConfig


class AdapterConfig(LatentConfig, Protocol):
    """Size of a geometry adapter."""

    @property
    def token_channels(self) -> int:
        """Channels of the token map: four layers' patch tokens and the camera token."""

    @property
    def grid_unit(self) -> int:
        """Token grids have multiples of it in height and width."""

    def latent_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the latent of a token grid; InputError where there is none."""

    def grid_size(self, latent: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the token grid of a latent; InputError where there is none."""


class TokenAdapter(LatentAutoencoder):
    """Autoencoder between token maps [B, C, F, h, w] and normalised latents [B, c, 1 + (F - 1) / 4, h', w'].

    Attributes:
        way_in: name of the layer that tokens meet first; its weight's second axis is theirs.
        way_out: name of the layer that tokens leave last; its weight's first axis is theirs, and its bias's only one.
    """

    config: AdapterConfig
    way_in: ClassVar[str]
    way_out: ClassVar[str]

    def encode(self, tokens: Tensor, *, latents_per_chunk: int = 1) -> DiagonalGaussian:
        """Posterior of a token map.

        Args:
            tokens: [B, C, F, h, w] from `pack_tokens`; F is 1 + 4 k, h and w are multiples of the grid unit.
            latents_per_chunk: latent frames computed at once; trades memory for speed, never changes the result.

        Returns:
            mean and logvar [B, c, 1 + (F - 1) / 4, h', w']; the mean is normalised by the configured statistics,
            logvar is not.

        Raises:
            InputError: on another shape.
        """
        check_clip(tokens, self.config.token_channels, "tokens")
        latent_frames(tokens.shape[2])
        self.config.latent_size((tokens.shape[3], tokens.shape[4]))
        return self.model.encode(tokens, latents_per_chunk)

    def decode(self, latent: Tensor, *, latents_per_chunk: int = 1) -> Tensor:
        """Token map [B, C, 1 + 4 (f - 1), h, w] of a normalised latent [B, c, f, h', w'].

        Raises:
            InputError: on another number of channels, or on a latent that no token grid has.
        """
        check_clip(latent, self.config.latent_channels, "latent")
        self.config.grid_size((latent.shape[3], latent.shape[4]))
        return self.model.decode(latent, latents_per_chunk)

    def forward(self, tokens: Tensor, noise: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """Posterior of a token map, and what a draw from it decodes to: what training looks at.

        Args:
            tokens: as for `encode`.
            noise: of the latent's shape, standard normal.
        """
        posterior = self.encode(tokens, latents_per_chunk=latent_frames(tokens.shape[2]))
        drawn = posterior.mean + posterior.std * noise
        return posterior, self.decode(drawn, latents_per_chunk=drawn.shape[2])
