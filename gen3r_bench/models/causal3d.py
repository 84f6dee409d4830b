"""Causal 3-D convolutions over video, in one pass or chunk by chunk: what the geometry adapter and the Wan VAE share.

Every block takes [B, C, T, H, W] and a `Stream`, which holds what the block must remember of earlier frames. A new
Stream begins a clip; a whole clip at once is a stream of a single chunk, so both ways are one piece of code.

Parameter names are those of the public Wan 2.1 VAE (Wan Team, arXiv 2503.20314), which the adapter of Gen3R (arXiv
2601.04090) keeps. Its position numbers count layers without parameters too; hence the gaps in the keys of ModuleDicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError

FRAMES_PER_LATENT: Final = 4
"""Frames of one latent frame; the first latent frame holds the first frame alone."""
LOGVAR_RANGE: Final = (-30.0, 20.0)

Space = Literal["keep", "half", "double"]
Time = Literal["keep", "half", "double"]


class Stream:
    """What the blocks of one network remember between the chunks of one clip."""

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}
        self._begun: set[nn.Module] = set()

    def recall(self, block: nn.Module) -> Tensor | None:
        """The frames that ``block`` kept of the chunk before, or None in the first one."""
        return self._frames.get(block)

    def keep(self, block: nn.Module, frames: Tensor) -> None:
        # a view would hold the whole chunk in memory
        self._frames[block] = frames.clone()

    def begins(self, block: nn.Module) -> bool:
        """Whether ``block`` asks for the first time, that is, holds the clip's first frame."""
        first = block not in self._begun
        self._begun.add(block)
        return first


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalGaussian:
    """A normal distribution with independent components; ``mean`` and ``logvar`` have the latent's shape."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar.clamp(*LOGVAR_RANGE))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw; its float32 noise is made on the generator's device, so a seed means the same on any other."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=torch.float32)
        return self.mean + self.std * noise.to(self.mean)


class CausalConv3d(nn.Conv3d):
    """Convolution that looks at the present frame and ``kernel - 1`` earlier ones; zeros stand before the clip."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__(in_channels, out_channels, kernel)
        self.past, self.margin = kernel[0] - 1, (kernel[1] // 2, kernel[2] // 2)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:  # type: ignore[override]
        if not self.past:
            return super().forward(x)
        earlier, (batch, channels, frames, height, width) = stream.recall(self), x.shape
        rows, columns = self.margin
        # one copy for past and border together; PyTorch's own padding is slower on CPUs
        padded = x.new_zeros(batch, channels, self.past + frames, height + 2 * rows, width + 2 * columns)
        inner = padded[..., rows : rows + height, columns : columns + width]
        if earlier is not None:
            inner[:, :, : self.past] = earlier
        inner[:, :, self.past :] = x
        stream.keep(self, inner[:, :, -self.past :])
        return super().forward(padded)


class ChannelNorm(nn.Module):
    """Scale the channels of each position to a root mean square of one, times a learnt gain."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * dims))

    def forward(self, x: Tensor) -> Tensor:
        gain: Tensor = self.gamma * self.gamma.shape[0] ** 0.5
        return nnf.normalize(x, dim=1) * gain


class ResidualBlock(nn.Module):
    """Two rounds of norm, SiLU and causal convolution beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": ChannelNorm(in_channels, 3),
                "2": CausalConv3d(in_channels, out_channels),
                "3": ChannelNorm(out_channels, 3),
                "6": CausalConv3d(out_channels, out_channels),
            }
        )
        self.shortcut = CausalConv3d(in_channels, out_channels, (1, 1, 1)) if in_channels != out_channels else None

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        layer = self.residual
        inner: Tensor = layer["2"](nnf.silu(layer["0"](x)), stream)
        inner = layer["6"](nnf.silu(layer["3"](inner)), stream)
        return inner + (x if self.shortcut is None else self.shortcut(x, stream))


