"""Two rows scene by scene: every metric that both have, tested, and what else differs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.comparison_hints import Hint, hints
from gen3r_bench.reports.measured import Measured, decimals_of, measured_cells
from gen3r_bench.reports.notes import run_name
from gen3r_bench.reports.summary import conditions_text
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.store import Run
from gen3r_bench.stats import PairedComparison, compare_paired, holm

ALPHA: Final = 0.05
LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Side:
    """A row of a run."""

    run: Run
    row: RowEntry

    @property
    def title(self) -> str:
        return f"{self.row.label} of {run_name(self.run)}"


@dataclass(frozen=True, slots=True)
class Line:
    """One score key of one protocol and dataset, on the scenes that both sides scored.

    Attributes:
        protocol, dataset, key, metric: what is compared.
        a, b: the value of each common scene.
        only_a, only_b: how many scenes one side alone has.
        result: of the paired comparison; differences are a minus b.
        p_holm: the p-value, corrected over every line of the comparison.
    """

    protocol: str
    dataset: str
    key: str
    metric: Metric
    a: Mapping[str, float]
    b: Mapping[str, float]
    only_a: int
    only_b: int
    result: PairedComparison
    p_holm: float

    @property
    def title(self) -> str:
        variant = self.key.partition("/")[2]
        return f"{self.metric.title} {variant}".rstrip()

    @property
    def decimals(self) -> int:
        return decimals_of(self.metric)

    @property
    def better(self) -> Literal["a", "b"] | None:
        """The side that the test finds better at 5 %, Holm-corrected."""
        if self.p_holm > ALPHA or not self.result.difference:
            return None
        return "a" if (self.result.difference > 0) == self.metric.higher_is_better else "b"

    def movers(self, most: int) -> list[tuple[str, float, float]]:
        """The scenes that differ most, with both values, the largest difference first."""
        moved = [(scene, self.a[scene], self.b[scene]) for scene in sorted(self.a) if self.a[scene] != self.b[scene]]
        return sorted(moved, key=lambda item: -abs(item[1] - item[2]))[:most]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows, what was compared, what could not be, and what else differs between them."""

    a: Side
    b: Side
    lines: tuple[Line, ...]
    not_compared: tuple[str, ...]
    hints: tuple[Hint, ...]


def choose_sides(runs: Sequence[Run], methods: Sequence[str]) -> list[tuple[Side, Side]]:
    """The pairs of rows that a command line means.

    Two runs: each row that both have; or one that is named once, for both; or two that are named, one for each run.
    One run: two of its rows, named unless it has two methods.

    Args:
        runs: one or two.
        methods: labels such as ``gen3r@reference``, or ids such as ``gen3r``; at most two.

    Raises:
        InputError: where it is not clear what is meant.
        UnknownNameError: where a run has no such row.
    """
    if len(runs) not in (1, 2) or len(methods) > 2:
        raise InputError(
            f"{len(runs)} runs and {len(methods)} methods",
            expected="two runs, or one run and two of its methods",
            fix="gen3r-bench compare RUN_A RUN_B, or gen3r-bench compare RUN --method A --method B",
        )
    first, last = runs[0], runs[-1]
    if len(methods) == 2 or (methods and len(runs) == 2):
        one, other = Side(first, _row(first, methods[0])), Side(last, _row(last, methods[-1]))
        if one == other:
            raise InputError(f"{one.title} twice", expected="two different rows")
        return [(one, other)]
    ranked = [[row for row in run.header.rows if row.kind == "method"] for run in runs]
    if len(runs) == 1:
        if methods or len(ranked[0]) != 2:
            names = ", ".join(row.label for row in first.header.rows)
            raise InputError(
                f"one run with the rows {names}",
                expected="two methods, or a second run",
                fix="--method A --method B",
            )
        return [(Side(first, ranked[0][0]), Side(first, ranked[0][1]))]
    theirs = {row.label: row for row in last.header.rows}
    pairs = [(Side(first, row), Side(last, theirs[row.label])) for row in ranked[0] if row.label in theirs]
    if not pairs and [len(rows) for rows in ranked] == [1, 1]:
        pairs = [(Side(first, ranked[0][0]), Side(last, ranked[1][0]))]
    if not pairs:
        labels = [", ".join(row.label for row in run.header.rows) for run in runs]
        raise InputError(
            f"no method that both runs have: {labels[0]} and {labels[1]}",
            expected="two rows to compare",
            fix="--method A --method B names one of each run",
        )
    return pairs


def _row(run: Run, name: str) -> RowEntry:
    labelled = [row for row in run.header.rows if row.label == name]
    found = labelled or [row for row in run.header.rows if row.method_id == name]
    if not found:
        raise UnknownNameError(f"row of {run_name(run)}", name, [row.label for row in run.header.rows])
    if len(found) > 1:
        labels = ", ".join(row.label for row in found)
        raise InputError(f"--method {name} is {len(found)} rows of {run_name(run)}", expected=f"one of {labels}")
    return found[0]


