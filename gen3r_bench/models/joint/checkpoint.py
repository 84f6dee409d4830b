"""A checkpoint of a joint diffusion, however it is stored: its networks, its text's tokens, its scheduler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

import torch
from torch import Tensor, nn

from gen3r_bench.models.autoencoder_checkpoint import build_autoencoder
from gen3r_bench.models.checkpoint import load_exactly
from gen3r_bench.models.joint.config import JointConfig
from gen3r_bench.models.wan.image_encoder import ImageEncoder
from gen3r_bench.models.wan.text import TextEncoder, Tokenizer
from gen3r_bench.models.wan.transformer import JointDit

SCHEDULER: Final = "FlowMatchEulerDiscreteScheduler"
ConfigT = TypeVar("ConfigT", bound=JointConfig)


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a checkpoint.

    Attributes:
        name: of its field in the model's configuration.
        subfolder: of a checkpoint folder, where it lies.
        title: what an error calls it.
        build: the network of a configuration, on the current default device.
        keys: the module whose state dict has the official names, less the prefix.
        prefix: that some official files put before every name.
        ignore: patterns of names that the files may hold and the network does not use.
        cut: submodule that generating a clip never uses, and that is not kept in memory; "" for none.
    """

    name: str
    subfolder: str
    title: str
    build: Callable[[Any], nn.Module]
    keys: Callable[[nn.Module], nn.Module]
    prefix: str
    ignore: Callable[[Any], tuple[str, ...]]
    cut: str = ""


def itself(module: nn.Module) -> nn.Module:
    """The module, where its own names are the official ones."""
    return module


def below_model(module: nn.Module) -> nn.Module:
    """Its submodule ``model``, where that has the official names."""
    below: nn.Module = module.get_submodule("model")
    return below


def _clip_keys(config: JointConfig) -> tuple[str, ...]:
    unused = config.image.unused_keys()
    return (*unused, *(f"model.{pattern}" for pattern in unused))


TRANSFORMER: Final = Part(
    "transformer", "transformer", "transformer", lambda c: JointDit(c.transformer), itself, "", lambda _: ()
)
# a trainer's export holds the latent statistics, which the configuration has
VAE: Final = Part(
    "vae",
    "wan_vae",
    "RGB autoencoder",
    lambda c: build_autoencoder(c.vae),
    below_model,
    "model.",
    lambda _: ("mean", "std"),
)
TEXT: Final = Part("text", "text_encoder", "text encoder", lambda c: TextEncoder(c.text), itself, "", lambda _: ())
IMAGE: Final = Part(
    "image", "clip_image_encoder", "image encoder", lambda c: ImageEncoder(c.image), itself, "model.", _clip_keys
)


class JointCheckpoint(ABC, Generic[ConfigT]):
    """A checkpoint whose every part is known to fit.

    Attributes:
        config: sizes of the networks.
        scheduler_config: of a FlowMatchEulerDiscreteScheduler.
    """

    parts: ClassVar[Mapping[str, Part]]
    model_title: ClassVar[str]
    config: ConfigT
    scheduler_config: Mapping[str, Any]

    @abstractmethod
    def _config(self, sizes: Mapping[str, Any]) -> ConfigT:
        """The configuration of these fields."""

    @abstractmethod
    def _read(self, part: Part, dtype: torch.dtype | None) -> nn.Module:
        """A whole network with its weights, on the CPU."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The text encoder's tokenizer."""

    def load(self, name: str, *, dtype: torch.dtype | None = None) -> nn.Module:
        """A network of ``parts`` with its weights, on the CPU, in evaluation mode, frozen, without what is ``cut``.

        Args:
            name: of ``parts``.
            dtype: of the weights; None keeps what the files have.
        """
        part = self.parts[name]
        module = self._read(part, dtype)
        if part.cut:
            delattr(module, part.cut)
        return module.eval().requires_grad_(False)

    def scheduler(self) -> Any:
        """A fresh FlowMatchEulerDiscreteScheduler of diffusers, as the checkpoint configures it."""
        import diffusers

        scheduler_class: Any = diffusers.FlowMatchEulerDiscreteScheduler  # its methods have no types
        return scheduler_class.from_config(dict(self.scheduler_config))

    def _fill(
        self,
        part: Part,
        tensors: Mapping[str, Tensor],
        dtype: torch.dtype | None,
        *,
        place: object,
    ) -> nn.Module:
        """The network with these weights, or InputError; on the meta device where they are headers."""
        with torch.device("meta"):
            module = part.build(self.config)
        load_exactly(
            part.keys(module),
            tensors,
            what=f"{part.title} in {place}",
            ignore=part.ignore(self.config),
            strip_prefix=part.prefix,
            dtype=dtype,
        )
        return module
