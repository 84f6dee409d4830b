"""A small causal autoencoder of video patches, which stands where the Wan VAE stands: latents of the same shape.

A patch is 8 x 8 pixels of the first frame, or of four frames together. A linear code of each patch (its principal
components, once they are set) is the way through; residual blocks beside it, at the latent's resolution, begin as
nothing and learn what neighbours and the past tell. No part of a latent frame depends on later frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as nnf
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, per_frame
from gen3r_bench.models.folder import CONFIG_FILE
from gen3r_bench.models.linear_code import (
    CodeConfig,
    CodeDecoder,
    CodeEncoder,
    CodeSize,
    LinearCode,
    Place,
    code_autoencoder,
    fold_chunks,
    start_from,
    unfold_chunks,
)
from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO, VideoAutoencoder

CLASS_NAME: Final = "PatchVideoAutoencoder"
FIRST_NUMBERS: Final = 3 * SPATIAL_RATIO**2
"""Numbers of a patch of the first frame."""
CHUNK_NUMBERS: Final = FRAMES_PER_LATENT * FIRST_NUMBERS
"""Numbers of a patch of four frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchAutoencoderConfig(CodeConfig):
    """Size of a patch autoencoder; the defaults are those of the checkpoint that ships."""

    class_name: ClassVar[str] = CLASS_NAME
    width: int = 256
    encoder_blocks: int = 3
    decoder_blocks: int = 5

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        if self.latent_channels > FIRST_NUMBERS:
            raise InputError(f"{self.latent_channels} latent channels", expected=f"at most {FIRST_NUMBERS}")

    @classmethod
    def tiny(cls) -> Self:
        """A size for tests, of the same structure."""
        return cls(width=8, encoder_blocks=1, decoder_blocks=2)


class PatchVideoAutoencoder(VideoAutoencoder):
    """See ``VideoAutoencoder`` for what goes in and comes out."""

    title: ClassVar[str] = "patch autoencoder"
    config: PatchAutoencoderConfig

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        size = CodeSize(FIRST_NUMBERS, CHUNK_NUMBERS, config.latent_channels, config.width)
        self.model = code_autoencoder(
            _FromPatches(size, config.encoder_blocks),
            _ToPatches(size, config.decoder_blocks),
            mean=config.latent_mean,
            std=config.latent_std,
        )

    def start_from(self, first: LinearCode, chunk: LinearCode) -> None:
        """Set the linear way through to principal components; with new blocks, that is all the network does.

        Args:
            first: of patches of first frames, [c, 192] directions in the order of ``first_patches``.
            chunk: of patches of four frames, [c, 768] directions in the order of ``chunk_patches``.
        """
        start_from(self.model, first, chunk)

    @classmethod
    def from_folder(cls, path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Self:
        """The autoencoder in a folder with ``config.json`` and weights, or in a safetensors file that says both.

        Raises:
            InputError: where a file is missing, or the weights are not exactly those of the configured size.
        """
        config = PatchAutoencoderConfig.from_json(path / CONFIG_FILE if path.is_dir() else path)
        with torch.device("meta"):
            autoencoder = cls(config)
        return autoencoder.read_weights(path, device=device, dtype=dtype)


class _FromPatches(CodeEncoder):
    """A part of a clip to mean and log variance."""

    def _numbers(self, name: Place, part: Tensor) -> Tensor:
        return first_patches(part) if name == "first" else chunk_patches(part)


class _ToPatches(CodeDecoder):
    """A part of a latent to a part of the clip."""

    def _part(self, name: Place, numbers: Tensor) -> Tensor:
        return first_frame(numbers) if name == "first" else chunk_frames(numbers)


def first_patches(frame: Tensor) -> Tensor:
    """[B, 192, 1, H / 8, W / 8] of [B, 3, 1, H, W]: channel, then row, then column of the pixel."""
    return nnf.pixel_unshuffle(frame[:, :, 0], SPATIAL_RATIO).unsqueeze(2)


def first_frame(patches: Tensor) -> Tensor:
    """The way back from ``first_patches``."""
    return nnf.pixel_shuffle(patches[:, :, 0], SPATIAL_RATIO).unsqueeze(2)


def chunk_patches(clip: Tensor) -> Tensor:
    """[B, 768, k, H / 8, W / 8] of [B, 3, 4 k, H, W]: channel, then frame, row, column of the pixel."""
    return per_frame(fold_chunks(clip), lambda part: nnf.pixel_unshuffle(part, SPATIAL_RATIO))


def chunk_frames(patches: Tensor) -> Tensor:
    """The way back from ``chunk_patches``."""
    return unfold_chunks(per_frame(patches, lambda part: nnf.pixel_shuffle(part, SPATIAL_RATIO)))
