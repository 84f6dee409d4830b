"""The sizes of the networks that generate joint latents, and what they must agree on."""

from __future__ import annotations

from dataclasses import dataclass

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import KnownConfig
from gen3r_bench.models.joint.conditioning import (
    RAY_CHANNELS,
    RELEASED,
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    Axis,
    ConditionStyle,
)
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class JointConfig:
    """Sizes of the transformer and of what surrounds it.

    Attributes:
        style: how the transformer is shown what is given.

    Raises:
        InputError: where two of them do not fit together; the message names both numbers.
    """

    transformer: DitConfig
    vae: KnownConfig
    text: TextConfig
    image: ImageConfig
    style: ConditionStyle = RELEASED

    def __post_init__(self) -> None:
        faults = [f"{a} {left}, {b} {right}" for a, left, b, right in self._agreements() if left != right]
        if faults:
            raise InputError(f"networks that do not fit together ({'; '.join(faults)})", expected="parts of one model")

    def _agreements(self) -> tuple[tuple[str, int, str, int], ...]:
        """(what, its number, what else, its number): pairs that must be equal."""
        dit, latent = self.transformer, self.vae.latent_channels
        wide, twice = self.axis == "width", self.axis == "channel"
        joint = 2 * latent if twice else latent
        condition = latent + TEMPORAL_RATIO
        return (
            ("text_dim of transformer", dit.text_dim, "dim of text_encoder", self.text.dim),
            ("image_dim of transformer", dit.image_dim, "dim of clip_image_encoder", self.image.dim),
            (
                "out_dim of transformer",
                dit.out_dim,
                f"{'twice the ' if twice else ''}latent channels of wan_vae",
                joint,
            ),
            ("in_dim of transformer", dit.in_dim, "noise, condition and mask", joint + condition),
            ("camera channels of transformer", dit.camera_dim, "folded rays", RAY_CHANNELS * TEMPORAL_RATIO),
            ("halves of transformer", dit.halves, "appearance and geometry" if wide else "one", 2 if wide else 1),
        )

    @property
    def axis(self) -> Axis:
        """Along which appearance and geometry lie in the joint latent."""
        return "width"

    @property
    def token_step(self) -> int:
        """Pixels of a token's side."""
        return SPATIAL_RATIO * self.transformer.patch_size[1]

    @property
    def size_step(self) -> int:
        """Height and width must be multiples of it: whole tokens of the transformer."""
        return self.token_step

    def latent_shape(self, num_frames: int, image_size: tuple[int, int]) -> tuple[int, int, int, int, int]:
        """Shape of the joint latent of a clip."""
        height, width = (side // SPATIAL_RATIO for side in image_size)
        frames = 1 + (num_frames - 1) // TEMPORAL_RATIO
        return 1, self.transformer.out_dim, frames, height, width * self.transformer.halves

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
