"""What a check found: in the terminal, as JSON and as JUnit XML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gen3r_bench.files import write_atomically
from gen3r_bench.regression.calibrate import FACTOR, Update
from gen3r_bench.regression.judge import Judgement, Line, suspects
from gen3r_bench.reports.render import printable
from gen3r_bench.reports.tables import MISSING

if TYPE_CHECKING:
    from junitparser import TestCase

WIDTH: Final = 100
SHOWN: Final = 8
"""Breaches of one golden that the terminal shows, the farthest first; JSON and JUnit have them all."""
SUITE: Final = "gen3r-bench regress"


def print_judgements(console: Console, judgements: Sequence[Judgement]) -> None:
    """Print a line for each golden, and the breaches of each with where to look for their cause."""
    width = min(console.width, WIDTH)
    grid = _grid("golden", "scores", "same", "within", "closest", "breaches", left=("golden",))
    for one in judgements:
        counts = Counter(line.outcome for line in one.lines)
        breaches = len(one.breaches) + len(one.problems)
        grid.add_row(
            Text(printable(one.golden.title)),
            str(len(one.lines)),
            str(counts["same"]),
            str(counts["within"]),
            f"{one.closest:.0%}" if counts["within"] else MISSING,
            Text(str(breaches) if breaches else "none", style="bold red" if breaches else ""),
        )
    console.print(grid, width=width)
    for one in judgements:
        if not one.ok:
            _print_breaches(console, one, width)
    console.print()
    for one in judgements:
        for note in one.notes:
            console.print(Text(f"{printable(one.golden.title)}: {printable(note)}", style="yellow"), width=width)
    bad = sum(not one.ok for one in judgements)
    verdict = f"{bad} of {len(judgements)} goldens breached" if bad else f"All {len(judgements)} goldens hold"
    console.print(Text(f"{verdict}.", style="bold red" if bad else "bold"), width=width)
    console.print(
        Text("same: to the last digit; within: moved by no more than its tolerance; closest: the largest part of it."),
        width=width,
    )


def _print_breaches(console: Console, one: Judgement, width: int) -> None:
    console.print()
    console.print(Text(printable(one.golden.title), style="bold"), width=width)
    for problem in one.problems:
        console.print(Text(printable(f"{problem.kind}: {problem.text}"), style="red"), width=width)
    farthest = sorted(one.breaches, key=_distance, reverse=True)
    if farthest:
        grid = _grid("scene", "score", "golden", "now", "moved", "tolerance", "outcome", left=("scene", "score"))
        for line in farthest[:SHOWN]:
            grid.add_row(*_cells(line))
        console.print(grid, width=width)
        reasons = dict.fromkeys(line.reason for line in farthest if line.reason)
        for reason in reasons:
            console.print(Text(f"{printable(reason)}"), width=width)
    if len(farthest) > SHOWN:
        console.print(Text(f"and {len(farthest) - SHOWN} more (--json shows all)"), width=width)
    if one.lines:
        console.print(Text(f"Look first at {', then '.join(suspects(one))}."), width=width)
    if one.hints:
        grid = _grid("what else differs", "golden", "now", left=("what else differs", "golden", "now"))
        for hint in one.hints:
            grid.add_row(*(Text(printable(text)) for text in (hint.field, hint.a, hint.b)))
        console.print(grid, width=width)


def _grid(*heads: str, left: Sequence[str]) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        grid.add_column(head, justify="left" if head in left else "right", overflow="fold", no_wrap=head not in left)
    return grid


def _distance(line: Line) -> float:
    """How many tolerances a score has moved by; what has no value now is farther than any."""
    if line.moved is None or not line.tolerance:
        return float("inf")
    return abs(line.moved) / line.tolerance


def _cells(line: Line) -> list[Text]:
    values = [line.golden, line.now]
    texts = [MISSING if value is None else f"{value:.6g}" for value in values]
    moved = MISSING if line.moved is None else f"{line.moved:+.2g}"
    tolerance = MISSING if line.tolerance is None else f"{line.tolerance:.2g}"
    return [Text(printable(text)) for text in (_scene(line), line.key, *texts, moved, tolerance, line.outcome)]


def _scene(line: Line) -> str:
    return f"{line.scene_id} ({line.seed})"


def judgements_json(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Everything as JSON-ready data, down to the scores that did not move."""
    return {
        "ok": all(one.ok for one in judgements),
        "goldens": [
            {
                "file": str(one.path),
                "row": one.golden.row.label,
                "protocol": one.golden.protocol,
                "dataset": one.golden.dataset,
                "ok": one.ok,
                "problems": [{"kind": problem.kind, "text": problem.text} for problem in one.problems],
                "scores": [
                    {
                        "scene": line.scene_id,
                        "seed": line.seed,
                        "score": line.key,
                        "golden": line.golden,
                        "now": line.now,
                        "tolerance": line.tolerance,
                        "outcome": line.outcome,
                        "breach": line.breach,
                        "reason": line.reason,
                    }
                    for line in one.lines
                ],
                "suspects": [] if one.ok or not one.lines else suspects(one),
                "differs": [{"field": hint.field, "golden": hint.a, "now": hint.b} for hint in one.hints],
                "notes": list(one.notes),
            }
            for one in judgements
        ],
    }


