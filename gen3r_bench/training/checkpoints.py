"""Checkpoints of a training: weights, optimiser and step, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.files import explained, first_problem
from gen3r_bench.models.checkpoint import UNREADABLE, read_safetensors, unreadable
from gen3r_bench.training.origins import Origins

FOLDER: Final = "checkpoints"
WEIGHTS_FILE: Final = "weights.safetensors"
OPTIMISER_FILE: Final = "optimiser.pt"
FACTS_FILE: Final = "recipe.json"
KEPT: Final = 2
"""How many of the newest checkpoints stay on disk."""
_NAME: Final = "[0-9]" * 8
_ELSEWHERE: Final = "choose another --out, or remove the folder"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a training after ``step`` steps; ``facts`` are its recipe's, ``origins`` say where the steps ran."""

    weights: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    step: int
    facts: Mapping[str, Any]
    origins: Origins = ()

    @classmethod
    def of(
        cls,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        step: int,
        facts: Mapping[str, Any],
        origins: Origins = (),
    ) -> Self:
        """The present state; the tensors are the network's own, so save before the next step."""
        return cls(network.state_dict(), optimiser.state_dict(), step, facts, origins)

    def restore(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Put the state into a network and an optimiser of the same recipe.

        Raises:
            InputError: where they are of other shapes.
        """
        try:
            network.load_state_dict(self.weights, strict=True)
            optimiser.load_state_dict(dict(self.optimiser))
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the checkpoint of step {self.step} does not fit its recipe ({reason})",
                expected="weights and optimiser as this training wrote them",
                fix=_ELSEWHERE,
            ) from error


class _Facts(BaseModel):
    """A checkpoint's ``recipe.json``."""

    model_config = ConfigDict(frozen=True, strict=True)

    step: int = Field(ge=0)
    recipe: dict[str, Any]
    origins: tuple[dict[str, Any], ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        path, reason = folder / FACTS_FILE, None
        try:
            facts = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            reason = first_problem(error)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if facts.step == int(folder.name):
                return facts
            reason = f"it says step {facts.step}"
        raise InputError(f"{path} cannot be read ({reason})", expected="the step and the recipe of this checkpoint")


def prepare_folder(out: Path) -> None:
    """Make the folder of checkpoints, without what a kill left half written; nobody else may be writing there.

    Raises:
        StoreError: where it cannot be written.
    """
    folder = out / FOLDER
    with explained("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{_NAME}.*"):
            shutil.rmtree(left)


def save_checkpoint(out: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``out`` and remove those before the one before; returns its folder.

    Raises:
        StoreError: where it cannot be written; the others stay.
    """
    folder = _folder(out, checkpoint.step)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    with explained("write", folder):
        try:
            temporary.mkdir(parents=True)
            _write(checkpoint, temporary)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
            _to_disk(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        # a later one could not be read, or this step would not have been computed
        kept = [each for each in _folders(out) if each <= folder][-KEPT:]
        for other in _folders(out):
            if other not in kept:
                shutil.rmtree(other)
    return folder


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the files of a checkpoint and wait until they are on the disk; any failure to is an OSError."""
    weights = {key: tensor.detach().contiguous().cpu() for key, tensor in checkpoint.weights.items()}
    try:
        save_file(weights, folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    with (folder / OPTIMISER_FILE).open("wb") as file:
        try:
            torch.save(dict(checkpoint.optimiser), file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides it behind one of a file that ends too early
                raise OSError(*error.__context__.args) from error
            raise
    facts = {"step": checkpoint.step, "recipe": checkpoint.facts, "origins": checkpoint.origins}
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for name in (WEIGHTS_FILE, OPTIMISER_FILE, FACTS_FILE):
        _to_disk(folder / name)
    _to_disk(folder)


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or what a folder lists, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_same_recipe(out: Path, facts: Mapping[str, Any]) -> None:
    """Raise InputError where the newest checkpoint below ``out`` that says its recipe was made by another one.

    How long the training is and how long its rate falls may differ, as long as the rate had not begun to fall under
    either: until there both are the same training.
    """
    for folder in reversed(_folders(out)):
        try:
            saved = _Facts.read(folder)
        except InputError:
            continue
        if not _continues(saved.recipe, json.loads(json.dumps(facts)), saved.step):
            raise InputError(
                f"{out} holds step {saved.step} of another recipe",
                expected="a new folder, or the recipe that it was begun with",
                fix=_ELSEWHERE,
            )
        return


def latest_checkpoint(
    out: Path, facts: Mapping[str, Any], on_damage: Callable[[str], None] | None = None
) -> Checkpoint | None:
    """The newest checkpoint below ``out`` that can be read, or None where there is none at all.

    Args:
        out: folder of the training.
        facts: of its recipe.
        on_damage: told in words which newer checkpoint cannot be read.

    Raises:
        InputError: where it was made by another recipe, see ``require_same_recipe``, or where none can be read.
    """
    require_same_recipe(out, facts)
    faults: list[str] = []
    for folder in reversed(_folders(out)):
        try:
            found = _read(folder)
        except InputError as fault:
            faults.append(fault.given)
            continue
        if faults and on_damage is not None:
            on_damage(f"{'; '.join(faults)}: going on from the checkpoint of step {found.step}")
        return found
    if faults:
        raise InputError("; ".join(faults), expected=f"a whole checkpoint in {out / FOLDER}", fix=_ELSEWHERE)
    return None


def origins_at(out: Path, step: int) -> Origins:
    """Where the steps of the training in ``out`` ran, by its checkpoint of ``step``.

    Raises:
        InputError: where that cannot be read.
    """
    return _Facts.read(_folder(out, step)).origins


def _read(folder: Path) -> Checkpoint:
    saved = _Facts.read(folder)
    path = folder / OPTIMISER_FILE
    try:
        optimiser = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    return Checkpoint(read_safetensors(folder / WEIGHTS_FILE), optimiser, saved.step, saved.recipe, saved.origins)


def _continues(saved: Mapping[str, Any], asked: Mapping[str, Any], step: int) -> bool:
    if saved == asked:
        return True
    try:
        falls = [facts["schedule"]["steps"] - facts["schedule"]["decay_steps"] for facts in (saved, asked)]
        return _without_length(saved) == _without_length(asked) and step <= min(falls)
    except (LookupError, TypeError):  # a recipe of another kind
        return False


def _without_length(facts: Mapping[str, Any]) -> dict[str, Any]:
    schedule = {key: value for key, value in facts["schedule"].items() if key not in {"steps", "decay_steps"}}
    return {**facts, "schedule": schedule}


def _folder(out: Path, step: int) -> Path:
    return out / FOLDER / f"{step:08d}"


def _folders(out: Path) -> list[Path]:
    return sorted(path for path in (out / FOLDER).glob(_NAME) if path.is_dir())
