"""The losses of a training, a line a step, in a file that one training at a time writes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.files import explained

LOSSES_FILE: Final = "losses.jsonl"
_SHOWN: Final = 60
"""Characters of a wrong line that an error shows."""


def read_losses(out: Path, steps: int | None = None) -> list[dict[str, float]]:
    """The losses of a training's steps, in order; a last line that a kill cut off counts as not there.

    Args:
        out: folder of the training.
        steps: how many steps must be there, the first ones; what follows is not looked at. None: all that are there.

    Raises:
        StoreError: where the file cannot be read.
        InputError: where a line is not that of its step, or steps are missing.
    """
    path = out / LOSSES_FILE
    lines = _whole_lines(path)[:steps]
    losses = [_parsed(line, number, path) for number, line in enumerate(lines, start=1)]
    if steps is not None and len(losses) < steps:
        raise InputError(
            f"{path} holds {len(losses)} of {steps} steps", expected="a line for every step", fix=_fix(path)
        )
    return losses


class LossWriter:
    """Appends a line a step to ``losses.jsonl``; holds its lock, so that two trainings never share a folder.

    Args:
        out: folder of the training; made where it is not there.

    Raises:
        StoreError: where another training writes there, or it cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / LOSSES_FILE
        with explained("open", self._path):
            out.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self._path.open("ab", buffering=0)
        try:
            with explained("lock", self._path):
                _lock(self._file, out)
        except StoreError:
            self._file.close()
            raise

    def keep(self, steps: int) -> None:
        """Cut the file back to the first ``steps`` lines: what came after the checkpoint is computed again.

        Raises:
            StoreError, InputError: as ``read_losses``; then nothing is cut off.
        """
        read_losses(self._path.parent, steps)
        with explained("cut", self._path):
            self._file.truncate(sum(map(len, _whole_lines(self._path)[:steps])))

    def append(self, line: Mapping[str, float]) -> None:
        """Write the line of the next step."""
        rest = json.dumps(line).encode() + b"\n"
        with explained("append to", self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def to_disk(self) -> None:
        """Wait until every line is on the disk."""
        with explained("append to", self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()


def _lock(file: IO[bytes], out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"another training writes into {out} (fix: wait for it, or choose another --out)") from error


def _whole_lines(path: Path) -> list[bytes]:
    """With their ends; none where there is no file."""
    with explained("read", path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _parsed(line: bytes, number: int, path: Path) -> dict[str, float]:
    try:
        losses = json.loads(line)
    except (ValueError, RecursionError):
        losses = None
    numbers = isinstance(losses, dict) and all(type(value) in (int, float) for value in losses.values())
    if not numbers or losses.get("step") != number or "total" not in losses:
        shown = line.decode(errors="replace").strip()
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} …"
        raise InputError(f"{path} line {number} is {shown!r}", expected=f"the losses of step {number}", fix=_fix(path))
    found: dict[str, float] = losses
    return found


def _fix(path: Path) -> str:
    return f"restore {path.name} as it was written, or train in another folder (--out)"
