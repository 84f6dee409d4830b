"""``gen3r-bench show``: one scene of a run as a figure: frames, errors, depth and point clouds of every method."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.cli import options


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder made with --keep-predictions.")],
    scene: Annotated[str, typer.Option("--scene", "-s", metavar="ID", help="A scene of the run.")],
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", metavar="ROW", help="A row of the run; repeatable, in the order to draw them."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="Whose predictions.", show_default="the run's first")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Where scenes of two datasets share an id.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the predictions.", show_default="the run's first")] = None,
    frames: Annotated[int, typer.Option(min=1, max=12, help="How many frames, spread over the clip.")] = 6,
    data_root: options.DataRoots = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.png", help="Picture to write.", show_default="SCENE.png")
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw one scene: input, true and predicted frames, error maps, depth, and point clouds from one fixed view.

    Prints the picture's path; with --json also what is in it.
    """
    from rich.console import Console

    from gen3r_bench.files import write_atomically
    from gen3r_bench.registry import metrics
    from gen3r_bench.reports.scene_answers import scene_answers
    from gen3r_bench.reports.scene_figure import scene_figure
    from gen3r_bench.runs.store import read_run

    found_run = read_run(run)
    roots = options.data_roots([entry.dataset for entry in found_run.header.plan], data_root)
    with Console(stderr=True, quiet=quiet).status("drawing …"):
        found = scene_answers(
            found_run,
            scene,
            metrics(),
            protocol=protocol,
            rows=tuple(method or ()),
            dataset=dataset,
            seed=seed,
            roots=roots,
        )
        picture = scene_figure(found, columns=frames)
    name = re.sub(r"[^\w.-]+", "-", scene).strip("-.") or "scene"
    target = out or Path(f"{name}.png")
    write_atomically(target, picture)
    if json_:
        content = {
            "picture": str(target),
            "scene": scene,
            "dataset": found.scene.dataset,
            "conditioning": found.conditioning,
            "input_frames": list(found.given),
            "rows": [{"row": answer.row.label, "scores": dict(answer.scores)} for answer in found.answers],
        }
        typer.echo(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        typer.echo(str(target))
