"""umT5, the text encoder of Wan 2.1, under the released checkpoint's names (``text_encoder/``).

transformers has the same network (``UMT5EncoderModel``, the oracle in our tests) under names that changed between its
major versions; a module of our own takes the official keys as they are, so an error names a key that is in the file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.folder import require_sizes
from gen3r_bench.torchvision_import import prepare_torchvision

_EPS: Final = 1e-6
_FARTHEST: Final = 128
"""Token distance from which on all distances share one bias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Sizes of the encoder, under the names of the released ``config.json``.

    Attributes:
        vocab: tokens.
        dim: width of a token.
        dim_attn: width of all heads together.
        dim_ffn: hidden width of the gated feed-forward part.
        num_heads: attention heads.
        num_layers: blocks.
        num_buckets: of relative positions, for both directions together.
    """

    vocab: int
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int

    @classmethod
    def official(cls) -> Self:
        """umT5-xxl's encoder: 5.68 B parameters."""
        return cls(vocab=256384, dim=4096, dim_attn=4096, dim_ffn=10240, num_heads=64, num_layers=24, num_buckets=32)

    @classmethod
    def tiny(cls) -> Self:
        """The same structure at a size for tests."""
        return cls(vocab=64, dim=24, dim_attn=24, dim_ffn=40, num_heads=2, num_layers=2, num_buckets=8)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The sizes in a checkpoint's ``config.json``.

        Raises:
            InputError: where a size is missing or no whole number, or the layers share one position bias (T5, not
                umT5).
        """
        if content.get("shared_pos", False):
            raise InputError("text encoder config: shared_pos is True", expected="False: umT5 has a bias a layer")
        names = [field.name for field in dataclasses.fields(cls)]
        absent = [name for name in names if name not in content]
        if absent:
            raise InputError(f"text encoder config lacks {', '.join(absent)}", expected="every size of the network")
        sizes = {name: content[name] for name in names}
        require_sizes(sizes, "text encoder config")
        return cls(**sizes)

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return {"_class_name": "WanT5EncoderModel", "shared_pos": False, **dataclasses.asdict(self)}


class _Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * nnf.rms_norm(x.float(), (x.shape[-1],), eps=_EPS).to(self.weight.dtype)


def position_buckets(length: int, num_buckets: int, device: torch.device) -> Tensor:
    """[length, length] bucket of key position minus query position: exact when near, logarithmic when far.

    Half the buckets are for keys that follow the query. Source: T5 (arXiv 1910.10683).
    """
    position = torch.arange(length, device=device)
    offset = position[None, :] - position[:, None]
    half = num_buckets // 2
    exact = half // 2
    distance = offset.abs()
    far = torch.log(distance.clamp(min=1).float() / exact) / math.log(_FARTHEST / exact) * (half - exact)
    far = (exact + far.long()).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + half * (offset > 0)


class _RelativeBias(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.num_buckets, config.num_heads)

    def forward(self, length: int) -> Tensor:
        buckets = position_buckets(length, self.embedding.num_embeddings, self.embedding.weight.device)
        return cast("Tensor", self.embedding(buckets)).permute(2, 0, 1)[None]


class _Attention(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.k = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.v = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.o = nn.Linear(config.dim_attn, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        # T5 does not divide by the square root of the head's width; its weights were trained without it
        mixed = nnf.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype), scale=1.0)
        return cast("Tensor", self.o(mixed.transpose(1, 2).flatten(2)))


class _FeedForward(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(config.dim, config.dim_ffn, bias=False), nn.GELU(approximate="tanh"))
        self.fc1 = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc2 = nn.Linear(config.dim_ffn, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.fc2(self.fc1(x) * self.gate(x)))


class _Block(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.norm1 = _Norm(config.dim)
        self.attn = _Attention(config)
        self.norm2 = _Norm(config.dim)
        self.ffn = _FeedForward(config)
        self.pos_embedding = _RelativeBias(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), self.pos_embedding(x.shape[1]))
        return cast("Tensor", x + self.ffn(self.norm2(x)))


class TextEncoder(nn.Module):
    """[1, n] token ids to [1, n, dim] features."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.norm = _Norm(config.dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Features of a text's own tokens, without padding.

        The released code pads to 512 tokens, masks the padding inside this network and cuts it off behind it, which
        gives the same features at up to a hundred times the cost.
        """
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x)
        return cast("Tensor", self.norm(x))


class Tokenizer(Protocol):
    """Text to [n] token ids, the end token included, cut at ``max_tokens``."""

    def __call__(self, text: str, max_tokens: int) -> list[int]: ...


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a checkpoint's ``tokenizer/``, read by transformers, from this folder alone.

    Raises:
        InputError: where the folder does not exist or transformers cannot read it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist", expected="a folder with tokenizer.json or spiece.model")
    prepare_torchvision()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(
            f"{folder} cannot be read ({type(error).__name__}: {str(error).partition(chr(10))[0]})",
            expected="a tokenizer that transformers reads",
        ) from error

    def ids(text: str, max_tokens: int) -> list[int]:
        return list(tokenizer(text, truncation=True, max_length=max_tokens, add_special_tokens=True)["input_ids"])

    return ids
