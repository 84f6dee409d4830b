"""How tables are put together: the paper's, with what runs measured beside it, and a run's alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.marks import MIXED_RULE, TESTED_RULE, too_few_scenes
from gen3r_bench.reports.measured import (
    KIND_TITLES,
    Measured,
    clip_text,
    divided,
    heads_of,
    measured_cells,
    measured_rows,
    spread_note,
)
from gen3r_bench.reports.notes import Footnotes, clip_notes, environment_notes, provenance_notes, run_name
from gen3r_bench.reports.paper import METHOD_TITLES, METRICS, SETTING_TITLES, CellKey, PaperTable, paper_table
from gen3r_bench.reports.recipe import Recipe, Spread
from gen3r_bench.reports.summary import Conditions, conditions_text
from gen3r_bench.reports.tables import (
    MISSING,
    PRINTED_RULE,
    Cell,
    Column,
    ColumnGroup,
    Row,
    RowGroup,
    Source,
    Table,
    rank_marks,
)
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Setting

_Place = tuple[tuple[object, ...], str]
"""A measured column: its group and its score key."""


def run_table(run: Run, protocol: str, metrics: Mapping[str, Metric], *, spread: Spread | None = None) -> Table:
    """One protocol of a run by itself: a group of columns for each dataset, and every metric and choice of frames.

    Args:
        run: as read from its folder; unfinished ones have cells that say so.
        protocol: one that the run has.
        metrics: registered metrics by key.
        spread: how confidence intervals stand behind the means, if at all.

    Raises:
        UnknownNameError: where the run has no such protocol, or a metric is not registered here.
    """
    names = [card.name for card in run.header.protocols]
    if protocol not in names:
        raise UnknownNameError("protocol of this run", protocol, names)
    cells = divided(measured_cells(run, metrics, [protocol]))
    entries = [entry for entry in run.header.plan if entry.protocol == protocol]
    groups = []
    columns: dict[tuple[str, Conditions, str], Metric] = {}
    for entry in entries:
        here = [cell for cell in cells if cell.entry is entry]
        for conditions in dict.fromkeys(cell.conditions for cell in here):
            keys = {cell.stats.metric: cell.metric for cell in here if cell.conditions == conditions}
            title = " · ".join(filter(None, [entry.dataset_title, clip_text(entry), conditions_text(conditions)]))
            groups.append(ColumnGroup(title, heads_of(keys)))
            columns |= {(entry.dataset, conditions, key): metric for key, metric in keys.items()}
    footnotes = Footnotes()
    rows = measured_rows(
        {(cell.row.label, (cell.entry.dataset, cell.conditions, cell.stats.metric)): cell for cell in cells},
        columns,
        {row.label: row for row in run.header.rows},
        {},
        footnotes,
        spread,
    )
    row_groups = tuple(
        RowGroup(KIND_TITLES[kind], tuple(row for row in rows if row.kind == kind))
        for kind in KIND_TITLES
        if any(row.kind == kind for row in rows)
    )
    notes = [
        *too_few_scenes(row_groups),
        *_spread_notes(spread),
        *clip_notes([(run, entries)]),
        *provenance_notes([(run, entries)], footnotes.texts),
    ]
    card = run.header.card(protocol)
    return Table(
        protocol,
        f"{card.title} ({protocol})",
        "kind",
        tuple(groups),
        row_groups,
        tuple(footnotes.texts),
        tuple(notes),
        environment_notes([run]),
        mark_rule=TESTED_RULE,
        recipe=Recipe(view="protocol", protocol=protocol, runs=(run_name(run),), spread=spread).line(),
    )


def _spread_notes(spread: Spread | None) -> list[str]:
    return [spread_note(spread)] if spread else []


def comparison_table(
    number: int, runs: Sequence[Run], metrics: Mapping[str, Metric], *, spread: Spread | None = None
) -> Table:
    """A table of the paper, with the rows that runs measured beside the paper's rows.

    Paper and measurement never share a column, nor do measurements over different data: each has its own group of
    columns, and "–" in all others. A measured group holds the metrics that the table of the paper has.

    Args:
        number: 1 to 9.
        runs: none for the paper's table alone.
        metrics: registered metrics by key.
        spread: how confidence intervals stand behind measured means, if at all.

    Raises:
        InputError: where a run feeds no column of the table, or two runs cannot stand in one table.
        UnknownNameError: where a metric of a run is not registered here.
    """
    paper = paper_table(number)
    cells = measured_for(paper, runs, metrics)
    rows = one_meaning(cells)
    settings = list(paper.rows)
    paper_groups = _paper_groups(paper)
    groups, columns = _group_measured(paper, cells)
    width = len([column for group in paper_groups for column in group.columns])
    footnotes = Footnotes()
    row_groups = []
    for members in [settings] if paper.settings_across else [[setting] for setting in settings]:
        here: dict[tuple[str, _Place], Measured] = {}
        for cell in cells:
            if cell.setting not in members:
                continue
            place = (cell.row.label, (_group_key(paper, cell), cell.stats.metric))
            if place in here and here[place].stats.values != cell.stats.values:
                _refuse_double(here[place], cell)
            here.setdefault(place, cell)  # every run brings its floors along: equal ones count once
        measured = measured_rows(here, columns, rows, paper.decimals, footnotes, spread) if here else []
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
        notes += [*too_few_scenes(row_groups), *_spread_notes(spread)]
        notes += [f"Measured as {', '.join(keys)}.", *clip_notes(shown), *provenance_notes(shown, footnotes.texts)]
    return Table(
        f"paper-table-{number}",
        f"Gen3R paper, Table {number}: {paper.title}",
        "setting",
        (*paper_groups, *groups),
        tuple(row_groups),
        tuple(footnotes.texts),
        tuple(notes),
        environment_notes(runs),
        number,
        MIXED_RULE if cells else PRINTED_RULE,
        Recipe(view="paper", number=number, runs=tuple(map(run_name, runs)), spread=spread).line(),
    )


def measured_for(paper: PaperTable, runs: Sequence[Run], metrics: Mapping[str, Metric]) -> list[Measured]:
    """The cells of runs that belong into a table of the paper.

    Raises:
        InputError: where a run feeds no column of the table.
    """
    return divided([cell for run in runs for cell in _cells_for(paper, run, metrics)])


def one_meaning(cells: Sequence[Measured]) -> dict[str, RowEntry]:
    """Rows by label, where protocols and rows mean the same thing in every run.

    Raises:
        InputError: where two runs cannot stand in one table.
    """
    _check_cards(cells)
    return _check_rows(cells)


def _cells_for(paper: PaperTable, run: Run, metrics: Mapping[str, Metric]) -> list[Measured]:
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
    for cell in measured_cells(run, metrics, [card.name for card in feeding]):
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


def _check_cards(cells: Sequence[Measured]) -> None:
    first: dict[str, Measured] = {}
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


def _check_rows(cells: Sequence[Measured]) -> dict[str, RowEntry]:
    """Rows by label; a label that means two things cannot stand in one table."""
    first: dict[str, Measured] = {}
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


def _refuse_double(one: Measured, other: Measured) -> None:
    places = [f"{cell.entry.protocol} of {cell.run.path}" for cell in (one, other)]
    raise InputError(
        f"row {one.row.label!r} has two values of {one.stats.metric} on {one.entry.dataset_title}: from {places[0]} "
        f"and from {places[1]}",
        expected="one value for each cell",
        fix="leave one of the runs out",
    )


def _group_key(paper: PaperTable, cell: Measured) -> tuple[object, ...]:
    return (cell.setting, *cell.group) if paper.settings_across else cell.group


def _group_measured(paper: PaperTable, cells: Sequence[Measured]) -> tuple[list[ColumnGroup], dict[_Place, Metric]]:
    """Groups of measured columns in the order of the runs (of the settings first), and the columns in them."""
    settings, across = list(paper.rows), paper.settings_across
    by_group: dict[tuple[object, ...], list[Measured]] = {}
    for cell in sorted(cells, key=lambda cell: settings.index(cell.setting)) if across else cells:
        by_group.setdefault(_group_key(paper, cell), []).append(cell)
    titles = {
        key: (SETTING_TITLES[members[0].setting] if across else "", members[0].group_title)
        for key, members in by_group.items()
    }
    rivals = Counter(titles.values())
    groups = []
    columns: dict[_Place, Metric] = {}
    for key, members in by_group.items():
        above, title = titles[key]
        title += f" · {run_name(members[0].run)}" if rivals[titles[key]] > 1 else ""
        found = {cell.stats.metric: cell.metric for cell in members}
        keys = sorted(found, key=lambda name: paper.metrics.index(found[name].name))
        heads = heads_of({name: found[name] for name in keys}, {name: METRICS[name].title for name in paper.metrics})
        groups.append(ColumnGroup(title, heads, above))
        columns |= {(key, name): found[name] for name in keys}
    return groups, columns


def _paper_groups(paper: PaperTable) -> list[ColumnGroup]:
    groups = []
    for setting in paper.rows if paper.settings_across else [None]:
        above = SETTING_TITLES[setting] if setting else ""
        for block in paper.blocks:
            heads = (Column(METRICS[name].title, METRICS[name].higher_is_better) for name in block.metrics)
            groups.append(ColumnGroup(block.dataset, tuple(heads), above))
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
