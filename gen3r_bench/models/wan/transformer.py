"""The diffusion transformer of Gen3R: Wan 2.1 at 1.3 B, denoising appearance and geometry latents side by side.

Latents are [B, channels, f, h, w]. The left half of the width holds the appearance latents of the clip, the right half
its geometry latents, so one sequence attends over both; nothing else tells the halves apart. State-dict names and
shapes are those of the released checkpoint (``transformer/``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.folder import require_sizes

_ROPE_BASE: Final = 10_000.0
_REQUIRED: Final[Mapping[str, Any]] = {
    # what the released code can switch and Gen3R's checkpoint fixes; another value is another network
    "model_type": "i2v",
    "qk_norm": True,
    "cross_attn_norm": True,
    "add_control_adapter": True,
    "add_ref_conv": False,
    "window_size": (-1, -1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DitConfig:
    """Sizes of the transformer.

    Attributes:
        dim: width of a token.
        ffn_dim: hidden width of a block's feed-forward part.
        freq_dim: length of the sinusoidal embedding of the timestep.
        text_dim: width of a text token.
        text_len: text tokens after zero padding.
        image_dim: width of an image token.
        in_dim: input channels: noisy latents, condition latents, masks, in this order.
        out_dim: output channels.
        num_heads: attention heads.
        num_layers: blocks.
        patch_size: (frames, rows, columns) of latents that make a token.
        camera_dim: channels of the packed Plücker rays.
        halves: how many images lie side by side in the width and share the width positions of RoPE. The released code
            decides by ``rows != columns``, so a clip of two halves that happens to be square would silently lose the
            sharing; here it is a stated number.
        eps: of every normalisation.
    """

    dim: int
    ffn_dim: int
    in_dim: int
    num_heads: int
    num_layers: int
    freq_dim: int = 256
    text_dim: int = 4096
    text_len: int = 512
    image_dim: int = 1280
    out_dim: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    camera_dim: int = 24
    halves: int = 2
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % (2 * self.num_heads):
            raise InputError(
                f"dim {self.dim} with {self.num_heads} heads", expected="an even number of channels a head"
            )
        if self.freq_dim % 2:
            raise InputError(f"freq_dim {self.freq_dim}", expected="an even number")

    @classmethod
    def official(cls) -> Self:
        """The released size: 1.616 B parameters in 989 tensors."""
        return cls(dim=1536, ffn_dim=8960, in_dim=36, num_heads=12, num_layers=30)

    @classmethod
    def tiny(cls) -> Self:
        """The same structure at a size for tests."""
        return cls(
            dim=48,
            ffn_dim=96,
            freq_dim=32,
            text_dim=24,
            text_len=16,
            image_dim=32,
            in_dim=36,
            num_heads=2,
            num_layers=2,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The sizes in a checkpoint's ``config.json``.

        ``image_dim`` and ``halves`` are ours: the released files lack them and mean 1280 and 2. For width, depth and
        heads the released class falls back to sizes that are not Gen3R's, so a file that lacks one is an error here.

        Raises:
            InputError: where a size is missing or no number, or an option asks for another network than Gen3R's.
        """
        for name, value in _REQUIRED.items():
            given = content.get(name, value)
            given = tuple(given) if isinstance(given, list) else given
            if given != value:
                raise InputError(f"transformer config: {name} is {given!r}", expected=repr(value))
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            key = "in_dim_control_adapter" if field.name == "camera_dim" else field.name
            if key in content:
                value = content[key]
                values[field.name] = tuple(value) if isinstance(value, list) else value
        absent = [
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING and field.name not in values
        ]
        if absent:
            raise InputError(f"transformer config lacks {', '.join(absent)}", expected="every size of the network")
        require_sizes(values, "transformer config", real=("eps",), lists={"patch_size": 3})
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        content = {"_class_name": "WanTransformer3DModel", **_REQUIRED, **dataclasses.asdict(self)}
        content["in_dim_control_adapter"] = content.pop("camera_dim")
        return content


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the tokens attend to besides each other.

    Attributes:
        text: [B, text_len, dim].
        image: [B, image tokens, dim].
    """

    text: Tensor
    image: Tensor


class RmsNorm(nn.Module):
    """Root-mean-square normalisation over all channels, in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nnf.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype) * self.weight


