"""The checkpoint folder: AetherV1's ``transformer/`` beside the other parts of CogVideoX-5b-I2V.

Opening it reads configurations and the headers of the weights only, and refuses a folder that does not fit, naming
everything that differs in one error. The networks are read when they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.aether.config import AetherConfig
from gen3r_bench.models.checkpoint import header_tensors, load_exactly, read_safetensors
from gen3r_bench.models.folder import CONFIG_FILE, every, read_config

SCHEDULER_FILE: Final = "scheduler/scheduler_config.json"
_SCHEDULERS: Final = ("CogVideoXDPMScheduler", "CogVideoXDDIMScheduler")
_WHAT: Final = "the checkpoint folder of Aether"
_TIED: Final = ("shared.weight", "encoder.embed_tokens.weight")
"""Two names of the text encoder's one embedding; files hold either or both."""


def _transformer(config: AetherConfig) -> nn.Module:
    from diffusers import CogVideoXTransformer3DModel

    network: nn.Module = CogVideoXTransformer3DModel(**config.transformer)
    return network


def _vae(config: AetherConfig) -> nn.Module:
    from diffusers import AutoencoderKLCogVideoX

    network: Any = AutoencoderKLCogVideoX(**config.vae)
    # as in the released scripts: whole frames would change the numbers, and take four times the memory
    network.enable_tiling()
    module: nn.Module = network
    return module


def _text(config: AetherConfig) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    network: nn.Module = T5EncoderModel(T5Config(**config.text))
    return network


@dataclass(frozen=True, slots=True)
class Part:
    """One network of the folder.

    Attributes:
        name: of its field in ``AetherConfig``.
        subfolder: where it lies.
        title: what an error calls it.
        build: the network of a configuration, on the current default device.
    """

    name: str
    subfolder: str
    title: str
    build: Callable[[AetherConfig], nn.Module]


PARTS: Final[Mapping[str, Part]] = {
    part.name: part
    for part in (
        Part("transformer", "transformer", "transformer", _transformer),
        Part("vae", "vae", "CogVideoX VAE", _vae),
        Part("text", "text_encoder", "T5 text encoder", _text),
    )
}


class AetherFolder:
    """A checkpoint folder whose every part is known to fit.

    The text encoder is asked for the empty prompt only, whose tokens are known, so no tokenizer is needed.

    Args:
        path: the folder that holds ``transformer/``, ``vae/``, ``text_encoder/`` and ``scheduler/``.

    Raises:
        InputError: naming every part that is missing, incomplete, of other shapes, or of another model.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path} does not exist", expected=_WHAT)
        self.path = path
        wanted = [*(f"{part.subfolder}/" for part in PARTS.values()), SCHEDULER_FILE]
        missing = [name for name in wanted if not (path / name).exists()]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}", expected=f"{_WHAT} with all its parts")
        reads: dict[str, Callable[[], Any]] = {
            name: partial(read_config, path / part.subfolder / CONFIG_FILE) for name, part in PARTS.items()
        }
        self.config = AetherConfig(**every(reads, _WHAT, path))
        self.scheduler_config = self._read_scheduler()
        checks: dict[str, Callable[[], Any]] = {name: partial(self._check, part) for name, part in PARTS.items()}
        every(checks, _WHAT, path)

    def _read_scheduler(self) -> dict[str, Any]:
        path = self.path / SCHEDULER_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error})", expected="a JSON object") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} holds a {type(content).__name__}", expected="a JSON object")
        name = content.get("_class_name", _SCHEDULERS[0])
        if name not in _SCHEDULERS:
            raise InputError(f"{path}: {name}", expected=" or ".join(_SCHEDULERS))
        return {key: value for key, value in content.items() if not key.startswith("_")}

    def _check(self, part: Part) -> None:
        tensors = header_tensors(self.path / part.subfolder)
        if tensors is not None:
            self._fill(part, tensors, None)

    def _fill(self, part: Part, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> nn.Module:
        if part.name == "text":
            one = next((tensors[name] for name in _TIED if name in tensors), None)
            tensors = {**(dict.fromkeys(_TIED, one) if one is not None else {}), **tensors}
        with torch.device("meta"):
            module = part.build(self.config)
        load_exactly(module, tensors, what=f"{part.title} in {self.path / part.subfolder}", dtype=dtype)
        return module

    def load(self, name: str, *, dtype: torch.dtype | None = None) -> nn.Module:
        """A network of ``PARTS`` with its weights, on the CPU, in evaluation mode, frozen.

        Args:
            name: of ``PARTS``.
            dtype: of the weights; None keeps what the files have.
        """
        part = PARTS[name]
        return self._fill(part, read_safetensors(self.path / part.subfolder), dtype).eval().requires_grad_(False)

    def scheduler(self) -> Any:
        """A fresh CogVideoXDPMScheduler of diffusers, as the folder configures it."""
        return scheduler(self.scheduler_config)


def scheduler(config: Mapping[str, Any]) -> Any:
    """A CogVideoXDPMScheduler of diffusers; the released scripts take this class whichever the file names."""
    import diffusers

    scheduler_class: Any = diffusers.CogVideoXDPMScheduler  # its methods have no types
    return scheduler_class.from_config(dict(config))
