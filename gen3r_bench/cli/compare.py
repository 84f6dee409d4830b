"""``gen3r-bench compare``: two rows scene by scene, tested, and what else differs between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.cli import options


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_A [RUN_B]", help="Two run folders, or one.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="ROW",
            help="A row, such as gen3r@reference or gen3r. Twice: one of A and one of B, or two of a single run.",
        ),
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two methods, or one method in two runs, on the scenes that both scored.

    Prints each metric's means, their difference with its confidence interval, wins and losses, p-values and the
    smallest difference that could have been seen, the scenes that differ most, and every field that differs.
    """
    from gen3r_bench.registry import metrics
    from gen3r_bench.reports.comparison import as_json, choose_sides, compare_sides
    from gen3r_bench.reports.comparison_text import print_comparisons
    from gen3r_bench.runs.store import read_run

    found = [read_run(path) for path in runs]
    comparisons = compare_sides(choose_sides(found, method or ()), metrics())
    if json_:
        typer.echo(json.dumps(as_json(comparisons), indent=1, ensure_ascii=False))
    else:
        print_comparisons(options.table_console(), comparisons)
    if not quiet and any(run.header.partial for run in found):
        typer.echo("A partial run (--limit) is compared: its numbers are not the protocol's.", err=True)
