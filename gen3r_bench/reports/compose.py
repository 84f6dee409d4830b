"""How tables are put together: the paper's, with what runs measured beside it, and a run's alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.paper import METHOD_TITLES, METRICS, SETTING_TITLES, CellKey, PaperTable, paper_table
from gen3r_bench.reports.summary import (
    CellStats,
    Conditions,
    conditions_text,
    provenances_shown,
    row_facts,
    summarise,
)
from gen3r_bench.reports.tables import (
    MISSING,
    Cell,
    Column,
    ColumnGroup,
    Mark,
    Row,
    RowGroup,
    RowKind,
    Source,
    Table,
    rank_marks,
)
from gen3r_bench.runs.record import PlanEntry, RowEntry
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Setting

KIND_TITLES: Final[Mapping[RowKind, str]] = {"method": "method", "baseline": "floor", "diagnostic": "diagnostic"}
"""Titles of the kinds of measured rows, in the order in which they stand."""
_REASONS_SHOWN: Final = 3
_REASON_LENGTH: Final = 160
_Key = TypeVar("_Key")
_Place = tuple[tuple[object, ...], str]
"""A measured column: its group and its score key."""


@dataclass(frozen=True, slots=True)
class _Measured:
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
        """Equal for cells over the same data, made by the same code: scenes, frames, size, and what moves scores."""
        entry, backend = self.entry, self.run.header.geometry_backend if self.metric.kind == "points" else "exact"
        clip = (entry.dataset, entry.dataset_title, entry.frames, entry.stride, entry.start, entry.image_size)
        return (*clip, frozenset(entry.scenes), backend, self.conditions)

    @property
    def group_title(self) -> str:
        entry = self.entry
        parts = [f"{entry.dataset_title} (measured)", _clip(entry)]
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
            _run_name(self.run),
        )


def _run_name(run: Run) -> str:
    """The name of a run's folder, also where it was given as a path that ends in ``.``."""
    return run.path.resolve().name


def _clip(entry: PlanEntry) -> str:
    height, width = entry.image_size
    return f"{entry.frames}×{height}×{width}"


def _measured_cells(run: Run, metrics: Mapping[str, Metric], protocols: Iterable[str]) -> list[_Measured]:
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
        cells.append(_Measured(run, entry, run.header.row(stats.row), stats, metrics[key]))
    return cells


def _divided(cells: Sequence[_Measured]) -> list[_Measured]:
    """The same cells, each with its conditions where its metric was computed under more than one set of them here."""
    found: dict[str, set[Conditions]] = {}
    for cell in cells:
        if cell.stats.mean is not None:
            found.setdefault(cell.metric.key, set()).add(cell.stats.conditions)
    return [
        replace(cell, conditions=cell.stats.conditions) if len(found.get(cell.metric.key, ())) > 1 else cell
        for cell in cells
    ]


