"""A causal autoencoder that is a linear code at first, with residual blocks beside it that begin as nothing.

At every position the numbers of a first frame, or of four frames together, become a latent; principal components are
the way through once they are set, and the blocks, at the latent's resolution, learn what neighbours and the past tell.
No part of a latent frame depends on later frames.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, CausalAutoencoder, ChannelNorm, Stream, per_frame
from gen3r_bench.models.folder import read_config, refuse_unknown, require_ratios
from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO

Place = Literal["first", "chunk"]
"""The first frame of a clip, or four later ones."""

_STATISTICS: Final = ("latent_mean", "latent_std")
_FIRST_LOGVAR: Final = -8.0
"""Log variance of an untrained posterior, in units of a principal component's variance: little noise, some room."""


class LinearCode(NamedTuple):
    """Vectors of D numbers to codes of c numbers, z = into (x - mean), and back, x = out z + mean.

    Attributes:
        mean: [D].
        into: [c, D].
        out: [D, c].
    """

    mean: Tensor
    into: Tensor
    out: Tensor

    def numbers(self, vectors: Tensor) -> Tensor:
        """Codes [B, c, k, h, w] of vectors [B, D, k, h, w]."""
        centred = vectors - self.mean.view(1, -1, 1, 1, 1)
        codes: Tensor = torch.einsum("cd,bdkhw->bckhw", self.into, centred)
        return codes

    def divided(self, scale: Tensor) -> Self:
        """The same code of vectors over ``scale`` [D]."""
        return self._replace(mean=self.mean / scale, into=self.into * scale, out=self.out / scale[:, None])

    def rotated(self, rotation: Tensor) -> Self:
        """The code whose numbers are ``rotation`` [c, c], orthogonal, times those of this one."""
        return self._replace(into=rotation @ self.into, out=self.out @ rotation.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeConfig:
    """Size of an autoencoder that is a linear code at first; each kind has defaults, and sizes of its own.

    Attributes:
        class_name: which kind it is, in its ``config.json``.
        width: channels of the residual blocks.
        encoder_blocks: how many before the latent.
        decoder_blocks: how many after it.
        latent_mean: of each latent channel before normalisation.
        latent_std: the same, standard deviation.
    """

    class_name: ClassVar[str]
    width: int
    encoder_blocks: int
    decoder_blocks: int
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
        for name in cls._sizes():
            if name not in given:
                raise InputError(f"{path} lacks {name!r}", expected=f"the config.json of a {cls.class_name}")
            own[name] = int(given.pop(name))
        for name in _STATISTICS:
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
            "_class_name": self.class_name,
            "latent_channels": self.latent_channels,
            "temporal_compression_ratio": FRAMES_PER_LATENT,
            "spatial_compression_ratio": SPATIAL_RATIO,
            **{name: getattr(self, name) for name in (*self._sizes(), *_STATISTICS)},
        }

    @classmethod
    def _sizes(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls) if field.name not in _STATISTICS]

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)


class CodeSize(NamedTuple):
    """How wide a code's parts are.

    Attributes:
        first: numbers of a position of the first frame.
        chunk: numbers of a position of four frames.
        latent: channels of the latent.
        width: channels of the residual blocks.
    """

    first: int
    chunk: int
    latent: int
    width: int

    def by_place(self, layer: Callable[[int], nn.Module]) -> nn.ModuleDict:
        """A layer for each place, made for its numbers."""
        return nn.ModuleDict({"first": layer(self.first), "chunk": layer(self.chunk)})


class CodeEncoder(nn.Module):
    """A part of a clip to mean and log variance; the first part holds the first frame."""

    def __init__(self, size: CodeSize, blocks: int) -> None:
        super().__init__()
        out = 2 * size.latent
        self.code = size.by_place(lambda numbers: nn.Conv2d(numbers, out, 1))
        self.into = size.by_place(lambda numbers: nn.Conv2d(numbers, size.width, 1))
        self.blocks = nn.ModuleList([CausalBlock(size.width) for _ in range(blocks)])
        self.norm = ChannelNorm(size.width, 3)
        self.out = _nothing(nn.Conv2d(size.width, out, 1))
        for layer in self.code.values():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.zeros_(layer.weight[size.latent :])
            nn.init.constant_(layer.bias[size.latent :], _FIRST_LOGVAR)

    def forward(self, clip: Tensor, stream: Stream) -> Tensor:
        parts = _first_and_rest(clip, begins=stream.begins(self))
        numbers = [(name, self._numbers(name, part)) for name, part in parts]
        code = torch.cat([per_frame(part, self.code[name]) for name, part in numbers], dim=2)
        x = torch.cat([per_frame(part, self.into[name]) for name, part in numbers], dim=2)
        for block in self.blocks:
            x = block(x, stream)
        return code + per_frame(self.norm(x), self.out)

    @abstractmethod
    def _numbers(self, name: Place, part: Tensor) -> Tensor:
        """[B, D, k, h, w] of a part of a clip: its first frame, or 4 k others."""


