"""Golden files: the scores of one row under one protocol, and how far each may move."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

import gen3r_bench.results
from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.files import explained, first_problem, write_atomically
from gen3r_bench.runs.record import Record, RowEntry, RunHeader
from gen3r_bench.runs.store import Run

SCHEMA_VERSION: Final = 1


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tolerance(_Strict):
    """How far one score may move on any scene: ``max(factor * drift, floor)``, in the score's unit.

    ``drift`` is the largest difference from the golden scores that any variant showed on any scene, and ``seen_in`` the
    variant that showed it ("" where nothing moved).
    """

    drift: float = Field(ge=0)
    seen_in: str
    floor: float = Field(ge=0)
    tolerance: float = Field(ge=0)


class Observed(_Strict):
    """One way in which the subset was run again to see how far scores move by themselves."""

    name: str
    summary: str
    variables: dict[str, str] = Field(default_factory=dict)


class Calibration(_Strict):
    """What the tolerances stand on; ``not_observed`` says what could not be varied, and why."""

    factor: float = Field(gt=0)
    observed: tuple[Observed, ...]
    not_observed: tuple[str, ...] = ()
    tolerances: dict[str, Tolerance]

    @model_validator(mode="after")
    def _tolerances_follow(self) -> Self:
        for key, one in self.tolerances.items():
            if one.tolerance != tolerance_of(one.drift, one.floor, self.factor):
                raise ValueError(f"the tolerance of {key} does not follow from its drift, floor and factor")
        return self


class Golden(_Strict):
    """The content of a golden file: a run of one row, protocol and dataset, and what its scores may differ by.

    Attributes:
        spec: the row as on the command line, such as ``lvsm@reference``.
        reason: why these numbers are the right ones, in the words of whoever made them.
        commit: of the code that made them; "" where it is not known.
        header: as a run's: card, scenes, checkpoint hash, environment, date.
        records: one a scene and seed, all of status ``ok``, without their costs.
        calibration: the tolerances.
        checksum: of the rest; shows an edit by hand.
    """

    schema_version: Literal[1] = 1
    spec: str
    reason: str = Field(min_length=1)
    commit: str
    header: RunHeader
    records: tuple[Record, ...] = Field(min_length=1)
    calibration: Calibration
    checksum: str = ""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        header = self.header
        if not len(header.protocols) == len(header.plan) == len(header.rows) == 1:
            raise ValueError("a golden file holds one row, one protocol and one dataset")
        places = [(record.scene_id, record.seed) for record in self.records]
        if sorted(places) != sorted((scene, seed) for scene in header.plan[0].scenes for seed in header.seeds):
            raise ValueError("the records are not one for each scene and seed of the plan")
        here = (self.protocol, self.dataset, self.row.label, header.protocols[0].hash)
        for record in self.records:
            if (record.protocol, record.dataset, record.row, record.card_hash) != here or record.status != "ok":
                raise ValueError(f"the record of {record.scene_id} is not one of {self.title}, or has no scores")
            if not self.calibration.tolerances.keys() >= record.scores.keys():
                raise ValueError(f"a score of {record.scene_id} has no tolerance")
        return self

    @property
    def row(self) -> RowEntry:
        return self.header.rows[0]

    @property
    def protocol(self) -> str:
        return self.header.protocols[0].name

    @property
    def dataset(self) -> str:
        return self.header.plan[0].dataset

    @property
    def title(self) -> str:
        return f"{self.row.label} · {self.protocol} · {self.dataset}"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What it guards; a folder holds one golden of each."""
        return self.row.label, self.protocol, self.dataset

    @property
    def file_name(self) -> str:
        return file_name_of(self.identity)

    def as_run(self, where: Path) -> Run:
        """The golden scores as a run, for what compares runs."""
        return Run(where, self.header, self.records)

    def sealed(self) -> Self:
        """The same golden with its checksum filled in."""
        return self.model_copy(update={"checksum": _checksum(self.model_dump(mode="json"))})


def file_name_of(identity: tuple[str, str, str]) -> str:
    """The name of the file that guards a row's label under a protocol on a dataset.

    >>> file_name_of(("my/net@v2", "geom-1view", "mini"))
    'my_net@v2.geom-1view.mini.json'
    """
    return ".".join(re.sub(r"[^\w.@+-]", "_", part) for part in identity) + ".json"


def reference_folder() -> Path:
    """Where the goldens of the shipped checkpoints lie."""
    return Path(gen3r_bench.results.__file__).parent / "reference"


def tolerance_of(drift: float, floor: float, factor: float) -> float:
    """How far a score may move.

    >>> tolerance_of(0.002, 0.001, 10)
    0.02
    """
    return max(factor * drift, floor)


