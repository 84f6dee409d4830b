"""Reading and writing files: an operating system's errors in words, and files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gen3r_bench.errors import StoreError


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an operating system's error into a StoreError that says what was tried, where, and the fix."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "check that it is there and readable" if action == "read" else "free space or choose another --out"
        raise StoreError(f"cannot {action} {path}: {reason} (fix: {fix})") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: readers see the old or the new content, never a part.

    Raises:
        StoreError: where the disk is full or the folder cannot be written; the old content stays.
    """
    if not path.name:
        raise StoreError(f"cannot write {path}: it is a folder (fix: name a file in it)")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained("write", path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
