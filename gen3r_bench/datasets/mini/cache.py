"""Rendered clips on disk: one safetensors file a clip, written atomically, verified on every read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

MAX_CLIP_BYTES: Final = 64 * 2**20
"""Larger clips are rendered each time: 49 frames at 560 x 560 are 108 MB."""

MAX_CACHE_BYTES: Final = 4 * 2**30
"""A cache that holds this much takes no more clips (training is unbounded, a disk is not)."""

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path:
    """``$GEN3R_BENCH_CACHE``, else ``$XDG_CACHE_HOME/gen3r-bench``, else ``~/.cache/gen3r-bench``."""
    if own := os.environ.get("GEN3R_BENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "gen3r-bench"


def _checksum(fingerprint: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f" {name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()


class ClipCache:
    """Clips of one dataset version below a folder; a folder that cannot be written is not used, without complaint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bytes: int | None = None

    def read(self, name: str, fingerprint: str) -> Arrays | None:
        """The arrays stored under ``name``, or None where the file is absent, damaged or of another fingerprint."""
        try:
            with safe_open(self._folder / f"{name}.safetensors", framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError, ValueError):
            return None
        if metadata.get("sha256") != _checksum(fingerprint, arrays):
            return None
        return arrays

    def write(self, name: str, fingerprint: str, arrays: Arrays) -> None:
        """Store a clip, unless it is too large, the cache is full or the folder cannot be written."""
        size = sum(array.nbytes for array in arrays.values())
        if size > MAX_CLIP_BYTES:
            return
        path = self._folder / f"{name}.safetensors"
        try:
            if self._bytes is None:
                self._bytes = sum(file.stat().st_size for file in self._folder.rglob("*.safetensors"))
            if self._bytes + size > MAX_CACHE_BYTES:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            # one entry only: safetensors writes several in an order that changes from run to run
            content = save(arrays, metadata={"sha256": _checksum(fingerprint, arrays)})
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                return
            self._bytes += size
        except OSError:
            return
