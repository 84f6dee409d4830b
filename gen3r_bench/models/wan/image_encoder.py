"""The image encoder of Wan 2.1: the vision half of an open-CLIP ViT-H/14, up to its last block but one.

Names are those of the released checkpoint (``clip_image_encoder/``), which also holds the text half, the last block and
the projection; nothing here uses them, and the loader passes over exactly those keys (``unused_keys``).
transformers has the same network (``CLIPVisionModel``, the oracle in our tests) under other names and other splits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.folder import require_sizes

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """Sizes of the encoder.

    Attributes:
        image_size: height and width that images are resized to.
        patch_size: pixels of a token's side.
        dim: width of a token.
        mlp_ratio: hidden width of the feed-forward part, in widths of a token.
        num_heads: attention heads.
        num_layers: blocks of the whole CLIP; the last one is not built.
        eps: of every normalisation.
    """

    image_size: int
    patch_size: int
    dim: int
    num_heads: int
    num_layers: int
    mlp_ratio: int = 4
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size or self.dim % self.num_heads:
            raise InputError(f"{self}", expected="whole patches and whole heads")

    @property
    def num_tokens(self) -> int:
        """Features of an image: one for the whole, one a patch."""
        return 1 + (self.image_size // self.patch_size) ** 2

    @classmethod
    def official(cls) -> Self:
        """ViT-H/14 at 224 pixels: 257 features of 1280 channels."""
        return cls(image_size=224, patch_size=14, dim=1280, num_heads=16, num_layers=32)

    @classmethod
    def tiny(cls) -> Self:
        """The same structure at a size for tests."""
        return cls(image_size=28, patch_size=14, dim=32, num_heads=2, num_layers=3)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The sizes in a ``config.json``; the released class has no options, so its file may name no size at all.

        Raises:
            InputError: where some sizes are given and others are not, or one is no number.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        given = {name: content[name] for name in names if name in content}
        if not given:
            return cls.official()
        needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        if needed - given.keys():
            raise InputError(
                f"image encoder config lacks {', '.join(sorted(needed - given.keys()))}", expected="all sizes or none"
            )
        require_sizes(given, "image encoder config", real=("eps",))
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return {"_class_name": "CLIPModel", **dataclasses.asdict(self)}

    def unused_keys(self) -> tuple[str, ...]:
        """Patterns of official keys, without the prefix ``model.``, that this network does not use."""
        last = f"visual.transformer.{self.num_layers - 1}.*"
        return ("textual.*", "log_scale", "visual.head", "visual.post_norm.*", last)


def _norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """Layer normalisation in float32, whatever the weights are stored in."""
    return nnf.layer_norm(x.float(), layer.normalized_shape, layer.weight.float(), layer.bias.float(), layer.eps).to(
        x.dtype
    )


class _Attention(nn.Module):
    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.to_qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.to_qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nnf.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return cast("Tensor", self.proj(mixed.transpose(1, 2).flatten(2)))


class _Block(nn.Module):
    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.eps)
        self.attn = _Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps)
        hidden = config.mlp_ratio * config.dim
        self.mlp = nn.Sequential(nn.Linear(config.dim, hidden), nn.GELU(), nn.Linear(hidden, config.dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(_norm(x, self.norm1))
        return cast("Tensor", x + self.mlp(_norm(x, self.norm2)))


class _Visual(nn.Module):
    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, config.dim, config.patch_size, stride=config.patch_size, bias=False)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, config.dim) / config.dim**0.5)
        self.pos_embedding = nn.Parameter(torch.randn(1, config.num_tokens, config.dim) / config.dim**0.5)
        self.pre_norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.transformer = nn.Sequential(*(_Block(config) for _ in range(config.num_layers - 1)))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_embedding.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embedding
        return cast("Tensor", self.transformer(_norm(x, self.pre_norm)))


class ImageEncoder(nn.Module):
    """[B, 3, H, W] images in [0, 1] to [B, num_tokens, dim] features of the last block but one."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = _Visual(config)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images of any size; they are resized to a square, so give squares.

        The resize is bicubic without antialiasing, as in the released code: the DiT was trained on its aliases.
        """
        size = (self.config.image_size, self.config.image_size)
        images = nnf.interpolate(images.float(), size=size, mode="bicubic", align_corners=False)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return cast("Tensor", self.visual(((images - mean) / std).to(self.visual.patch_embedding.weight.dtype)))
