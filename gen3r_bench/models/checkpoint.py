"""Weights: read from safetensors or tensor-only torch files, and put into a module only where every key fits."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from gen3r_bench.errors import InputError

TORCH_SUFFIXES: Final = (".bin", ".pth", ".pt")
SUFFIXES: Final = (".safetensors", *TORCH_SUFFIXES)
UNREADABLE: Final = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    # torch's unpickler on bytes that are no pickle, such as a saved page
    AttributeError,
    LookupError,
    TypeError,
)
"""What reading a damaged file of tensors raises."""
SHOWN: Final = 5
"""How many keys of each kind an error names."""


def weight_files(path: Path) -> list[Path]:
    """The files that together hold the weights at ``path``, sorted: one file, the shards of an index, or a folder's.

    A folder is read by its index (``*.safetensors.index.json``, then ``*.bin.index.json``) if it has one, else as the
    union of its safetensors files, else of its ``.bin``, ``.pth`` and ``.pt`` files.

    Raises:
        InputError: where nothing is there, the index cannot be read or has several rivals, or a shard is missing.
    """
    if path.is_dir():
        for kinds in ((".safetensors",), TORCH_SUFFIXES):
            indices = sorted(p for kind in kinds for p in path.glob(f"*{kind}.index.json"))
            if len(indices) > 1:
                raise InputError(
                    f"{path} holds {len(indices)} indices ({', '.join(p.name for p in indices)})",
                    expected="one index a folder",
                    fix="name the index itself",
                )
            if indices:
                return _shards(indices[0])
            files = sorted(p for p in path.iterdir() if p.suffix in kinds and p.is_file())
            if files:
                return files
        raise InputError(f"{path} holds no weights", expected=f"files that end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist", expected="a file or folder of weights")
    if path.name.endswith(".index.json"):
        return _shards(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}", expected=f"a file that ends in {', '.join(SUFFIXES)} or .index.json")
    return [path]


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} cannot be read ({error})", expected="an index with a weight_map") from error
    outside = sorted(name for name in names if not isinstance(name, str) or Path(name).name != name)
    if outside or not names:
        raise InputError(f"{index} names {outside or 'no files'}", expected="names of files that lie beside it")
    files = [index.parent / name for name in sorted(names)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{index} names {len(names)} files, and {len(missing)} are missing: {_some(missing)}",
            expected="all of them beside it",
            fix="download them again",
        )
    return files


def weights_sha256(path: Path) -> str:
    """Hash, in hex, of the weights at ``path``: a single file's own SHA-256; of several, that of their list of hashes.

    Raises:
        InputError: as ``weight_files``.
    """
    lines = []
    for file in weight_files(path):
        with file.open("rb") as opened:
            lines.append((hashlib.file_digest(opened, "sha256").hexdigest(), file.name))
    if len(lines) == 1:
        return lines[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in lines).encode()).hexdigest()


def read_safetensors(path: Path, *, inside: str | None = None) -> dict[str, Tensor]:
    """Tensors by key, on the CPU, of a file, an index with its shards, or a folder that holds either.

    Files that end in ``.bin``, ``.pth`` or ``.pt`` are read with torch's tensor-only unpickler. Where the format
    allows it the tensors are backed by the file, so reading costs no memory until they are used.

    Args:
        path: file, index or folder.
        inside: key under which a torch file may hold its tensors, beside other content, which is passed over.

    Raises:
        InputError: where nothing is there, a file is damaged or holds more than named tensors, two files hold the same
            key, or the files' keys are not those that the index lists.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        loaded = _read_file(file, inside)
        twice = sorted(tensors.keys() & loaded.keys())
        if twice:
            raise InputError(
                f"{len(twice)} tensors lie in {file.name} and in another file of {file.parent}: {_some(twice)}",
                expected="every tensor in one file",
                fix="name the file that is meant, or remove the other",
            )
        tensors.update(loaded)
    return tensors


def _read_file(file: Path, inside: str | None) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle protocol; what cannot be read raises
            loaded: object = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except UNREADABLE as error:
        raise unreadable(file, error) from error
    if inside is not None and isinstance(loaded, dict) and isinstance(loaded.get(inside), dict):
        loaded = loaded[inside]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in loaded.items()):
        raise InputError(f"{file} holds more than named tensors", expected="a state dict", fix="save the state dict")
    return loaded


def unreadable(file: Path, error: BaseException) -> InputError:
    """What is to be said of a file of tensors whose reading raised one of ``UNREADABLE``."""
    reason = f"{type(error).__name__}: {error}".partition("\n")[0].strip(" :")
    if isinstance(error, pickle.UnpicklingError):  # torch would recommend to run what the file holds
        reason = "no torch file, or one that holds more than tensors"
    return InputError(f"{file} cannot be read ({reason})", expected="a whole file of named tensors")


def header_tensors(folder: Path) -> dict[str, Tensor] | None:
    """Names and shapes of a folder's weights as tensors without memory; None where a format has no header to read.

    Raises:
        InputError: where there are no weights, a shard is missing, or a header is damaged.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        if file.suffix != ".safetensors":
            return None
        try:
            with safe_open(file, framework="pt") as content:
                for key in content.keys():  # noqa: SIM118  # not a dict
                    tensors[key] = torch.empty(content.get_slice(key).get_shape(), device="meta")
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} cannot be read ({error})", expected="a whole safetensors file") from error
    return tensors


def load_exactly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    what: str,
    ignore: tuple[str, ...] = (),
    strip_prefix: str = "",
    dtype: torch.dtype | None = None,
) -> None:
    """Give every parameter and stored buffer of ``module`` its tensor, or change nothing and say what does not fit.

    The tensors become the module's own (they are not copied), so a module on the meta device is filled without a
    second copy of its size, and takes the tensors' device.

    Args:
        module: on any device, the meta device included.
        tensors: by key.
        what: what the weights are, for the message.
        ignore: patterns (``track_head.*``), matched before the prefix is stripped, of keys that are passed over.
        strip_prefix: removed from the front of each key that begins with it.
        dtype: floating-point tensors are converted to it; None keeps them as they are stored.

    Raises:
        InputError: where a key is missing, unexpected or of another shape: the first several, and how many.
        ValueError: where the module has a buffer on the meta device that no state dict holds.
    """
    homeless = [name for name, buffer in _unstored_buffers(module) if buffer.is_meta]
    if homeless:
        raise ValueError(f"{what}: build buffer {homeless[0]} off the meta device; it is not part of a state dict")
    given: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if any(fnmatchcase(key, pattern) for pattern in ignore):
            continue
        name = key.removeprefix(strip_prefix)
        if name in given:
            raise InputError(f"{what}: {name} is given with and without {strip_prefix!r}", expected="either")
        given[name] = tensor
    own = module.state_dict()
    faults = _faults(own, given)
    if faults:
        raise InputError(
            f"{what}: weights do not fit ({'; '.join(faults)})",
            expected=f"the {len(own)} tensors of {type(module).__name__}, in their shapes",
            fix="check that the files belong to this model and are complete",
        )
    if dtype is not None:
        given = {name: t.to(dtype) if t.is_floating_point() else t for name, t in given.items()}
    module.load_state_dict(given, strict=True, assign=True)


def _unstored_buffers(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    stored = module.state_dict().keys()
    return ((name, buffer) for name, buffer in module.named_buffers() if name not in stored)


def _faults(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    reshaped = [
        f"{name} {list(given[name].shape)} for {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in given and given[name].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    return [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds if names]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
