"""A checkpoint folder of a joint diffusion: one subfolder a network, each with its ``config.json`` and weights.

Opening it reads configurations and the headers of the weights only, and refuses a folder that does not fit, naming
everything that differs in one error. The networks are read when they are asked for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

import torch
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import autoencoder_config, build_autoencoder
from gen3r_bench.models.checkpoint import header_tensors, load_exactly, read_safetensors
from gen3r_bench.models.folder import CONFIG_FILE, every, read_config
from gen3r_bench.models.joint.config import JointConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder, Tokenizer, load_tokenizer
from gen3r_bench.models.wan.transformer import DitConfig, JointDit

SCHEDULER_FILE: Final = "scheduler/scheduler_config.json"
_SCHEDULER: Final = "FlowMatchEulerDiscreteScheduler"
ConfigT = TypeVar("ConfigT", bound=JointConfig)


@dataclass(frozen=True, slots=True)
class Part:
    """One network of the folder.

    Attributes:
        name: of its field in the model's configuration.
        subfolder: where it lies.
        title: what an error calls it.
        build: the network of a configuration, on the current default device.
        keys: the module whose state dict has the official names, less the prefix.
        prefix: that some official files put before every name.
        ignore: patterns of names that the files may hold and the network does not use.
    """

    name: str
    subfolder: str
    title: str
    build: Callable[[Any], nn.Module]
    keys: Callable[[nn.Module], nn.Module]
    prefix: str
    ignore: Callable[[Any], tuple[str, ...]]


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


class JointFolder(ABC, Generic[ConfigT]):
    """A checkpoint folder whose every part is known to fit.

    Args:
        path: the folder that holds the subfolders of ``parts``, ``tokenizer/`` and ``scheduler/``.

    Raises:
        InputError: naming every part that is missing, incomplete, of other shapes, or of another model.
    """

    parts: ClassVar[Mapping[str, Part]]
    model_title: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()
    """What must be there besides the subfolders."""

    def __init__(self, path: Path) -> None:
        self._what = f"the checkpoint folder of {self.model_title}"
        if not path.is_dir():
            raise InputError(f"{path} does not exist", expected=self._what)
        self.path = path
        wanted = [*(f"{part.subfolder}/" for part in self.parts.values()), "tokenizer/", SCHEDULER_FILE, *self.files]
        missing = [name for name in wanted if not (path / name).exists()]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}", expected=f"{self._what} with all its parts")
        self.config = self._config(every(self._readers(), self._what, path))
        self.scheduler_config = self._read_scheduler()
        self._check_headers()

    @abstractmethod
    def _config(self, sizes: Mapping[str, Any]) -> ConfigT:
        """The configuration of what the readers gave."""

    def _readers(self) -> dict[str, Callable[[], Any]]:
        """What reads each field of the configuration."""

        # the released loader of this one does without a configuration, so the official folder may have none; that the
        # weights have the official size then shows when their headers are compared
        def image() -> ImageConfig:
            path = self._config_file(IMAGE)
            return ImageConfig.from_json(read_config(path)) if path.is_file() else ImageConfig.official()

        return {
            "transformer": lambda: DitConfig.from_json(read_config(self._config_file(TRANSFORMER))),
            "vae": lambda: autoencoder_config(self._config_file(VAE).parent),
            "text": lambda: TextConfig.from_json(read_config(self._config_file(TEXT))),
            "image": image,
        }

    def _config_file(self, part: Part) -> Path:
        return self.path / part.subfolder / CONFIG_FILE

    def _read_scheduler(self) -> dict[str, Any]:
        path = self.path / SCHEDULER_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error})", expected="a JSON object") from error
        name = content.get("_class_name", _SCHEDULER)
        if name != _SCHEDULER or content.get("use_dynamic_shifting"):
            dynamic = " with use_dynamic_shifting" if content.get("use_dynamic_shifting") else ""
            raise InputError(f"{path}: {name}{dynamic}", expected=f"{_SCHEDULER} with a fixed shift")
        # the shift is the file's: the number that the released pipeline is called with never reaches this scheduler
        return {key: value for key, value in content.items() if not key.startswith("_")}

    def _check_headers(self) -> None:
        def check(part: Part) -> None:
            tensors = header_tensors(self.path / part.subfolder)
            if tensors is not None:
                self._fill(part, tensors, None)

        tasks: dict[str, Callable[[], Any]] = {part.name: partial(check, part) for part in self.parts.values()}
        every(tasks, self._what, self.path)

    def _fill(self, part: Part, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> nn.Module:
        with torch.device("meta"):
            module = part.build(self.config)
        load_exactly(
            part.keys(module),
            tensors,
            what=f"{part.title} in {self.path / part.subfolder}",
            ignore=part.ignore(self.config),
            strip_prefix=part.prefix,
            dtype=dtype,
        )
        return module

    def load(self, name: str, *, dtype: torch.dtype | None = None) -> nn.Module:
        """A network of ``parts`` with its weights, on the CPU, in evaluation mode, frozen.

        Args:
            name: of ``parts``.
            dtype: of the weights; None keeps what the files have.
        """
        part = self.parts[name]
        module = self._fill(part, read_safetensors(self.path / part.subfolder), dtype)
        return module.eval().requires_grad_(False)

    def tokenizer(self) -> Tokenizer:
        """The text encoder's tokenizer."""
        return load_tokenizer(self.path / "tokenizer")

    def scheduler(self) -> Any:
        """A fresh FlowMatchEulerDiscreteScheduler of diffusers, as the folder configures it."""
        import diffusers

        scheduler_class: Any = diffusers.FlowMatchEulerDiscreteScheduler  # its methods have no types
        return scheduler_class.from_config(self.scheduler_config)
