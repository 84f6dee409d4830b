"""Brings weights to their place: over HTTP through pooch, or from a folder on a machine without internet.

A file appears in its place only once it is whole and its hash is right. What a broken download left is continued by
the next one. Folders of a Hugging Face model are not fetched here: ``hf download`` does that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX, marked_random, sha256_of
from gen3r_bench.weights.check import download_fault
from gen3r_bench.weights.entry import WeightEntry
from gen3r_bench.weights.ledger import record

TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 16
"""Written at a time; a broken connection loses at most this much."""


class Bar(Protocol):
    """A progress bar as pooch drives it; ``total`` counts what is still to come."""

    total: int

    def update(self, count: int, /) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


def fetch(entry: WeightEntry, *, bar: Bar | None = None) -> list[Path]:
    """Download an entry, check it and put it in its place; returns the files that came.

    Raises:
        InputError: where the entry is a folder of the hub, with the command that fetches it.
        StoreError: where the download fails, or is not the published file; nothing wrong is kept.
    """
    if entry.source is None:
        raise InputError(f"{entry.name} is a folder of a Hugging Face model", expected="a file", fix=entry.command())
    part = _part_of(entry)
    with _explained(f"download {entry.source}"):
        part.parent.mkdir(parents=True, exist_ok=True)
        _download(entry.source, part, bar)
        return _put_in_place(entry, part, entry.source)


def copy_from(entry: WeightEntry, folder: Path) -> list[Path]:
    """Copy an entry from a folder, which may be laid out like the root of weights or simply hold the files.

    An archive is taken as it was downloaded.

    Raises:
        InputError: where the folder does not hold it, or holds random numbers in its place.
        StoreError: where it cannot be copied, or is not the published file.
    """
    if entry.place.endswith("/") and not entry.is_archive:
        return _copy_folder(entry, folder)
    name = Path(entry.source or entry.place).name
    candidates = [folder / entry.place, folder / name, folder / Path(entry.place).name, folder / entry.hub_path]
    source = next((path for path in candidates if path.is_file()), None)
    if source is None:
        raise InputError(f"{folder} does not hold {entry.name}", expected=f"{name} in it, or {entry.place}")
    if marked_random(source):
        raise InputError(f"{source} is marked as random numbers, made for a test", expected="the published file")
    part = _part_of(entry)
    with _explained(f"copy {source}"):
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        return _put_in_place(entry, part, str(source))


def _copy_folder(entry: WeightEntry, folder: Path) -> list[Path]:
    candidates = [path for path in (folder / entry.place, folder / entry.hub_path) if path.is_dir()]
    if not candidates:
        raise InputError(
            f"{folder} does not hold {entry.name}", expected=f"the folder {entry.place} or {entry.hub_path}"
        )
    placed: dict[Path, str] = {}
    with _explained(f"copy {candidates[0]}"):
        entry.path.mkdir(parents=True, exist_ok=True)
        for source in sorted(path for path in candidates[0].iterdir() if path.is_file()):
            part = entry.path / f".{source.name}.part"
            shutil.copyfile(source, part)
            os.replace(part, entry.path / source.name)
            placed[entry.path / source.name] = sha256_of(entry.path / source.name)
        record(placed, str(candidates[0]))
    return list(placed)


def _part_of(entry: WeightEntry) -> Path:
    """Where an unfinished download lies: on the disk that it will stay on."""
    folder = entry.path if entry.is_archive else entry.path.parent
    return folder / f".{entry.name}.part"


def _download(url: str, part: Path, bar: Bar | None) -> None:
    """Download into ``part``, going on where an earlier attempt broke off, if the server can."""
    import pooch

    with part.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"{url} is being downloaded by another process (fix: wait for it)") from error
        begun = stream.tell()
        # compressed on its way, a file could not be continued
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})

        def answered(response: Any, **_: Any) -> None:
            if response.status_code == 200:
                stream.truncate(0)  # all of it comes anew

        downloader = pooch.HTTPDownloader(
            progressbar=bar or False,
            chunk_size=CHUNK_BYTES,
            headers=headers,
            hooks={"response": lambda response, *_, **__: answered(response)},
            timeout=TIMEOUT_S,
        )
        try:
            downloader(url, stream, None)
        except OSError as error:
            response: Any = getattr(error, "response", None)
            if not begun or getattr(response, "status_code", None) != 416:
                raise
            # nothing is left to be sent: what is here is whole, or is longer than the file and thus another one
            if response.headers.get("Content-Range", "").rpartition("/")[2] != str(begun):
                stream.truncate(0)
                raise


def _put_in_place(entry: WeightEntry, part: Path, source: str) -> list[Path]:
    digest, size = sha256_of(part), part.stat().st_size
    fault = download_fault(entry, digest, size)
    if fault is not None:
        part.unlink()
        raise StoreError(f"{source} is not {entry.name}: {fault} (it has sha256 {digest}; nothing was kept)")
    if entry.is_archive:
        return _unpack(entry, part, source)
    os.replace(part, entry.path)
    _unmark(entry.path)
    record({entry.path: digest}, source)
    return [entry.path]


def _unmark(path: Path) -> None:
    """Numbers that came from a publisher are no longer those of a test."""
    path.with_name(path.name + RANDOM_SUFFIX).unlink(missing_ok=True)


def _unpack(entry: WeightEntry, part: Path, source: str) -> list[Path]:
    """Unpack an archive beside its place and move its files there, those that tell whether it is here last."""
    unpacked = part.with_suffix(".unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    placed: dict[Path, str] = {}
    try:
        try:
            with zipfile.ZipFile(part) as archive:
                archive.extractall(unpacked)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            part.unlink()
            raise StoreError(f"{source} is no whole zip archive ({error}; nothing was kept)") from error
        root = unpacked / (entry.archive_root or "")
        missing = [name for name in entry.needs if not (root / name).is_file()]
        if missing:
            part.unlink()
            raise StoreError(f"{source} lacks {missing[0]} (nothing was kept)")
        names = [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file()]
        for name in sorted(names, key=entry.needs.__contains__):
            target = entry.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(root / name, target)
            _unmark(target)
            placed[target] = sha256_of(target)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    record(placed, source)
    part.unlink()
    return list(placed)


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Errors of the network and of the disk as one line."""
    try:
        yield
    except OSError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"the server answers {status}" if status else error.strerror or str(error)
        raise StoreError(f"cannot {action}: {reason} (fix: the same command goes on where this one stopped)") from error
