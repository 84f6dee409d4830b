"""What a finished training leaves behind: a file of weights, the card that belongs to it, and its curves."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import torch
from safetensors.torch import save
from torch import nn

from gen3r_bench.errors import InputError
from gen3r_bench.files import write_atomically
from gen3r_bench.models.checkpoint import weights_sha256
from gen3r_bench.training.checkpoints import origins_at
from gen3r_bench.training.loop import Recipe
from gen3r_bench.training.losses import read_losses
from gen3r_bench.training.origins import for_card

LICENCE: Final = "MIT"
_PANELS_A_ROW: Final = 5
_MEAN_OVER: Final = 100
"""Steps whose mean loss a card names and a curve is smoothed over."""


def recipe_sha256(recipe: Recipe[Any]) -> str:
    """Hash of everything that decides a recipe's result."""
    return hashlib.sha256(json.dumps(recipe.facts(), sort_keys=True).encode()).hexdigest()


class Released(NamedTuple):
    """Where the files of a trained network lie."""

    weights: Path
    card: Path
    curves: Path

    @classmethod
    def in_folder(cls, out: Path, name: str) -> Self:
        return cls(*(out / f"{name}{suffix}" for suffix in (".safetensors", ".json", ".png")))


def release(recipe: Recipe[Any], network: nn.Module, out: Path, name: str) -> Released:
    """Write ``NAME.safetensors`` (float16), ``NAME.json`` (the card) and ``NAME.png`` (the curves) into ``out``.

    Args:
        recipe: what was trained.
        network: the result.
        out: the training's folder, with its losses and its last checkpoint, which says where the steps ran.
        name: of the three files, such as ``lvsm-reference``.

    Raises:
        InputError: where losses or checkpoint are damaged.
        StoreError: where the files cannot be written.
    """
    files = Released.in_folder(out, name)
    losses = read_losses(out, recipe.schedule.steps)
    origins = origins_at(out, recipe.schedule.steps)
    shipped = recipe.shipped(network)
    tensors = {
        key: tensor.detach().to(torch.float16).contiguous().cpu() for key, tensor in shipped.state_dict().items()
    }
    weights = save(tensors, metadata=dict(recipe.metadata(shipped)))
    last = losses[-_MEAN_OVER:]
    named = [key for key in last[-1] if key != "step" and all(key in line for line in last)]
    content = {
        "name": name,
        "licence": LICENCE,
        "recipe": recipe.facts(),
        "recipe_sha256": recipe_sha256(recipe),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "weights": {
            "file": files.weights.name,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "bytes": len(weights),
            "dtype": "float16",
        },
        "mean_losses_of_the_last_steps": {
            "steps": len(last),
            **{key: round(sum(line[key] for line in last) / len(last), 6) for key in named},
        },
        "curves": files.curves.name,
        "origin": for_card(origins),
    }
    write_atomically(files.weights, weights)
    write_atomically(files.curves, curves_picture(losses, recipe))
    # the last one, since it vouches for the others
    write_atomically(files.card, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return files


def released(recipe: Recipe[Any], out: Path, name: str) -> Released | None:
    """The files of a training that is finished; None where one is missing, or the weights are not those of the card.

    The curves are drawn again where they are gone.

    Raises:
        InputError: where the card is that of another recipe, or lines of the losses are wrong or missing.
        StoreError: where the losses cannot be read.
    """
    files = Released.in_folder(out, name)
    try:
        card = json.loads(files.card.read_bytes())
        trained, promised = card["recipe_sha256"], card["weights"]["sha256"]
        if weights_sha256(files.weights) != promised:
            return None
    except (OSError, ValueError, LookupError, TypeError, InputError):
        return None
    if trained != recipe_sha256(recipe):
        raise InputError(
            f"{files.card} is the card of another recipe",
            expected="a new folder, or the recipe that it was begun with",
            fix="choose another --out",
        )
    losses = read_losses(out, recipe.schedule.steps)
    if not files.curves.is_file():
        write_atomically(files.curves, curves_picture(losses, recipe))
    return files


def curves_picture(losses: list[dict[str, float]], recipe: Recipe[Any]) -> bytes:
    """A picture (PNG) of every loss (each step faint, the running mean over it) and of the learning rate."""
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
        picture = io.BytesIO()
        figure.savefig(picture, dpi=100, metadata={"Software": ""})
    return picture.getvalue()
