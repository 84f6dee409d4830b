"""``gen3r-bench score``: score predictions that were made elsewhere; needs no model and no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.cli import options
from gen3r_bench.cli.run import carry_out


def score(
    protocol: options.Protocols,
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions",
            help="Folder with one folder a scene: a bundle, or PNG frames, points.npy|.ply, depth.npy, cameras.json.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="What the row is called, such as my-method or my-method@v2.")],
    dataset: options.DatasetNames = None,
    data_root: options.DataRoots = None,
    dataset_option: options.DatasetOptions = None,
    manifest: options.Manifests = None,
    out: options.Out = None,
    fresh: options.Fresh = False,
    limit: options.Limit = None,
    scenes: options.Scenes = None,
    jobs: options.Jobs = None,
    diagnostics: options.Diagnostics = True,
    geometry_backend: options.Backend = "exact",
    quiet: options.Quiet = False,
) -> None:
    """Score a folder of predictions under protocols, and print the table."""
    from gen3r_bench.errors import InputError
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
    )
    folder = out or Path("runs") / "-".join([*(card.name for card in cards), *datasets, name])
    carry_out(plan, folder, fresh=fresh, jobs=jobs, keep_predictions=False, quiet=quiet)
