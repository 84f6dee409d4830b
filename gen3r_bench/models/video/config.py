"""The sizes of the networks that generate frames alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from gen3r_bench.models.joint.conditioning import Axis
from gen3r_bench.models.joint.config import JointConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig
from gen3r_bench.models.wan.vae import WanVaeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig(JointConfig):
    """Sizes of the four networks.

    Raises:
        InputError: where two of them do not fit together.
    """

    @classmethod
    def official(cls) -> Self:
        """Gen3R's sizes, less its geometry: the paper trained this one in the same way."""
        return cls(
            transformer=dataclasses.replace(DitConfig.official(), halves=1),
            vae=WanVaeConfig.official(),
            text=TextConfig.official(),
            image=ImageConfig.official(),
        )

    @classmethod
    def tiny(cls) -> Self:
        """The same structure at a size for tests."""
        return cls(
            transformer=dataclasses.replace(DitConfig.tiny(), halves=1),
            vae=WanVaeConfig.tiny(),
            text=TextConfig.tiny(),
            image=ImageConfig.tiny(),
        )

    @property
    def axis(self) -> Axis:
        return "alone"
