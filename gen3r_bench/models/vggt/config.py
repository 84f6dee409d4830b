"""Every size of VGGT in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gen3r_bench.errors import InputError

_LISTS: Final = ("used_layers", "dense_layer_widths")


@dataclass(frozen=True, slots=True, kw_only=True)
class VggtConfig:
    """Sizes of the network; the defaults are those of ``facebook/VGGT-1B``.

    Attributes:
        width: C, channels of a token inside a block; tokens handed to the heads have 2C.
        depth: pairs of one per-frame and one global block.
        heads: attention heads of those blocks.
        mlp_ratio: hidden channels of every block's MLP, in multiples of its width.
        rope_base: base of the rotary frequencies.
        patch_size: side of a patch in pixels.
        encoder_depth: blocks of the DINOv2 encoder that embeds the patches.
        encoder_heads: its attention heads.
        encoder_grid: side, in patches, of the images that its position embedding was trained on (518 px: 37).
        registers: register tokens, in the encoder and in the blocks alike.
        used_layers: the four pairs, counted from 0, whose tokens the heads read.
        camera_depth: blocks of the camera head.
        camera_heads: their attention heads.
        camera_iterations: how often the camera head refines its answer.
        dense_width: channels in which the depth and point heads merge the four layers.
        dense_layer_widths: channels of each layer before merging.
        dense_hidden: channels before the last convolution.

    Raises:
        InputError: where sizes contradict each other.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_ratio: int = 4
    rope_base: float = 100.0
    patch_size: int = 14
    encoder_depth: int = 24
    encoder_heads: int = 16
    encoder_grid: int = 37
    registers: int = 4
    used_layers: tuple[int, int, int, int] = (4, 11, 17, 23)
    camera_depth: int = 4
    camera_heads: int = 16
    camera_iterations: int = 4
    dense_width: int = 256
    dense_layer_widths: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    dense_hidden: int = 32

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads) or self.width % self.encoder_heads or 2 * self.width % self.camera_heads:
            raise InputError(
                f"width {self.width} with {self.heads}, {self.encoder_heads} and {self.camera_heads} heads",
                expected="heads that divide the width, into multiples of 4 where tokens are rotated",
            )
        layers = self.used_layers
        if list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] != self.depth - 1:
            raise InputError(f"used layers {layers}", expected=f"four, ascending, the last of them {self.depth - 1}")
        if self.dense_width % 8 or any(n % 4 for n in self.dense_layer_widths):
            raise InputError(
                f"dense widths {self.dense_width} and {self.dense_layer_widths}", expected="multiples of 8, and of 4"
            )

    @property
    def token_width(self) -> int:
        """2C, the channels of a token that the heads read."""
        return 2 * self.width

    @property
    def patch_start(self) -> int:
        """Index of a frame's first patch token: the camera token and the registers lie before it."""
        return 1 + self.registers

    @classmethod
    def of_fields(cls, given: Mapping[str, Any], where: str) -> Self:
        """The configuration that a JSON object of its fields says; fields that it leaves out are the official ones.

        Args:
            given: sizes by name; lists stand for tuples.
            where: it was read, for messages.

        Raises:
            InputError: on names that are no size, on values that are no whole numbers, and on sizes that contradict
                each other.
        """
        unknown = sorted(given.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise InputError(f"{where}: unknown sizes {', '.join(unknown)}", expected="the fields of VggtConfig")
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        for name, value in sizes.items():
            numbers = value if name in _LISTS else (value,)
            wrong = not isinstance(numbers, tuple) or len(numbers) != (4 if name in _LISTS else 1)
            if wrong or not all(isinstance(n, (float, int) if name == "rope_base" else int) for n in numbers):
                raise InputError(
                    f"{where}: {name} {value}",
                    expected="four whole numbers" if name in _LISTS else "a whole number",
                )
        return cls(**sizes)

    def to_fields(self) -> dict[str, Any]:
        """Every size by name, as JSON has it; ``of_fields`` reads it back."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def official(cls) -> Self:
        """The sizes of ``facebook/VGGT-1B``: 1.19 billion parameters without its tracker."""
        return cls()

    @classmethod
    def reference(cls) -> Self:
        """The sizes of this project's own checkpoint, for frames of 64 x 64: 8 x 8 patches, tokens of 256 channels.

        A patch has the width of a latent of the Wan VAE, 8 pixels, so a geometry adapter on these tokens keeps its
        grid; at the official sizes it goes from 4 patches to 7 latents.
        """
        return cls(
            width=128,
            depth=4,
            heads=4,
            patch_size=8,
            encoder_depth=1,
            encoder_heads=4,
            encoder_grid=8,
            used_layers=(0, 1, 2, 3),
            camera_depth=2,
            camera_heads=4,
            dense_width=32,
            dense_layer_widths=(32, 48, 64, 64),
            dense_hidden=16,
        )

    @classmethod
    def tiny(cls) -> Self:
        """A network of the same kind for tests: 0.4 million parameters, trained on nothing."""
        return cls(
            width=32,
            depth=4,
            heads=2,
            encoder_depth=2,
            encoder_heads=2,
            encoder_grid=4,
            used_layers=(0, 1, 2, 3),
            camera_depth=2,
            camera_heads=2,
            dense_width=16,
            dense_layer_widths=(8, 12, 16, 16),
        )