class _Footnotes:
    """Texts in order of first use; equal texts share a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def of(self, stats: CellStats) -> tuple[int, ...]:
        if not stats.reasons:
            return ()
        shown = [f"{count} × {_shortened(reason)}" for reason, count in stats.reasons.items()]
        if len(shown) > _REASONS_SHOWN:
            more = len(shown) - _REASONS_SHOWN
            shown = [*shown[:_REASONS_SHOWN], f"{more} more reason{'s' if more > 1 else ''} (in the CSV)"]
        text = f"n = {stats.n} of {stats.planned} scenes: {'; '.join(shown)}"
        if text not in self.texts:
            self.texts.append(text)
        return (self.texts.index(text),)


def _shortened(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"


def _printed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _decimals(metric: Metric) -> int:
    if metric.name in METRICS:
        return METRICS[metric.name].decimals
    return 2 if metric.unit in ("dB", "%", "deg") else 4


def _measured_rows(
    cells: Mapping[tuple[str, _Key], _Measured],
    columns: Mapping[_Key, Metric],
    rows: Mapping[str, RowEntry],
    decimals: Mapping[str, int],
    footnotes: _Footnotes,
) -> list[Row]:
    """Rows of the cells of one row group, by (row label, column); methods first, then floors, then diagnostics."""
    order = list(KIND_TITLES)
    labels = sorted(dict.fromkeys(label for label, _ in cells), key=lambda label: order.index(rows[label].kind))
    texts = {
        place: MISSING
        if cell.stats.mean is None
        else _printed(cell.stats.mean, decimals.get(cell.metric.name, _decimals(cell.metric)))
        for place, cell in cells.items()
    }
    marks: dict[tuple[str, _Key], Mark | None] = {}
    for column, metric in columns.items():
        places = [(label, column) for label in labels if rows[label].kind == "method" and (label, column) in cells]
        comparable = _scenes_to_compare([cells[place].stats for place in places])
        values = [texts[place] if comparable and cells[place].stats.scenes == comparable else None for place in places]
        marks.update(zip(places, rank_marks(values, higher_is_better=metric.higher_is_better), strict=True))
    found = []
    for label in labels:
        line = []
        for column in columns:
            place = (label, column)
            if place not in cells:
                line.append(Cell())
                continue
            cell = cells[place]
            line.append(Cell(texts[place], marks.get(place), footnotes.of(cell.stats), cell.source()))
        found.append(Row(label, rows[label].method_id, rows[label].kind, tuple(line)))
    return found


def _scenes_to_compare(stats: Sequence[CellStats]) -> frozenset[str] | None:
    """The scenes that cells must have scored to be ranked: the widest set; None where two such sets differ.

    A mean over fewer scenes may only have left out the hard ones.
    """
    widest = max((s.n for s in stats), default=0)
    sets = {s.scenes for s in stats if s.n == widest}
    return sets.pop() if len(sets) == 1 else None


def run_table(run: Run, protocol: str, metrics: Mapping[str, Metric]) -> Table:
    """One protocol of a run by itself: a group of columns for each dataset, and every metric and choice of frames.

    Args:
        run: as read from its folder; unfinished ones have cells that say so.
        protocol: one that the run has.
        metrics: registered metrics by key.

    Raises:
        UnknownNameError: where the run has no such protocol, or a metric is not registered here.
    """
    names = [card.name for card in run.header.protocols]
    if protocol not in names:
        raise UnknownNameError("protocol of this run", protocol, names)
    cells = _divided(_measured_cells(run, metrics, [protocol]))
    entries = [entry for entry in run.header.plan if entry.protocol == protocol]
    groups = []
    columns: dict[tuple[str, Conditions, str], Metric] = {}
    for entry in entries:
        here = [cell for cell in cells if cell.entry is entry]
        for conditions in dict.fromkeys(cell.conditions for cell in here):
            keys = {cell.stats.metric: cell.metric for cell in here if cell.conditions == conditions}
            title = " · ".join(filter(None, [entry.dataset_title, _clip(entry), conditions_text(conditions)]))
            groups.append(ColumnGroup(title, _heads(keys)))
            columns |= {(entry.dataset, conditions, key): metric for key, metric in keys.items()}
    footnotes = _Footnotes()
    rows = _measured_rows(
        {(cell.row.label, (cell.entry.dataset, cell.conditions, cell.stats.metric)): cell for cell in cells},
        columns,
        {row.label: row for row in run.header.rows},
        {},
        footnotes,
    )
    card = run.header.card(protocol)
    return Table(
        protocol,
        f"{card.title} ({protocol})",
        "kind",
        tuple(groups),
        tuple(
            RowGroup(KIND_TITLES[kind], tuple(row for row in rows if row.kind == kind))
            for kind in KIND_TITLES
            if any(row.kind == kind for row in rows)
        ),
        tuple(footnotes.texts),
        tuple(_provenance([(run, entries)], footnotes.texts)),
        _environments([run]),
    )


def _heads(keys: Mapping[str, Metric], titles: Mapping[str, str] | None = None) -> tuple[Column, ...]:
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


def _provenance(shown: Sequence[tuple[Run, Sequence[PlanEntry]]], footnotes: Sequence[str]) -> list[str]:
    """What stands below measured numbers: n of N, cards, warnings, facts about rows."""
    lines = []
    for _, entries in shown:
        for entry in entries:
            count = len(entry.scenes)
            clip = f"{entry.frames} frames of {entry.image_size[0]}×{entry.image_size[1]}"
            lines.append(
                f"{entry.protocol} on {entry.dataset_title}: n = {count} of {count} scenes where no footnote says "
                f"otherwise; {clip}, from frame {entry.start} in steps of {entry.stride}."
            )
    cards = {
        (entry.protocol, run.header.card(entry.protocol).hash): None for run, entries in shown for entry in entries
    }
    lines.append("Cards: " + ", ".join(f"{name} {digest}" for name, digest in cards) + ".")
    lines += [
        f"Partial run: {entry.protocol} scored {len(entry.scenes)} of the card's {entry.scenes_in_full} scenes of "
        f"{entry.dataset_title}; these numbers are not the protocol's."
        for _, entries in shown
        for entry in entries
        if entry.partial
    ]
    lines += [
        f"{entry.dataset_title}: scenes that were never drawn: {_counted(entry.left_out)}."
        for _, entries in shown
        for entry in entries
        if entry.left_out
    ]
    caps = {
        run.header.card(entry.protocol).content["psnr_cap_db"]
        for run, entries in shown
        for entry in entries
        if _has_psnr(run, entry)
    }
    lines += [f"PSNR of a frame is capped at {cap:g} dB, since identical frames give infinity." for cap in sorted(caps)]
    for run, entries in shown:
        if len(run.header.seeds) > 1:
            lines.append(
                f"{_run_name(run)}: mean over seeds {', '.join(map(str, run.header.seeds))} within each scene."
            )
        for protocol in dict.fromkeys(entry.protocol for entry in entries):
            for label, facts in row_facts(run, protocol).items():
                lines += [f"{label}, {protocol}: {text} ({n} records)." for text, n in _merged(facts).items()]
            lines += [
                f"{key} computed with {_listed(facts)}."
                for key, found in provenances_shown(run, protocol).items()
                for facts in found
            ]
        datasets = {entry.dataset: entry.dataset_title for entry in entries}
        for row in run.header.rows:
            trained = [title for name, title in datasets.items() if name in row.training_sets]
            if trained:
                lines.append(f"{row.label} was trained on scenes of {', '.join(trained)}.")
    if footnotes:
        lines.append("A cell that misses scenes which others have is not ranked.")
    return list(dict.fromkeys(lines))


def _listed(facts: Mapping[str, str]) -> str:
    """Facts of a provenance in one line; a hash by its first digits."""
    return ", ".join(
        f"{name} {value[:12] if re.fullmatch('[0-9a-f]{64}', value) else value}" for name, value in facts.items()
    )


def _counted(left_out: Mapping[str, int], most: int = 3) -> str:
    """``3 × too short; 2 × another reason``, the most frequent reasons first; the run's header has them all."""
    parts = [f"{count} × {reason}" for reason, count in list(left_out.items())[:most]]
    rest = sum(list(left_out.values())[most:])
    return "; ".join([*parts, f"{rest} × other reasons (see run.json)"] if rest else parts)


