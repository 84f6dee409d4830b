"""``gen3r-bench table``: the paper's tables, runs beside them, or a run's own tables."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from gen3r_bench.cli import options
from gen3r_bench.errors import InputError


class Format(StrEnum):
    """How a table is written."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


class Ends(StrEnum):
    """How a confidence interval is printed: ``± 0.01``, or ``[0.12, 0.15]``."""

    HALF_WIDTH = "half-width"
    LOW_HIGH = "low-high"


SPREADS: Final[dict[Ends, Literal["half-width", "low-high"]]] = {
    Ends.HALF_WIDTH: "half-width",
    Ends.LOW_HIGH: "low-high",
}


def table(
    more_runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="Run folders.")] = None,
    number: Annotated[
        int | None,
        typer.Option("--table", "-t", help="A table of the paper, 1 to 9.", show_default="the runs' own tables"),
    ] = None,
    runs: Annotated[list[Path] | None, typer.Option("--runs", metavar="RUN", help="Run folders.")] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How the table is written.")] = Format.MARKDOWN,
    ci: Annotated[
        Ends | None, typer.Option("--ci", help="Put the 95 % confidence interval behind measured means.")
    ] = None,
    claimed: Annotated[
        bool, typer.Option("--claimed", help="Hold the paper's values against the runs': inside, outside, or why not.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check", metavar="FILE", help="Make a table's file again and name every difference; exit code 1 if any."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write instead of the terminal.")] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print a table of the paper, with the rows of runs beside the paper's, or the tables of runs alone.

    Paper and measurement never share a column, and neither do measurements over different scenes. A mark in a measured
    column means that a paired test separates the methods; see docs/statistics.md.
    """
    from gen3r_bench.files import write_atomically
    from gen3r_bench.registry import metrics, protocols
    from gen3r_bench.reports.make import make_table, recipes_for, tables_text
    from gen3r_bench.reports.table_json import tables_json
    from gen3r_bench.runs.store import read_run

    found = [read_run(path) for path in dict.fromkeys([*(runs or []), *(more_runs or [])])]
    known = metrics() if found else {}
    used = {card.name for run in found for card in run.header.protocols}
    cards = {name: protocols().load(name) for name in protocols().names() if name in used}
    if check is not None:
        if number is not None or claimed or ci is not None or out is not None:
            raise InputError("--check with options of a table", expected="the file and its runs; it knows its options")
        from gen3r_bench.reports.check import check_table

        try:
            text = check.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--check {check}: {error}", expected="a file that gen3r-bench table wrote") from error
        tables, wrong = check_table(text, found, known, cards)
        if json_:
            report = {"file": str(check), "tables": tables, "differences": [str(one) for one in wrong]}
            typer.echo(json.dumps(report, indent=1, ensure_ascii=False))
        else:
            for one in wrong:
                typer.echo(str(one))
        plural = "s" if tables > 1 else ""
        verdict = f"{len(wrong)} difference{'s' if len(wrong) > 1 else ''}" if wrong else "no difference"
        if not quiet:
            typer.echo(f"{check}: {tables} table{plural}, {verdict}", err=True)
        raise typer.Exit(1 if wrong else 0)
    made = [
        make_table(recipe, its, known, cards)
        for recipe, its in recipes_for(number, found, claims=claimed, spread=SPREADS[ci] if ci else None)
    ]
    text = tables_json(made) if json_ else tables_text(made, format_.value)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(out, text.encode())
        if not quiet:
            typer.echo(f"Wrote {out}", err=True)
