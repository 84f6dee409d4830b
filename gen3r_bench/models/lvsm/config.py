"""Every size of LVSM in one place, and how weights tell theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["decoder-only", "encoder-decoder"]
RAY_CHANNELS = 6
IMAGE_CHANNELS = 3 + RAY_CHANNELS


@dataclass(frozen=True, slots=True, kw_only=True)
class LvsmConfig:
    """Sizes of the network; the defaults are those of the authors' decoder-only scene model.

    Attributes:
        kind: "decoder-only" (views and target go through all blocks together) or "encoder-decoder" (views become
            ``latents`` first).
        width: C, channels of a token.
        head_width: channels of an attention head.
        mlp_ratio: hidden channels of a block's MLP, in multiples of C.
        patch_size: side of a patch in pixels.
        depth: blocks; of an encoder–decoder, those that see the target.
        encoder_depth: blocks that see the views alone; 0 in a decoder-only model.
        latents: tokens that stand for the scene between encoder and decoder; 0 in a decoder-only model.

    Raises:
        InputError: where sizes contradict each other or the kind.
    """

    kind: Kind = "decoder-only"
    width: int = 768
    head_width: int = 64
    mlp_ratio: int = 4
    patch_size: int = 8
    depth: int = 24
    encoder_depth: int = 0
    latents: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.head_width, self.mlp_ratio, self.patch_size, self.depth) < 1:
            raise InputError(f"{self}", expected="sizes of at least 1")
        if self.width % self.head_width:
            raise InputError(
                f"width {self.width} in heads of {self.head_width}", expected="heads that divide the width"
            )
        encodes = self.kind == "encoder-decoder"
        if (self.encoder_depth > 0) != encodes or (self.latents > 0) != encodes:
            raise InputError(
                f"{self.kind} with {self.encoder_depth} encoder blocks and {self.latents} latents",
                expected="both where there is an encoder, none where there is not",
            )

    @classmethod
    def official(cls, kind: Kind = "decoder-only") -> Self:
        """The authors' scene models: 171 million parameters, or 173 million with an encoder."""
        if kind == "encoder-decoder":
            return cls(kind=kind, depth=12, encoder_depth=12, latents=3072)
        return cls()

    @classmethod
    def tiny(cls, kind: Kind = "decoder-only") -> Self:
        """A network of the same kind for tests, trained on nothing."""
        if kind == "encoder-decoder":
            return cls(kind=kind, width=32, head_width=16, patch_size=4, depth=2, encoder_depth=2, latents=8)
        return cls(width=32, head_width=16, patch_size=4, depth=2)

    @classmethod
    def of_weights(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The sizes that a state dict's own shapes tell.

        Raises:
            InputError: where the tensors that tell them are missing or of impossible shapes.
        """
        width, head_width, hidden = (
            _size(tensors, name, axis)
            for name, axis in (
                ("image_tokenizer.1.weight", 0),
                ("{blocks}.0.attn.q_norm.weight", 0),
                ("{blocks}.0.mlp.mlp.0.weight", 0),
            )
        )
        encodes = "n_light_field_latent" in tensors
        inputs = _size(tensors, "image_tokenizer.1.weight", 1)
        patch_size = round((inputs / IMAGE_CHANNELS) ** 0.5)
        if IMAGE_CHANNELS * patch_size**2 != inputs or not width or hidden % width:
            raise InputError(
                f"LVSM weights with {inputs} inputs a patch and {hidden} hidden channels of {width}",
                expected="9 p² inputs for patches of p pixels, and a multiple of the width",
            )
        return cls(
            kind="encoder-decoder" if encodes else "decoder-only",
            width=width,
            head_width=head_width,
            mlp_ratio=hidden // width,
            patch_size=patch_size,
            depth=_count(tensors, "transformer_decoder" if encodes else "transformer_blocks"),
            encoder_depth=_count(tensors, "transformer_encoder") if encodes else 0,
            latents=_size(tensors, "n_light_field_latent", 0) if encodes else 0,
        )


def _size(tensors: Mapping[str, Tensor], name: str, axis: int) -> int:
    blocks = "transformer_decoder" if "n_light_field_latent" in tensors else "transformer_blocks"
    name = name.format(blocks=blocks)
    if name not in tensors or tensors[name].ndim <= axis:
        raise InputError(
            f"weights without a tensor {name} of {axis + 1} or more axes",
            expected="the state dict of an LVSM scene model",
            fix="name the authors' .pt file, or a safetensors file of its model",
        )
    return tensors[name].shape[axis]


def _count(tensors: Mapping[str, Tensor], blocks: str) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith(f"{blocks}.")})
