"""The loop that every recipe shares: steps, checkpoints, and going on after a kill as if nothing had happened.

Devices, accumulation and several processes are accelerate's part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gen3r_bench.errors import BenchError
from gen3r_bench.training.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    prepare_folder,
    require_same_recipe,
    save_checkpoint,
)
from gen3r_bench.training.losses import LossWriter
from gen3r_bench.training.origins import continued
from gen3r_bench.training.schedule import Schedule

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
    recipe: Recipe[Any],
    out: Path,
    *,
    cpu: bool = False,
    origin: Mapping[str, Any] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    on_damage: Callable[[str], None] | None = None,
) -> nn.Module:
    """Train to the end of the schedule, from the newest checkpoint below ``out`` on, and return the network.

    A batch depends on the seed and its step's number alone, and a checkpoint holds weights and optimiser, so a training
    that was killed has the losses, to the last digit, that it would have had. They lie in ``losses.jsonl``, a line a
    step; of several processes, the first one's.

    Args:
        recipe: what is trained.
        out: folder of the training; made where it is not there.
        cpu: whether accelerators that are there stay unused.
        origin: facts about code and machine that the steps run under; each checkpoint tells those of all its steps.
        on_step: called after each step with the number of steps done and the losses.
        on_damage: told in words where the newest checkpoint cannot be read, and the one before it is used.

    Raises:
        InputError: where ``out`` holds a training of another recipe, or one that is damaged.
        StoreError: where another training writes into ``out``, or it cannot be read or written.
        BenchError: where the loss is not finite; the last checkpoint is whole.
    """
    schedule, facts = recipe.schedule, recipe.facts()
    require_same_recipe(out, facts)  # before anything is written
    accelerator = Accelerator(cpu=cpu, gradient_accumulation_steps=schedule.accumulate)
    with LossWriter(out) if accelerator.is_main_process else nullcontext() as writer:
        if writer is not None:
            prepare_folder(out)
        network, optimiser = _fresh(recipe)
        found = latest_checkpoint(out, facts, on_damage if writer is not None else None)
        if found is not None:
            found.restore(network, optimiser)
        start = 0 if found is None else found.step
        origins = continued(() if found is None else found.origins, start, origin or {})
        if writer is not None:
            writer.keep(start)
        computation, optimiser = accelerator.prepare(_Losses(recipe, network), optimiser)
        for step in range(start, schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(step)
            losses = _one_step(recipe, accelerator, computation, optimiser, step)
            if writer is not None:
                writer.append({"step": step + 1, **losses})
                if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                    writer.to_disk()  # a checkpoint without the losses up to it cannot be continued
                    save_checkpoint(out, Checkpoint.of(network, optimiser, step + 1, facts, origins))
            if on_step is not None:
                on_step(step + 1, losses)
    return network.eval()


def _fresh(recipe: Recipe[Any]) -> tuple[nn.Module, torch.optim.Optimizer]:
    schedule = recipe.schedule
    torch.manual_seed(schedule.seed)
    network = recipe.network().train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay
    )
    return network, optimiser


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
