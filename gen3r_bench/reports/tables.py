"""A table before any format: groups of columns, groups of rows, cells with marks and footnotes; all in plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from gen3r_bench.stats import Interval

Mark = Literal["best", "second", "third"]
RowKind = Literal["paper", "method", "baseline", "diagnostic"]
MISSING: Final = "–"
PRINTED_RULE: Final = "equal values share a mark"
"""When marks of printed values are shared."""
MARKS: Final[tuple[Mark, ...]] = ("best", "second", "third")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from, in full; what a line of the CSV says.

    Attributes:
        kind: "paper" or "measured".
        value: as printed in the paper, or every digit of a measured mean; "" where there is no score.
        n, planned: scenes with a score, scenes that the run set out to score; None for the paper's values.
        interval: of a measured mean, where it was asked for.
    """

    kind: Literal["paper", "measured"]
    setting: str
    dataset: str
    metric: str
    value: str
    n: int | None = None
    planned: int | None = None
    reasons: Mapping[str, int] | None = None
    frames: int | None = None
    image_size: tuple[int, int] | None = None
    protocol: str = ""
    card_hash: str = ""
    run: str = ""
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """What a reader sees: a text, its mark, and the numbers of its footnotes (from 0). No source: nothing to show.

    ``spread`` stands behind the text where it was asked for, such as ``± 0.01`` or ``[0.12, 0.15]``.
    """

    text: str = MISSING
    mark: Mark | None = None
    notes: tuple[int, ...] = ()
    source: Source | None = None
    spread: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of one column."""

    title: str
    higher_is_better: bool
    unit: str = ""

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True, slots=True)
class ColumnGroup:
    """Neighbouring columns under one head: one set of scenes.

    ``above`` is a head over neighbouring groups, where settings are groups of columns (the paper's Table 5).
    """

    title: str
    columns: tuple[Column, ...]
    above: str = ""

    @property
    def full_title(self) -> str:
        return f"{self.above} · {self.title}" if self.above else self.title


@dataclass(frozen=True, slots=True)
class Row:
    """One row; ``method`` is the suite's id, also for the paper's rows."""

    label: str
    method: str
    kind: RowKind
    cells: tuple[Cell, ...]

    @property
    def ranked(self) -> bool:
        return self.kind in ("paper", "method")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are compared with each other, such as those of the 1-view setting."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table in plain text; renderers escape and set it.

    Attributes:
        name: for labels and file names: ``paper-table-2``, ``geom-1view``.
        row_group_head: head of the column that names row groups; shown where there are several.
        footnotes: referred to by cells.
        notes: what stands below: n of N, card hashes, warnings.
        mark_rule: when marks are shared; the end of a sentence.
        recipe: what made it, on one line of ASCII, so that it can be made again; "" where that is not known.
        environments: of the runs, a line each; the terminal leaves them out, since the run's folder has them.
    """

    name: str
    title: str
    row_group_head: str
    column_groups: tuple[ColumnGroup, ...]
    row_groups: tuple[RowGroup, ...]
    footnotes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    number: int | None = None
    mark_rule: str = PRINTED_RULE
    recipe: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for group in self.column_groups for column in group.columns)

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for group in self.row_groups for row in group.rows)

    @property
    def has_unranked_rows(self) -> bool:
        return any(not row.ranked for row in self.rows)

    @property
    def has_marks(self) -> bool:
        return any(cell.mark for row in self.rows for cell in row.cells)


def rank_marks(values: Sequence[str | None], *, higher_is_better: bool) -> list[Mark | None]:
    """Best, second and third of printed values; equal ones share a mark and the next one counts behind all of them.

    >>> rank_marks(["0.1165", "0.1526", "0.1165", None], higher_is_better=False)
    ['best', 'third', 'best', None]

    A single value is compared with nothing and gets no mark.
    """
    numbers = [None if value is None else Decimal(value) for value in values]
    present = [number for number in numbers if number is not None]
    if len(present) < 2:
        return [None] * len(values)
    found: list[Mark | None] = []
    for number in numbers:
        if number is None:
            found.append(None)
            continue
        better = sum(other > number if higher_is_better else other < number for other in present)
        found.append(MARKS[better] if better < len(MARKS) else None)
    return found
