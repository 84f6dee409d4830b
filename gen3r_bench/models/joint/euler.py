"""The Euler solver of flow matching with a fixed shift, for checkpoints in one file.

The same numbers as diffusers' FlowMatchEulerDiscreteScheduler, the oracle in our tests, whose import alone takes longer
than a small checkpoint needs for a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.errors import InputError


@dataclass(frozen=True, slots=True)
class EulerConfig:
    """What the solver was trained for.

    Attributes:
        num_train_timesteps: noise levels of training.
        shift: that bent them.
    """

    num_train_timesteps: int
    shift: float


class EulerFlow:
    """Steps from noise to a clean sample, as ``JointPipeline`` takes them."""

    def __init__(self, config: EulerConfig) -> None:
        self.config = config
        self.timesteps = torch.empty(0)
        self._sigmas = torch.zeros(1)
        self._step = 0

    def set_timesteps(self, steps: int, device: torch.device | str = "cpu") -> None:
        """Choose the levels: even steps between the trained ends, which are bent by the shift a second time."""
        levels = self.config.num_train_timesteps
        trained = shifted(np.arange(levels, 0, -1, dtype=np.float32) / levels, self.config.shift)
        even = np.linspace(trained[0] * levels, trained[-1] * levels, steps) / levels
        sigmas = torch.from_numpy(shifted(even, self.config.shift)).float()
        self.timesteps = (sigmas * levels).to(device)
        self._sigmas = torch.cat([sigmas, torch.zeros(1)]).to(device)
        self._step = 0

    def step(self, flow: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        """The sample at the next level, alone in a tuple; ``timestep`` must be the next of ``timesteps``.

        Raises:
            InputError: where it is not.
        """
        del return_dict
        if self._step >= len(self.timesteps) or timestep != self.timesteps[self._step]:
            raise InputError(f"timestep {float(timestep):g}", expected="each of the timesteps once, in their order")
        change = self._sigmas[self._step + 1] - self._sigmas[self._step]
        self._step += 1
        return (sample.float() + change * flow,)


def shifted(sigmas: NDArray[np.floating], shift: float) -> NDArray[np.floating]:
    """Noise levels in (0, 1] bent towards noise: ``shift s / (1 + (shift - 1) s)``; a shift of 1 leaves them."""
    bent: NDArray[np.floating] = shift * sigmas / (1 + (shift - 1) * sigmas)
    return bent
