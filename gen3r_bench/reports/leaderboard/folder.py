"""The folder of an export: complete or not there at all, and never in the place of something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gen3r_bench.errors import InputError
from gen3r_bench.files import explained
from gen3r_bench.reports.leaderboard.schema import SCHEMA_NAME

DATA_NAME: Final = "leaderboard.json"
SCHEMA_FILE_NAME: Final = "leaderboard.schema.json"
CSV_NAME: Final = "leaderboard.csv"
README_NAME: Final = "README.md"
PAGE_NAME: Final = "index.html"
TABLES_NAME: Final = "tables"
ASSETS_NAME: Final = "assets"
_NAMES: Final = {DATA_NAME, SCHEMA_FILE_NAME, CSV_NAME, README_NAME, PAGE_NAME, TABLES_NAME, ASSETS_NAME}


def check_target(target: Path) -> None:
    """Raise InputError where a folder is something else than an earlier export, an empty folder, or nothing."""
    fix = "name a new folder with --to"
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"--to {target} is a file", expected="a folder, or a name that is free", fix=fix)
    names = {path.name for path in target.iterdir()}
    if not names:
        return
    if not _is_export(target):
        raise InputError(
            f"--to {target} holds files that are no export of ours ({', '.join(sorted(names)[:3])})",
            expected="a new or empty folder, or an earlier export, which is replaced",
            fix=fix,
        )
    foreign = sorted(names - _NAMES)
    if foreign:
        raise InputError(
            f"--to {target} holds {foreign[0]!r} beside an earlier export, and would lose it",
            expected="nothing in the folder but what the export writes",
            fix=fix,
        )


def _is_export(target: Path) -> bool:
    try:
        content = json.loads((target / DATA_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("schema_name") == SCHEMA_NAME


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` to write into, which takes its place at the end; on any error nothing changes.

    Raises:
        InputError: where the target is something else than an export.
        StoreError: where the disk is full or the folder cannot be written.
    """
    check_target(target)
    target = target.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    with explained("write", target):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            if target.exists():
                target.rename(old)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