def compare_sides(pairs: Sequence[tuple[Side, Side]], metrics: Mapping[str, Metric]) -> list[Comparison]:
    """Compare rows on every score that both have; the p-values of all pairs are one Holm family.

    Args:
        pairs: from ``choose_sides``.
        metrics: registered metrics by key.

    Raises:
        InputError: where two rows have nothing in common.
        UnknownNameError: where a metric of a run is not registered here.
    """
    found = [(a, b, *_lines(a, b, metrics)) for a, b in pairs]
    family = [result.p_value for _, _, lines, _ in found for _, _, result in lines]
    adjusted = iter(holm(family))
    comparisons = []
    for a, b, lines, rest in found:
        made = [
            Line(
                one.entry.protocol,
                one.entry.dataset_title,
                one.stats.metric,
                one.metric,
                {scene: one.stats.values[scene] for scene in sorted(one.stats.scenes & other.stats.scenes)},
                {scene: other.stats.values[scene] for scene in sorted(one.stats.scenes & other.stats.scenes)},
                len(one.stats.scenes - other.stats.scenes),
                len(other.stats.scenes - one.stats.scenes),
                result,
                next(adjusted),
            )
            for one, other, result in lines
        ]
        shared = {(one.entry.protocol, one.entry.dataset) for one, _, _ in lines}
        keys = {one.metric.key for one, _, _ in lines}
        comparisons.append(
            Comparison(a, b, tuple(made), tuple(rest), tuple(hints(a.run, a.row, b.run, b.row, shared, keys)))
        )
    return comparisons


def _lines(
    a: Side, b: Side, metrics: Mapping[str, Metric]
) -> tuple[list[tuple[Measured, Measured, PairedComparison]], list[str]]:
    """The cells that stand against each other, and why others do not."""
    one, other = (_cells(side, metrics) for side in (a, b))
    lines = []
    rest = []
    for place, cell in one.items():
        if place in other:
            result = compare_paired(
                cell.stats.values, other[place].stats.values, higher_is_better=cell.metric.higher_is_better, level=LEVEL
            )
            lines.append((cell, other[place], result))
    for cells, rivals, name in ((one, other, "A"), (other, one, "B")):
        for place, cell in cells.items():
            if place not in rivals:
                where = f"{cell.stats.metric} of {cell.entry.protocol} on {cell.entry.dataset_title}"
                made = f" ({conditions_text(cell.stats.conditions)})" if cell.stats.conditions else ""
                rest.append(f"only {name} has {where}{made}")
    if not lines:
        raise InputError(
            f"{a.title} and {b.title} have no score in common",
            expected="rows with a protocol, a dataset and a metric in common",
        )
    return lines, rest


def _cells(side: Side, metrics: Mapping[str, Metric]) -> dict[tuple[object, ...], Measured]:
    """Cells with a score by what must agree for two to be compared."""
    protocols = [card.name for card in side.run.header.protocols]
    return {
        (cell.entry.protocol, cell.entry.dataset, cell.stats.metric, cell.stats.conditions): cell
        for cell in measured_cells(side.run, metrics, protocols)
        if cell.row.label == side.row.label and cell.stats.n
    }


def as_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Everything as JSON-ready data, down to the scenes."""
    return {
        "level": LEVEL,
        "tests": sum(len(one.lines) for one in comparisons),
        "correction": "Holm over all tests",
        "comparisons": [
            {
                "a": {"run": run_name(one.a.run), "row": one.a.row.label},
                "b": {"run": run_name(one.b.run), "row": one.b.row.label},
                "metrics": [_line_json(line) for line in one.lines],
                "not_compared": list(one.not_compared),
                "hints": [{"field": hint.field, "a": hint.a, "b": hint.b} for hint in one.hints],
            }
            for one in comparisons
        ],
    }


def _line_json(line: Line) -> dict[str, Any]:
    result = line.result
    return {
        "protocol": line.protocol,
        "dataset": line.dataset,
        "metric": line.key,
        "unit": line.metric.unit,
        "higher_is_better": line.metric.higher_is_better,
        "n": result.n,
        "only_a": line.only_a,
        "only_b": line.only_b,
        "mean_a": result.mean_a,
        "mean_b": result.mean_b,
        "difference": result.difference,
        "low": result.interval.low if result.interval else None,
        "high": result.interval.high if result.interval else None,
        "wins": result.wins,
        "losses": result.losses,
        "ties": result.ties,
        "p_value": result.p_value,
        "p_holm": line.p_holm,
        "test": result.test,
        "detectable": result.detectable,
        "better": line.better,
        "scenes": {scene: [line.a[scene], line.b[scene]] for scene in line.a},
    }