def _layer_norm(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Layer normalisation in float32, whatever the weights are stored in."""
    weight, bias = (None if p is None else p.float() for p in (weight, bias))
    return nnf.layer_norm(x.float(), (x.shape[-1],), weight, bias, eps)


def timestep_embedding(timestep: Tensor, dim: int) -> Tensor:
    """[B] diffusion times (0..1000) as [B, dim] float32: cosines of ``dim / 2`` frequencies, then their sines."""
    half = dim // 2
    # float64: at t = 1000 a float32 angle has lost the last digits that the network was trained with
    exponent = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angle = timestep.to(torch.float64)[:, None] * _ROPE_BASE**-exponent
    return torch.cat([angle.cos(), angle.sin()], dim=1).float()


def rotary_phases(grid: tuple[int, int, int], head_dim: int, halves: int, device: torch.device) -> Tensor:
    """Unit complex numbers [tokens, head_dim / 2] that turn the channel pairs of queries and keys.

    Args:
        grid: (frames, rows, columns) of tokens; the columns of all halves together.
        head_dim: channels of a head.
        halves: images side by side; each counts its columns from 0.
        device: where the result lies.

    Raises:
        InputError: where the columns do not divide into the halves.
    """
    frames, rows, columns = grid
    if columns % halves:
        raise InputError(f"{columns} columns of tokens", expected=f"a multiple of {halves}, one part for each half")
    pairs = head_dim // 2
    share = pairs // 3
    positions = (
        torch.arange(frames).view(-1, 1, 1).expand(grid),
        torch.arange(rows).view(1, -1, 1).expand(grid),
        torch.arange(columns // halves).repeat(halves).view(1, 1, -1).expand(grid),
    )
    angles = []
    for position, count in zip(positions, (pairs - 2 * share, share, share), strict=True):
        frequency = _ROPE_BASE ** -(torch.arange(count, dtype=torch.float64) / max(count, 1))
        angles.append(position.reshape(-1, 1) * frequency)
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle).to(device=device, dtype=torch.complex64)


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """[B, tokens, heads, head_dim] turned by ``rotary_phases``: neighbouring channels are one complex number."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * phases[:, None]).flatten(-2).to(x.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over [B, tokens, heads, head_dim]; gives [B, tokens, heads * head_dim]."""
    mixed = nnf.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return mixed.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Attention among the tokens, with queries and keys normalised over their full width and turned by RoPE."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RmsNorm(config.dim, config.eps)
        self.norm_k = RmsNorm(config.dim, config.eps)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.num_heads, -1)

    def forward(self, x: Tensor, phases: Tensor) -> Tensor:
        query = rotate(self._heads(self.norm_q(self.q(x))), phases)
        key = rotate(self._heads(self.norm_k(self.k(x))), phases)
        return cast("Tensor", self.o(_attend(query, key, self._heads(self.v(x)))))


