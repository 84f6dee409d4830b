"""``gen3r-bench table``: the paper's tables, runs beside them, or a run's own tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.errors import InputError


class Format(StrEnum):
    """How a table is written."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


def table(
    more_runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="Run folders.")] = None,
    number: Annotated[
        int | None, typer.Option("--table", "-t", help="A table of the paper, 1 to 9.  [default: the runs' own tables]")
    ] = None,
    runs: Annotated[list[Path] | None, typer.Option("--runs", metavar="RUN", help="Run folders.")] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How the table is written.")] = Format.MARKDOWN,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write instead of the terminal.")] = None,
) -> None:
    """Print a table of the paper, with the rows of runs beside the paper's, or the tables of runs alone.

    Paper and measurement never share a column, and neither do measurements over different scenes.
    """
    from gen3r_bench.registry import metrics
    from gen3r_bench.reports.compose import comparison_table, run_table
    from gen3r_bench.reports.render import render_csv, render_latex, render_markdown
    from gen3r_bench.runs.store import read_run, write_atomically

    found = [read_run(path) for path in dict.fromkeys([*(runs or []), *(more_runs or [])])]
    if number is not None:
        tables = [comparison_table(number, found, metrics() if found else {})]
    elif found:
        tables = [run_table(run, card.name, metrics()) for run in found for card in run.header.protocols]
    else:
        raise InputError("neither a table nor a run", expected="--table 1 to 9, a run folder, or both")
    match format_:
        case Format.MARKDOWN:
            text = "\n".join(render_markdown(table) for table in tables)
        case Format.LATEX:
            text = "\n".join(render_latex(table) for table in tables)
        case Format.CSV:
            text = render_csv(tables)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(out, text.encode())
        typer.echo(f"Wrote {out}", err=True)
