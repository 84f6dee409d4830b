"""``gen3r-bench run``: protocols x datasets x methods, to a run folder and a table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen3r_bench.cli import options

if TYPE_CHECKING:
    from gen3r_bench.runs.plan import Plan


def run(
    protocol: options.Protocols,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="ID[@CHECKPOINT]|FILE.py:CLASS",
            help="Method to run; repeatable.  [default: every method with a reference checkpoint]",
        ),
    ] = None,
    dataset: options.DatasetNames = None,
    data_root: options.DataRoots = None,
    dataset_option: options.DatasetOptions = None,
    manifest: options.Manifests = None,
    out: options.Out = None,
    fresh: options.Fresh = False,
    limit: options.Limit = None,
    scenes: options.Scenes = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling; each scene derives its own.")] = 42,
    seeds: Annotated[int, typer.Option(min=1, help="How many samples of each scene, from consecutive seeds.")] = 1,
    device: options.Device = "cpu",
    jobs: options.Jobs = None,
    keep_predictions: Annotated[
        bool, typer.Option("--keep-predictions", help="Also keep every prediction as a bundle below the run folder.")
    ] = False,
    diagnostics: options.Diagnostics = True,
    geometry_backend: options.Backend = "exact",
    quiet: options.Quiet = False,
) -> None:
    """Run methods under protocols, score them, and print the table. The same command resumes where it stopped."""
    from gen3r_bench.runs.plan import make_plan
    from gen3r_bench.runs.rows import default_method_specs, floor_specs, make_row

    cards = options.load_cards(protocol)
    backend = options.checked_backend(geometry_backend)
    device = options.checked_device(device)
    manifests = options.read_manifests(manifest)
    datasets = options.open_for_run(dataset, data_root, dataset_option, manifests)
    specs = list(
        dict.fromkeys(
            [*(method or default_method_specs()), *(floor_specs(card.setting for card in cards) if diagnostics else [])]
        )
    )
    plan = make_plan(
        cards,
        datasets,
        [make_row(spec, device=device) for spec in specs],
        seeds=tuple(range(seed, seed + seeds)),
        limit=limit,
        scenes=tuple(scenes or ()),
        manifests=manifests,
        geometry_backend="released" if backend == "released" else "exact",
        device=device,
    )
    folder = out or Path("runs") / "-".join([*(card.name for card in cards), *datasets])
    carry_out(plan, folder, fresh=fresh, jobs=jobs, keep_predictions=keep_predictions, quiet=quiet)


def carry_out(plan: Plan, folder: Path, *, fresh: bool, jobs: int | None, keep_predictions: bool, quiet: bool) -> None:
    """Execute a plan with a progress bar, print its tables, and leave with 1 where a scene failed."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from gen3r_bench import registry
    from gen3r_bench.reports.terminal import print_run
    from gen3r_bench.runs.attempt import FAILURES_NAME
    from gen3r_bench.runs.execute import execute
    from gen3r_bench.runs.store import HEADER_NAME, move_aside

    talk = Console(stderr=True, quiet=quiet)
    if fresh and (folder / HEADER_NAME).exists():
        talk.print(f"Moved the earlier run to {move_aside(folder)}")
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=talk, disable=quiet, transient=True) as bar:
            task = bar.add_task("scoring", total=plan.num_records())
            result = execute(
                plan,
                folder,
                command=shlex.join(["gen3r-bench", *sys.argv[1:]]),
                jobs=jobs or options.default_jobs(),
                keep_predictions=keep_predictions,
                progress=lambda scene, count: bar.update(task, advance=count, description=scene),
            )
    except KeyboardInterrupt:
        talk.print("Interrupted. What is finished is kept; the same command goes on from there.")
        raise typer.Exit(130) from None
    print_run(Console(), result, registry.metrics())
    failed = [record for record in result.records if record.status == "failed"]
    cards = result.header.protocols
    tables = sorted({number for card in cards for number in card.paper_tables})
    talk.print(f"\nRun folder: [bold]{folder}[/bold]  (run.json, records.jsonl)", highlight=False)
    if failed:
        talk.print(
            f"[red]{len(failed)} of {len(result.records)} records failed[/red]; reasons stand in records.jsonl, "
            f"tracebacks in {FAILURES_NAME}. The same command tries them again.",
            highlight=False,
        )
    if tables:
        talk.print(
            f"Next: [bold]gen3r-bench table --table {tables[0]} --runs {folder}[/bold]  beside the paper's Table "
            f"{tables[0]}, or add your method with [bold]--method file.py:Class[/bold]",
            highlight=False,
        )
    if failed:
        raise typer.Exit(1)