class ContextAttention(Attention):
    """Attention to the text and, with keys and values of their own, to the image; the two answers are added."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__(config)
        self.k_img = nn.Linear(config.dim, config.dim)
        self.v_img = nn.Linear(config.dim, config.dim)
        self.norm_k_img = RmsNorm(config.dim, config.eps)

    def forward(self, x: Tensor, context: Context) -> Tensor:  # type: ignore[override]  # another kind of attention
        query = self._heads(self.norm_q(self.q(x)))
        text = _attend(query, self._heads(self.norm_k(self.k(context.text))), self._heads(self.v(context.text)))
        image_key = self._heads(self.norm_k_img(self.k_img(context.image)))
        image = _attend(query, image_key, self._heads(self.v_img(context.image)))
        return cast("Tensor", self.o(text + image))


class Block(nn.Module):
    """Attention, context attention and feed-forward; the timestep scales, shifts and gates the first and the last."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.self_attn = Attention(config)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = ContextAttention(config)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, config.dim)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor, phases: Tensor, context: Context) -> Tensor:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.modulation.float() + time).chunk(6, dim=1)
        # the residual stream stays in float32, as under the released code's autocast; only matrix products are narrow
        narrow = self.norm3.weight.dtype
        y = (_layer_norm(x, self.eps) * (1 + scale) + shift).to(narrow)
        x = x + self.self_attn(y, phases) * gate
        y = _layer_norm(x, self.eps, self.norm3.weight, self.norm3.bias).to(narrow)
        x = x + self.cross_attn(y, context)
        y = (_layer_norm(x, self.eps) * (1 + ffn_scale) + ffn_shift).to(narrow)
        return cast("Tensor", x + self.ffn(y) * ffn_gate)


