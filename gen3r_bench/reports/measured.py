"""The measured cells of runs, and the rows that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.marks import Contender, separated_marks
from gen3r_bench.reports.notes import Footnotes, run_name
from gen3r_bench.reports.paper import METRICS
from gen3r_bench.reports.recipe import Spread
from gen3r_bench.reports.summary import CellStats, Conditions, conditions_text, summarise
from gen3r_bench.reports.tables import MISSING, Cell, Column, Mark, Row, RowKind, Source
from gen3r_bench.runs.record import PlanEntry, RowEntry
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Setting
from gen3r_bench.stats import Interval, mean_interval

KIND_TITLES: Final[Mapping[RowKind, str]] = {"method": "method", "baseline": "floor", "diagnostic": "diagnostic"}
"""Titles of the kinds of measured rows, in the order in which they stand."""
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell of a run with everything that says where it may stand.

    ``conditions`` are those of its scores where other cells of the table were computed under other ones.
    """

    run: Run
    entry: PlanEntry
    row: RowEntry
    stats: CellStats
    metric: Metric
    conditions: Conditions = ()

    @property
    def setting(self) -> Setting:
        setting: Setting = self.run.header.card(self.entry.protocol).content["setting"]
        return setting

    @property
    def group(self) -> tuple[object, ...]:
        """Equal for cells over the same data, made by the same code: scenes, clip, options, and what moves scores."""
        entry, backend = self.entry, self.run.header.geometry_backend if self.metric.kind == "points" else "exact"
        clip = (entry.dataset, entry.dataset_title, entry.frames, entry.stride, entry.start, entry.image_size)
        options = tuple(sorted(entry.dataset_options.items()))
        return (*clip, options, frozenset(entry.scenes), backend, self.conditions)

    @property
    def group_title(self) -> str:
        entry = self.entry
        parts = [f"{entry.dataset_title} (measured)", clip_text(entry)]
        if entry.partial:
            parts.append(f"{len(entry.scenes)} of {entry.scenes_in_full} scenes")
        if self.metric.kind == "points" and self.run.header.geometry_backend != "exact":
            parts.append(f"{self.run.header.geometry_backend} backend")
        if self.conditions:
            parts.append(conditions_text(self.conditions))
        return " · ".join(parts)

    def source(self) -> Source:
        stats, entry = self.stats, self.entry
        return Source(
            "measured",
            self.setting,
            entry.dataset,
            stats.metric,
            "" if stats.mean is None else repr(stats.mean),
            stats.n,
            stats.planned,
            stats.reasons,
            entry.frames,
            entry.image_size,
            entry.protocol,
            self.run.header.card(entry.protocol).hash,
            run_name(self.run),
        )


def clip_text(entry: PlanEntry) -> str:
    height, width = entry.image_size
    return f"{entry.frames}×{height}×{width}"


def measured_cells(run: Run, metrics: Mapping[str, Metric], protocols: Iterable[str]) -> list[Measured]:
    for label, count in Counter(row.label for row in run.header.rows).items():
        if count > 1:
            raise InputError(
                f"{run.path} names {count} rows {label!r}",
                expected="one row for each method and checkpoint",
                fix="run it again with --fresh",
            )
    wanted = set(protocols)
    entries = {(entry.protocol, entry.dataset): entry for entry in run.header.plan}
    cells = []
    for stats in summarise(run):
        if stats.protocol not in wanted:
            continue
        key = stats.metric.partition("/")[0]
        if key not in metrics:
            raise UnknownNameError("metric", key, metrics)
        entry = entries[stats.protocol, stats.dataset]
        cells.append(Measured(run, entry, run.header.row(stats.row), stats, metrics[key]))
    return cells


def divided(cells: Sequence[Measured]) -> list[Measured]:
    """The same cells, each with its conditions where its metric was computed under more than one set of them here."""
    found: dict[str, set[Conditions]] = {}
    for cell in cells:
        if cell.stats.mean is not None:
            found.setdefault(cell.metric.key, set()).add(cell.stats.conditions)
    return [
        replace(cell, conditions=cell.stats.conditions) if len(found.get(cell.metric.key, ())) > 1 else cell
        for cell in cells
    ]


