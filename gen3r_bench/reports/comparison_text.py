"""A comparison in the terminal: at most 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gen3r_bench.reports.comparison import Comparison, Line
from gen3r_bench.reports.measured import printed
from gen3r_bench.reports.render import printable
from gen3r_bench.reports.tables import MISSING

WIDTH: Final = 100
MOVERS: Final = 3
"""Scenes shown of each metric; JSON has them all."""


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print the metrics, the scenes that differ most, and what else differs."""
    width = min(console.width, WIDTH)
    for number, one in enumerate(comparisons):
        if number:
            console.print()
        console.print(Text(f"A  {printable(one.a.title)}", style="bold"), width=width)
        console.print(Text(f"B  {printable(one.b.title)}", style="bold"), width=width)
        for (protocol, dataset), lines in groupby(one.lines, key=lambda line: (line.protocol, line.dataset)):
            members = list(lines)
            console.print(Text(_scenes(protocol, dataset, members)), width=width)
            console.print(_metric_table(members), width=width)
        movers = _mover_table(one.lines)
        if movers.row_count:
            console.print(Text(f"Scenes that differ most, up to {MOVERS} a metric"), width=width)
            console.print(movers, width=width)
        if one.hints:
            console.print(Text("What else differs: look here for the cause"), width=width)
            console.print(_hint_table(one), width=width)
        else:
            console.print(Text("Nothing else differs in the headers and records."), width=width)
        for text in one.not_compared:
            console.print(Text(f"Not compared: {printable(text)}.", style="yellow"), width=width)
    tests = sum(len(one.lines) for one in comparisons)
    names = dict.fromkeys(line.result.test for one in comparisons for line in one.lines)
    used = " or ".join(name for name in names if name != "none") or "sign-flip"
    console.print(
        Text(
            "A − B with its 95 % confidence interval (BCa bootstrap over scenes). W/L/T: scenes on which A is better, "
            f"worse, equal. p: two-sided {used} test; Holm: corrected over the {tests} tests of this comparison; "
            "better: the side that stands out at 5 %. MDD: the true difference that so many scenes show four times out "
            "of five."
        ),
        width=width,
    )


def _scenes(protocol: str, dataset: str, lines: Sequence[Line]) -> str:
    counts = {line.result.n for line in lines}
    common = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{counts.pop()}"
    alone = [max(getattr(line, name) for line in lines) for name in ("only_a", "only_b")]
    rest = f"; only A has {alone[0]} more, only B {alone[1]}" if any(alone) else ""
    return f"{printable(protocol)} on {printable(dataset)}: {common} common scenes{rest}"


def _grid(*heads: str, left: Sequence[str] = ()) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        grid.add_column(head, justify="left" if head in left else "right", overflow="fold", no_wrap=head not in left)
    return grid


def _metric_table(lines: Sequence[Line]) -> RichTable:
    grid = _grid("metric", "A", "B", "A − B", "W/L/T", "p\nHolm", "better", "MDD", left=("metric",))
    for line in lines:
        result = line.result
        ends = result.interval
        unit = f"\n{printable(line.metric.unit)}" if line.metric.unit else ""
        between = f"\n[{_number(ends.low, line)}, {_number(ends.high, line)}]" if ends else ""
        grid.add_row(
            Text(f"{printable(line.title)} {'↑' if line.metric.higher_is_better else '↓'}{unit}"),
            _number(result.mean_a, line),
            _number(result.mean_b, line),
            Text(_number(result.difference, line) + between),
            f"{result.wins}/{result.losses}/{result.ties}",
            f"{_p(result.p_value)}\n{_p(line.p_holm)}",
            Text((line.better or MISSING).upper(), style="bold" if line.better else ""),
            _number(result.detectable, line),
        )
    return grid


def _mover_table(lines: Sequence[Line]) -> RichTable:
    grid = _grid("metric", "scene", "A", "B", "A − B", left=("metric", "scene"))
    for line in lines:
        for scene, a, b in line.movers(MOVERS):
            values = (_number(value, line) for value in (a, b, a - b))
            grid.add_row(Text(f"{printable(line.title)} · {line.protocol}"), Text(printable(scene)), *values)
    return grid


def _hint_table(one: Comparison) -> RichTable:
    grid = _grid("field", "A", "B", left=("field", "A", "B"))
    for hint in one.hints:
        grid.add_row(*(Text(printable(text)) for text in (hint.field, hint.a, hint.b)))
    return grid


def _number(value: float | None, line: Line) -> str:
    if value is None:
        return MISSING
    # seven digits fit their column; of a larger number, which no metric should give, the size is said
    return printed(value, line.decimals) if abs(value) < 1e5 else f"{value:.2e}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
