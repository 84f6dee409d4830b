"""``gen3r-bench weights`` and ``plan``: which weights are here, how to get them, and what they will need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from gen3r_bench.models.plan import ModelPlan
    from gen3r_bench.weights import WeightEntry

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_GB = 1e9


def weights(
    method: Annotated[str | None, typer.Argument(metavar="[METHOD]", help="Only what this method reads.")] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Read every file that is there: hash, size, completeness. Exit 1 on a fault."),
    ] = False,
    json_: Json = False,
) -> None:
    """List official weights: which are here, where the others belong, and the command that fetches them."""
    from gen3r_bench.weights import download_commands, entries

    chosen = entries(method)
    rows = [_row(entry, check) for entry in chosen]
    commands = download_commands(chosen)
    if json_:
        typer.echo(json.dumps({"weights": rows, "download": commands}, indent=1, ensure_ascii=False))
    else:
        _print_weights(rows, commands, check)
    if any(row["state"] == "partial" or any(file["fault"] for file in row["files"]) for row in rows) and check:
        raise typer.Exit(1)


def _row(entry: WeightEntry, check: bool) -> dict[str, Any]:
    from gen3r_bench.weights import check_files

    files: list[dict[str, Any]] = []
    if check:
        files = [
            {
                "file": str(found.file),
                "sha256": found.sha256,
                "size_bytes": found.size_bytes,
                "fault": found.fault,
                "verified": found.verified,
            }
            for found in check_files(entry)
        ]
    return {
        "methods": list(entry.methods),
        "place": str(entry.path),
        "state": entry.state(),
        "bytes_here": sum(file.stat().st_size for file in entry.files()),
        "size": entry.size,
        "hub_id": entry.hub_id,
        "hub_path": entry.hub_path,
        "licence": entry.licence,
        "sha256": entry.sha256,
        "files": files,
    }


def _print_weights(rows: list[dict[str, Any]], commands: list[str], check: bool) -> None:
    from gen3r_bench.locations import weights_root

    table = _table("weights", "state", "here", "published", "methods", "licence")
    for row in rows:
        here = f"{row['bytes_here'] / _GB:.2f} GB" if row["bytes_here"] else "–"
        place = row["place"].removeprefix(f"{weights_root()}/")
        table.add_row(place, row["state"], here, row["size"] or "–", ", ".join(row["methods"]), row["licence"])
    _print(table)
    typer.echo(f"below {weights_root()} (GEN3R_BENCH_WEIGHTS)")
    if check:
        for row in rows:
            for file in row["files"]:
                verdict = file["fault"] or ("as published" if file["verified"] else "whole; no published hash is known")
                typer.echo(f"{file['file']}  sha256 {file['sha256']}  {file['size_bytes']} bytes  {verdict}")
    if commands:
        typer.echo("to download what is not here:")
        for command in commands:
            typer.echo(f"  {command}")


PLANS: Final = {
    "aether": "gen3r_bench.baselines.aether",
    "gen3r": "gen3r_bench.models.gen3r.plan",
    "lvsm": "gen3r_bench.baselines.lvsm",
}
"""Methods with a plan, and the module whose ``plan_checkpoint`` makes it."""


def plan(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help=f"{', '.join(PLANS)}, or METHOD@PATH of a checkpoint.")
    ],
    frames: Annotated[int, typer.Option(min=1, help="Frames of the clip.")] = 49,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 560,
    float32: Annotated[bool, typer.Option("--float32", help="Weights in float32, as on a CPU.")] = False,
    json_: Json = False,
) -> None:
    """Print parameters, bytes on disk and peak memory of each stage of a method, without loading any weights."""
    name, _, checkpoint = method.partition("@")
    if name not in PLANS:
        raise InputError(
            f"method {method!r}", expected=f"a method with a plan: {', '.join(PLANS)}", fix="gen3r-bench plan gen3r"
        )
    import dataclasses
    from importlib import import_module

    import torch

    dtype = torch.float32 if float32 else torch.bfloat16
    made: ModelPlan = import_module(PLANS[name]).plan_checkpoint(
        checkpoint or None, num_frames=frames, image_size=(size, size), dtype=dtype
    )
    totals = {
        "parameters": sum(stage.parameters for stage in made.parts),
        "disk_bytes": sum(stage.disk_bytes for stage in made.parts),
        "peak_bytes_offload_all": made.one_part_bytes,
        "peak_bytes_offload_encoders": made.resident_bytes,
    }
    if json_:
        rows = [{**dataclasses.asdict(stage), "peak_bytes": stage.peak_bytes} for stage in made.stages]
        typer.echo(json.dumps({"stages": rows, "totals": totals}, indent=1))
        return
    table = _table("stage", "part", "parameters", "on disk", "weights", "work", "peak")
    for stage in made.stages:
        numbers = (stage.disk_bytes, stage.weight_bytes, stage.work_bytes, stage.peak_bytes)
        table.add_row(
            stage.stage,
            stage.part,
            f"{stage.parameters / 1e6:.1f} M",
            *(f"{number / _GB:.2f} GB" for number in numbers),
        )
    _print(table)
    gigabytes = {name: f"{value / _GB:.1f} GB" for name, value in totals.items()}
    offloaded = (
        f", or {gigabytes['peak_bytes_offload_all']} with GEN3R_BENCH_OFFLOAD=all" if len(made.parts) > 1 else ""
    )
    typer.echo(
        f"{totals['parameters'] / 1e9:.2f} billion parameters; {gigabytes['disk_bytes']} on disk if stored as "
        f"{str(dtype).removeprefix('torch.')}; peak {gigabytes['peak_bytes_offload_encoders']}{offloaded}"
    )
    typer.echo("Peaks count tensors; what kernels and the allocator take besides is not in them.")


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    console.width = max(console.width, 140) if not console.is_terminal else console.width
    console.print(table)