def printed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def decimals_of(metric: Metric) -> int:
    if metric.name in METRICS:
        return METRICS[metric.name].decimals
    return 2 if metric.unit in ("dB", "%", "deg") else 4


def measured_rows(
    cells: Mapping[tuple[str, _Key], Measured],
    columns: Mapping[_Key, Metric],
    rows: Mapping[str, RowEntry],
    decimals: Mapping[str, int],
    footnotes: Footnotes,
    spread: Spread | None = None,
) -> list[Row]:
    """Rows of the cells of one row group, by (row label, column); methods first, then floors, then diagnostics."""
    order = list(KIND_TITLES)
    labels = sorted(dict.fromkeys(label for label, _ in cells), key=lambda label: order.index(rows[label].kind))
    places_of = {place: decimals.get(cell.metric.name, decimals_of(cell.metric)) for place, cell in cells.items()}
    texts = {
        place: MISSING if cell.stats.mean is None else printed(cell.stats.mean, places_of[place])
        for place, cell in cells.items()
    }
    marks: dict[tuple[str, _Key], Mark | None] = {}
    for column, metric in columns.items():
        places = [(label, column) for label in labels if rows[label].kind == "method" and (label, column) in cells]
        comparable = scenes_to_compare([cells[place].stats for place in places])
        ranked = [place for place in places if comparable and cells[place].stats.scenes == comparable]
        contenders = [Contender(texts[place], cells[place].stats.values) for place in ranked]
        marks.update(zip(ranked, separated_marks(contenders, higher_is_better=metric.higher_is_better), strict=True))
    found = []
    for label in labels:
        line = []
        for column in columns:
            place = (label, column)
            if place not in cells:
                line.append(Cell())
                continue
            cell = cells[place]
            interval = cell_interval(cell.stats) if spread else None
            ends = _spread(interval, spread, places_of[place]) if interval and spread else ""
            source = replace(cell.source(), interval=interval)
            line.append(Cell(texts[place], marks.get(place), footnotes.of(cell.stats), source, ends))
        found.append(Row(label, rows[label].method_id, rows[label].kind, tuple(line)))
    return found


def cell_interval(stats: CellStats) -> Interval | None:
    """Of a cell's mean over its scenes; None for fewer than two."""
    return mean_interval({scene: [value] for scene, value in stats.values.items()})


def _spread(interval: Interval, spread: Spread, decimals: int) -> str:
    if spread == "half-width":
        return f"± {printed(interval.half_width, decimals)}"
    return f"[{printed(interval.low, decimals)}, {printed(interval.high, decimals)}]"


def spread_note(spread: Spread) -> str:
    """What stands below a table whose means have their intervals beside them."""
    what = "Behind ±: half the width of" if spread == "half-width" else "In brackets:"
    return (
        f"{what} the 95 % confidence interval of the mean over scenes (BCa bootstrap clustered by scene, 10,000 draws)."
    )


def scenes_to_compare(stats: Sequence[CellStats]) -> frozenset[str] | None:
    """The scenes that cells must have scored to be ranked: the widest set; None where two such sets differ.

    A mean over fewer scenes may only have left out the hard ones.
    """
    widest = max((s.n for s in stats), default=0)
    sets = {s.scenes for s in stats if s.n == widest}
    return sets.pop() if len(sets) == 1 else None


def heads_of(keys: Mapping[str, Metric], titles: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """Column heads of score keys; metrics of one title are told apart by their dialect."""
    names = {key: (titles or {}).get(metric.name, metric.title) for key, metric in keys.items()}
    heads = []
    for key, metric in keys.items():
        title = names[key]
        rivals = {other.key for name, other in keys.items() if names[name] == title}
        if len(rivals) > 1:
            title = f"{title} ({metric.dialect})"
        variant = key.partition("/")[2]
        heads.append(Column(f"{title} {variant}".rstrip(), metric.higher_is_better, metric.unit))
    return tuple(heads)
