"""Makes goldens: runs the subset once for the scores, and again in other ways for the tolerances."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gen3r_bench import registry
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.errors import BenchError, StoreError, UnknownNameError
from gen3r_bench.files import explained
from gen3r_bench.metrics.base import Kind, Metric
from gen3r_bench.regression.golden import (
    Calibration,
    Golden,
    Observed,
    Tolerance,
    readable_goldens,
    require_place,
    tolerance_of,
    without_costs,
    write_golden,
)
from gen3r_bench.regression.measure import run_elsewhere, run_here
from gen3r_bench.regression.subset import Guarded, grouped, open_dataset
from gen3r_bench.regression.variants import LAST_DIGITS, LAST_DIGITS_SUMMARY, LastDigits, process_variants
from gen3r_bench.runs.environment import code_commit
from gen3r_bench.runs.record import Record, RowEntry
from gen3r_bench.runs.rows import Row, make_row
from gen3r_bench.runs.store import Run

FACTOR: Final = 10.0
"""Tolerance in drifts: the machines that were not observed are taken to be up to ten times as far away."""
FLOORS: Final[Mapping[Kind, float]] = {"points": 0.0, "poses": 0.003, "frames": 1e-5, "video": 1e-3}
"""The least tolerance. Of an AUC: one pair of a 13-frame clip that falls into the next bin of AUC@5. Of a distance
between point clouds: see RELATIVE_FLOOR."""
DECIBEL_FLOOR: Final = 1e-4
RELATIVE_FLOOR: Final = 1e-3
"""The least tolerance of a distance between point clouds, as a part of the golden's largest score."""
SMALLEST_FLOOR: Final = 1e-6
"""Of a distance that is zero but for rounding."""
Progress = Callable[[str], None]


def floor_of(metric: Metric, values: Iterable[float]) -> float:
    """The least tolerance of a score, in its unit.

    Args:
        metric: what the score is.
        values: its golden values.
    """
    if metric.kind == "points":
        return max(RELATIVE_FLOOR * max(abs(value) for value in values), SMALLEST_FLOOR)
    return DECIBEL_FLOOR if metric.unit == "dB" else FLOORS[metric.kind]


@dataclass(frozen=True, slots=True)
class Update:
    """A golden that was written, and those whose place it took.

    Attributes:
        path, golden: what was written.
        before: by path: the older one of that name, and others that guard the same.
    """

    path: Path
    golden: Golden
    before: Mapping[Path, Golden]

    @property
    def removed(self) -> list[Path]:
        """Files of other names that are gone, such as that of the row's former name."""
        return [path for path in self.before if path != self.path]

    def moved(self, key: str) -> float | None:
        """The largest change of a score from the golden before, over the scenes that both have."""
        before = self.before.get(self.path) or next(iter(self.before.values()), None)
        if before is None:
            return None
        old = {(record.scene_id, record.seed): record.scores for record in before.records}
        changes = [
            abs(record.scores[key] - old[place][key])
            for record in self.golden.records
            if key in record.scores and key in old.get(place := (record.scene_id, record.seed), {})
        ]
        return max(changes, default=None)


def update(
    guarded: Iterable[Guarded],
    folder: Path,
    *,
    reason: str,
    device: str,
    roots: Mapping[str, Path],
    over: Collection[str] = (),
    progress: Progress | None = None,
) -> Iterator[Update]:
    """Make goldens and write them, group by group; each is handed out as it is written.

    Args:
        guarded: what to make goldens of.
        folder: where they are written.
        reason: why the numbers are the right ones.
        device: where networks run.
        roots: where datasets lie.
        over: names of the variants to calibrate on; none means all.
        progress: told what is in work.

    Raises:
        BenchError: as `make_goldens` and `predecessors`, and where a golden cannot be written; groups before it are
            written.
    """
    tell = progress or (lambda what: None)
    commit = code_commit()  # before the first golden is written, which changes the checkout
    for group in grouped(guarded):
        one = group[0]
        row = make_row(one.spec, device=device)
        opened = open_dataset(one.dataset, dict(one.options), roots)
        before = [predecessors(guarded, row.entry, folder) for guarded in group]  # refused before what takes long
        with tempfile.TemporaryDirectory(prefix="gen3r-bench-regress-") as temporary:
            goldens = make_goldens(
                group,
                row,
                opened,
                Path(temporary),
                reason=reason,
                commit=commit,
                device=device,
                roots=roots,
                over=over,
                progress=lambda what, spec=one.spec: tell(f"{spec}: {what}"),  # type: ignore[misc]
            )
        for golden, old in zip(goldens, before, strict=True):
            written = Update(write_golden(golden, folder), golden, old)
            for path in written.removed:
                with explained("remove", path, "--goldens"):
                    path.unlink(missing_ok=True)
            yield written