class OutputHead(nn.Module):
    """Modulated projection of a token to the latents of its patch."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.head = nn.Linear(config.dim, math.prod(config.patch_size) * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.modulation.float() + time[:, None]).chunk(2, dim=1)
        y = _layer_norm(x, self.eps) * (1 + scale) + shift
        return cast("Tensor", self.head(y.to(self.head.weight.dtype)))


class ImageProjection(nn.Module):
    """Image features to context tokens."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(config.image_dim),
            nn.Linear(config.image_dim, config.image_dim),
            nn.GELU(),
            nn.Linear(config.image_dim, config.dim),
            nn.LayerNorm(config.dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        return cast("Tensor", self.proj(features))


class _CameraResidual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", x + self.conv2(nnf.relu(self.conv1(x))))


class CameraAdapter(nn.Module):
    """Packed Plücker rays at image size to one feature a token, frame by frame."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        patch = config.patch_size[1:]
        self.conv = nn.Conv2d(config.camera_dim * 64, config.dim, patch, stride=patch)
        self.residual_blocks = nn.Sequential(_CameraResidual(config.dim))

    def forward(self, rays: Tensor) -> Tensor:
        batch, _, frames = rays.shape[:3]
        # a frame at a time: unshuffled rays are as large as the rays, and the frames do not mix
        tokens = [self.residual_blocks(self.conv(nnf.pixel_unshuffle(rays[:, :, frame], 8))) for frame in range(frames)]
        return torch.stack(tokens, dim=2).view(batch, -1, frames, *tokens[0].shape[-2:])


class JointDit(nn.Module):
    """Predicts the flow of appearance and geometry latents.

    ``forward`` is the whole network. A sampler calls ``embed_context`` and ``embed_cameras`` once a clip and ``flow``
    at every step, since neither depends on the step.

    Source: Wan 2.1 (arXiv 2503.20314) with the camera adapter of VideoX-Fun, as configured by Gen3R (arXiv 2601.04090).
    """

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv3d(config.in_dim, config.dim, config.patch_size, stride=config.patch_size)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, config.dim), nn.GELU(approximate="tanh"), nn.Linear(config.dim, config.dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = OutputHead(config)
        self.img_emb = ImageProjection(config)
        self.control_adapter = CameraAdapter(config)

    def embed_context(self, text: Tensor, image: Tensor) -> Context:
        """Text [B, n <= text_len, text_dim] and image features [B, m, image_dim] as context tokens.

        Text is padded with zeros, and the padding is attended to: the network was trained that way.

        Raises:
            InputError: where there are more text tokens than ``text_len``.
        """
        missing = self.config.text_len - text.shape[1]
        if missing < 0:
            raise InputError(f"{text.shape[1]} text tokens", expected=f"at most {self.config.text_len}")
        narrow = self.patch_embedding.weight.dtype
        padded = nnf.pad(text.to(narrow), (0, 0, 0, missing))
        return Context(text=self.text_embedding(padded), image=self.img_emb(image.to(narrow)))

    def embed_cameras(self, rays: Tensor) -> Tensor:
        """Packed Plücker rays [B, camera_dim, f, 8 h, 8 w] as [B, dim, f, h / 2, w / 2], added to the patches."""
        return cast("Tensor", self.control_adapter(rays.to(self.patch_embedding.weight.dtype)))

    def flow(self, latents: Tensor, timestep: Tensor, condition: Tensor, context: Context, cameras: Tensor) -> Tensor:
        """Noise minus data, [B, out_dim, f, h, w], of noisy latents of the same shape.

        Args:
            latents: [B, out_dim, f, h, w], both halves.
            timestep: [B] in 0..1000.
            condition: [B, in_dim - out_dim, f, h, w]: latents of the visible frames, then masks (masks LAST, unlike
                Wan-I2V).
            context: from ``embed_context``.
            cameras: from ``embed_cameras``.

        Raises:
            InputError: where the shapes do not fit each other or the patches.
        """
        self._check(latents, condition, cameras)
        narrow = self.patch_embedding.weight.dtype
        patches = self.patch_embedding(torch.cat([latents.to(narrow), condition.to(narrow)], dim=1)) + cameras
        frames, rows, columns = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2)
        phases = rotary_phases(
            (frames, rows, columns), self.config.dim // self.config.num_heads, self.config.halves, x.device
        )
        time = self._time(timestep)
        modulation = self._linear(self.time_projection, time).view(len(time), 6, -1)
        for block in self.blocks:
            x = block(x, modulation, phases, context)
        x = self.head(x, time)
        p, q, r = self.config.patch_size
        x = x.view(len(x), frames, rows, columns, p, q, r, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        flow: Tensor = x.reshape(len(x), -1, frames * p, rows * q, columns * r)
        return flow

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        *,
        condition: Tensor,
        text: Tensor,
        image: Tensor,
        rays: Tensor | None = None,
    ) -> Tensor:
        """The flow from raw inputs; ``rays`` of None means no cameras, which the network knows as all-zero rays."""
        if rays is None:
            batch, _, frames, height, width = latents.shape
            rays = latents.new_zeros(batch, self.config.camera_dim, frames, 8 * height, 8 * width)
        return self.flow(latents, timestep, condition, self.embed_context(text, image), self.embed_cameras(rays))

    def _time(self, timestep: Tensor) -> Tensor:
        return self._linear(self.time_embedding, timestep_embedding(timestep, self.config.freq_dim))

    @staticmethod
    def _linear(layers: nn.Module, x: Tensor) -> Tensor:
        """``layers`` in float32, whatever their weights are stored in: timesteps do not survive bfloat16."""
        for layer in layers.children():
            x = nnf.linear(x, layer.weight.float(), layer.bias.float()) if isinstance(layer, nn.Linear) else layer(x)
        return x

    def _check(self, latents: Tensor, condition: Tensor, cameras: Tensor) -> None:
        config, shape = self.config, tuple(latents.shape)
        if len(shape) != 5 or shape[1] != config.out_dim:
            raise InputError(f"latents of shape {list(shape)}", expected=f"[B, {config.out_dim}, f, h, w]")
        step = (config.patch_size[0], config.patch_size[1], config.patch_size[2] * config.halves)
        if any(size % n for size, n in zip(shape[2:], step, strict=True)):
            raise InputError(
                f"latents of {list(shape[2:])}", expected=f"multiples of {list(step)} (frames, rows, columns)"
            )
        wanted = (shape[0], config.in_dim - config.out_dim, *shape[2:])
        if tuple(condition.shape) != wanted:
            raise InputError(f"condition of shape {list(condition.shape)}", expected=str(list(wanted)))
        tokens = tuple(size // n for size, n in zip(shape[2:], config.patch_size, strict=True))
        if tuple(cameras.shape[1:]) != (config.dim, *tokens):
            raise InputError(
                f"camera features of shape {list(cameras.shape)}", expected=str([shape[0], config.dim, *tokens])
            )
