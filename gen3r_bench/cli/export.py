"""``gen3r-bench export``: runs as a leaderboard, one folder with data, tables and a page that opens from disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.cli import options


def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to write; an earlier export is replaced.")],
    data_root: options.DataRoots = None,
    pictures_mb: Annotated[
        int, typer.Option("--pictures-mb", min=0, help="Most megabytes of pictures; the first scenes come first.")
    ] = 25,
    with_ground_truth_frames: Annotated[
        bool,
        typer.Option(
            "--with-ground-truth-frames",
            help="Also copy frames, depth and points of datasets other than mini into the page: you say that their "
            "licences allow you to pass them on.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a leaderboard of runs: leaderboard.json and its schema, CSV, README.md, LaTeX tables and index.html.

    Partial or unfinished runs, edited records, scores of random weights and two versions of a protocol are refused.
    Pictures come from predictions that `run --keep-predictions` kept; datasets on disk need --data-root.
    """
    from rich.console import Console

    from gen3r_bench.registry import metrics
    from gen3r_bench.reports.leaderboard.export import export as write_export

    talk = Console(stderr=True, quiet=quiet)
    with talk.status("reading runs") as status:
        done = write_export(
            runs,
            to,
            metrics(),
            roots=options.named_roots(data_root),
            most_bytes=pictures_mb * 1_000_000,
            with_ground_truth=with_ground_truth_frames,
            progress=lambda scene: status.update(f"pictures of {scene}"),
        )
    board = done.leaderboard
    if as_json:
        shown = {
            "folder": str(to),
            "bytes": done.size_bytes,
            "boards": [item.id for item in board.boards],
            "rows": [row.label for row in board.rows],
            "scenes_with_pictures": {name: len(found.scripts) for name, found in done.gallery.items()},
        }
        typer.echo(json.dumps(shown))
    for why in dict.fromkeys(found.why for found in done.gallery.values() if found.why):
        talk.print(why, highlight=False, markup=False)
    talk.print(
        f"Wrote {to} ({done.size_bytes / 1e6:.1f} MB, {len(board.boards)} tables, {len(board.rows)} rows). "
        f"Open {to / 'index.html'} in a browser.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
