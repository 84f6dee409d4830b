"""Geometry adapter of Gen3R (arXiv 2601.04090): VGGT's tokens of a clip to latents shaped like the Wan VAE's, and back.

Written from the paper and the released code's behaviour (github.com/JaceyHuang/Gen3R, MIT); parameter names and numbers
are those of the official weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import (
    CausalAutoencoder,
    CausalDecoder,
    CausalEncoder,
    Stream,
)
from gen3r_bench.models.folder import read_config, refuse_unknown, require_ratios
from gen3r_bench.models.token_adapter import TokenAdapter
from gen3r_bench.models.vggt import VggtTokens

CLASS_NAME: Final = "GeometryAdapter"
GRID_UNIT: Final = 4
LATENT_UNIT: Final = 7
"""A token grid of 4 n becomes a latent of 7 n: VGGT's patches are 14 pixels wide, the autoencoder's latents 8."""

# Of the latents of 49 frames over the training data; the released code has them as constants, its files do not.
LATENT_MEAN: Final = (
    0.14257538, 0.18577661, 0.14208488, 0.06298031, 0.09738383, -0.06001362, -0.04728968, -0.12326089,
    -0.04308648, -0.10522724, 0.08278389, -0.00270301, -0.09203526, 0.03170688, 0.11458898, 0.10679868,
)  # fmt: skip
LATENT_STD: Final = (
    0.56929547, 0.61451489, 0.68560797, 0.78598368, 0.51151282, 0.75570852, 0.80284864, 0.63438177,
    0.82458758, 0.59266430, 0.75781488, 0.70593017, 0.70382243, 0.57837099, 0.73155540, 0.71971470,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryAdapterConfig:
    """Size of an adapter.

    Attributes:
        token_channels: channels of the token map: four layers' patch tokens and the camera token.
        hidden_dim: base width; a stage has ``hidden_dim`` times its multiplier.
        resample_scale: by how much the first convolution divides the token channels.
        width_multipliers: of the encoder's stages; the decoder takes them in reverse.
        blocks_per_stage: residual blocks of an encoder stage.
        halve_time: for each gap between two stages of the encoder.
        grid_unit: a token grid of ``grid_unit`` n …
        latent_unit: … becomes a latent of ``latent_unit`` n, in either direction.
        latent_mean: of each latent channel before normalisation.
        latent_std: the same, standard deviation.
    """

    token_channels: int
    hidden_dim: int
    resample_scale: int
    width_multipliers: tuple[int, ...] = (4, 2, 1, 1)
    blocks_per_stage: int = 2
    halve_time: tuple[bool, ...] = (False, True, True)
    grid_unit: int = GRID_UNIT
    latent_unit: int = LATENT_UNIT
    latent_mean: tuple[float, ...] = LATENT_MEAN
    latent_std: tuple[float, ...] = LATENT_STD

    def __post_init__(self) -> None:
        if self.token_channels < 5 or self.token_channels % 5 or self.token_channels % self.resample_scale:
            raise InputError(
                f"{self.token_channels} token channels",
                expected=f"a multiple of 5 (four layers and the camera) and of resample_scale {self.resample_scale}",
            )
        if len(self.halve_time) != len(self.width_multipliers) - 1 or sum(self.halve_time) != 2:
            raise InputError(f"halve_time {self.halve_time}", expected="two True, one entry a gap between stages")
        if min(self.grid_unit, self.latent_unit) < 1 or math.gcd(self.grid_unit, self.latent_unit) != 1:
            raise InputError(
                f"grid_unit {self.grid_unit} and latent_unit {self.latent_unit}",
                expected="whole numbers of at least 1 without a common factor",
            )
        if len(self.latent_mean) != len(self.latent_std) or min(self.latent_std, default=0) <= 0:
            raise InputError("latent_mean and latent_std", expected="one mean and one positive deviation a channel")

    @classmethod
    def official(cls) -> Self:
        """The released size: 10,240 token channels, 317.8 M parameters."""
        return cls(token_channels=10240, hidden_dim=128, resample_scale=10)

    @classmethod
    def tiny(cls, token_channels: int = 40) -> Self:
        """A size for tests, of the same structure."""
        return cls(token_channels=token_channels, hidden_dim=4, resample_scale=5)

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """What a ``config.json`` says, of the official folder or of `GeometryAdapter.save`.

        Raises:
            InputError: where it is missing, unreadable, or says something that this network does not do.
        """
        given = read_config(path)
        try:
            sizes = {name: int(given.pop(name)) for name in ("input_dim", "output_dim", "hidden_dim", "resample_scale")}
            latent = int(given.pop("latent_channels"))
        except KeyError as error:
            # the released loader falls back to another size here, and loads what fits of the weights
            raise InputError(f"{path} lacks {error}", expected="hidden_dim, input_dim, output_dim, …") from error
        if sizes["input_dim"] != sizes["output_dim"]:
            raise InputError(f"{path}: input_dim and output_dim differ", expected="the same tokens in and out")
        require_ratios(given, path, ("temporal_compression_ratio", "spatial_compression_ratio"))
        own: dict[str, Any] = {}
        for name in ("width_multipliers", "halve_time", "latent_mean", "latent_std"):
            if name in given:
                own[name] = tuple(given.pop(name))
        for name in ("blocks_per_stage", "grid_unit", "latent_unit"):
            if name in given:
                own[name] = given.pop(name)
        refuse_unknown(given, path)
        config = cls(
            token_channels=sizes["input_dim"],
            hidden_dim=sizes["hidden_dim"],
            resample_scale=sizes["resample_scale"],
            **own,
        )
        if latent != config.latent_channels:
            raise InputError(
                f"{path}: {latent} latent channels", expected=f"{config.latent_channels}, one a latent statistic"
            )
        return config

    def to_json(self) -> dict[str, Any]:
        """Content of a ``config.json``: the official names, and ours for what the official files leave out."""
        return {
            "latent_channels": self.latent_channels,
            "hidden_dim": self.hidden_dim,
            "input_dim": self.token_channels,
            "output_dim": self.token_channels,
            "resample_scale": self.resample_scale,
            "temporal_compression_ratio": 4,
            "spatial_compression_ratio": 8,
            "width_multipliers": self.width_multipliers,
            "blocks_per_stage": self.blocks_per_stage,
            "halve_time": self.halve_time,
            "grid_unit": self.grid_unit,
            "latent_unit": self.latent_unit,
            "latent_mean": self.latent_mean,
            "latent_std": self.latent_std,
        }

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.hidden_dim * factor for factor in self.width_multipliers)

    def latent_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the latent of a token grid.

        Raises:
            InputError: where a side is not a multiple of ``grid_unit``.
        """
        return _scaled(grid, self.grid_unit, self.latent_unit, "token grid")

    def grid_size(self, latent: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the token grid of a latent.

        Raises:
            InputError: where a side is not a multiple of ``latent_unit``.
        """
        return _scaled(latent, self.latent_unit, self.grid_unit, "latent")


class GeometryAdapter(TokenAdapter):
    """The released one: its latents have 7/4 of the token grid's height and width, or another ratio by configuration.

    The released code decodes to a 40 x 40 grid whatever it is given; here the grid follows from the latent's size, and
    is the same for 70 x 70.
    """

    title: ClassVar[str] = "geometry adapter"
    config: GeometryAdapterConfig
    way_in: ClassVar[str] = "model.encoder.init_block.resample.1"
    way_out: ClassVar[str] = "model.decoder.out_block.resample.2"

    def __init__(self, config: GeometryAdapterConfig) -> None:
        super().__init__()
        self.config = config
        narrow = config.token_channels // config.resample_scale
        latent, widths = config.latent_channels, config.widths
        self.model = CausalAutoencoder(
            TokenEncoder(config.token_channels, narrow, widths, 2 * latent, config),
            TokenDecoder(latent, widths[::-1], narrow, config.token_channels, config),
            mean=config.latent_mean,
            std=config.latent_std,
        )


class TokenEncoder(CausalEncoder):
    """Widen the grid to the latent's size, narrow the channels, then encode at that size."""

    def __init__(
        self, tokens: int, narrow: int, widths: tuple[int, ...], out_channels: int, config: GeometryAdapterConfig
    ) -> None:
        super().__init__(
            narrow,
            widths,
            out_channels,
            blocks=config.blocks_per_stage,
            halve_time=config.halve_time,
            space="keep",
        )
        self.init_block = GridToLatent(tokens, narrow, config)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return super().forward(self.init_block(x), stream)


class TokenDecoder(CausalDecoder):
    """Decode at the latent's size, then shrink to the token grid and widen the channels."""

    def __init__(
        self, latent: int, widths: tuple[int, ...], narrow: int, tokens: int, config: GeometryAdapterConfig
    ) -> None:
        super().__init__(
            latent,
            widths,
            narrow,
            blocks=config.blocks_per_stage,
            double_time=config.halve_time[::-1],
            space="keep",
        )
        self.out_block = LatentToGrid(narrow, tokens, config)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        out: Tensor = self.out_block(super().forward(x, stream))
        return out


class GridToLatent(nn.Module):
    """Each frame's token grid by nearest neighbour to 7/4 of its size (40 to 70), and a convolution."""

    def __init__(self, channels: int, out_channels: int, config: GeometryAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, out_channels, 3, padding=1)})

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        size = self.config.latent_size((x.shape[3], x.shape[4]))
        # one frame at a time: at 10,240 channels the enlarged grid of a frame alone takes 200 MB in float32
        return torch.stack([self._frame(frames[:, index], size) for index in range(x.shape[2])], dim=2)

    def _frame(self, frame: Tensor, size: tuple[int, int]) -> Tensor:
        out: Tensor = self.resample["1"](nnf.interpolate(frame, size=size, mode="nearest-exact"))
        return out