def predecessors(guarded: Guarded, entry: RowEntry, folder: Path) -> dict[Path, Golden]:
    """The goldens of a folder whose place a new one takes, by path.

    They are of its row, protocol and dataset; or of its spec, which meant a row of another name when they were made.

    Args:
        guarded: what the new golden is made of.
        entry: the row that its spec names.
        folder: of goldens; may be new.

    Raises:
        StoreError: where the golden of that name is of another file, such as of other weights of the same file name.
    """
    require_place((entry.label, guarded.protocol, guarded.dataset), folder)
    found = {}
    for path, golden in readable_goldens(folder)[0].items():
        if (golden.protocol, golden.dataset) != (guarded.protocol, guarded.dataset):
            continue
        if _is_of(golden, guarded.spec, entry):
            found[path] = golden
        elif golden.row.label == entry.label:
            raise StoreError(
                f"{path} is the golden of {golden.spec}, and {guarded.spec} is called {entry.label}, too "
                "(fix: give its file another name, choose another --goldens, or remove that golden)"
            )
    return found


def _is_of(golden: Golden, spec: str, entry: RowEntry) -> bool:
    """Whether a golden was made of what a spec names: of the same method, with weights of the same name or file."""
    then, now = golden.spec.partition("@"), spec.partition("@")
    return _same_file(then[0], now[0]) and (
        _same_file(then[2], now[2]) or _same_file(golden.row.checkpoint or "", entry.checkpoint or "")
    )