def _has_psnr(run: Run, entry: PlanEntry) -> bool:
    return any(key.startswith("psnr@") for key in run.header.card(entry.protocol).content["metrics"])


_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


def _merged(facts: Counter[str]) -> dict[str, int]:
    """Remarks that differ only in their numbers as one, with ranges: "sampled 11215–12544 points", on 3 records."""
    alike: dict[str, list[str]] = {}
    for fact in facts:
        alike.setdefault(_NUMBER.sub("0", fact), []).append(fact)
    merged = {}
    for members in alike.values():
        text = _NUMBER.sub("{}", members[0].replace("{", "{{").replace("}", "}}"))
        columns = [sorted(set(column), key=float) for column in zip(*map(_NUMBER.findall, members), strict=True)]
        ranges = ["–".join(dict.fromkeys([column[0], column[-1]])) for column in columns]
        merged[_shortened(text.format(*ranges))] = sum(facts[fact] for fact in members)
    return merged


def _environments(runs: Sequence[Run]) -> tuple[str, ...]:
    lines = []
    for run in runs:
        header = run.header
        facts = {"gen3r-bench": header.suite_version} | header.environment
        parts = [f"{name} {value}" for name, value in facts.items()]
        if header.geometry_backend != "exact":
            parts.append(f"geometry backend {header.geometry_backend}")
        lines.append(f"Environment of {_run_name(run)}: {', '.join(parts)}.")
    return tuple(lines)


