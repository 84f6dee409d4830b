"""Where a geometry adapter begins that no alignment makes speak."""

from __future__ import annotations

import copy

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.models.geometry_adapter import GeometryAdapter


class AdapterStart(BaseModel):
    """What a fresh adapter is given so that its latents say something of a clip before it has learned anything.

    Attributes:
        clips: training clips whose tokens are measured for a ``ScaledAdapter``; the first ones.
        logvar: of the posterior, whatever the clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: int = Field(ge=1)
    logvar: float


class ScaledAdapter(nn.Module):
    """An adapter in training, whose own tokens are of size one in every channel.

    A few of VGGT's channels are large and the same for every clip; beside them a fresh adapter sees no difference
    between clips. What scales them becomes part of two convolutions in the end. The way in takes no mean away, since
    beyond the border of a grid stand zeros.

    Args:
        adapter: what is trained.
        mean: [C] of VGGT's tokens; the way out begins there.
        std: [C] of them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, adapter: GeometryAdapter, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.adapter = adapter
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, tokens: Tensor, noise: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """As ``GeometryAdapter``'s."""
        size, std, mean = (values.view(1, -1, 1, 1, 1) for values in (self._size, self.std, self.mean))
        posterior, decoded = self.adapter(tokens / size, noise)
        return posterior, decoded * std + mean

    def unscaled(self) -> GeometryAdapter:
        """The adapter of VGGT's own tokens that does the same."""
        adapter = copy.deepcopy(self.adapter)
        last = "model.decoder.out_block.resample.2"
        with torch.no_grad():
            adapter.get_parameter("model.encoder.init_block.resample.1.weight").div_(self._size.view(1, -1, 1, 1))
            adapter.get_parameter(f"{last}.weight").mul_(self.std.view(-1, 1, 1, 1))
            adapter.get_parameter(f"{last}.bias").mul_(self.std).add_(self.mean)
        return adapter

    @property
    def _size(self) -> Tensor:
        """[C] root mean square of the tokens."""
        return torch.hypot(self.mean, self.std)


def set_logvar(adapter: GeometryAdapter, logvar: float) -> None:
    """Make the log variance of a posterior one number, whatever the tokens."""
    with torch.no_grad():
        adapter.get_parameter("model.conv1.weight")[adapter.config.latent_channels :].zero_()
        adapter.get_parameter("model.conv1.bias")[adapter.config.latent_channels :].fill_(logvar)
