"""The smallest training: two layers learn a line; and a way to end one early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gen3r_bench.training.schedule import Schedule


class Points(NamedTuple):
    x: Tensor
    y: Tensor


class Line:
    """A recipe for tests: two layers learn y = 3 x."""

    def __init__(self, **changes: Any) -> None:
        fields = {"steps": 12, "learning_rate": 0.02, "warmup_steps": 2, "decay_steps": 6, "save_every": 4}
        self.schedule = Schedule(**{**fields, **changes})
        self.spoilt_step = -1
        self.drawn = 0

    def facts(self) -> dict[str, Any]:
        return {"recipe": "line", "schedule": self.schedule.model_dump(mode="json")}

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        return {"layers": str(len(list(shipped.parameters())))}

    def shipped(self, network: nn.Module) -> nn.Module:
        return network

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def draw_batch(self, draw: np.random.Generator) -> Points:
        self.drawn += 1
        x = torch.from_numpy(draw.normal(size=(16, 1)).astype(np.float32))
        return Points(x, 3 * x)

    def losses(self, network: nn.Module, batch: Points) -> dict[str, Tensor]:
        square = (network(batch.x) - batch.y).square().mean()
        return {"total": square * (torch.nan if self.drawn - 1 == self.spoilt_step else 1), "square": square}


class KilledError(Exception):
    pass


def killed_after(steps: int) -> Callable[[int, dict[str, float]], None]:
    def on_step(step: int, losses: dict[str, float]) -> None:
        if step == steps:
            raise KilledError

    return on_step