def write_junit(judgements: Sequence[Judgement], path: Path) -> None:
    """Write a test suite for each golden: a case for the golden as a whole, and one for each score.

    A score that no golden guards yet is a skipped case.

    Raises:
        StoreError: where the file cannot be written.
    """
    from junitparser import Failure, JUnitXml, Skipped, TestSuite

    document = JUnitXml(SUITE)
    for one in judgements:
        suite = TestSuite(printable(one.golden.title))
        for kind in ("card", "checkpoint", "data", "cannot run"):
            texts = [problem.text for problem in one.problems if problem.kind == kind]
            suite.add_testcase(_case(one, kind, [Failure(printable(text), kind) for text in texts]))
        for line in one.lines:
            results: list[Failure | Skipped] = []
            if line.breach:
                results = [Failure(printable(_message(line)), line.outcome)]
            elif line.outcome == "new":
                results = [Skipped("not guarded yet")]
            suite.add_testcase(_case(one, f"{_scene(line)} {line.key}", results))
        if not one.ok:
            for hint in one.hints:
                suite.add_property(printable(hint.field), printable(f"{hint.a} -> {hint.b}"))
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    write_atomically(path, document.tostring() + b"\n", "--junit")  # type: ignore[no-untyped-call]


def _case(one: Judgement, name: str, results: Sequence[Any]) -> TestCase:
    from junitparser import TestCase

    case = TestCase(printable(name), ".".join((SUITE, *one.golden.identity)), 0.0)
    if results:
        case.result = list(results)
    return case


def _message(line: Line) -> str:
    if line.now is None:
        return f"{line.outcome}: golden {line.golden:.6g}, {line.reason}"
    return f"{line.outcome}: golden {line.golden:.6g}, now {line.now:.6g}, tolerance {line.tolerance:.2g}"


def print_update(console: Console, one: Update) -> None:
    """Print what was written: how far each score drifts, in which variant, and what it tolerates."""
    width = min(console.width, WIDTH)
    calibration = one.golden.calibration
    console.print(Text(printable(one.golden.title), style="bold"), width=width)
    grid = _grid("score", "drift", "seen in", "floor", "tolerance", "moved", left=("score", "seen in"))
    for key, tolerance in calibration.tolerances.items():
        moved = one.moved(key)
        values = [tolerance.drift, tolerance.floor, tolerance.tolerance]
        drift, floor, allowed = (f"{value:.2g}" for value in values)
        change = "first" if moved is None else f"{moved:.2g}"
        texts = (key, drift, tolerance.seen_in or MISSING, floor, allowed, change)
        grid.add_row(*(Text(printable(text)) for text in texts))
    console.print(grid, width=width)
    for note in calibration.not_observed:
        console.print(Text(f"Not observed: {printable(note)}.", style="yellow"), width=width)
    console.print(Text(f"Written: {printable(str(one.path))}"), width=width)
    for path in one.removed:
        console.print(Text(f"Removed, since it guarded the same: {printable(str(path))}", style="yellow"), width=width)


def print_update_legend(console: Console) -> None:
    """Print what the columns of `print_update` mean."""
    console.print(
        Text(
            f"tolerance: {FACTOR:g} x drift, at least the floor; drift: the largest difference from the golden scores "
            "over scenes and variants; moved: from the golden before."
        ),
        width=min(console.width, WIDTH),
    )


def updates_json(updates: Sequence[Update]) -> list[dict[str, Any]]:
    """What was written, as JSON-ready data."""
    return [
        {
            "file": str(one.path),
            "row": one.golden.row.label,
            "protocol": one.golden.protocol,
            "dataset": one.golden.dataset,
            "scores": {
                key: {**tolerance.model_dump(), "moved": one.moved(key)}
                for key, tolerance in one.golden.calibration.tolerances.items()
            },
            "observed": [observed.name for observed in one.golden.calibration.observed],
            "not_observed": list(one.golden.calibration.not_observed),
            "removed": [str(path) for path in one.removed],
        }
        for one in updates
    ]