class CodeDecoder(nn.Module):
    """A part of a latent to a part of the clip; the first part holds the first latent frame."""

    def __init__(self, size: CodeSize, blocks: int) -> None:
        super().__init__()
        self.code = size.by_place(lambda numbers: nn.Conv2d(size.latent, numbers, 1))
        self.into = size.by_place(lambda _: nn.Conv2d(size.latent, size.width, 1))
        self.blocks = nn.ModuleList([CausalBlock(size.width) for _ in range(blocks)])
        self.norm = ChannelNorm(size.width, 3)
        self.out = size.by_place(lambda numbers: _nothing(nn.Conv2d(size.width, numbers, 1)))

    def forward(self, latent: Tensor, stream: Stream) -> Tensor:
        begins = stream.begins(self)
        parts = _first_and_rest(latent, begins=begins)
        x = torch.cat([per_frame(part, self.into[name]) for name, part in parts], dim=2)
        for block in self.blocks:
            x = block(x, stream)
        frames = []
        for (name, part), (_, found) in zip(parts, _first_and_rest(self.norm(x), begins=begins), strict=True):
            frames.append(self._part(name, per_frame(part, self.code[name]) + per_frame(found, self.out[name])))
        return torch.cat(frames, dim=2)

    @abstractmethod
    def _part(self, name: Place, numbers: Tensor) -> Tensor:
        """The way back from ``CodeEncoder``'s numbers."""


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


def fold_chunks(x: Tensor) -> Tensor:
    """[B, 4 C, k, h, w] of [B, C, 4 k, h, w]: channel, then frame."""
    batch, channels, frames, height, width = x.shape
    folded = x.reshape(batch, channels, frames // FRAMES_PER_LATENT, FRAMES_PER_LATENT, height, width)
    return folded.transpose(2, 3).reshape(batch, channels * FRAMES_PER_LATENT, -1, height, width)


def unfold_chunks(x: Tensor) -> Tensor:
    """The way back from ``fold_chunks``."""
    batch, _, chunks, height, width = x.shape
    folded = x.reshape(batch, -1, FRAMES_PER_LATENT, chunks, height, width)
    return folded.transpose(2, 3).reshape(batch, -1, FRAMES_PER_LATENT * chunks, height, width)


def code_autoencoder(
    encoder: CodeEncoder, decoder: CodeDecoder, *, mean: Sequence[float], std: Sequence[float]
) -> CausalAutoencoder:
    """The two around a latent that they begin by handing on as it is."""
    model = CausalAutoencoder(encoder, decoder, mean=mean, std=std)
    for layer, size in ((model.conv1, 2 * len(mean)), (model.conv2, len(mean))):
        nn.init.eye_(layer.weight.view(size, size))
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return model


def start_from(model: CausalAutoencoder, first: LinearCode, chunk: LinearCode) -> None:
    """Set the linear way through a ``code_autoencoder``; with new blocks, that is all that it does."""
    for name, code in (("first", first), ("chunk", chunk)):
        into = model.encoder.get_submodule(f"code.{name}")
        out = model.decoder.get_submodule(f"code.{name}")
        assert isinstance(into, nn.Conv2d)
        assert isinstance(out, nn.Conv2d)
        set_to_code(into, out, code)


@torch.no_grad()
def set_to_code(into: nn.Conv2d, out: nn.Conv2d, code: LinearCode) -> None:
    """Make the first c channels of one layer a code's way in, and another layer its way out; both look at a place."""
    assert into.bias is not None
    assert out.bias is not None
    channels = len(code.into)
    into.weight[:channels, :, 0, 0] = code.into
    into.bias[:channels] = -code.into @ code.mean
    out.weight[..., 0, 0] = code.out
    out.bias.copy_(code.mean)


def _first_and_rest(x: Tensor, *, begins: bool) -> list[tuple[Place, Tensor]]:
    """[B, C, T, H, W] as its first frame and the others, where it begins a clip; what is empty is left out."""
    parts: tuple[tuple[Place, Tensor], ...] = (
        ("first", x[:, :, : int(begins)]),
        ("chunk", x[:, :, int(begins) :]),
    )
    return [(name, part) for name, part in parts if part.shape[2]]


def _nothing(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