def comparison_table(number: int, runs: Sequence[Run], metrics: Mapping[str, Metric]) -> Table:
    """A table of the paper, with the rows that runs measured beside the paper's rows.

    Paper and measurement never share a column, nor do measurements over different data: each has its own group of
    columns, and "–" in all others. A measured group holds the metrics that the table of the paper has.

    Args:
        number: 1 to 9.
        runs: none for the paper's table alone.
        metrics: registered metrics by key.

    Raises:
        InputError: where a run feeds no column of the table, or two runs cannot stand in one table.
        UnknownNameError: where a metric of a run is not registered here.
    """
    paper = paper_table(number)
    cells = _divided([cell for run in runs for cell in _cells_for(paper, run, metrics)])
    _check_cards(cells)
    rows = _check_rows(cells)
    settings = list(paper.rows)
    paper_groups = _paper_groups(paper)
    groups, columns = _group_measured(paper, cells)
    width = len([column for group in paper_groups for column in group.columns])
    footnotes = _Footnotes()
    row_groups = []
    for members in [settings] if paper.settings_across else [[setting] for setting in settings]:
        here: dict[tuple[str, _Place], _Measured] = {}
        for cell in cells:
            if cell.setting not in members:
                continue
            place = (cell.row.label, (_group_key(paper, cell), cell.stats.metric))
            if place in here:
                _refuse_double(here[place], cell)
            here[place] = cell
        measured = _measured_rows(here, columns, rows, paper.decimals, footnotes) if here else []
        empty = (Cell(),) * width
        row_groups.append(
            RowGroup(
                " and ".join(SETTING_TITLES[setting] for setting in members),
                (
                    *_paper_rows(paper, members, padding=len(columns)),
                    *(replace(row, cells=empty + row.cells) for row in measured),
                ),
            )
        )
    notes = ["Paper columns: values as printed in arXiv 2601.04090."]
    if cells:
        shown = [
            (run, [e for e in run.header.plan if any(cell.run is run and cell.entry is e for cell in cells)])
            for run in runs
        ]
        keys = dict.fromkeys(cell.stats.metric for cell in cells)
        notes += [f"Measured as {', '.join(keys)}.", *_provenance(shown, footnotes.texts)]
    return Table(
        f"paper-table-{number}",
        f"Gen3R paper, Table {number}: {paper.title}",
        "setting",
        (*paper_groups, *groups),
        tuple(row_groups),
        tuple(footnotes.texts),
        tuple(notes),
        _environments(runs),
        number,
    )


def _cells_for(paper: PaperTable, run: Run, metrics: Mapping[str, Metric]) -> list[_Measured]:
    """The cells of a run that belong into a table: the headline choice of frames of the table's metrics."""
    feeding = [card for card in run.header.protocols if paper.number in card.paper_tables]
    for card in feeding:
        if card.content["setting"] not in paper.rows:
            raise InputError(
                f"{run.path}: protocol {card.name} says that it feeds table {paper.number}, in the setting "
                f"{card.content['setting']}",
                expected=f"a setting of that table: {', '.join(paper.rows)}",
            )
    headline: dict[tuple[str, str, str], str] = {}
    cells = []
    for cell in _measured_cells(run, metrics, [card.name for card in feeding]):
        asked = run.header.card(cell.entry.protocol).content["metrics"]
        if cell.metric.name not in paper.metrics or cell.metric.key not in asked:
            continue
        first = headline.setdefault((cell.entry.protocol, cell.entry.dataset, cell.metric.key), cell.stats.metric)
        if cell.stats.metric == first:
            cells.append(cell)
    if not cells:
        tables = sorted({number for card in run.header.protocols for number in card.paper_tables})
        names = ", ".join(card.name for card in run.header.protocols)
        feeds = f"tables {', '.join(map(str, tables))}" if tables else "no table of the paper"
        raise InputError(
            f"{run.path} has no numbers for table {paper.number}: its protocols ({names}) feed {feeds}",
            expected=f"a run of a protocol of table {paper.number}",
            fix=f"--table {tables[0]}" if tables else "leave out --table",
        )
    return cells


def _check_cards(cells: Sequence[_Measured]) -> None:
    first: dict[str, _Measured] = {}
    for cell in cells:
        name = cell.entry.protocol
        other = first.setdefault(name, cell)
        digests = [one.run.header.card(name).hash for one in (other, cell)]
        if digests[0] != digests[1]:
            raise InputError(
                f"card {digests[0]} of {name} in {other.run.path} and card {digests[1]} in {cell.run.path}",
                expected="runs of one version of a protocol in one table",
                fix="run the older one again, or make two tables",
            )


