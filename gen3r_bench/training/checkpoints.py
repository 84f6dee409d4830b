"""Checkpoints of a training: weights, optimiser and step, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gen3r_bench.errors import InputError

FOLDER: Final = "checkpoints"
WEIGHTS_FILE: Final = "weights.safetensors"
OPTIMISER_FILE: Final = "optimiser.pt"
FACTS_FILE: Final = "recipe.json"
KEPT: Final = 2
"""How many of the newest checkpoints stay on disk."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a training after ``step`` steps; ``facts`` are its recipe's."""

    weights: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    step: int
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, network: nn.Module, optimiser: torch.optim.Optimizer, step: int, facts: Mapping[str, Any]) -> Self:
        """The present state; the tensors are the network's own, so save before the next step."""
        return cls(network.state_dict(), optimiser.state_dict(), step, facts)

    def restore(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Put the state into a network and an optimiser of the same recipe."""
        network.load_state_dict(self.weights, strict=True)
        optimiser.load_state_dict(dict(self.optimiser))


def save_checkpoint(out: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``out`` and remove those before the one before; returns its folder."""
    folder = out / FOLDER / f"{checkpoint.step:08d}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({k: t.detach().contiguous().cpu() for k, t in checkpoint.weights.items()}, temporary / WEIGHTS_FILE)
    torch.save(dict(checkpoint.optimiser), temporary / OPTIMISER_FILE)
    facts = {"step": checkpoint.step, "recipe": checkpoint.facts}
    (temporary / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    for old in _folders(out)[:-KEPT]:
        shutil.rmtree(old)
    return folder


def latest_checkpoint(out: Path, facts: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint below ``out``, or None where there is none.

    Raises:
        InputError: where it was made by another recipe. How long the training is and how long its rate falls may
            differ, as long as the rate had not begun to fall under either: until there both are the same training.
    """
    folders = _folders(out)
    if not folders:
        return None
    saved = json.loads((folders[-1] / FACTS_FILE).read_text(encoding="utf-8"))
    if not _continues(saved["recipe"], json.loads(json.dumps(facts)), saved["step"]):
        raise InputError(
            f"{out} holds step {saved['step']} of another recipe",
            expected="a new folder, or the recipe that it was begun with",
            fix="choose another --out, or remove the folder",
        )
    optimiser = torch.load(folders[-1] / OPTIMISER_FILE, map_location="cpu", weights_only=True)
    return Checkpoint(load_file(folders[-1] / WEIGHTS_FILE), optimiser, saved["step"], saved["recipe"])


def _continues(saved: dict[str, Any], asked: dict[str, Any], step: int) -> bool:
    if saved == asked:
        return True
    falls = [facts["schedule"].pop("steps") - facts["schedule"].pop("decay_steps") for facts in (saved, asked)]
    return saved == asked and step <= min(falls)


def _folders(out: Path) -> list[Path]:
    return sorted(path for path in (out / FOLDER).glob("[0-9]*") if (path / FACTS_FILE).is_file())