def without_costs(record: Record) -> Record:
    """The record without what differs from one run to the next: times and memory."""
    return record.model_copy(
        update={"seconds": None, "scoring_seconds": None, "peak_memory_bytes": None, "memory_source": None}
    ).sealed()


def write_golden(golden: Golden, folder: Path) -> Path:
    """Write a golden into a folder, over an older or damaged one of that name; returns its path.

    Raises:
        StoreError: where it cannot be written, or the name belongs to a golden of something else.
    """
    path = folder / golden.file_name
    require_place(golden.identity, folder)
    with explained("make", folder, "--goldens"):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(golden.sealed().model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomically(path, text.encode() + b"\n", "--goldens")
    return path


def require_place(identity: tuple[str, str, str], folder: Path) -> None:
    """Check that a golden of a row's label, protocol and dataset can lie in a folder.

    Raises:
        StoreError: where its name belongs to a golden of something else; what cannot be read may be written over.
    """
    path = folder / file_name_of(identity)
    try:
        other = read_golden(path).identity
    except StoreError:
        return
    if other != identity:
        raise StoreError(f"{path} is the golden of {' · '.join(other)} (fix: move it, or choose another --goldens)")


def read_golden(path: Path) -> Golden:
    """Read a golden file.

    Raises:
        StoreError: where it is missing, damaged, edited by hand or of another schema version.
    """
    with explained("read", path):
        data = path.read_bytes()
    anew = (
        "remove it and make it anew: gen3r-bench regress --update --reason TEXT --method ROW --protocol PROTOCOL "
        f"--dataset DATASET --goldens {shlex.quote(str(path.parent))}"
    )
    try:
        content = json.loads(data)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if type(version) is not int or version != SCHEMA_VERSION:  # True and 1.0 equal 1
            raise StoreError(
                f"{path} has schema version {version!r}; this suite reads version {SCHEMA_VERSION} "
                f"(fix: use the suite that wrote it, or {anew})"
            )
        golden, checksum = Golden.model_validate(content), _checksum(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: {first_problem(error)} (fix: restore it, or {anew})") from error
    if golden.checksum != checksum:
        raise StoreError(f"{path} was changed after it was written (fix: restore it, or {anew})")
    return golden


def read_goldens(folder: Path) -> dict[Path, Golden]:
    """The goldens of a folder by path, in the order of their names.

    Raises:
        InputError: where there is no such folder, or none in it.
        StoreError: where one cannot be read, or two guard the same.
    """
    goldens, problems = readable_goldens(folder)
    if problems:
        raise problems[0]
    if not goldens:
        raise InputError(
            f"no goldens in {folder}",
            expected="a folder of golden files",
            fix="gen3r-bench regress --update --reason TEXT --method ID@CHECKPOINT --goldens DIR makes them",
        )
    return goldens


def readable_goldens(folder: Path) -> tuple[dict[Path, Golden], list[StoreError]]:
    """The goldens of a folder that can be read, by path in the order of their names, and what the others lack.

    Of two that guard the same, the first is taken.
    """
    goldens: dict[Path, Golden] = {}
    problems = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            golden = read_golden(path)
        except StoreError as error:
            problems.append(error)
            continue
        twin = next((other for other, one in goldens.items() if one.identity == golden.identity), None)
        if twin is None:
            goldens[path] = golden
        else:
            problems.append(StoreError(f"{twin} and {path} both guard {golden.title} (fix: remove one)"))
    return goldens, problems


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line names; an empty tuple means all.

    Attributes:
        methods: labels or specs such as ``gen3r@official``, or ids such as ``gen3r``.
        protocols, datasets: names.
    """

    methods: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def fits(self, golden: Golden) -> bool:
        return (
            (not self.methods or any(is_called(golden, name) for name in self.methods))
            and (not self.protocols or golden.protocol in self.protocols)
            and (not self.datasets or golden.dataset in self.datasets)
        )


def is_called(golden: Golden, method: str) -> bool:
    """Whether a word on the command line means the golden's row."""
    return method in (golden.spec, golden.row.label, golden.row.method_id)


def chosen(goldens: Mapping[Path, Golden], wanted: Wanted) -> dict[Path, Golden]:
    """The goldens that a command line names.

    Raises:
        InputError: where a name fits none of those that the other names leave.
    """
    for kind in ("methods", "protocols", "datasets"):
        for name in getattr(wanted, kind):
            one = replace(wanted, **{kind: (name,)})
            if not any(one.fits(golden) for golden in goldens.values()):
                known = dict.fromkeys(golden.title for golden in goldens.values())
                raise InputError(
                    f"no golden of {kind.removesuffix('s')} {name!r} among those that are asked for",
                    expected=f"one of {'; '.join(known)}",
                    fix="--update --reason TEXT makes one",
                )
    return {path: golden for path, golden in goldens.items() if wanted.fits(golden)}


def _checksum(content: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