class FrameAttention(nn.Module):
    """Single-head self-attention among the positions of one frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)  # a new block starts as (nearly) the identity

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return x + per_frame(x, self._attend)

    def _attend(self, frames: Tensor) -> Tensor:
        # contiguous channels: otherwise the fused kernels are passed over, and all pairs of positions stored
        tokens = self.to_qkv(self.norm(frames)).flatten(2).mT.contiguous()
        query, key, value = tokens.unsqueeze(1).chunk(3, dim=-1)
        mixed = nnf.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.squeeze(1).mT.reshape(frames.shape))
        return out


def per_frame(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """[B, C, T, H, W] with ``function`` of [N, C, H, W] applied to each frame."""
    frames = function(x.transpose(1, 2).flatten(0, 1))
    return frames.reshape(x.shape[0], x.shape[2], *frames.shape[1:]).transpose(1, 2)


class Resample(nn.Module):
    """Change width, height and frame rate between two stages; the clip's first frame keeps out of the frame rate.

    Halving time joins frames 1-2, 3-4, … (each pair sees the frame before it); doubling splits all frames but the
    first in two.
    """

    def __init__(self, channels: int, out_channels: int, *, space: Space, time: Time) -> None:
        super().__init__()
        self.space, self.time = space, time
        half = space == "half"
        convolution = nn.Conv2d(channels, out_channels, 3, stride=2 if half else 1, padding=0 if half else 1)
        self.resample = nn.ModuleDict({"0" if space == "keep" else "1": convolution})
        self.time_conv: nn.Conv3d | None = None
        if time == "half":
            self.time_conv = nn.Conv3d(out_channels, out_channels, (3, 1, 1), stride=(2, 1, 1))
        elif time == "double":
            self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1))

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        if self.time == "double":
            x = self._double_time(x, stream)
        x = per_frame(x, self._in_space)
        return self._halve_time(x, stream) if self.time == "half" else x

    def _in_space(self, frames: Tensor) -> Tensor:
        if self.space == "half":
            # the public weights were trained with the border at the right and bottom only
            frames = nnf.pad(frames, (0, 1, 0, 1))
        elif self.space == "double":
            frames = nnf.interpolate(frames, scale_factor=2.0, mode="nearest-exact")
        for convolution in self.resample.values():
            frames = convolution(frames)
        return frames

    def _double_time(self, x: Tensor, stream: Stream) -> Tensor:
        assert self.time_conv is not None
        parts = []
        if stream.begins(self):
            # the convolution never sees the first frame: zeros stand before the second
            parts.append(x[:, :, :1])
            x = x[:, :, 1:]
        if x.shape[2]:
            halves = torch.stack(self.time_conv(x, stream).chunk(2, dim=1), dim=3)
            parts.append(halves.flatten(2, 3))
        return torch.cat(parts, dim=2)

    def _halve_time(self, x: Tensor, stream: Stream) -> Tensor:
        assert self.time_conv is not None
        earlier = stream.recall(self)
        stream.keep(self, x[:, :, -1:])
        if earlier is not None:
            halved: Tensor = self.time_conv(torch.cat([earlier, x], dim=2))
            return halved
        first = x[:, :, :1]
        return first if x.shape[2] == 1 else torch.cat([first, self.time_conv(x)], dim=2)


class CausalEncoder(nn.Module):
    """Stages of residual blocks with a Resample between two of them, then attention, then ``out_channels``.

    Args:
        in_channels: of the input.
        widths: channels of each stage.
        out_channels: of the output.
        blocks: residual blocks of a stage.
        halve_time: for each gap between two stages.
        space: what each gap does to height and width.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        out_channels: int,
        *,
        blocks: int,
        halve_time: Sequence[bool],
        space: Literal["keep", "half"],
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(in_channels, widths[0])
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for _ in range(blocks):
                layers.append(ResidualBlock(channels, width))
                channels = width
            if stage < len(widths) - 1:
                layers.append(Resample(width, width, space=space, time="half" if halve_time[stage] else "keep"))
        self.downsamples = nn.ModuleList(layers)
        self.middle = _middle(channels)
        self.head = _head(channels, out_channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = self.conv1(x, stream)
        for block in (*self.downsamples, *self.middle):
            x = block(x, stream)
        return _apply_head(self.head, x, stream)


class CausalDecoder(nn.Module):
    """The way back: attention first, then stages with one residual block more than the encoder's.

    A Resample hands half of its channels on, so a stage begins at half of the width before it.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        out_channels: int,
        *,
        blocks: int,
        double_time: Sequence[bool],
        space: Literal["keep", "double"],
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(in_channels, widths[0])
        self.middle = _middle(widths[0])
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for _ in range(blocks + 1):
                layers.append(ResidualBlock(channels, width))
                channels = width
            if stage < len(widths) - 1:
                channels = width // 2
                layers.append(Resample(width, channels, space=space, time="double" if double_time[stage] else "keep"))
        self.upsamples = nn.ModuleList(layers)
        self.head = _head(channels, out_channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = self.conv1(x, stream)
        for block in (*self.middle, *self.upsamples):
            x = block(x, stream)
        return _apply_head(self.head, x, stream)


def _middle(channels: int) -> nn.ModuleList:
    return nn.ModuleList(
        [ResidualBlock(channels, channels), FrameAttention(channels), ResidualBlock(channels, channels)]
    )


def _head(channels: int, out_channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({"0": ChannelNorm(channels, 3), "2": CausalConv3d(channels, out_channels)})


def _apply_head(head: nn.ModuleDict, x: Tensor, stream: Stream) -> Tensor:
    out: Tensor = head["2"](nnf.silu(head["0"](x)), stream)
    return out


class CausalAutoencoder(nn.Module):
    """Encoder and decoder between clips of ``1 + 4 k`` frames and normalised latents of ``1 + k`` frames.

    Args:
        encoder: clip chunk to 2 x latent channels; must shrink time by four.
        decoder: latent chunk to clip chunk.
        mean: of each latent channel over the training data.
        std: the same, standard deviation.

    Both statistics belong to the configuration: the official files do not hold them.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        latent = len(mean)
        self.encoder = encoder
        self.conv1 = CausalConv3d(2 * latent, 2 * latent, (1, 1, 1))
        self.conv2 = CausalConv3d(latent, latent, (1, 1, 1))
        self.decoder = decoder
        self._mean, self._std = tuple(mean), tuple(std)

    def encode(self, x: Tensor, latents_per_chunk: int) -> DiagonalGaussian:
        """Posterior of [B, C, F, H, W]; the mean is normalised, the log variance is not, as in the released code."""
        stream = Stream()
        chunks = [
            self.encoder(x[:, :, start:stop], stream) for start, stop in _frame_chunks(x.shape[2], latents_per_chunk)
        ]
        mean, logvar = self.conv1(torch.cat(chunks, dim=2), stream).chunk(2, dim=1)
        shift, scale = self._statistics(mean)
        return DiagonalGaussian(((mean - shift) / scale).to(mean.dtype), logvar)

    def decode(self, latent: Tensor, latents_per_chunk: int) -> Tensor:
        """[B, C, F, H, W] of a normalised latent [B, c, 1 + (F - 1) / 4, h, w]."""
        stream = Stream()
        shift, scale = self._statistics(latent)
        z = self.conv2((latent * scale + shift).to(latent.dtype), stream)
        chunks = [self.decoder(part, stream) for part in z.split(_positive(latents_per_chunk), dim=2)]
        return torch.cat(chunks, dim=2)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        # at least float32 whatever the network runs in: bfloat16 would round each statistic by up to 0.4 %
        dtype = torch.promote_types(like.dtype, torch.float32)
        both = torch.tensor([self._mean, self._std], dtype=dtype, device=like.device)
        shift, scale = both[:, None, :, None, None, None]
        return shift, scale


def check_clip(clip: Tensor, channels: int, name: str) -> None:
    """Raise InputError where ``clip`` is not [B, channels, F, h, w] with at least one of each."""
    if clip.ndim != 5 or clip.shape[1] != channels or 0 in clip.shape:
        raise InputError(f"{name} of shape {list(clip.shape)}", expected=f"[batch, {channels}, frames, height, width]")


def latent_frames(frames: int) -> int:
    """Latent frames of a clip: 1 of the first frame, then 1 of every 4.

    Raises:
        InputError: where ``frames`` is not 1 + 4 k.
    """
    if frames < 1 or (frames - 1) % FRAMES_PER_LATENT:
        before = 1 + max(frames - 1, 0) // FRAMES_PER_LATENT * FRAMES_PER_LATENT
        raise InputError(
            f"a clip of {frames} frames",
            expected="1 + 4 k frames (1, 5, 9, … 49)",
            fix=f"use {before} or {before + FRAMES_PER_LATENT}",
        )
    return 1 + (frames - 1) // FRAMES_PER_LATENT


def _frame_chunks(frames: int, latents_per_chunk: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of chunks that hold ``latents_per_chunk`` latent frames each (the last may hold fewer)."""
    latents = latent_frames(frames)
    step = _positive(latents_per_chunk)
    for first in range(0, latents, step):
        last = min(first + step, latents)
        yield max(0, 1 + (first - 1) * FRAMES_PER_LATENT), 1 + (last - 1) * FRAMES_PER_LATENT


def _positive(latents_per_chunk: int) -> int:
    if latents_per_chunk < 1:
        raise InputError(f"{latents_per_chunk} latent frames a chunk", expected="at least 1")
    return latents_per_chunk
