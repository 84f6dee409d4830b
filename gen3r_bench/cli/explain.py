"""``gen3r-bench explain``: the same kept predictions under every dialect."""

from __future__ import annotations

import io
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.cli import options


class Format(StrEnum):
    """How the explanation is written."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder made with --keep-predictions.")],
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", "-p", help="Only this protocol of the run; repeatable.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", metavar="ROW", help="Only this row of the run; repeatable.")
    ] = None,
    scenes: Annotated[list[str] | None, typer.Option("--scenes", help="Only this scene; repeatable.")] = None,
    dialect: Annotated[
        list[str] | None,
        typer.Option("--dialect", metavar="CHOICE=VALUE", help="Only this dialect; repeatable (see `ls dialects`)."),
    ] = None,
    data_root: options.DataRoots = None,
    jobs: options.Jobs = None,
    device: Annotated[str, typer.Option(help="Where the networks of metrics run: cpu, cuda, cuda:1.")] = "cpu",
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE.png", help="Also draw the movements into this PNG.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How the tables are written.")] = Format.TERMINAL,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write instead of the terminal.")] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score a run's kept predictions in every dialect: how far each number moves, and whether a rank changes.

    Exit code 1 where a recorded score does not come out again, or a kept prediction cannot be scored.
    """
    from rich.console import Console

    from gen3r_bench.files import write_atomically
    from gen3r_bench.registry import metrics
    from gen3r_bench.reports.explanation import as_json, explanation
    from gen3r_bench.reports.explanation_text import print_explanation, render_csv, render_markdown
    from gen3r_bench.runs.explain import Choice, rescore_run
    from gen3r_bench.runs.store import read_run

    found_run = read_run(run)
    options.checked_backend(found_run.header.geometry_backend)
    choice = Choice(tuple(protocol or ()), tuple(method or ()), tuple(scenes or ()), tuple(dialect or ()))
    choice.check(found_run)
    roots = options.data_roots([entry.dataset for entry in found_run.header.plan], data_root)
    registered = metrics()
    with options.progress_bar("scoring", quiet) as step:
        rescored = rescore_run(
            found_run,
            registered,
            roots=roots,
            choice=choice,
            jobs=jobs or options.default_jobs(),
            device=options.checked_device(device),
            progress=step,
        )
    found = explanation(rescored, registered)
    talk = Console(stderr=True, quiet=quiet)
    if figure is not None:
        from gen3r_bench.reports.explanation_figure import explanation_figure

        write_atomically(figure, explanation_figure(found))
    if json_:
        text: str | None = json.dumps(as_json(found), indent=1, ensure_ascii=False) + "\n"
    elif format_ is Format.MARKDOWN:
        text = render_markdown(found)
    elif format_ is Format.CSV:
        text = render_csv(found)
    else:
        text = None
    if out is not None:
        if text is None:
            buffer = io.StringIO()
            print_explanation(Console(file=buffer, width=100), found)
            text = buffer.getvalue()
        write_atomically(out, text.encode())
        talk.print(f"Wrote {out}", highlight=False, markup=False)
    elif text is None:
        print_explanation(options.table_console(), found)
    else:
        typer.echo(text, nl=False)
    if figure is not None:
        talk.print(f"Figure: {figure}", highlight=False, markup=False)
    if found.differences or found.failed:
        raise typer.Exit(1)
