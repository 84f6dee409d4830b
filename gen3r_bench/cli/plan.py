"""``gen3r-bench plan``: what a method will need, before anything is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gen3r_bench.cli import options
from gen3r_bench.cli.weights import GB, print_table, table_of
from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from gen3r_bench.models.plan import ModelPlan

PLANS: Final = {
    "aether": "gen3r_bench.baselines.aether",
    "gen3r": "gen3r_bench.baselines.gen3r",
    "gen3r-two-stage": "gen3r_bench.baselines.gen3r_two_stage",
    "gen3r-without-kl": "gen3r_bench.baselines.gen3r_without_kl",
    "lvsm": "gen3r_bench.baselines.lvsm",
    "vggt": "gen3r_bench.baselines.vggt",
    "wvd": "gen3r_bench.baselines.wvd",
}
"""Methods with a plan, and the module whose ``plan_checkpoint`` makes it."""


def plan(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help=f"{', '.join(PLANS)}, or METHOD@PATH of a checkpoint.")
    ],
    frames: Annotated[int, typer.Option(min=1, help="Frames of the clip.")] = 49,
    size: Annotated[int, typer.Option(min=1, help="Height and width in pixels.")] = 560,
    float32: Annotated[bool, typer.Option("--float32", help="Weights in float32, as on a CPU.")] = False,
    json_: options.Json = False,
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
    table = table_of("stage", "part", "parameters", "on disk", "weights", "work", "peak")
    for stage in made.stages:
        numbers = (stage.disk_bytes, stage.weight_bytes, stage.work_bytes, stage.peak_bytes)
        table.add_row(
            stage.stage,
            stage.part,
            f"{stage.parameters / 1e6:.1f} M",
            *(f"{number / GB:.2f} GB" for number in numbers),
        )
    print_table(table)
    gigabytes = {name: f"{value / GB:.1f} GB" for name, value in totals.items()}
    offloaded = (
        f", or {gigabytes['peak_bytes_offload_all']} with GEN3R_BENCH_OFFLOAD=all" if len(made.parts) > 1 else ""
    )
    typer.echo(
        f"{totals['parameters'] / 1e9:.2f} billion parameters; {gigabytes['disk_bytes']} on disk "
        f"if stored as kept in memory; peak {gigabytes['peak_bytes_offload_encoders']}{offloaded}"
    )
    typer.echo("Peaks count tensors; what kernels and the allocator take besides is not in them.")
