"""A joint diffusion's checkpoint in one safetensors file, as ``train`` writes it.

The file holds what was trained: transformer, text encoder and image encoder. The networks that were frozen meanwhile
lie elsewhere; it names each and the hash of its weights. What else sampling must know stands in its metadata.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from safetensors import safe_open
from torch import nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import autoencoder_config
from gen3r_bench.models.checkpoint import header_tensors, load_exactly, read_safetensors, weights_sha256
from gen3r_bench.models.folder import CONFIG_KEY, SIDE_KEY, class_name, every, holds_config, read_config
from gen3r_bench.models.folder import safetensors_metadata as said_by
from gen3r_bench.models.joint.checkpoint import SCHEDULER, VAE, ConfigT, JointCheckpoint, Part
from gen3r_bench.models.joint.conditioning import ConditionStyle
from gen3r_bench.models.joint.euler import EulerConfig, EulerFlow
from gen3r_bench.models.joint.pipeline import Sampling
from gen3r_bench.models.joint.words import WordTokenizer
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder, Tokenizer
from gen3r_bench.models.wan.transformer import DitConfig, JointDit

FRAMES_KEY: Final = "frames"
"""In the metadata, beside ``SIDE_KEY``: how many frames its clips had."""
_FIX: Final = "take the file as it was trained, or train it again"
Locate = Callable[[str, str], Path]
"""Of a frozen part's name (``wan-vae``) and checkpoint (``reference``), where its weights lie, or would lie."""


class FileNetworks(nn.Module):
    """What a file holds; its tensors have the names of this module's state dict."""

    transformer: JointDit
    text_encoder: TextEncoder
    clip_image_encoder: ImageEncoder

    def __init__(self, transformer: JointDit, text_encoder: TextEncoder, clip_image_encoder: ImageEncoder) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.clip_image_encoder = clip_image_encoder

    @classmethod
    def of_sizes(cls, transformer: DitConfig, text: TextConfig, image: ImageConfig) -> Self:
        """Networks with freshly drawn weights, on the current default device."""
        return cls(JointDit(transformer), TextEncoder(text), ImageEncoder(image))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPart:
    """A network that a file's own were trained beside.

    Attributes:
        checkpoint: "reference", or a path.
        sha256: of its weights, in hex; see ``weights_sha256``.
    """

    checkpoint: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file says besides the sizes of its own networks.

    Attributes:
        class_name: of the model: "Gen3r", "Wvd" or "Video".
        words: the text encoder's vocabulary, as ``WordTokenizer`` takes it.
        scheduler: ``num_train_timesteps`` and ``shift`` of a FlowMatchEulerDiscreteScheduler.
        style: how the transformer is shown what is given.
        sampling: for which it was trained.
        options: of the model: those of a ``wvd.json`` for "Wvd", none for the others.
        parts: the frozen networks: "wan-vae", and for "Gen3r" also "geometry-adapter" and "vggt".
    """

    class_name: str
    words: tuple[str, ...]
    scheduler: Mapping[str, float]
    style: ConditionStyle
    sampling: Sampling
    options: Mapping[str, str]
    parts: Mapping[str, FrozenPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """The metadata of a file, read.

    Attributes:
        facts: see ``FileFacts``.
        transformer: its size.
        text: size of the text encoder.
        image: size of the image encoder.
        side: of its frames, in pixels.
        frames: of its clips.
    """

    facts: FileFacts
    transformer: DitConfig
    text: TextConfig
    image: ImageConfig
    side: int
    frames: int


class _Scheduler(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    num_train_timesteps: PositiveInt
    shift: PositiveFloat


class _Config(BaseModel):
    """The JSON object under ``config``, less ``_class_name``."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    transformer: dict[str, Any]
    text_encoder: dict[str, Any]
    clip_image_encoder: dict[str, Any]
    words: tuple[str, ...]
    scheduler: _Scheduler
    style: ConditionStyle
    sampling: Sampling
    options: dict[str, str]
    parts: dict[str, FrozenPart]


