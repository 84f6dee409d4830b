"""``gen3r-bench train``: make a checkpoint by its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gen3r_bench.cli import options


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Such as gen3r or vggt; a wrong one lists all.")],
    config: Annotated[
        str, typer.Option("--config", help="`reference`: what this package ships; `official`: the authors' sizes.")
    ] = "reference",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the training.", show_default="runs/train-METHOD-CONFIG"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Another length; the result is then no longer the config's.")
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave GPUs that are there unused.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the card, and where it, the weights and the curves lie, as JSON.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a checkpoint by its recipe. The same command resumes where it stopped, with the same losses."""
    from gen3r_bench.training.recipes import PROTOCOLS, named_recipe

    recipe = named_recipe(method, config)
    name = f"{method}-{config}"
    if steps is not None and steps != recipe.schedule.steps:
        recipe = recipe.with_steps(steps)
        name = f"{name}-{steps}-steps"
    import torch
    from accelerate import PartialState

    from gen3r_bench.runs.environment import capture_environment, code_commit
    from gen3r_bench.training import loop
    from gen3r_bench.training.release import release, released

    folder = out or Path("runs") / f"train-{name}"
    first = PartialState(cpu=cpu).is_main_process  # of several processes one writes and talks
    files = released(recipe, folder, name)
    if files is None:
        # as it is now: what is committed while the training runs has no part in it
        device = "cpu" if cpu or not torch.cuda.is_available() else "cuda"
        origin = {"commit": code_commit(), "torch_threads": torch.get_num_threads(), **capture_environment(device)}
        means: dict[str, float] = {}
        with options.progress_bar("training", quiet) as bar:

            def on_step(step: int, losses: dict[str, float]) -> None:
                for key, value in losses.items():
                    means[key] = 0.98 * means.get(key, value) + 0.02 * value
                bar(" ".join(f"{key} {value:.4f}" for key, value in means.items()), step, recipe.schedule.steps)

            network = loop.train(recipe, folder, cpu=cpu, origin=origin, on_step=on_step, on_damage=_warn)
        if first:
            files = release(recipe, network, folder, name)
    elif first and not quiet:
        typer.echo(f"{name} is finished; its files stay as they are", err=True)
    if files is None or not first:
        return
    if json_:
        card = json.loads(files.card.read_text(encoding="utf-8"))
        places = {what: str(path) for what, path in files._asdict().items()}
        typer.echo(json.dumps({"files": places, "card": card}, indent=1, ensure_ascii=False))
    else:
        for path in files:
            typer.echo(path)
    if not quiet and method in PROTOCOLS:
        typer.echo(f"Next: gen3r-bench run -p {PROTOCOLS[method]} -m {method}@{folder / name}.safetensors", err=True)


def _warn(text: str) -> None:
    typer.echo(f"gen3r-bench: warning: {text}", err=True)
