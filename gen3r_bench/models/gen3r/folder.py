"""The official checkpoint folder: one subfolder a network, each with its ``config.json`` and weights.

Opening it reads configurations and the headers of the weights only, and refuses a folder that does not fit, naming
everything that differs in one error. The networks are read when they are asked for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import autoencoder_config, build_autoencoder
from gen3r_bench.models.checkpoint import header_tensors, load_exactly, read_safetensors
from gen3r_bench.models.folder import CONFIG_FILE, every, read_config
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.vggt import Vggt, VggtConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder, Tokenizer, load_tokenizer
from gen3r_bench.models.wan.transformer import DitConfig, JointDit

SCHEDULER_FILE: Final = "scheduler/scheduler_config.json"
_SCHEDULER: Final = "FlowMatchEulerDiscreteScheduler"


@dataclass(frozen=True, slots=True)
class Part:
    """One network of the folder.

    Attributes:
        name: of its field in ``Gen3rConfig``.
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
    build: Callable[[Gen3rConfig], nn.Module]
    keys: Callable[[nn.Module], nn.Module]
    prefix: str
    ignore: Callable[[Gen3rConfig], tuple[str, ...]]


def _itself(module: nn.Module) -> nn.Module:
    return module


def _below_model(module: nn.Module) -> nn.Module:
    below: nn.Module = module.get_submodule("model")
    return below


def _clip_keys(config: Gen3rConfig) -> tuple[str, ...]:
    unused = config.image.unused_keys()
    return (*unused, *(f"model.{pattern}" for pattern in unused))


PARTS: Final[Mapping[str, Part]] = {
    part.name: part
    for part in (
        Part("transformer", "transformer", "transformer", lambda c: JointDit(c.transformer), _itself, "", lambda _: ()),
        # a trainer's export holds the latent statistics, which the configuration has
        Part(
            "vae",
            "wan_vae",
            "RGB autoencoder",
            lambda c: build_autoencoder(c.vae),
            _below_model,
            "model.",
            lambda _: ("mean", "std"),
        ),
        Part(
            "adapter",
            "geo_adapter",
            "geometry adapter",
            lambda c: GeometryAdapter(c.adapter),
            _below_model,
            "model.",
            lambda _: ("mean", "std"),
        ),
        Part("vggt", "vggt", "VGGT", lambda c: Vggt(c.vggt), _itself, "", lambda _: ("track_head.*",)),
        Part("text", "text_encoder", "text encoder", lambda c: TextEncoder(c.text), _itself, "", lambda _: ()),
        Part(
            "image",
            "clip_image_encoder",
            "image encoder",
            lambda c: ImageEncoder(c.image),
            _itself,
            "model.",
            _clip_keys,
        ),
    )
}


def vggt_config(path: Path) -> VggtConfig:
    """Sizes of VGGT in a ``config.json``: the official names, or the fields of ``VggtConfig`` for any other size.

    A file that names nothing means the official size: the class that wrote the official one has defaults.

    Raises:
        InputError: where it is missing, or asks for another network.
    """
    given = read_config(path)
    fields = {field.name for field in dataclasses.fields(VggtConfig)}
    if given.keys() <= fields:
        return VggtConfig.of_fields(given, str(path))
    official = {"img_size": 518, "patch_size": 14, "embed_dim": 1024}
    # switches of the public class; the tracker's weights are passed over, the other three heads are needed
    switches = {"enable_camera": True, "enable_point": True, "enable_depth": True}
    for name, value in {**official, **switches}.items():
        if given.pop(name, value) != value:
            raise InputError(f"{path}: another {name} than {value}", expected="the sizes of facebook/VGGT-1B")
    given.pop("enable_track", None)
    if given:
        raise InputError(f"{path}: unknown keys {', '.join(sorted(given))}", expected="the config.json of VGGT")
    return VggtConfig.official()


class Gen3rFolder:
    """A checkpoint folder whose every part is known to fit.

    Args:
        path: the folder that holds ``transformer/``, ``wan_vae/``, ``geo_adapter/``, ``vggt/``, ``text_encoder/``,
            ``clip_image_encoder/``, ``tokenizer/`` and ``scheduler/``.

    Raises:
        InputError: naming every part that is missing, incomplete, of other shapes, or of another model.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path} does not exist", expected="the checkpoint folder of Gen3R")
        self.path = path
        wanted = [*(f"{part.subfolder}/" for part in PARTS.values()), "tokenizer/", SCHEDULER_FILE]
        missing = [name for name in wanted if not (path / name).exists()]
        if missing:
            raise InputError(
                f"{path} lacks {', '.join(missing)}", expected="the checkpoint folder of Gen3R with all its parts"
            )
        self.config = self._read_config()
        self.scheduler_config = self._read_scheduler()
        self._check_headers()

    def _read_config(self) -> Gen3rConfig:
        def content(part: str) -> dict[str, Any]:
            return read_config(self.path / PARTS[part].subfolder / CONFIG_FILE)

        # the released loaders of these two do without a configuration, so the official folder may have none; that the
        # weights have the official size then shows when their headers are compared
        def image() -> ImageConfig:
            path = self.path / PARTS["image"].subfolder / CONFIG_FILE
            return ImageConfig.from_json(read_config(path)) if path.is_file() else ImageConfig.official()

        def vggt() -> VggtConfig:
            path = self.path / PARTS["vggt"].subfolder / CONFIG_FILE
            return vggt_config(path) if path.is_file() else VggtConfig.official()

        readers: dict[str, Callable[[], Any]] = {
            "transformer": lambda: DitConfig.from_json(content("transformer")),
            "vae": lambda: autoencoder_config(self.path / PARTS["vae"].subfolder),
            "adapter": lambda: GeometryAdapterConfig.from_json(self.path / "geo_adapter" / CONFIG_FILE),
            "vggt": vggt,
            "text": lambda: TextConfig.from_json(content("text")),
            "image": image,
        }
        return Gen3rConfig(**every(readers, "the checkpoint folder of Gen3R", self.path))

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

        tasks: dict[str, Callable[[], Any]] = {part.name: partial(check, part) for part in PARTS.values()}
        every(tasks, "the checkpoint folder of Gen3R", self.path)

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
        """A network of ``PARTS`` with its weights, on the CPU, in evaluation mode, frozen.

        Of VGGT the heads alone are kept: generating a clip never encodes images with it, and the aggregator is nine
        tenths of its weights.

        Args:
            name: of ``PARTS``.
            dtype: of the weights; None keeps what the files have.
        """
        part = PARTS[name]
        module = self._fill(part, read_safetensors(self.path / part.subfolder), dtype)
        if name == "vggt":
            del module.aggregator
        return module.eval().requires_grad_(False)

    def tokenizer(self) -> Tokenizer:
        """The text encoder's tokenizer."""
        return load_tokenizer(self.path / "tokenizer")

    def scheduler(self) -> Any:
        """A fresh FlowMatchEulerDiscreteScheduler of diffusers, as the folder configures it."""
        import diffusers

        scheduler_class: Any = diffusers.FlowMatchEulerDiscreteScheduler  # its methods have no types
        return scheduler_class.from_config(self.scheduler_config)
