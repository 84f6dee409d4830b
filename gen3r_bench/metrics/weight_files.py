"""Files of weights that metrics read: their hashes, and the mark that says that one holds random numbers."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

RANDOM_SUFFIX: Final = ".random-weights"
"""A file of this name beside a file of weights says that these are random numbers, made for a test."""


def marked_random(path: Path) -> bool:
    """Whether the file is marked as random numbers: a score computed with it is stamped, and no table shows it."""
    return path.with_name(path.name + RANDOM_SUFFIX).exists()


def sha256_of(path: Path) -> str:
    """Of a file's content; computed once for as long as its size and time of change stay the same."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    del size, modified_ns
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def obstacle(path: Path, sha256: str, fetch: str) -> str | None:
    """Why a file of weights cannot be used, or None where it can: it is missing, unreadable, or not the published one.

    The reason names the file and not its place: it is kept in records, which are read elsewhere.

    Args:
        path: where it belongs.
        sha256: the hash that its publisher names, in full or its first digits.
        fetch: the command that brings it.
    """
    try:
        if not path.is_file():
            # the command first: a table may cut a long reason short
            return f"weights missing, run {fetch} ({path.name} is not there)"
        if marked_random(path):
            return None
        digest = sha256_of(path)
    except OSError as error:
        return f"weights cannot be read: {error.strerror} ({path.name})"
    if digest.startswith(sha256):
        return None
    return (
        f"{path.name} is not the published file, run {fetch}: its sha256 begins with {digest[: len(sha256)]}, not with "
        f"{sha256}"
    )
