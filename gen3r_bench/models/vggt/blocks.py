"""Transformer blocks of VGGT: pre-norm attention and MLP with learned branch scales, optionally rotary in 2-D."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Rotation(NamedTuple):
    """Angles of a sequence's rotary embedding: cosine and sine, each [T, 2 axes (row, column), head channels / 4]."""

    cosine: Tensor
    sine: Tensor

    @classmethod
    def of_frame(
        cls, grid: tuple[int, int], special: int, channels: int, base: float, device: torch.device
    ) -> Rotation:
        """The angles of one frame: ``special`` tokens at position 0, then patches in rows, counted from 1.

        Args:
            grid: (rows, columns) of patches.
            special: tokens before the first patch.
            channels: of one head.
            base: of the frequencies; half of the channels turn with the row, half with the column.
            device: of the result, which is float32.
        """
        rows, columns = grid
        row = torch.arange(1, rows + 1, device=device).repeat_interleave(columns)
        column = torch.arange(1, columns + 1, device=device).repeat(rows)
        position = torch.stack([row, column], dim=-1)
        position = torch.cat([position.new_zeros(special, 2), position]).float()
        quarter = channels // 4
        frequency = base ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
        angle = position[:, :, None] * frequency
        return cls(angle.cos(), angle.sin())

    def repeated(self, frames: int) -> Rotation:
        """The angles of ``frames`` such frames, one after the other: positions know nothing of time."""
        return Rotation(self.cosine.repeat(frames, 1, 1), self.sine.repeat(frames, 1, 1))

    def __call__(self, x: Tensor) -> Tensor:
        """Turn [..., T, channels]: within each axis, channel i and channel i + quarter form a plane."""
        first, second = x.reshape(*x.shape[:-1], 2, 2, -1).unbind(-2)
        turned = (first * self.cosine - second * self.sine, second * self.cosine + first * self.sine)
        return torch.stack(turned, dim=-2).flatten(-3)


class Attention(nn.Module):
    """Multi-head self-attention over [N, T, C], with normalised queries and keys where asked for."""

    def __init__(self, width: int, heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        by_head = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = by_head.unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotation(query), rotation(key)
        # under bfloat16 the norms answer in float32; attention runs in the type of the values
        mixed = scaled_dot_product_attention(query.type_as(value), key.type_as(value), value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.fc2(gelu(self.fc1(x)))
        return answer


class BranchScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """One transformer block over [N, T, C].

    Args:
        width: C.
        heads: attention heads.
        mlp_ratio: hidden channels of the MLP in multiples of C.
        branch_scale: what the learned scales of the two branches start from.
        qk_norm: whether queries and keys are normalised.
        eps: of the two norms before the branches.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: int, *, branch_scale: float, qk_norm: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, qk_norm=qk_norm)
        self.ls1 = BranchScale(width, branch_scale)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_ratio * width, width)
        self.ls2 = BranchScale(width, branch_scale)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        seen: Tensor = x + self.ls1(self.attn(self.norm1(x), rotation))
        answer: Tensor = seen + self.ls2(self.mlp(self.norm2(seen)))
        return answer
