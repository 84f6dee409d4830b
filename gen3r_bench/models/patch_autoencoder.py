"""A small causal autoencoder of video patches, which stands where the Wan VAE stands: latents of the same shape.

A patch is 8 x 8 pixels of the first frame, or of four frames together. A linear code of each patch (its principal
components, once they are set) is the way through; residual blocks beside it, at the latent's resolution, begin as
nothing and learn what neighbours and the past tell. No part of a latent frame depends on later frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Self

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, CausalAutoencoder, ChannelNorm, Stream, per_frame
from gen3r_bench.models.folder import CONFIG_FILE, read_config, refuse_unknown, require_ratios
from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO, VideoAutoencoder

CLASS_NAME: Final = "PatchVideoAutoencoder"
FIRST_NUMBERS: Final = 3 * SPATIAL_RATIO**2
"""Numbers of a patch of the first frame."""
CHUNK_NUMBERS: Final = FRAMES_PER_LATENT * FIRST_NUMBERS
"""Numbers of a patch of four frames."""
_FIRST_LOGVAR: Final = -8.0
"""Log variance of an untrained posterior, in units of a principal component's variance: little noise, some room."""


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


class LinearCode(NamedTuple):
    """Principal components of patches of D numbers.

    Attributes:
        mean: [D].
        directions: [c, D], orthonormal rows.
        deviation: [c], standard deviation along each.
    """

    mean: Tensor
    directions: Tensor
    deviation: Tensor


class PatchVideoAutoencoder(VideoAutoencoder):
    """See ``VideoAutoencoder`` for what goes in and comes out."""

    title: ClassVar[str] = "patch autoencoder"
    config: PatchAutoencoderConfig

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.model = CausalAutoencoder(
            PatchEncoder(config), PatchDecoder(config), mean=config.latent_mean, std=config.latent_std
        )
        for layer, size in ((self.model.conv1, 2 * channels), (self.model.conv2, channels)):
            nn.init.eye_(layer.weight.view(size, size))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_from(self, first: LinearCode, chunk: LinearCode) -> None:
        """Set the linear way through to principal components; with new blocks, that is all the network does.

        A latent channel is then a component over its standard deviation.

        Args:
            first: of patches of first frames, [c, 192] directions in the order of ``first_patches``.
            chunk: of patches of four frames, [c, 768] directions in the order of ``chunk_patches``.
        """
        for name, code in (("first", first), ("chunk", chunk)):
            into = self.model.encoder.get_submodule(f"code.{name}")
            out = self.model.decoder.get_submodule(f"code.{name}")
            assert isinstance(into, nn.Conv2d)
            assert isinstance(out, nn.Conv2d)
            assert into.bias is not None
            assert out.bias is not None
            scaled = code.directions / code.deviation[:, None]
            channels = len(code.deviation)
            into.weight[:channels, :, 0, 0] = scaled
            into.bias[:channels] = -scaled @ code.mean
            out.weight[..., 0, 0] = (code.directions * code.deviation[:, None]).T
            out.bias.copy_(code.mean)

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


class PatchEncoder(nn.Module):
    """A part of a clip to mean and log variance; the first part holds the first frame."""

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        out = 2 * config.latent_channels
        self.code = _by_place(lambda numbers: nn.Conv2d(numbers, out, 1))
        self.into = _by_place(lambda numbers: nn.Conv2d(numbers, config.width, 1))
        self.blocks = nn.ModuleList([CausalBlock(config.width) for _ in range(config.encoder_blocks)])
        self.norm = ChannelNorm(config.width, 3)
        self.out = _nothing(nn.Conv2d(config.width, out, 1))
        for layer in self.code.values():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.zeros_(layer.weight[config.latent_channels :])
            nn.init.constant_(layer.bias[config.latent_channels :], _FIRST_LOGVAR)

    def forward(self, clip: Tensor, stream: Stream) -> Tensor:
        parts = _first_and_rest(clip, begins=stream.begins(self))
        patches = [(name, first_patches(part) if name == "first" else chunk_patches(part)) for name, part in parts]
        code = torch.cat([per_frame(part, self.code[name]) for name, part in patches], dim=2)
        x = torch.cat([per_frame(part, self.into[name]) for name, part in patches], dim=2)
        for block in self.blocks:
            x = block(x, stream)
        return code + per_frame(self.norm(x), self.out)


