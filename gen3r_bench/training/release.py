"""What a finished training leaves behind: a file of weights, the card that belongs to it, and its curves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import nn

from gen3r_bench.training.loop import Recipe, read_losses

LICENCE: Final = "MIT"
_PANELS_A_ROW: Final = 5
_MEAN_OVER: Final = 100
"""Steps whose mean loss a card names and a curve is smoothed over."""


def recipe_sha256(recipe: Recipe[Any]) -> str:
    """Hash of everything that decides a recipe's result."""
    return hashlib.sha256(json.dumps(recipe.facts(), sort_keys=True).encode()).hexdigest()


def release(
    recipe: Recipe[Any], network: nn.Module, out: Path, name: str, *, origin: Mapping[str, Any]
) -> tuple[Path, Path, Path]:
    """Write ``NAME.safetensors`` (float16), ``NAME.json`` (the card) and ``NAME.png`` (the curves) into ``out``.

    Args:
        recipe: what was trained.
        network: the result.
        out: the training's folder, with its losses.
        name: of the three files, such as ``lvsm-reference``.
        origin: facts about code and machine for the card.

    Returns:
        Paths of weights, card and curves.
    """
    weights, card, curves = (out / f"{name}{suffix}" for suffix in (".safetensors", ".json", ".png"))
    shipped = recipe.shipped(network)
    tensors = {
        key: tensor.detach().to(torch.float16).contiguous().cpu() for key, tensor in shipped.state_dict().items()
    }
    save_file(tensors, weights, metadata=dict(recipe.metadata(shipped)))
    losses = read_losses(out)
    last = losses[-_MEAN_OVER:]
    content = {
        "name": name,
        "licence": LICENCE,
        "recipe": recipe.facts(),
        "recipe_sha256": recipe_sha256(recipe),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "weights": {
            "file": weights.name,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "bytes": weights.stat().st_size,
            "dtype": "float16",
        },
        "mean_losses_of_the_last_steps": {
            "steps": len(last),
            **{key: round(sum(line[key] for line in last) / len(last), 6) for key in last[-1] if key != "step"},
        },
        "curves": curves.name,
        "origin": dict(origin),
    }
    card.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_curves(losses, recipe, curves)
    return weights, card, curves


def draw_curves(losses: list[dict[str, float]], recipe: Recipe[Any], path: Path) -> None:
    """A picture of every loss (each step faint, the running mean over it) and of the learning rate."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    names = [name for name in losses[-1] if name != "step"]
    steps = np.array([line["step"] for line in losses])
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        rows = -(-(len(names) + 1) // _PANELS_A_ROW)
        columns = min(_PANELS_A_ROW, len(names) + 1)
        figure = Figure(figsize=(8, 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(names) : -1]:
            panel.set_visible(False)
        for panel, name in zip(panels, names, strict=False):
            values = np.array([line.get(name, np.nan) for line in losses])
            width = min(_MEAN_OVER, len(values))
            mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
            panel.plot(steps, values, color="0.8", linewidth=0.5)
            panel.plot(steps[width - 1 :], mean, color="tab:blue", linewidth=1.2)
            panel.set(title=f"{name} loss", xlabel="step", yscale="log")
        panels[-1].plot(steps, [recipe.schedule.rate(int(step) - 1) for step in steps], color="tab:orange")
        panels[-1].set(title="learning rate", xlabel="step")
        figure.savefig(path, dpi=100, metadata={"Software": ""})
