"""``gen3r-bench run``: protocols x datasets x methods, to a run folder and a table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen3r_bench.cli import options
from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from rich.console import Console

    from gen3r_bench.metrics.vbench import VbenchOptions
    from gen3r_bench.runs.append import BatchScorer
    from gen3r_bench.runs.plan import Plan
    from gen3r_bench.runs.store import Run


def run(
    protocol: options.Protocols,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="ID[@CHECKPOINT]|FILE.py:CLASS",
            help="Method to run; repeatable.",
            show_default="every method with a reference checkpoint",
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
    vbench_python: options.VbenchPython = None,
    vbench_timeout: options.VbenchTimeout = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run methods under protocols, score them, and print the table. The same command resumes where it stopped."""
    from gen3r_bench.runs.plan import make_plan
    from gen3r_bench.runs.rows import default_method_specs, floor_specs, make_row

    cards = options.load_cards(protocol)
    backend = options.checked_backend(geometry_backend)
    device = options.checked_device(device)
    vbench = options.vbench_options(vbench_python, vbench_timeout, device)
    manifests = options.read_manifests(manifest)
    datasets = options.open_for_run(dataset, data_root, dataset_option, manifests)
    specs = list(
        dict.fromkeys(
            [
                *(method or default_method_specs(cards)),
                *(floor_specs(card.setting for card in cards) if diagnostics else []),
            ]
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
    carry_out(
        plan,
        folder,
        roots=options.data_roots(list(datasets), data_root),
        vbench=vbench,
        fresh=fresh,
        jobs=jobs,
        keep_predictions=keep_predictions,
        offer_method=not method,
        as_json=json_,
        quiet=quiet,
    )


def carry_out(
    plan: Plan,
    folder: Path,
    *,
    roots: Mapping[str, Path],
    vbench: VbenchOptions,
    fresh: bool,
    jobs: int | None,
    keep_predictions: bool,
    offer_method: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Execute a plan with a progress bar, print its tables, and leave with 1 where a scene or VBench failed.

    Where a card asks for VBench's metrics and they are ready here, predictions are kept, and scored at the end.
    With ``offer_method`` the closing remark says how to add a method.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from gen3r_bench.runs.attempt import FAILURES_NAME
    from gen3r_bench.runs.execute import execute
    from gen3r_bench.runs.store import HEADER_NAME, move_aside
    from gen3r_bench.runs.videos import vbench_scorers

    talk = Console(stderr=True, quiet=quiet)
    shown = escape(str(folder))
    if fresh and (folder / HEADER_NAME).exists():
        talk.print(f"Moved the earlier run to {move_aside(folder)}", markup=False)
    asked = {key for card in plan.cards for key in card.metrics}
    ready = {key: scorer for key, scorer in vbench_scorers(vbench).items() if key in asked and not scorer.obstacle()}
    if ready and not keep_predictions:
        talk.print(f"Predictions are kept below {shown}: VBench scores them at the end.", highlight=False)
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
                keep_predictions=keep_predictions or bool(ready),
                progress=lambda scene, count: bar.update(task, advance=count, description=scene),
            )
        reasons: Mapping[str, Counter[str]] = {}
        if ready:
            try:
                result, reasons = _score_videos(folder, ready, roots=roots, device=plan.device, quiet=quiet)
            except InputError as error:  # an earlier run without VBench, which kept no predictions, is finished
                talk.print(f"VBench scored nothing: {error}", highlight=False, markup=False)
    except KeyboardInterrupt:
        talk.print("Interrupted. What is finished is kept; the same command goes on from there.")
        raise typer.Exit(130) from None
    print_tables(result, as_json=as_json)
    failed = [record for record in result.records if record.status == "failed"]
    cards = result.header.protocols
    tables = sorted({number for card in cards for number in card.paper_tables})
    talk.print(f"\nRun folder: [bold]{shown}[/bold]  (run.json, records.jsonl)", highlight=False)
    if failed:
        talk.print(
            f"[red]{len(failed)} of {len(result.records)} records failed[/red]; reasons stand in records.jsonl, "
            f"tracebacks in {FAILURES_NAME}. The same command tries them again.",
            highlight=False,
        )
    print_reasons(talk, reasons)
    if tables:
        talk.print(
            f"Next: [bold]gen3r-bench table --table {tables[0]} --runs {shown}[/bold]  beside the paper's Table "
            f"{tables[0]}" + (", or add your method with [bold]--method file.py:Class[/bold]" if offer_method else ""),
            highlight=False,
        )
    if failed or reasons:
        raise typer.Exit(1)


def _score_videos(
    folder: Path, ready: Mapping[str, BatchScorer], *, roots: Mapping[str, Path], device: str, quiet: bool
) -> tuple[Run, Mapping[str, Counter[str]]]:
    """Score a run's kept predictions by VBench; the run as it is then, and why scores are missing."""
    from gen3r_bench import registry
    from gen3r_bench.runs.append import append_metrics
    from gen3r_bench.runs.store import read_header

    asked = {card.name: card.content["metrics"] for card in read_header(folder).protocols}
    chosen = {protocol: tuple(key for key in keys if key in ready) for protocol, keys in asked.items()}
    with options.progress_bar("VBench", quiet) as step:
        found = append_metrics(
            folder, chosen, registry.metrics(), roots=roots, device=device, batches=ready, progress=step
        )
    return found.run, found.reasons


def print_reasons(talk: Console, reasons: Mapping[str, Counter[str]]) -> None:
    """Say why metrics have no score, by metric key, and for how many records."""
    from rich.text import Text

    for key, counts in reasons.items():
        for reason, count in counts.most_common():
            # a reason is no markup: the [perceptual] of a pip command would be taken for a style, and vanish
            talk.print(Text.assemble((key, "red"), f": no score for {count} records: {reason}"))


def print_tables(run: Run, *, as_json: bool) -> None:
    """Print a run's own tables on standard output."""
    from gen3r_bench import registry
    from gen3r_bench.reports.compose import run_table
    from gen3r_bench.reports.table_json import tables_json
    from gen3r_bench.reports.terminal import print_run

    metrics = registry.metrics()
    if as_json:
        typer.echo(tables_json([run_table(run, card.name, metrics) for card in run.header.protocols]), nl=False)
    else:
        print_run(options.table_console(), run, metrics)
