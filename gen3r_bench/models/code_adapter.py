"""A small geometry adapter of patch tokens, which stands where Gen3R's stands: latents of as many channels.

Tokens of a frame are narrowed place by place; a linear code of the narrowed tokens of the first frame, or of four
frames together, is the way through, with residual blocks beside it. The latent's grid is that of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, per_frame
from gen3r_bench.models.folder import read_config, refuse_unknown, require_ratios
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
from gen3r_bench.models.token_adapter import TokenAdapter

CLASS_NAME: Final = "CodeAdapter"
_SPATIAL_RATIO: Final = 8
"""Of VGGT's pixels to the latent's, at patches of 8 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeAdapterConfig:
    """Size of a code adapter; the defaults are those of the checkpoint that ships.

    Attributes:
        token_channels: channels of the token map: four layers' patch tokens and the camera token.
        narrow: channels to which a frame's tokens are narrowed.
        width: channels of the residual blocks.
        encoder_blocks: how many before the latent.
        decoder_blocks: how many after it.
        latent_mean: of each latent channel before normalisation.
        latent_std: the same, standard deviation.
    """

    token_channels: int = 1280
    narrow: int = 96
    width: int = 160
    encoder_blocks: int = 3
    decoder_blocks: int = 5
    latent_mean: tuple[float, ...] = (0.0,) * 16
    latent_std: tuple[float, ...] = (1.0,) * 16

    def __post_init__(self) -> None:
        if self.token_channels < 5 or self.token_channels % 5:
            raise InputError(
                f"{self.token_channels} token channels", expected="a multiple of 5 (four layers and the camera)"
            )
        if min(self.width, self.narrow) < 1 or min(self.encoder_blocks, self.decoder_blocks) < 0:
            raise InputError(
                f"narrow {self.narrow}, width {self.width}, {self.encoder_blocks} and {self.decoder_blocks} blocks",
                expected="at least 1 channel, and no fewer than 0 blocks",
            )
        if self.latent_channels != len(self.latent_std) or min(self.latent_std, default=0) <= 0:
            raise InputError("latent_mean and latent_std", expected="one mean and one positive deviation a channel")
        if not self.latent_channels <= self.narrow <= self.token_channels:
            raise InputError(
                f"{self.token_channels} token channels narrowed to {self.narrow} and {self.latent_channels}",
                expected="no more at each step",
            )

    @classmethod
    def tiny(cls, token_channels: int = 40) -> Self:
        """A size for tests, of the same structure."""
        return cls(token_channels=token_channels, narrow=16, width=8, encoder_blocks=1, decoder_blocks=2)

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
        for name in ("token_channels", "narrow", "width", "encoder_blocks", "decoder_blocks"):
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
            "spatial_compression_ratio": _SPATIAL_RATIO,
            "token_channels": self.token_channels,
            "narrow": self.narrow,
            "width": self.width,
            "encoder_blocks": self.encoder_blocks,
            "decoder_blocks": self.decoder_blocks,
            "latent_mean": self.latent_mean,
            "latent_std": self.latent_std,
        }

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)

    @property
    def grid_unit(self) -> int:
        return 1

    def latent_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        return grid

    def grid_size(self, latent: tuple[int, int]) -> tuple[int, int]:
        return latent


class CodeAdapter(TokenAdapter):
    """See ``TokenAdapter`` for what goes in and comes out."""

    title: ClassVar[str] = "code adapter"
    config: CodeAdapterConfig
    way_in: ClassVar[str] = "model.encoder.narrow"
    way_out: ClassVar[str] = "model.decoder.widen"

    def __init__(self, config: CodeAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.model = code_autoencoder(
            _FromTokens(config), _ToTokens(config), mean=config.latent_mean, std=config.latent_std
        )

    @torch.no_grad()
    def start_from(self, tokens: LinearCode, first: LinearCode, chunk: LinearCode) -> None:
        """Set the linear way through; with new blocks, that is all the network does.

        Args:
            tokens: of a frame's token channels, [narrow, C].
            first: of the first frame's narrowed tokens, [c, narrow].
            chunk: of four frames' narrowed tokens, [c, 4 narrow]: channel, then frame.
        """
        encoder, decoder = self.model.encoder, self.model.decoder
        assert isinstance(encoder, _FromTokens)
        assert isinstance(decoder, _ToTokens)
        assert encoder.narrow.bias is not None
        assert decoder.widen.bias is not None
        encoder.narrow.weight[..., 0, 0] = tokens.into
        encoder.narrow.bias.copy_(-tokens.into @ tokens.mean)
        decoder.widen.weight[..., 0, 0] = tokens.out
        decoder.widen.bias.copy_(tokens.mean)
        start_from(self.model, first, chunk)


class _FromTokens(CodeEncoder):
    """A part of a token map to mean and log variance."""

    def __init__(self, config: CodeAdapterConfig) -> None:
        super().__init__(_size(config), config.encoder_blocks)
        self.narrow = nn.Conv2d(config.token_channels, config.narrow, 1)

    def _numbers(self, name: Place, part: Tensor) -> Tensor:
        narrowed = per_frame(part, self.narrow)
        return narrowed if name == "first" else fold_chunks(narrowed)


class _ToTokens(CodeDecoder):
    """A part of a latent to a part of the token map."""

    def __init__(self, config: CodeAdapterConfig) -> None:
        super().__init__(_size(config), config.decoder_blocks)
        self.widen = nn.Conv2d(config.narrow, config.token_channels, 1)

    def _part(self, name: Place, numbers: Tensor) -> Tensor:
        return per_frame(numbers if name == "first" else unfold_chunks(numbers), self.widen)


def _size(config: CodeAdapterConfig) -> CodeSize:
    return CodeSize(config.narrow, FRAMES_PER_LATENT * config.narrow, config.latent_channels, config.width)
