"""A run's tables in the terminal, never wider than 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.compose import run_table
from gen3r_bench.reports.render import footnote_letter, printable
from gen3r_bench.reports.tables import Cell, Column, Mark, Row, Table
from gen3r_bench.runs.store import Run

WIDTH: Final = 100
_LABEL_WIDTH: Final = 40
_STYLES: Final[dict[Mark, str]] = {"best": "bold", "second": "underline", "third": "italic"}
_GREY: Final = "bright_black"


def print_run(console: Console, run: Run, metrics: Mapping[str, Metric]) -> None:
    """Print one table for each protocol of a run and, within it, for each dataset; reasons and card hashes below."""
    for number, card in enumerate(run.header.protocols):
        if number:
            console.print()
        print_table(console, run_table(run, card.name, metrics))


def print_table(console: Console, table: Table) -> None:
    """Print a run's table: its datasets one below the other, and wide ones in pieces of at most 100 columns."""
    width = min(console.width, WIDTH)
    console.print(Text(printable(table.title), style="bold"), width=width)
    first = 0
    for group in table.column_groups:
        numbers = range(first, first + len(group.columns))
        first = numbers.stop
        console.print(Text(printable(group.full_title)), width=width)
        for number, piece in enumerate(_pieces(console, table, numbers, width)):
            if number:
                console.print()
            console.print(_rich_table(table, piece), width=width)
    for number, text in enumerate(table.footnotes):
        console.print(Text(f"{footnote_letter(number)}  {printable(text)}"), width=width)
    if table.has_marks:
        legend = Text.assemble(("best", _STYLES["best"]), ", ", ("second", _STYLES["second"]), ", ")
        legend.append("third", _STYLES["third"])
        console.print(legend.append(f" of each column; {table.mark_rule}"), width=width)
    if table.has_unranked_rows:
        console.print(Text("grey: floors and diagnostics, never ranked", style=_GREY), width=width)
    for text in table.notes:
        console.print(Text(printable(text), style="yellow" if text.startswith("Partial run") else ""), width=width)


def _pieces(console: Console, table: Table, numbers: range, width: int) -> list[range]:
    """Cut columns into as few neighbouring pieces as fit the width, by measuring what rich would print."""
    # Measured against the console's own width, a table that is too wide would only be squeezed into it.
    unbounded = console.options.update(width=10_000)
    pieces = []
    start = numbers.start
    for stop in range(start + 1, numbers.stop + 1):
        fits = console.measure(_rich_table(table, range(start, stop)), options=unbounded).maximum <= width
        if not fits and stop - start > 1:
            pieces.append(range(start, stop - 1))
            start = stop - 1
    return [*pieces, range(start, numbers.stop)]


def _rich_table(table: Table, numbers: Sequence[int]) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("", overflow="fold", max_width=_LABEL_WIDTH)
    for number in numbers:
        grid.add_column(_head(table.columns[number]), justify="right", no_wrap=True)
    grid.add_column(Text("n/N"), justify="right", no_wrap=True)
    for group in table.row_groups:
        for row in group.rows:
            style = "" if row.ranked else _GREY
            cells = [row.cells[number] for number in numbers]
            grid.add_row(Text(_label(row, group.title)), *map(_text, cells), Text(_counts(cells)), style=style)
        if group is not table.row_groups[-1]:
            grid.add_section()
    return grid


def _head(column: Column) -> Text:
    unit = f"\n{printable(column.unit)}" if column.unit else ""
    return Text(f"{printable(column.title)} {column.arrow}{unit}", justify="right")


def _label(row: Row, group: str) -> str:
    label = printable(row.label)
    return label if row.ranked else f"{label} ({group})"


def _text(cell: Cell) -> Text:
    # A style of the whole text would underline its padding too.
    text = Text().append(cell.text, style=_STYLES[cell.mark] if cell.mark else "")
    notes = ",".join(footnote_letter(note) for note in cell.notes)
    text.append(f" {cell.spread}" if cell.spread else "")
    return text.append(f" {notes}") if notes else text


def _counts(cells: Sequence[Cell]) -> str:
    """The most scenes that any of the cells stands on, of those planned; footnotes say which have fewer."""
    sources = [cell.source for cell in cells if cell.source is not None and cell.source.n is not None]
    return f"{max(source.n or 0 for source in sources)}/{sources[0].planned}" if sources else ""