def _check_rows(cells: Sequence[_Measured]) -> dict[str, RowEntry]:
    """Rows by label; a label that means two things cannot stand in one table."""
    first: dict[str, _Measured] = {}
    for cell in cells:
        other = first.setdefault(cell.row.label, cell)
        a, b = other.row, cell.row
        if (a.method_id, a.kind, a.checkpoint_sha256) != (b.method_id, b.kind, b.checkpoint_sha256):
            raise InputError(
                f"row {a.label!r} is {a.kind} {a.method_id} with weights {_weights(a)} in {other.run.path} and "
                f"{b.kind} {b.method_id} with weights {_weights(b)} in {cell.run.path}",
                expected="one meaning for each row",
                fix="make two tables, or give one checkpoint another name",
            )
    return {label: cell.row for label, cell in first.items()}


def _weights(row: RowEntry) -> str:
    return row.checkpoint_sha256[:12] if row.checkpoint_sha256 else "none"


def _refuse_double(one: _Measured, other: _Measured) -> None:
    places = [f"{cell.entry.protocol} of {cell.run.path}" for cell in (one, other)]
    raise InputError(
        f"row {one.row.label!r} has two values of {one.stats.metric} on {one.entry.dataset_title}: from {places[0]} "
        f"and from {places[1]}",
        expected="one value for each cell",
        fix="leave one of the runs out",
    )


def _group_key(paper: PaperTable, cell: _Measured) -> tuple[object, ...]:
    return (cell.setting, *cell.group) if paper.settings_across else cell.group


def _group_measured(paper: PaperTable, cells: Sequence[_Measured]) -> tuple[list[ColumnGroup], dict[_Place, Metric]]:
    """Groups of measured columns in the order of the runs (of the settings first), and the columns in them."""
    settings, across = list(paper.rows), paper.settings_across
    by_group: dict[tuple[object, ...], list[_Measured]] = {}
    for cell in sorted(cells, key=lambda cell: settings.index(cell.setting)) if across else cells:
        by_group.setdefault(_group_key(paper, cell), []).append(cell)
    titles = {}
    for key, members in by_group.items():
        prefix = f"{SETTING_TITLES[members[0].setting]} · " if across else ""
        titles[key] = prefix + members[0].group_title
    rivals = Counter(titles.values())
    groups = []
    columns: dict[_Place, Metric] = {}
    for key, members in by_group.items():
        title = titles[key] + (f" · {_run_name(members[0].run)}" if rivals[titles[key]] > 1 else "")
        found = {cell.stats.metric: cell.metric for cell in members}
        keys = sorted(found, key=lambda name: paper.metrics.index(found[name].name))
        heads = _heads({name: found[name] for name in keys}, {name: METRICS[name].title for name in paper.metrics})
        groups.append(ColumnGroup(title, heads))
        columns |= {(key, name): found[name] for name in keys}
    return groups, columns


def _paper_groups(paper: PaperTable) -> list[ColumnGroup]:
    groups = []
    for setting in paper.rows if paper.settings_across else [None]:
        prefix = f"{SETTING_TITLES[setting]} · " if setting else ""
        for block in paper.blocks:
            heads = (Column(METRICS[name].title, METRICS[name].higher_is_better) for name in block.metrics)
            groups.append(ColumnGroup(prefix + block.dataset, tuple(heads)))
    return groups


def _paper_rows(paper: PaperTable, settings: Sequence[Setting], *, padding: int) -> list[Row]:
    """The paper's rows of the given settings, with empty cells for the measured columns."""
    methods = list(dict.fromkeys(method for setting in settings for method in paper.rows[setting]))
    places = [
        (setting, block.dataset, metric) for setting in settings for block in paper.blocks for metric in block.metrics
    ]
    cells: dict[str, list[Cell]] = {method: [] for method in methods}
    for setting, dataset, metric in places:
        values = [paper.values.get(CellKey(setting, method, dataset, metric)) for method in methods]
        marks = rank_marks(values, higher_is_better=METRICS[metric].higher_is_better)
        for method, value, mark in zip(methods, values, marks, strict=True):
            source = Source("paper", setting, dataset, metric, value) if value is not None else None
            cells[method].append(Cell(value or MISSING, mark, (), source))
    ids = {title: name for name, title in METHOD_TITLES.items()}
    return [Row(method, ids[method], "paper", (*cells[method], *[Cell()] * padding)) for method in methods]