def file_metadata(networks: FileNetworks, facts: FileFacts, *, side: int, frames: int) -> dict[str, str]:
    """What the file of these networks must say besides their weights; ``read_file`` reads it back.

    Raises:
        InputError: where ``read_file`` would refuse it.
    """
    config = {
        "_class_name": facts.class_name,
        "transformer": networks.transformer.config.to_json(),
        "text_encoder": networks.text_encoder.config.to_json(),
        "clip_image_encoder": networks.clip_image_encoder.config.to_json(),
        "words": list(facts.words),
        "scheduler": {"_class_name": SCHEDULER, **facts.scheduler},
        "style": dataclasses.asdict(facts.style),
        "sampling": dataclasses.asdict(facts.sampling),
        "options": dict(facts.options),
        "parts": {name: dataclasses.asdict(part) for name, part in facts.parts.items()},
    }
    metadata = {CONFIG_KEY: json.dumps(config, sort_keys=True), SIDE_KEY: str(side), FRAMES_KEY: str(frames)}
    _content(config, metadata, "the facts of a file")
    return metadata


def read_file(path: Path) -> FileContent:
    """What a file says of itself.

    Raises:
        InputError: where it is missing or damaged, says nothing, or says something that cannot be used.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", expected="a file of weights")
    if not holds_config(path):
        raise InputError(f"{path} says no sizes", expected="a safetensors file whose metadata holds a config", fix=_FIX)
    return _content({"_class_name": class_name(path), **read_config(path)}, said_by(path), str(path))


def _content(config: Mapping[str, Any], metadata: Mapping[str, str], where: str) -> FileContent:
    name = str(config["_class_name"])
    given = {key: value for key, value in config.items() if key != "_class_name"}
    if isinstance(given.get("scheduler"), dict):
        kind = given["scheduler"].get("_class_name", SCHEDULER)
        if kind != SCHEDULER:
            raise InputError(f"{where}: a {kind}", expected=SCHEDULER, fix=_FIX)
        given["scheduler"] = {key: value for key, value in given["scheduler"].items() if key != "_class_name"}
    try:
        said = _Config.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        fault = (
            f"lacks {place}" if first["type"] == "missing" else f"{place} is {first['input']!r:.60} ({first['msg']})"
        )
        raise InputError(f"{where}: {fault}", expected="what gen3r-bench train writes there", fix=_FIX) from error
    numbers: dict[str, Any] = {}
    for key in (SIDE_KEY, FRAMES_KEY):
        text = metadata.get(key, "")
        if not (text.isascii() and text.isdecimal() and int(text) > 0):
            raise InputError(f"{where}: {key} is {text!r}", expected="a whole number above 0", fix=_FIX)
        numbers[key] = int(text)
    sizes = every(
        {
            "transformer": lambda: DitConfig.from_json(said.transformer),
            "text": lambda: TextConfig.from_json(said.text_encoder),
            "image": lambda: ImageConfig.from_json(said.clip_image_encoder),
        },
        "sizes of the networks in the file",
        Path(where),
    )
    tokens = WordTokenizer(said.words).size
    if sizes["text"].vocab < tokens:
        raise InputError(
            f"{where}: a text encoder of {sizes['text'].vocab} tokens for {len(said.words)} words",
            expected=f"at least {tokens}",
            fix=_FIX,
        )
    facts = FileFacts(
        class_name=name,
        words=said.words,
        scheduler=said.scheduler.model_dump(),
        style=said.style,
        sampling=said.sampling,
        options=said.options,
        parts=said.parts,
    )
    return FileContent(facts=facts, **sizes, **numbers)


@dataclass(frozen=True, slots=True)
class Frozen:
    """A part that a file names and does not hold.

    Attributes:
        name: under which the file says which one it was.
        size: reads its configuration, from a folder or file.
    """

    name: str
    size: Callable[[Path], Any]


class JointFile(JointCheckpoint[ConfigT]):
    """A file of a joint diffusion whose every part is known to fit, the frozen ones among them.

    Args:
        path: a safetensors file.
        locate: says where a frozen part lies.

    Attributes:
        content: its metadata.
        frozen: paths of the frozen networks, by the names of ``parts``.

    Raises:
        InputError: naming what is missing, of other shapes or another model, or not the network that it was trained
            beside.
    """

    file_class: ClassVar[str]
    """How a file says that it is one of this model."""
    frozen_parts: ClassVar[Mapping[str, Frozen]] = {VAE.name: Frozen("wan-vae", autoencoder_config)}
    """By the names of ``parts``."""
    option_names: ClassVar[tuple[str, ...]] = ()
    """Fields of the configuration that are the file's ``options``."""

    def __init__(self, path: Path, locate: Locate) -> None:
        self.path = path
        self.content = read_file(path)
        facts = self.content.facts
        if facts.class_name != self.file_class:
            raise InputError(
                f"{path} is that of a {facts.class_name}",
                expected=f"that of a {self.file_class}, for {self.model_title}",
            )
        wanted = {frozen.name for frozen in self.frozen_parts.values()}
        if facts.parts.keys() != wanted:
            raise InputError(
                f"{path} was trained beside {', '.join(sorted(facts.parts)) or 'nothing'}",
                expected=f"beside {', '.join(sorted(wanted))}, for {self.model_title}",
                fix=_FIX,
            )
        if facts.options.keys() != set(self.option_names):
            raise InputError(
                f"{path} has the options {', '.join(sorted(facts.options)) or '(none)'}",
                expected=f"{' and '.join(self.option_names) or 'none'}, for {self.model_title}",
                fix=_FIX,
            )
        self.scheduler_config = facts.scheduler
        self.frozen = self._each(lambda part, frozen: self._found(frozen.name, locate))
        sizes = self._each(lambda part, frozen: frozen.size(self.frozen[part]))
        own = {"transformer": self.content.transformer, "text": self.content.text, "image": self.content.image}
        self.config = self._config({**sizes, **own, "style": facts.style, **facts.options})
        self._check()

    def _each(self, task: Callable[[str, Frozen], Any]) -> dict[str, Any]:
        """What a task gives for each frozen part, or one error that says what is wrong with each."""
        tasks = {part: partial(task, part, frozen) for part, frozen in self.frozen_parts.items()}
        return every(tasks, f"the networks that {self.path.name} was trained beside", self.path)

    def _found(self, name: str, locate: Locate) -> Path:
        """Where a frozen part lies, if it is the one that the file means."""
        said = self.content.facts.parts[name]
        path = locate(name, said.checkpoint)
        found = weights_sha256(path)
        if found != said.sha256:
            raise InputError(
                f"{path} has the SHA-256 {found}; {self.path} was trained beside the {name} of {said.sha256}",
                expected="the same weights",
                fix=f"bring back that {name}, or train again beside this one",
            )
        return path

    def _check(self) -> None:
        content = self.content
        self.config.check_clip(content.frames, self.image_size)
        with torch.device("meta"):
            own = FileNetworks.of_sizes(content.transformer, content.text, content.image)
        tensors = header_tensors(self.path)
        assert tensors is not None
        load_exactly(own, tensors, what=f"networks in {self.path}")
        for part, place in self.frozen.items():
            held = header_tensors(place)
            if held is not None:
                self._fill(self.parts[part], held, None, place=place)

    def _read(self, part: Part, dtype: torch.dtype | None) -> nn.Module:
        if part.name in self.frozen:
            path = self.frozen[part.name]
            return self._fill(part, read_safetensors(path), dtype, place=path)
        prefix = f"{part.subfolder}."
        with safe_open(self.path, framework="pt") as file:
            tensors = {
                key.removeprefix(prefix): file.get_tensor(key)
                for key in file.keys()  # noqa: SIM118  # not a dict
                if key.startswith(prefix)
            }
        return self._fill(part, tensors, dtype, place=self.path)

    def scheduler(self) -> EulerFlow:
        """A fresh solver, as the file configures it."""
        return EulerFlow(EulerConfig(**self.scheduler_config))

    def tokenizer(self) -> Tokenizer:
        return WordTokenizer(self.content.facts.words)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the frames that it was trained on."""
        return self.content.side, self.content.side

    @property
    def files(self) -> tuple[Path, ...]:
        """What its answers depend on: the file itself, then the frozen networks in the order of ``parts``."""
        return (self.path, *(self.frozen[name] for name in self.parts if name in self.frozen))
