"""``gen3r-bench score``: score predictions that are there already: a folder made elsewhere, or those a run kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gen3r_bench.cli import options
from gen3r_bench.cli.run import carry_out, print_reasons, print_tables
from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gen3r_bench.metrics.vbench import VbenchOptions

_FOR_BOTH: Final = {"run", "metrics", "data_root", "device", "vbench_python", "vbench_timeout", "json_", "quiet"}
"""Parameters that go with a run; all others describe a folder of predictions."""


def score(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Run folder whose kept predictions get more metrics (--metrics)."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            metavar="NAME,...",
            help="With RUN: metrics to append, by name (lpips), key (lpips@alex) or family (vbench).",
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", "-p", help="Protocol to score under; repeatable (see `ls protocols`)."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="Folder with one folder a scene: a bundle, or PNG frames, points.npy|.ply, depth.npy, cameras.json.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the row is called, such as my-method or my-method@v2.")
    ] = None,
    dataset: options.DatasetNames = None,
    data_root: options.DataRoots = None,
    dataset_option: options.DatasetOptions = None,
    manifest: options.Manifests = None,
    out: options.Out = None,
    fresh: options.Fresh = False,
    limit: options.Limit = None,
    scenes: options.Scenes = None,
    device: options.Device = "cpu",
    jobs: options.Jobs = None,
    diagnostics: options.Diagnostics = True,
    geometry_backend: options.Backend = "exact",
    vbench_python: options.VbenchPython = None,
    vbench_timeout: options.VbenchTimeout = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score a folder of predictions under protocols, or append metrics to a run, and print the table.

    Either --protocol, --predictions and --name, or RUN and --metrics.
    """
    device = options.checked_device(device)
    vbench = options.vbench_options(vbench_python, vbench_timeout, device)
    if run is not None or metrics:
        _append(context, run, metrics, data_root, device, vbench, json_, quiet)
        return
    if not (protocol and predictions is not None and name is not None):
        raise InputError(
            "neither a folder of predictions nor a run",
            expected="--protocol, --predictions and --name, or a run's folder and --metrics",
            fix="gen3r-bench score -p PROTOCOL --predictions DIR --name NAME, or gen3r-bench score RUN --metrics lpips",
        )
    _score_folder(
        protocol,
        predictions,
        name,
        dataset=dataset,
        data_root=data_root,
        dataset_option=dataset_option,
        manifest=manifest,
        out=out,
        fresh=fresh,
        limit=limit,
        scenes=scenes,
        device=device,
        vbench=vbench,
        jobs=jobs,
        diagnostics=diagnostics,
        geometry_backend=geometry_backend,
        as_json=json_,
        quiet=quiet,
    )


def _score_folder(
    protocol: list[str],
    predictions: Path,
    name: str,
    *,
    dataset: list[str] | None,
    data_root: list[str] | None,
    dataset_option: list[str] | None,
    manifest: list[Path] | None,
    out: Path | None,
    fresh: bool,
    limit: int | None,
    scenes: list[str] | None,
    device: str,
    vbench: VbenchOptions,
    jobs: int | None,
    diagnostics: bool,
    geometry_backend: str,
    as_json: bool,
    quiet: bool,
) -> None:
    from gen3r_bench.runs.plan import make_plan
    from gen3r_bench.runs.rows import FolderRow, floor_specs, make_row

    cards = options.load_cards(protocol)
    backend = options.checked_backend(geometry_backend)
    conditionings = {(card.setting, card.cameras) for card in cards}
    if len(conditionings) > 1:
        raise InputError(
            "protocols of different settings for one folder of predictions",
            expected="protocols that share the setting and the cameras",
            fix="call `score` once for each setting",
        )
    manifests = options.read_manifests(manifest)
    datasets = options.open_for_run(dataset, data_root, dataset_option, manifests)
    if len(datasets) > 1:
        raise InputError(f"--dataset {', '.join(datasets)}", expected="one dataset a folder of predictions")
    scene_ids = next(iter(datasets.values())).reader.scene_ids()
    row = FolderRow(predictions, name, only_scene=len(scene_ids) == 1)
    floors = (
        [make_row(spec, device="cpu") for spec in floor_specs(card.setting for card in cards)] if diagnostics else []
    )
    plan = make_plan(
        cards,
        datasets,
        [row, *floors],
        limit=limit,
        scenes=tuple(scenes or ()),
        manifests=manifests,
        geometry_backend="released" if backend == "released" else "exact",
        device=device,
    )
    folder = out or Path("runs") / "-".join([*(card.name for card in cards), *datasets, name])
    carry_out(
        plan,
        folder,
        roots=options.data_roots(list(datasets), data_root),
        vbench=vbench,
        fresh=fresh,
        jobs=jobs,
        keep_predictions=False,
        offer_method=False,
        as_json=as_json,
        quiet=quiet,
    )


def _append(
    context: typer.Context,
    run: Path | None,
    metrics: Sequence[str] | None,
    data_root: list[str] | None,
    device: str,
    vbench: VbenchOptions,
    as_json: bool,
    quiet: bool,
) -> None:
    """Append metrics to a run, print its tables, and leave with 1 where a metric could not be computed."""
    given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    foreign = [f"--{name.replace('_', '-')}" for name in given if name not in _FOR_BOTH]
    if run is None or not metrics or foreign:
        raise InputError(
            f"{', '.join(foreign)} with a run" if foreign else "--metrics without a run" if metrics else f"only {run}",
            expected="a run's folder with --metrics (and --data-root, --device), or a folder of --predictions "
            "with --protocol and --name",
            fix=f"gen3r-bench score {run or 'RUN'} --metrics {','.join(metrics or ['lpips'])}",
        )
    from rich.console import Console

    from gen3r_bench import registry
    from gen3r_bench.runs.append import append_metrics, metrics_named
    from gen3r_bench.runs.store import read_header
    from gen3r_bench.runs.videos import vbench_scorers

    header = read_header(run)
    names = [name.strip() for text in metrics for name in text.split(",") if name.strip()]
    chosen = metrics_named(names, header, registry.metrics())
    datasets = list(dict.fromkeys(entry.dataset for entry in header.plan))
    talk = Console(stderr=True, quiet=quiet)
    try:
        with options.progress_bar("scoring", quiet) as step:
            found = append_metrics(
                run,
                chosen,
                registry.metrics(),
                roots=options.data_roots(datasets, data_root),
                device=device,
                batches=vbench_scorers(vbench),
                progress=step,
            )
    except KeyboardInterrupt:
        talk.print("Interrupted. What is finished is kept; the same command goes on from there.")
        raise typer.Exit(130) from None
    print_tables(found.run, as_json=as_json)
    said = f"\nAppended {found.scored} scores to {run}; the earlier ones are untouched."
    talk.print(said, highlight=False, markup=False)
    print_reasons(talk, found.reasons)
    if found.without_prediction:
        talk.print(f"{found.without_prediction} records lack a metric, but the run kept no prediction of theirs.")
    if found.reasons:
        raise typer.Exit(1)
