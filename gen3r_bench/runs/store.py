"""A run's folder: ``run.json`` and ``records.jsonl``, written so that a kill at any moment loses at most one scene."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from gen3r_bench.errors import StoreError
from gen3r_bench.files import explained, first_problem, write_atomically
from gen3r_bench.runs.record import Record, RunHeader, provenance_id, record_checksum

HEADER_NAME = "run.json"
RECORDS_NAME = "records.jsonl"
READABLE_VERSIONS = (1, 2)
_CARD_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "setting": str,
    "cameras": str,
    "metrics": list,
    "frames_scored": list,
    "psnr_cap_db": (int, float),
}
"""What tables look up in a card's content, whichever version of the suite wrote it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read from its folder.

    Attributes:
        path: the folder.
        header: its ``run.json``.
        records: one for each (protocol, dataset, scene, row, seed): the newest, where a failure was tried again.
        torn_tail: whether the last line was cut off, as a kill leaves it; that scene runs again on resume.
        repeated: lines that say word for word what another line says, as a copied line does; each counts once.
    """

    path: Path
    header: RunHeader
    records: tuple[Record, ...]
    torn_tail: bool = False
    repeated: int = 0


def read_header(run: Path) -> RunHeader:
    """The header of a run folder.

    Raises:
        StoreError: where there is none, it is damaged, or another version of the suite wrote it.
    """
    path = run / HEADER_NAME
    if not path.is_file():
        raise StoreError(f"{run} is not a run folder: it has no {HEADER_NAME} (fix: name a folder that `run` wrote)")
    with explained("read", path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if type(version) is not int or version not in READABLE_VERSIONS:  # True equals 1
            raise StoreError(
                f"{path} has schema version {version!r}; this suite reads versions "
                f"{' and '.join(map(str, READABLE_VERSIONS))} (fix: use the suite that wrote it)"
            )
        return RunHeader.model_validate(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: {first_problem(error)} (fix: restore it, or run with --fresh)") from error


def _parse_records(path: Path) -> tuple[list[Record], int]:
    """Records of a file, and how many bytes of it are whole lines; a torn last line is left out."""
    if not path.exists():
        return [], 0
    with explained("read", path):
        data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    records = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            record = Record.model_validate_json(line)
        except ValueError as error:
            raise StoreError(
                f"{path} line {number} is not a record: {first_problem(error)} "
                "(fix: delete that line and run the same command again, which scores that scene anew)"
            ) from error
        if record.checksum != record_checksum(json.loads(line)):
            raise StoreError(
                f"{path} line {number} was changed after it was written ({record.row}, {record.scene_id}) "
                "(fix: delete that line and run the same command again)"
            )
        records.append(record)
    return records, whole


def _newest(records: list[Record]) -> tuple[Record, ...]:
    return tuple({record.identity: record for record in records}.values())


def _misfit(header: RunHeader) -> str | None:
    """Where the parts of a header do not fit together, as after an edit by hand; None where they do."""
    cards = {card.name: card for card in header.protocols}
    for (protocol, dataset), count in Counter((entry.protocol, entry.dataset) for entry in header.plan).items():
        if count > 1:
            return f"its plan names {protocol} on {dataset} {count} times"
        if protocol not in cards:
            return f"its plan names the protocol {protocol!r}, whose card it lacks"
        for name, kind in _CARD_FIELDS.items():
            if not isinstance(cards[protocol].content.get(name), kind):
                return f"the card of {protocol} lacks {name}"
    return None


def read_run(path: Path) -> Run:
    """Read a run folder without changing it.

    Raises:
        StoreError: where a file is missing, damaged or of another version, or the header does not say what a score was
            computed with; names the file, the line and the fix.
    """
    problem = _misfit(read_header(path))
    if problem is not None:
        raise StoreError(f"{path / HEADER_NAME} is damaged: {problem} (fix: restore it, or run with --fresh)")
    records, whole = _parse_records(path / RECORDS_NAME)
    size = (path / RECORDS_NAME).stat().st_size if (path / RECORDS_NAME).exists() else 0
    repeated = len(records) - len({record.checksum for record in records})
    # again, after the records: another process may be writing, and says in the header what a record refers to first
    header, newest = read_header(path), _newest(records)
    for record in newest:
        if (key := unexplained(record, header)) is not None:
            raise StoreError(
                f"{path / HEADER_NAME} does not say what {key} of {record.scene_id} ({record.row}) was computed with "
                "(fix: restore the one that lay beside these records, or run it again with --fresh)"
            )
    return Run(path, header, newest, torn_tail=size > whole, repeated=repeated)


def unexplained(record: Record, header: RunHeader) -> str | None:
    """A metric of a record that refers to nothing in the header, such as to the stamp of random weights; or None."""
    return next((key for key, name in record.made_with.items() if name not in header.provenances), None)


class RecordWriter:
    """Appends records to a run folder; holds its lock, so that two commands never write into one run.

    A torn last line, as a kill leaves it, is cut off on opening.

    Raises:
        StoreError: where the run is in use, or its files cannot be read or written.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        path = run / RECORDS_NAME
        with explained("open", path):
            run.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StoreError(f"{run} is being written by another process (fix: wait for it, or use --out)") from error
        self._mutex = threading.Lock()
        try:
            records, whole = _parse_records(path)
            with explained("repair", path):
                self._file.truncate(whole)
        except StoreError:
            self._file.close()
            raise
        self._size = whole
        self._header: RunHeader | None = None
        self.found = {record.key: record for record in _newest(records)}

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on the disk; on an error the file is cut back to whole lines."""
        line = record.sealed().model_dump_json().encode() + b"\n"
        with self._mutex, explained("append to", self.run / RECORDS_NAME):
            try:
                written = 0
                while written < len(line):
                    written += self._file.write(line[written:])
                os.fsync(self._file.fileno())
            except OSError:
                os.ftruncate(self._file.fileno(), self._size)
                raise
            self._size += len(line)

    def write_header(self, header: RunHeader) -> None:
        with self._mutex:
            self._write_header(header)

    def _write_header(self, header: RunHeader) -> None:
        write_atomically(self.run / HEADER_NAME, (header.model_dump_json(indent=1) + "\n").encode())
        self._header = header

    def note_provenance(self, facts: Mapping[str, str]) -> str:
        """The id under which the header on disk names what a metric was computed with; written there if it is new.

        Call it before the record that refers to it is appended.
        """
        identifier = provenance_id(facts)
        with self._mutex:
            header = self._header or read_header(self.run)
            if identifier not in header.provenances:
                provenances = {**header.provenances, identifier: dict(facts)}
                self._write_header(header.model_copy(update={"provenances": provenances, "schema_version": 2}))
        return identifier

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def move_aside(run: Path) -> Path:
    """Rename a run folder so that a new one can take its name; returns where it went. Nothing is deleted.

    Raises:
        StoreError: where it cannot be renamed.
    """
    number = 1
    while (target := run.with_name(f"{run.name}.replaced-{number}")).exists():
        number += 1
    with explained("move", run):
        run.rename(target)
    return target
