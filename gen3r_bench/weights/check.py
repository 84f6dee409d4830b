"""Whether the files that are here are whole, and are those that were published or fetched."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from gen3r_bench.locations import weights_root
from gen3r_bench.metrics.weight_files import marked_random, sha256_of
from gen3r_bench.weights.entry import WeightEntry
from gen3r_bench.weights.ledger import recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """What was found of one file.

    Attributes:
        file: its path.
        sha256: of its content.
        size_bytes: of it.
        fault: what is wrong, or None.
        verified: whether a published hash or size was compared.
        as_fetched: whether it has the hash that ``weights fetch`` wrote down.
        random: whether it is marked as random numbers, which no hash of a publisher is compared with.
    """

    file: Path
    sha256: str
    size_bytes: int
    fault: str | None
    verified: bool
    as_fetched: bool = False
    random: bool = False


def check_files(entry: WeightEntry) -> list[FileCheck]:
    """Hash every file of an entry, compare with what is known, and see that no safetensors file is cut short."""
    checks = []
    fetched = recorded()
    for file in entry.files():
        digest, size = sha256_of(file), file.stat().st_size
        random = marked_random(file)
        noted = fetched.get(str(file.relative_to(weights_root())), {}).get("sha256")
        # what is known of an archive is known of the download, not of the files in it
        known = not (entry.is_archive or random) and (entry.sha256 is not None or entry.size_bytes is not None)
        fault = download_fault(entry, digest, size) if known else None
        if fault is None and file.suffix == ".safetensors":
            fault = _cut_short(file, size)
        if fault is None and not random and noted not in {None, digest}:
            fault = f"changed since it was fetched: it had sha256 {noted}"
        checks.append(
            FileCheck(
                file=file,
                sha256=digest,
                size_bytes=size,
                fault=fault,
                verified=known,
                as_fetched=noted == digest,
                random=random,
            )
        )
    return checks


def download_fault(entry: WeightEntry, sha256: str, size_bytes: int) -> str | None:
    """What tells a download from the published one, or None where nothing known does."""
    if entry.size_bytes not in {None, size_bytes}:
        return f"{size_bytes} bytes instead of {entry.size_bytes}"
    if entry.sha256 is not None and not sha256.startswith(entry.sha256):
        return f"another sha256 than {entry.sha256}"
    return None


def _cut_short(file: Path, size: int) -> str | None:
    """Why a safetensors file cannot be whole, from its header alone; None where its length is what it says."""
    import json

    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if 8 + length > size:
            return "no whole safetensors header (a git-lfs pointer, or a broken download?)"
        try:
            header = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "no safetensors header"
    wanted = 8 + length + end
    return None if size == wanted else f"{size} bytes where its header says {wanted}"