class LatentToGrid(nn.Module):
    """Each frame by nearest neighbour to twice the token grid (70 to 80), then a convolution of stride 2 (to 40)."""

    def __init__(self, channels: int, out_channels: int, config: GeometryAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.resample = nn.ModuleDict({"2": nn.Conv2d(channels, out_channels, 3, stride=2)})

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.config.grid_size((x.shape[3], x.shape[4]))
        frames = x.transpose(1, 2).flatten(0, 1)
        frames = nnf.interpolate(frames, size=(2 * height, 2 * width), mode="nearest-exact")
        # the border lies at the right and bottom only, as in the weights' training
        frames = self.resample["2"](nnf.pad(frames, (0, 1, 0, 1)))
        grid: Tensor = frames.reshape(x.shape[0], x.shape[2], *frames.shape[1:]).transpose(1, 2)
        return grid


def pack_tokens(tokens: VggtTokens) -> Tensor:
    """Token map [B, 5 D, F, h, w] of VGGT's tokens: the patch tokens of its four layers, then the last camera token.

    The camera token is repeated at every position; the registers and the other layers' camera tokens are left out.
    """
    rows, columns = tokens.grid
    patches = [layer[:, :, tokens.patch_start :] for layer in tokens.layers]
    camera = tokens.layers[-1][:, :, :1].expand_as(patches[-1])
    whole = torch.cat([*patches, camera], dim=-1)
    batch, frames, _, channels = whole.shape
    return whole.reshape(batch, frames, rows, columns, channels).permute(0, 4, 1, 2, 3)


def unpack_tokens(token_map: Tensor, *, patch_start: int = 5) -> VggtTokens:
    """VGGT's tokens of a token map [B, 5 D, F, h, w]; what `pack_tokens` put in, as far as the heads read it.

    The camera token is the mean of its channels over all positions, and stands in for the registers too: the heads
    read only the last layer's first token besides the patches.

    Args:
        token_map: of `pack_tokens` or `GeometryAdapter.decode`.
        patch_start: tokens in front of the patches: one camera token and VGGT's registers.

    Raises:
        InputError: where the channels are not five equal parts.
    """
    if token_map.ndim != 5 or token_map.shape[1] % 5:
        raise InputError(
            f"a token map of shape {list(token_map.shape)}", expected="[batch, 5 D, frames, rows, columns]"
        )
    *patches, camera = token_map.chunk(5, dim=1)
    in_front = camera.mean(dim=(3, 4)).transpose(1, 2).unsqueeze(2).expand(-1, -1, patch_start, -1)
    layers = tuple(torch.cat([in_front, part.permute(0, 2, 3, 4, 1).flatten(2, 3)], dim=2) for part in patches)
    return VggtTokens(layers=layers, patch_start=patch_start, grid=(token_map.shape[3], token_map.shape[4]))


def _scaled(size: tuple[int, int], unit: int, to: int, name: str) -> tuple[int, int]:
    if size[0] % unit or size[1] % unit:
        raise InputError(
            f"a {name} of {size[0]} x {size[1]}",
            expected=f"multiples of {unit}",
            fix="images of 560 x 560, or of multiples of 56" if {unit, to} == {GRID_UNIT, LATENT_UNIT} else None,
        )
    return size[0] // unit * to, size[1] // unit * to
