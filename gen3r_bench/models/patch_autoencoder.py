"""A small causal autoencoder of video patches, which stands where the Wan VAE stands: latents of the same shape.

A patch is 8 x 8 pixels of the first frame, or of four frames together. A linear code of each patch (its principal
components, once they are set) is the way through; residual blocks beside it, at the latent's resolution, begin as
nothing and learn what neighbours and the past tell. No part of a latent frame depends on later frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import torch
import torch.nn.functional as nnf
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, per_frame
from gen3r_bench.models.folder import CONFIG_FILE, read_config, refuse_unknown, require_ratios
from gen3r_bench.models.linear_code import (
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
class PatchAutoencoderConfig:
    """Size of a patch autoencoder; the defaults are those of the checkpoint that ships.

    Attributes:
        width: channels of the residual blocks.
        encoder_blocks: how many before the latent.
        decoder_blocks: how many after it.
        latent_mean: of each latent channel before normalisation.
        latent_std: the same, standard deviation.
    """

    width: int = 256
    encoder_blocks: int = 3
    decoder_blocks: int = 5
    latent_mean: tuple[float, ...] = (0.0,) * 16
    latent_std: tuple[float, ...] = (1.0,) * 16

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.encoder_blocks, self.decoder_blocks) < 0:
            raise InputError(
                f"width {self.width}, {self.encoder_blocks} and {self.decoder_blocks} blocks",
                expected="a width of at least 1, and no fewer than 0 blocks",
            )
        if len(self.latent_mean) != len(self.latent_std) or min(self.latent_std, default=0) <= 0:
            raise InputError("latent_mean and latent_std", expected="one mean and one positive deviation a channel")
        if self.latent_channels > FIRST_NUMBERS:
            raise InputError(f"{self.latent_channels} latent channels", expected=f"at most {FIRST_NUMBERS}")

    @classmethod
    def tiny(cls) -> Self:
        """A size for tests, of the same structure."""
        return cls(width=8, encoder_blocks=1, decoder_blocks=2)

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """What a ``config.json``, or the metadata of a safetensors file, says.

        Raises:
            InputError: where it is missing, unreadable, or says something that this network does not do.
        """
        given = read_config(path)
        require_ratios(given, path, ("temporal_compression_ratio", "spatial_compression_ratio"))
        latent = given.pop("latent_channels", None)
        own: dict[str, Any] = {}
        for name in ("width", "encoder_blocks", "decoder_blocks"):
            if name not in given:
                raise InputError(f"{path} lacks {name!r}", expected=f"the config.json of a {CLASS_NAME}")
            own[name] = int(given.pop(name))
        for name in ("latent_mean", "latent_std"):
            if name in given:
                own[name] = tuple(given.pop(name))
        refuse_unknown(given, path)
        config = cls(**own)
        if latent not in {None, config.latent_channels}:
            raise InputError(
                f"{path}: {latent} latent channels", expected=f"{config.latent_channels}, one a latent statistic"
            )
        return config

    def to_json(self) -> dict[str, Any]:
        """Content of a ``config.json``."""
        return {
            "_class_name": CLASS_NAME,
            "latent_channels": self.latent_channels,
            "temporal_compression_ratio": FRAMES_PER_LATENT,
            "spatial_compression_ratio": SPATIAL_RATIO,
            "width": self.width,
            "encoder_blocks": self.encoder_blocks,
            "decoder_blocks": self.decoder_blocks,
            "latent_mean": self.latent_mean,
            "latent_std": self.latent_std,
        }

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)


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
