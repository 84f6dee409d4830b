"""A small geometry adapter of patch tokens, which stands where Gen3R's stands: latents of as many channels.

Tokens of a frame are narrowed place by place; a linear code of the narrowed tokens of the first frame, or of four
frames together, is the way through, with residual blocks beside it. The latent's grid is that of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, per_frame
from gen3r_bench.models.linear_code import (
    CodeConfig,
    CodeDecoder,
    CodeEncoder,
    CodeSize,
    LinearCode,
    Place,
    code_autoencoder,
    fold_chunks,
    set_to_code,
    start_from,
    unfold_chunks,
)
from gen3r_bench.models.token_adapter import TokenAdapter

CLASS_NAME: Final = "CodeAdapter"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeAdapterConfig(CodeConfig):
    """Size of a code adapter; the defaults are those of the checkpoint that ships.

    Attributes:
        token_channels: channels of the token map: four layers' patch tokens and the camera token.
        narrow: channels to which a frame's tokens are narrowed.
    """

    class_name: ClassVar[str] = CLASS_NAME
    token_channels: int = 1280
    narrow: int = 96
    width: int = 160
    encoder_blocks: int = 3
    decoder_blocks: int = 5

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        if self.token_channels < 5 or self.token_channels % 5:
            raise InputError(
                f"{self.token_channels} token channels", expected="a multiple of 5 (four layers and the camera)"
            )
        if not self.latent_channels <= self.narrow <= self.token_channels:
            raise InputError(
                f"{self.token_channels} token channels narrowed to {self.narrow} and {self.latent_channels}",
                expected="no more at each step",
            )

    @classmethod
    def tiny(cls, token_channels: int = 40) -> Self:
        """A size for tests, of the same structure."""
        return cls(token_channels=token_channels, narrow=16, width=8, encoder_blocks=1, decoder_blocks=2)

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
        set_to_code(encoder.narrow, decoder.widen, tokens)
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
