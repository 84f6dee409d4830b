"""Reading and writing files: an operating system's errors in words, and files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from gen3r_bench.errors import StoreError


@contextmanager
def explained(action: str, path: Path, option: str = "--out") -> Iterator[None]:
    """Turn an operating system's error into a StoreError that says what was tried, where, and the fix.

    Args:
        action: what is tried, such as "read".
        path: what it is tried with.
        option: of the command line, by which another path is chosen.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "check that it is there and readable" if action == "read" else f"free space or choose another {option}"
        raise StoreError(f"cannot {action} {path}: {reason} (fix: {fix})") from error


def first_problem(error: ValueError | RecursionError) -> str:
    """What is wrong with a file's content, in one line that says where."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        return f"{where}: {first['msg']}"
    return str(error)


def write_atomically(path: Path, data: bytes, option: str = "--out") -> None:
    """Replace a file in one step: readers see the old or the new content, never a part.

    Args:
        path: of the file.
        data: its content.
        option: of the command line, by which another path is chosen.

    Raises:
        StoreError: where the disk is full or the folder cannot be written; the old content stays.
    """
    if not path.name:
        raise StoreError(f"cannot write {path}: it is a folder (fix: name a file in it)")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained("write", path, option):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
