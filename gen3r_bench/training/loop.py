"""The loop that every recipe shares: steps, checkpoints, and going on after a kill as if nothing had happened.

Devices, accumulation and several processes are accelerate's part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gen3r_bench.errors import BenchError
from gen3r_bench.training.checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from gen3r_bench.training.schedule import Schedule

LOSSES_FILE = "losses.jsonl"
Batch = TypeVar("Batch")


class Recipe(Protocol[Batch]):
    """What a training needs besides the loop; a recipe is data that can be written down and hashed."""

    @property
    def schedule(self) -> Schedule:
        """How long, how fast."""

    def facts(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON."""

    def with_steps(self, steps: int) -> Self:
        """The recipe at another length."""

    def metadata(self, shipped: nn.Module) -> Mapping[str, str]:
        """What a file of the released weights must say besides the weights."""

    def network(self) -> nn.Module:
        """The network with freshly drawn weights."""

    def shipped(self, network: nn.Module) -> nn.Module:
        """What of a trained network is released: itself, a part, or one that knows its own latents' statistics."""

    def draw_batch(self, draw: np.random.Generator) -> Batch:
        """One batch on the CPU: a NamedTuple of tensors; all its randomness comes from ``draw``."""

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; ``total`` is what is minimised."""


def train(
    recipe: Recipe[Any], out: Path, *, cpu: bool = False, on_step: Callable[[int, dict[str, float]], None] | None = None
) -> nn.Module:
    """Train to the end of the schedule, from the newest checkpoint below ``out`` on, and return the network.

    A batch depends on the seed and its step's number alone, and a checkpoint holds weights and optimiser, so a training
    that was killed has the losses, to the last digit, that it would have had. They lie in ``losses.jsonl``, a line a
    step; of several processes, the first one's.

    Args:
        recipe: what is trained.
        out: folder of the training; made where it is not there.
        cpu: whether accelerators that are there stay unused.
        on_step: called after each step with the number of steps done and the losses.

    Raises:
        InputError: where ``out`` holds a training of another recipe.
        BenchError: where the loss is not finite; the last checkpoint is whole.
    """
    schedule = recipe.schedule
    accelerator = Accelerator(cpu=cpu, gradient_accumulation_steps=schedule.accumulate)
    torch.manual_seed(schedule.seed)
    network = recipe.network().train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay
    )
    found = latest_checkpoint(out, recipe.facts())
    start = 0
    if found is not None:
        found.restore(network, optimiser)
        start = found.step
    computation, optimiser = accelerator.prepare(_Losses(recipe, network), optimiser)
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        _keep_lines(out / LOSSES_FILE, start)
    for step in range(start, schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        losses = _one_step(recipe, accelerator, computation, optimiser, step)
        if accelerator.is_main_process:
            _write_line(out / LOSSES_FILE, {"step": step + 1, **losses})
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                save_checkpoint(out, Checkpoint.of(network, optimiser, step + 1, recipe.facts()))
        if on_step is not None:
            on_step(step + 1, losses)
    return network.eval()


class _Losses(nn.Module):
    """What accelerate wraps where there are several processes: a recipe inside it still meets its own network."""

    def __init__(self, recipe: Recipe[Any], network: nn.Module) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = network

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.recipe.losses(self.network, batch)


def _one_step(
    recipe: Recipe[Any], accelerator: Accelerator, computation: nn.Module, optimiser: torch.optim.Optimizer, step: int
) -> dict[str, float]:
    schedule = recipe.schedule
    sums: dict[str, float] = {}
    for part in range(schedule.accumulate):
        draw = np.random.default_rng([schedule.seed, step, part, accelerator.process_index])
        drawn = recipe.draw_batch(draw)
        batch = type(drawn)(*(tensor.to(accelerator.device) for tensor in drawn))
        with accelerator.accumulate(computation):
            # not accelerate's own: it keeps one precision for a whole process; bfloat16 needs no scaler
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16"):
                losses: dict[str, Tensor] = computation(batch)
            if not torch.isfinite(losses["total"]):
                found = float(losses["total"].detach())
                raise BenchError(f"the loss of step {step + 1} is {found} (fix: a lower learning rate)")
            accelerator.backward(losses["total"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(computation.parameters(), schedule.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / schedule.accumulate
    return sums


def read_losses(out: Path) -> list[dict[str, float]]:
    """The losses of every step that is done, in order; none where nothing was trained."""
    path = out / LOSSES_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _keep_lines(path: Path, steps: int) -> None:
    """Cut the losses back to those of the first steps: what came after the checkpoint is computed again."""
    if path.is_file():
        kept = [line for line in read_losses(path.parent) if line["step"] <= steps]
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(temporary, path)


def _write_line(path: Path, line: dict[str, float]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
