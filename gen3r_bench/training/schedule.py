"""How long a training runs, and how fast it learns at every step."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Schedule(BaseModel):
    """Steps, learning rate and what else the optimiser (AdamW) needs; the defaults are those of small recipes.

    The rate rises linearly over ``warmup_steps``, holds, and falls to zero along half a cosine over the last
    ``decay_steps`` steps: with ``decay_steps = steps - warmup_steps``, one long cosine.

    Attributes:
        steps: updates of the weights.
        learning_rate: its highest value.
        warmup_steps: until it is reached.
        decay_steps: from it to zero.
        betas: of AdamW.
        weight_decay: of AdamW.
        clip_norm: largest norm of a step's gradient.
        accumulate: batches whose gradients make one step.
        precision: "float32", or "bfloat16" for the products inside the network.
        seed: of the weights and of every batch.
        save_every: steps between checkpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay_steps: int = Field(ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    accumulate: int = Field(default=1, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    save_every: int = Field(default=250, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Schedule:
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(
                f"{self.warmup_steps} warm-up and {self.decay_steps} decay steps do not fit into {self.steps} steps"
            )
        return self

    def with_steps(self, steps: int) -> Schedule:
        """The schedule at another length, its warm-up and decay shortened in proportion where they would not fit."""
        share = min(1.0, steps / max(self.warmup_steps + self.decay_steps, 1))
        return Schedule(
            **{
                **self.model_dump(),
                "steps": steps,
                "warmup_steps": int(self.warmup_steps * share),
                "decay_steps": int(self.decay_steps * share),
            }
        )

    def rate(self, step: int) -> float:
        """Learning rate of the update numbered ``step``, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        into = step - (self.steps - self.decay_steps)
        if into <= 0:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * into / self.decay_steps))
