"""The sizes of all of Gen3R's networks, and what they must agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import KnownConfig
from gen3r_bench.models.gen3r.conditioning import RAY_CHANNELS, SPATIAL_RATIO, TEMPORAL_RATIO
from gen3r_bench.models.geometry_adapter import GeometryAdapterConfig
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig
from gen3r_bench.models.wan.vae import WanVaeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Gen3rConfig:
    """Sizes of the six networks.

    Raises:
        InputError: where two of them do not fit together; the message names both numbers.
    """

    transformer: DitConfig
    vae: KnownConfig
    adapter: GeometryAdapterConfig
    vggt: VggtConfig
    text: TextConfig
    image: ImageConfig

    def __post_init__(self) -> None:
        dit, latent = self.transformer, self.transformer.out_dim
        agreements = (
            ("text_dim of transformer", dit.text_dim, "dim of text_encoder", self.text.dim),
            ("image_dim of transformer", dit.image_dim, "dim of clip_image_encoder", self.image.dim),
            ("out_dim of transformer", latent, "latent channels of wan_vae", self.vae.latent_channels),
            ("out_dim of transformer", latent, "latent channels of geo_adapter", self.adapter.latent_channels),
            ("in_dim of transformer", dit.in_dim, "noise, condition and mask", 2 * latent + TEMPORAL_RATIO),
            ("camera channels of transformer", dit.camera_dim, "folded rays", RAY_CHANNELS * TEMPORAL_RATIO),
            ("halves of transformer", dit.halves, "appearance and geometry", 2),
            ("input_dim of geo_adapter", self.adapter.token_channels, "five VGGT tokens", 5 * self.vggt.token_width),
        )
        faults = [f"{a} {left}, {b} {right}" for a, left, b, right in agreements if left != right]
        if faults:
            raise InputError(f"networks that do not fit together ({'; '.join(faults)})", expected="parts of one model")

    @classmethod
    def official(cls) -> Self:
        """The released sizes."""
        return cls(
            transformer=DitConfig.official(),
            vae=WanVaeConfig.official(),
            adapter=GeometryAdapterConfig.official(),
            vggt=VggtConfig.official(),
            text=TextConfig.official(),
            image=ImageConfig.official(),
        )

    @classmethod
    def tiny(cls) -> Self:
        """The same structure at a size for tests."""
        vggt = VggtConfig.tiny()
        return cls(
            transformer=DitConfig.tiny(),
            vae=WanVaeConfig.tiny(),
            adapter=GeometryAdapterConfig.tiny(5 * vggt.token_width),
            vggt=vggt,
            text=TextConfig.tiny(),
            image=ImageConfig.tiny(),
        )

    @property
    def size_step(self) -> int:
        """Height and width must be multiples of it: whole tokens of the transformer and whole cells of the adapter."""
        return math.lcm(SPATIAL_RATIO * self.transformer.patch_size[1], self.vggt.patch_size * self.adapter.grid_unit)

    def check_clip(self, num_frames: int, image_size: tuple[int, int]) -> None:
        """Raise InputError where a clip of this length and size cannot be generated."""
        if num_frames % TEMPORAL_RATIO != 1:
            raise InputError(f"a clip of {num_frames} frames", expected="1 + 4 k frames, such as 13 or 49")
        if any(side < 1 or side % self.size_step for side in image_size):
            raise InputError(
                f"frames of {image_size[0]} x {image_size[1]}",
                expected=f"multiples of {self.size_step} pixels",
                fix="resize them to 560 x 560",
            )
