"""Marks of measured columns: a method stands before another only where a paired test separates the two.

The rule, for the ranked rows of one column in one group of rows, all over the same scenes:

1. Every pair is tested by a two-sided sign-flip test of its scene-wise differences (`gen3r_bench.stats.sign_flip`), and
   the p-values of the column's pairs are Holm-corrected. The family is the column and not the whole table, so that a
   mark does not depend on which other metrics a table shows.
2. A method's place is one more than the number of methods that have a better mean and are separated from it, at 5 %.
3. No method stands before one whose printed mean is better, and equal printed means share the better place.
4. Places one to three are marked. A single method is compared with nothing and gets no mark.

Where every pair is separated these are the marks of the printed values; where none is, all methods share "best".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, groupby
from typing import Final

from gen3r_bench.reports.tables import MARKS, PRINTED_RULE, Mark, RowGroup
from gen3r_bench.stats import holm, sign_flip

ALPHA: Final = 0.05
TESTED_RULE: Final = (
    "methods share a mark unless a paired test separates them (two-sided sign-flip test over their common scenes, "
    "Holm-corrected within the column and group of rows, at 5 %)"
)
MIXED_RULE: Final = f"in the paper's columns {PRINTED_RULE}; in measured columns {TESTED_RULE}"


@dataclass(frozen=True, slots=True)
class Contender:
    """A ranked cell: its mean as printed, and one value for each scene."""

    printed: str
    values: Mapping[str, float]


def separated_marks(contenders: Sequence[Contender], *, higher_is_better: bool) -> list[Mark | None]:
    """Marks of a column's ranked cells, by the rule of this module.

    >>> a = Contender("1.0", {f"s{n}": 1.0 for n in range(6)})
    >>> b = Contender("2.0", {f"s{n}": 2.0 for n in range(6)})
    >>> separated_marks([a, b], higher_is_better=True)
    ['second', 'best']

    Args:
        contenders: cells over the same scenes.
        higher_is_better: the metric's direction.

    Returns:
        A mark for each contender, in their order.
    """
    if len(contenders) < 2:
        return [None] * len(contenders)
    numbers = [Decimal(one.printed) if higher_is_better else -Decimal(one.printed) for one in contenders]
    behind = [0] * len(contenders)
    for better, worse in _separated(contenders, higher_is_better=higher_is_better):
        behind[worse] += numbers[better] > numbers[worse]
    marks: list[Mark | None] = [None] * len(contenders)
    place = 0
    order = sorted(range(len(contenders)), key=numbers.__getitem__, reverse=True)
    for _, equal in groupby(order, key=numbers.__getitem__):
        members = list(equal)
        place = max(place, min(behind[member] for member in members))
        for member in members:
            marks[member] = MARKS[place] if place < len(MARKS) else None
    return marks


def _separated(contenders: Sequence[Contender], *, higher_is_better: bool) -> Iterator[tuple[int, int]]:
    """Pairs (better, worse) of contenders that a test separates."""
    scenes = sorted(contenders[0].values)
    pairs = list(combinations(range(len(contenders)), 2))
    differences = [[contenders[i].values[s] - contenders[j].values[s] for s in scenes] for i, j in pairs]
    adjusted = holm([sign_flip(difference).p_value for difference in differences])
    for (i, j), difference, p in zip(pairs, differences, adjusted, strict=True):
        if p <= ALPHA:
            yield (i, j) if (sum(difference) > 0) == higher_is_better else (j, i)


def too_few_scenes(row_groups: Sequence[RowGroup]) -> list[str]:
    """Notes on measured columns in which no test could have separated any two methods, however far apart they are."""
    notes = []
    for group in row_groups:
        for column in zip(*(row.cells for row in group.rows if row.kind == "method"), strict=True):
            counts = [cell.source.n for cell in column if cell.mark and cell.source is not None]
            methods, scenes = len(counts), counts[0] if counts else None
            if scenes is None or 2.0 ** (1 - scenes) * methods * (methods - 1) / 2 <= ALPHA:
                continue
            needed = next(n for n in range(1, 64) if 2.0 ** (1 - n) * methods * (methods - 1) / 2 <= ALPHA)
            notes.append(
                f"{methods} methods on {scenes} scene{'s' if scenes > 1 else ''}: too few for a test to separate any "
                f"two, so all share a mark; it takes at least {needed} scenes."
            )
    return list(dict.fromkeys(notes))