def _same_file(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def make_goldens(
    together: Sequence[Guarded],
    row: Row,
    opened: OpenedDataset,
    folder: Path,
    *,
    reason: str,
    device: str,
    roots: Mapping[str, Path],
    commit: str = "",
    over: Collection[str] = (),
    progress: Progress | None = None,
) -> list[Golden]:
    """Goldens of one group of what is guarded, in the order of their protocols.

    Args:
        together: of one group: they differ in their protocol alone.
        row: the row that their spec names.
        opened: their dataset.
        folder: for runs; new.
        reason: why these numbers are the right ones.
        device: where networks run.
        roots: where datasets lie, for other processes.
        commit: of the code that runs; "" where it is not known.
        over: names of the variants to calibrate on; none means all.
        progress: told what is in work.

    Raises:
        BenchError: where a scene fails, a protocol scores nothing, or a variant is not known or cannot be run.
    """
    tell = progress or (lambda what: None)
    planned = list(_variants(together, row, opened, folder, device, roots, over))  # told of a wrong name at once
    tell("golden scores")
    golden = run_here(together, row, opened, folder / "golden", device=device)
    _require_scores(golden, together)
    variants = []
    for observed, make in planned:
        tell(observed.name)
        run = make()
        _require_scores(run, together, observed.name)
        variants.append((observed, run))
    missing = () if row.rounding_variants() else ("float64 and chunk sizes: the row offers no rounding variants",)
    skipped = tuple(name for name in variant_names(row) if over and name not in over)
    notes = (*missing, *(f"{name}: not asked for" for name in skipped))
    return [_golden(golden, one, variants, notes, reason, commit) for one in together]


def variant_names(row: Row) -> list[str]:
    """Every variant that a row can be calibrated on here."""
    return [*(one.name for one in process_variants()), LAST_DIGITS, *row.rounding_variants()]


def _variants(
    together: Sequence[Guarded],
    row: Row,
    opened: OpenedDataset,
    folder: Path,
    device: str,
    roots: Mapping[str, Path],
    over: Collection[str],
) -> Iterator[tuple[Observed, Callable[[], Run]]]:
    """What is observed, and how it is run."""
    names = variant_names(row)
    for name in over:
        if name not in names:
            raise UnknownNameError("variant", name, names)
    places = {name: folder / f"variant-{number}" for number, name in enumerate(names) if not over or name in over}
    for variant in process_variants():
        if variant.name in places:
            yield (
                Observed(name=variant.name, summary=variant.summary, variables=dict(variant.variables)),
                lambda variant=variant: run_elsewhere(  # type: ignore[misc]
                    together, places[variant.name], variant, device=device, roots=roots, clips=folder / variant.name
                ),
            )
    if LAST_DIGITS in places:
        yield (
            Observed(name=LAST_DIGITS, summary=LAST_DIGITS_SUMMARY),
            lambda: run_here(together, row, LastDigits.of(opened), places[LAST_DIGITS], device=device),
        )
    for name, make in row.rounding_variants().items():
        if name in places:
            yield (
                Observed(name=name, summary="the row's own rounding variant"),
                lambda name=name, make=make: run_here(together, make(), opened, places[name], device=device),  # type: ignore[misc]
            )


def _require_scores(run: Run, together: Sequence[Guarded], variant: str = "") -> None:
    """Every record must have scores: a failure is nothing to guard.

    Raises:
        BenchError: names the first record that has none.
    """
    where = f" under {variant!r}" if variant else ""
    for record in run.records:
        if record.status != "ok":
            raise BenchError(
                f"no golden of {record.row} under {record.protocol}: {record.scene_id} is {record.status}{where}: "
                f"{record.reason}"
            )
    if len(run.records) != len(together) * len(together[0].scenes) * len(together[0].seeds):
        raise BenchError(f"no golden of {together[0].spec}: the run{where} has {len(run.records)} records")


def _golden(
    run: Run,
    one: Guarded,
    variants: Sequence[tuple[Observed, Run]],
    notes: tuple[str, ...],
    reason: str,
    commit: str,
) -> Golden:
    header = run.header
    records = [record for record in run.records if record.protocol == one.protocol]
    records.sort(key=lambda record: (one.scenes.index(record.scene_id), record.seed))
    others = [(seen.name, [r for r in other.records if r.protocol == one.protocol]) for seen, other in variants]
    used = {identity for record in records for identity in record.made_with.values()}
    return Golden(
        spec=one.spec,
        reason=reason,
        commit=commit,
        header=header.model_copy(
            update={
                "protocols": tuple(card for card in header.protocols if card.name == one.protocol),
                "plan": tuple(entry for entry in header.plan if entry.protocol == one.protocol),
                "provenances": {name: facts for name, facts in header.provenances.items() if name in used},
            }
        ),
        records=tuple(without_costs(record) for record in records),
        calibration=Calibration(
            factor=FACTOR,
            observed=tuple(observed for observed, _ in variants),
            not_observed=notes,
            tolerances=tolerances(records, others),
        ),
    )


def tolerances(records: Sequence[Record], variants: Sequence[tuple[str, Sequence[Record]]]) -> dict[str, Tolerance]:
    """A tolerance for every score key, from what variants showed on any scene.

    Args:
        records: the golden ones.
        variants: names with their records.

    Raises:
        BenchError: where a variant lacks a score.
    """
    metrics = registry.metrics()
    found = {}
    for key in dict.fromkeys(key for record in records for key in record.scores):
        golden = {record.identity: record.scores[key] for record in records if key in record.scores}
        drift, seen_in = 0.0, ""
        for name, others in variants:
            theirs = {record.identity: record.scores for record in others}
            for identity, value in golden.items():
                if key not in theirs.get(identity, {}):
                    raise BenchError(f"{key} of {identity[2]} has no score under {name!r}")
                if (moved := abs(theirs[identity][key] - value)) > drift:
                    drift, seen_in = moved, name
        floor = floor_of(metrics[key.partition("/")[0]], golden.values())
        found[key] = Tolerance(drift=drift, seen_in=seen_in, floor=floor, tolerance=tolerance_of(drift, floor, FACTOR))
    return found