class PatchDecoder(nn.Module):
    """A part of a latent to a part of the clip; the first part holds the first latent frame."""

    def __init__(self, config: PatchAutoencoderConfig) -> None:
        super().__init__()
        channels, width = config.latent_channels, config.width
        self.code = _by_place(lambda numbers: nn.Conv2d(channels, numbers, 1))
        self.into = _by_place(lambda _: nn.Conv2d(channels, width, 1))
        self.blocks = nn.ModuleList([CausalBlock(width) for _ in range(config.decoder_blocks)])
        self.norm = ChannelNorm(width, 3)
        self.out = _by_place(lambda numbers: _nothing(nn.Conv2d(width, numbers, 1)))

    def forward(self, latent: Tensor, stream: Stream) -> Tensor:
        begins = stream.begins(self)
        parts = _first_and_rest(latent, begins=begins)
        x = torch.cat([per_frame(part, self.into[name]) for name, part in parts], dim=2)
        for block in self.blocks:
            x = block(x, stream)
        frames = []
        for (name, part), (_, found) in zip(parts, _first_and_rest(self.norm(x), begins=begins), strict=True):
            patches = per_frame(part, self.code[name]) + per_frame(found, self.out[name])
            frames.append(first_frame(patches) if name == "first" else chunk_frames(patches))
        return torch.cat(frames, dim=2)


class CausalBlock(nn.Module):
    """What a position's neighbours say, and the same position one latent frame earlier, added to it.

    The last layer begins at zero, so that a new block passes its input on.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, 3)
        self.around = nn.Conv2d(width, width, 3, padding=1)
        self.before = nn.Conv2d(width, width, 1, bias=False)
        self.out = _nothing(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        normed = self.norm(x)
        earlier = stream.recall(self)
        if earlier is None:
            earlier = torch.zeros_like(normed[:, :, :1])
        stream.keep(self, normed[:, :, -1:])
        before = torch.cat([earlier, normed[:, :, :-1]], dim=2)
        mixed = per_frame(normed, self.around) + per_frame(before, self.before)
        return x + per_frame(nnf.silu(mixed), self.out)


def first_patches(frame: Tensor) -> Tensor:
    """[B, 192, 1, H / 8, W / 8] of [B, 3, 1, H, W]: channel, then row, then column of the pixel."""
    return nnf.pixel_unshuffle(frame[:, :, 0], SPATIAL_RATIO).unsqueeze(2)


def first_frame(patches: Tensor) -> Tensor:
    """The way back from ``first_patches``."""
    return nnf.pixel_shuffle(patches[:, :, 0], SPATIAL_RATIO).unsqueeze(2)


def chunk_patches(clip: Tensor) -> Tensor:
    """[B, 768, k, H / 8, W / 8] of [B, 3, 4 k, H, W]: channel, then frame, row, column of the pixel."""
    batch, _, frames, height, width = clip.shape
    folded = clip.reshape(batch, 3, frames // FRAMES_PER_LATENT, FRAMES_PER_LATENT, height, width)
    folded = folded.transpose(2, 3).reshape(batch, 3 * FRAMES_PER_LATENT, -1, height, width)
    return per_frame(folded, lambda part: nnf.pixel_unshuffle(part, SPATIAL_RATIO))


def chunk_frames(patches: Tensor) -> Tensor:
    """The way back from ``chunk_patches``."""
    folded = per_frame(patches, lambda part: nnf.pixel_shuffle(part, SPATIAL_RATIO))
    batch, _, chunks, height, width = folded.shape
    folded = folded.reshape(batch, 3, FRAMES_PER_LATENT, chunks, height, width)
    return folded.transpose(2, 3).reshape(batch, 3, FRAMES_PER_LATENT * chunks, height, width)


def _first_and_rest(x: Tensor, *, begins: bool) -> list[tuple[str, Tensor]]:
    """[B, C, T, H, W] as its first frame and the others, where it begins a clip; what is empty is left out."""
    parts = (("first", x[:, :, : int(begins)]), ("chunk", x[:, :, int(begins) :]))
    return [(name, part) for name, part in parts if part.shape[2]]


def _by_place(layer: Callable[[int], nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({"first": layer(FIRST_NUMBERS), "chunk": layer(CHUNK_NUMBERS)})


def _nothing(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
