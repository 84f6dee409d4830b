"""A network's folder: ``config.json`` beside its weights, as diffusers lays it out; or both in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from gen3r_bench.errors import InputError

Config = TypeVar("Config")

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "diffusion_pytorch_model.safetensors"
CONFIG_KEY: Final = "config"
"""In the metadata of a safetensors file that stands alone: what its ``config.json`` would hold."""
VGGT_KEY: Final = "vggt"
"""There, of what reads VGGT's tokens: whose it was trained on, "reference", "official" or a path."""
SIDE_KEY: Final = "side"
"""There too: side in pixels of the square frames that the network was trained on."""


def read_config(path: Path) -> dict[str, Any]:
    """The object in a ``config.json``, or in a safetensors file's metadata, without the keys that begin with ``_``.

    Raises:
        InputError: where it is missing or is not a JSON object.
    """
    return {key: value for key, value in _content(path).items() if not key.startswith("_")}


def class_name(path: Path) -> str | None:
    """The ``_class_name`` in a ``config.json``; None where it has none.

    Raises:
        InputError: as `read_config`.
    """
    name = _content(path).get("_class_name")
    return None if name is None else str(name)


def config_of_class(path: Path, readers: Mapping[str, Callable[[Path], Config]], *, nameless: str) -> Config:
    """The configuration at a path, read by what its ``_class_name`` says.

    Args:
        path: as `read_config` takes it.
        readers: of each class by its name; the first one also reads a configuration without a name.
        nameless: what the error says of no name.

    Raises:
        InputError: as the readers, and where the name is another.
    """
    name = class_name(path)
    reader = next(iter(readers.values())) if name is None else readers.get(name)
    if reader is None:
        raise InputError(
            f"{path} is that of a {name}", expected=f"{' or '.join(readers)}, or no _class_name for {nameless}"
        )
    return reader(path)


def holds_config(path: Path) -> bool:
    """Whether a path is a safetensors file with a configuration in its metadata.

    Raises:
        InputError: where it is a damaged safetensors file.
    """
    return path.suffix == ".safetensors" and CONFIG_KEY in safetensors_metadata(path)


def told(path: Path, key: str) -> str | None:
    """What a safetensors file says of itself under a key of its metadata; None for a folder, or where it says nothing.

    Raises:
        InputError: where it is a damaged safetensors file.
    """
    return safetensors_metadata(path).get(key) if path.suffix == ".safetensors" else None


def told_side(path: Path) -> int | None:
    """Side in pixels of the frames that a file's network was trained on, where the file says it.

    Raises:
        InputError: where it is damaged, or says something else than a positive whole number.
    """
    text = told(path, SIDE_KEY)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise InputError(f"{path} says {SIDE_KEY} {text!r}", expected="a size in pixels")
    return int(text)


def _content(path: Path) -> dict[str, Any]:
    if holds_config(path):
        text = safetensors_metadata(path)[CONFIG_KEY]
    elif path.is_file() and path.suffix == ".json":
        text = path.read_text(encoding="utf-8")
    else:
        raise InputError(f"{path} is missing", expected="the config.json that belongs to the weights")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})", expected="a JSON object") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}", expected="a JSON object")
    return content


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors; nothing where there is no file.

    Raises:
        InputError: where it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error})", expected="a whole safetensors file") from error


def every(tasks: Mapping[str, Callable[[], Any]], what: str, path: Path) -> dict[str, Any]:
    """Results of the tasks by name, or one error that says what is wrong with each.

    Args:
        tasks: readers or checks of parts.
        what: the parts make, for the message.
        path: of it.
    """
    results, faults = {}, []
    for name, task in tasks.items():
        try:
            results[name] = task()
        except InputError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InputError(
            f"{len(faults)} parts of {path} do not fit: " + "; ".join(fault.given for fault in faults), expected=what
        )
    return results


def require_ratios(given: dict[str, Any], path: Path, names: tuple[str, str]) -> None:
    """Take the compression ratios of time and space out of ``given``; they must be 4 and 8 where they are said."""
    for name, ratio in zip(names, (4, 8), strict=True):
        said = given.pop(name, ratio)
        if said != ratio:
            raise InputError(f"{path}: {name} {said}", expected=str(ratio))


def refuse_unknown(given: Mapping[str, Any], path: Path) -> None:
    """Raise InputError where a configuration still holds keys that nothing has read."""
    if given:
        raise InputError(f"{path}: unknown keys {', '.join(sorted(given))}", expected="the keys of this network")


def require_sizes(
    sizes: Mapping[str, Any], what: str, *, real: Collection[str] = (), lists: Mapping[str, int] | None = None
) -> None:
    """Raise InputError where a size is no whole number above 0.

    Args:
        sizes: by name.
        what: they belong to, for the message.
        real: names of those that may be fractions.
        lists: how many numbers a name stands for, where that is not one.
    """
    lists = lists or {}
    for name, value in sizes.items():
        numbers = value if name in lists else (value,)
        kinds = (int, float) if name in real else int
        whole = isinstance(numbers, (tuple, list)) and len(numbers) == lists.get(name, 1)
        if not whole or not all(isinstance(n, kinds) and not isinstance(n, bool) and 0 < n < inf for n in numbers):
            kind = "number" if name in real else "whole number"
            many = f"{lists[name]} {kind}s" if name in lists else f"a {kind}"
            raise InputError(f"{what}: {name} is {value!r}", expected=f"{many} above 0")


def save_folder(module: nn.Module, config: Mapping[str, Any], folder: Path) -> None:
    """Write ``config.json`` and ``diffusion_pytorch_model.safetensors`` of a module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in module.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
