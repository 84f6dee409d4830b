"""The sizes of Aether's networks, as their ``config.json`` files give them, and what they must agree on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gen3r_bench.errors import InputError
from gen3r_bench.models.aether.raymap import RAY_CHANNELS, SPATIAL_RATIO, TEMPORAL_RATIO
from gen3r_bench.torchvision_import import prepare_torchvision

CLIP_LENGTHS: Final = (17, 25, 33, 41)
"""Numbers of frames that Aether was trained on."""
RAYMAP_CHANNELS: Final = RAY_CHANNELS * TEMPORAL_RATIO
"""Channels of a raymap at the latents' frame rate."""


@dataclass(frozen=True, slots=True)
class AetherConfig:
    """Sizes of the three networks: the arguments of diffusers' and transformers' classes, defaults filled in.

    Attributes:
        transformer: of ``CogVideoXTransformer3DModel``.
        vae: of ``AutoencoderKLCogVideoX``.
        text: of transformers' ``T5Config``; as given, since that class takes any key.

    Raises:
        InputError: on a key that a class does not know, and where two networks do not fit together.
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any]

    def __post_init__(self) -> None:
        prepare_torchvision()
        from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

        object.__setattr__(self, "transformer", _completed(CogVideoXTransformer3DModel, self.transformer))
        object.__setattr__(self, "vae", _completed(AutoencoderKLCogVideoX, self.vae))
        dit, latent, width = self.transformer, self.vae["latent_channels"], self.text.get("d_model")
        joint = 2 * latent + RAYMAP_CHANNELS
        given = joint + latent + RAYMAP_CHANNELS
        agreements = (
            ("out_channels of transformer", dit["out_channels"], "frames, disparity and raymap", joint),
            ("in_channels of transformer", dit["in_channels"], "those and the condition", given),
            ("text_embed_dim of transformer", dit["text_embed_dim"], "d_model of text_encoder", width),
            ("temporal ratio of transformer", dit["temporal_compression_ratio"], "of raymaps", TEMPORAL_RATIO),
            ("temporal ratio of vae", self.vae["temporal_compression_ratio"], "of raymaps", TEMPORAL_RATIO),
            ("spatial ratio of vae", 2 ** (len(self.vae["block_out_channels"]) - 1), "of raymaps", SPATIAL_RATIO),
            ("patch_size_t of transformer", dit["patch_size_t"], "of CogVideoX 1.0", None),
            ("ofs_embed_dim of transformer", dit["ofs_embed_dim"], "of CogVideoX 1.0", None),
            ("rotary positions of transformer", dit["use_rotary_positional_embeddings"], "of CogVideoX-5b", True),
        )
        faults = [f"{a} {left}, {b} {right}" for a, left, b, right in agreements if left != right]
        if faults:
            raise InputError(f"networks that do not fit together ({'; '.join(faults)})", expected="parts of one model")

    @classmethod
    def official(cls) -> Self:
        """AetherV1 on CogVideoX-5b-I2V.

        The transformer's configuration was not seen. That it has no learned positions (CogVideoX-5b-I2V has) follows
        from its published shards: only without them do shards of at most 5 GB come out at 4.98, 4.95 and 1.22 GB.
        """
        return cls(
            transformer={
                "num_attention_heads": 48,
                "in_channels": 96,
                "out_channels": 56,
                "num_layers": 42,
                "use_rotary_positional_embeddings": True,
            },
            vae={"scaling_factor": 0.7},
            text={
                "d_model": 4096,
                "d_kv": 64,
                "d_ff": 10240,
                "num_layers": 24,
                "num_heads": 64,
                "vocab_size": 32128,
                "feed_forward_proj": "gated-gelu",
            },
        )

    @classmethod
    def tiny(cls) -> Self:
        """The same structure at a size for tests; native at 32 x 48."""
        return cls(
            transformer={
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "in_channels": 96,
                "out_channels": 56,
                "num_layers": 2,
                "time_embed_dim": 16,
                "text_embed_dim": 24,
                "max_text_seq_length": 6,
                "sample_height": 4,
                "sample_width": 6,
                "use_rotary_positional_embeddings": True,
            },
            vae={
                "block_out_channels": (4, 4, 4, 4),
                "layers_per_block": 1,
                "norm_num_groups": 2,
                # decide the tiles, whose steps (five sixths and four fifths of a half) must be whole cells
                "sample_height": 96,
                "sample_width": 160,
                "scaling_factor": 0.7,
            },
            text={
                "d_model": 24,
                "d_kv": 8,
                "d_ff": 32,
                "num_layers": 2,
                "num_heads": 2,
                "vocab_size": 32,
                "feed_forward_proj": "gated-gelu",
            },
        )

    @property
    def latent_channels(self) -> int:
        """Channels of the frames' latents, and of the disparity's."""
        return int(self.vae["latent_channels"])

    @property
    def size_step(self) -> int:
        """Height and width must be multiples of it: whole tokens of the transformer."""
        return SPATIAL_RATIO * int(self.transformer["patch_size"])

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the transformer was trained on."""
        return (
            SPATIAL_RATIO * int(self.transformer["sample_height"]),
            SPATIAL_RATIO * int(self.transformer["sample_width"]),
        )

    def check_clip(self, num_frames: int, image_size: tuple[int, int]) -> None:
        """Raise InputError where a clip of this length and size cannot be generated."""
        if num_frames not in CLIP_LENGTHS:
            raise InputError(f"a clip of {num_frames} frames", expected=" or ".join(str(n) for n in CLIP_LENGTHS))
        height, width = self.native_size
        if self.transformer["use_learned_positional_embeddings"] and tuple(image_size) != (height, width):
            raise InputError(
                f"frames of {image_size[0]} x {image_size[1]} with learned positions",
                expected=f"{height} x {width}",
                fix="put +letterbox behind the checkpoint",
            )
        if any(side < self.size_step or side % self.size_step for side in image_size):
            raise InputError(
                f"frames of {image_size[0]} x {image_size[1]}",
                expected=f"multiples of {self.size_step} pixels",
                fix=f"resize them to {height} x {width}",
            )


def _completed(owner: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a diffusers class with its defaults filled in."""
    parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
    defaults = {parameter.name: parameter.default for parameter in parameters}
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise InputError(f"unknown keys {', '.join(unknown)}", expected=f"the config.json of a {owner.__name__}")
    return defaults | dict(given)
