"""The sizes of all of Gen3R's networks, and what they must agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from gen3r_bench.models.adapter_checkpoint import KnownAdapterConfig
from gen3r_bench.models.geometry_adapter import GeometryAdapterConfig
from gen3r_bench.models.joint.config import JointConfig
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig
from gen3r_bench.models.wan.vae import WanVaeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Gen3rConfig(JointConfig):
    """Sizes of the six networks.

    Raises:
        InputError: where two of them do not fit together; the message names both numbers.
    """

    adapter: KnownAdapterConfig
    vggt: VggtConfig

    def _agreements(self) -> tuple[tuple[str, int, str, int], ...]:
        latent = self.transformer.out_dim
        return (
            *JointConfig._agreements(self),
            ("out_dim of transformer", latent, "latent channels of geo_adapter", self.adapter.latent_channels),
            (
                "token channels of geo_adapter",
                self.adapter.token_channels,
                "five VGGT tokens",
                5 * self.vggt.token_width,
            ),
        )

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
        return math.lcm(self.token_step, self.vggt.patch_size * self.adapter.grid_unit)
