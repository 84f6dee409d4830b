"""Where a geometry adapter begins, so that its latents say something of a clip before it has learned anything."""

from __future__ import annotations

import copy

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.models.code_adapter import CodeAdapter
from gen3r_bench.models.linear_code import fold_chunks
from gen3r_bench.models.token_adapter import TokenAdapter
from gen3r_bench.training.principal_components import principal_components, rotation_toward


class AdapterStart(BaseModel):
    """What a fresh adapter is given.

    Attributes:
        clips: training clips whose tokens are measured for a ``ScaledAdapter``, and give the principal components with
            which a code adapter begins; the first ones.
        logvar: of the posterior, whatever the clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: int = Field(ge=1)
    logvar: float


class ScaledAdapter(nn.Module):
    """An adapter in training, whose own tokens are of size one in every channel.

    A few of VGGT's channels are large and the same for every clip; beside them a fresh adapter sees no difference
    between clips. What scales them becomes part of two layers in the end. A way in that looks beyond the border of a
    grid, where zeros stand, takes no mean away, and divides by the root mean square.

    Args:
        adapter: what is trained.
        mean: [C] of VGGT's tokens.
        std: [C] of them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, adapter: TokenAdapter, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.adapter = adapter
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, tokens: Tensor, noise: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """As an adapter's."""
        posterior, decoded = self.adapter(self.scaled(tokens), noise)
        return posterior, decoded * _over_channels(self.std) + _over_channels(self.mean)

    def scaled(self, tokens: Tensor) -> Tensor:
        """Tokens as the adapter in training takes them."""
        shift, scale = self._way_in()
        return (tokens - _over_channels(shift)) / _over_channels(scale)

    def unscaled(self) -> TokenAdapter:
        """The adapter of VGGT's own tokens that does the same."""
        adapter = copy.deepcopy(self.adapter)
        shift, scale = self._way_in()
        way_in, way_out = adapter.get_submodule(adapter.way_in), adapter.get_submodule(adapter.way_out)
        assert isinstance(way_in, nn.Conv2d)
        assert isinstance(way_out, nn.Conv2d)
        assert way_in.bias is not None
        assert way_out.bias is not None
        with torch.no_grad():
            way_in.weight.div_(scale.view(1, -1, 1, 1))
            way_in.bias.sub_(way_in.weight.sum((2, 3)) @ shift)
            way_out.weight.mul_(self.std.view(-1, 1, 1, 1))
            way_out.bias.mul_(self.std).add_(self.mean)
        return adapter

    def _way_in(self) -> tuple[Tensor, Tensor]:
        """[C] what is taken from tokens, and [C] by what they are then divided."""
        layer = self.adapter.get_submodule(self.adapter.way_in)
        assert isinstance(layer, nn.Conv2d)
        if layer.kernel_size == (1, 1):
            return self.mean, self.std
        return torch.zeros_like(self.mean), torch.hypot(self.mean, self.std)


def _over_channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)


def start_code(adapter: CodeAdapter, tokens: Tensor, appearance: Tensor | None) -> None:
    """Set a code adapter's linear way through to principal components.

    Args:
        adapter: with new blocks.
        tokens: token maps [B, C, 1 + 4 k, h, w] as it takes them.
        appearance: posterior means [B, c, 1 + k, h, w] toward which each place's code is turned; None: as they are.
    """
    config = adapter.config
    of_tokens = principal_components(tokens, config.narrow)
    deviation = of_tokens.out.norm(dim=0)
    narrowed = of_tokens.numbers(tokens)
    codes = []
    for place, numbers in (
        (slice(1), narrowed[:, :, :1]),
        (slice(1, None), fold_chunks(narrowed[:, :, 1:])),
    ):
        # the variance of tokens is what counts, not that of narrowed ones, which are all of size one
        scale = deviation.repeat_interleave(numbers.shape[1] // config.narrow)
        code = principal_components(numbers * _over_channels(scale), config.latent_channels).divided(scale)
        if appearance is not None:
            code = code.rotated(rotation_toward(code.numbers(numbers), appearance[:, :, place]))
        codes.append(code)
    adapter.start_from(of_tokens, *codes)


def set_logvar(adapter: TokenAdapter, logvar: float) -> None:
    """Make the log variance of a posterior one number, whatever the tokens."""
    with torch.no_grad():
        adapter.get_parameter("model.conv1.weight")[adapter.config.latent_channels :].zero_()
        adapter.get_parameter("model.conv1.bias")[adapter.config.latent_channels :].fill_(logvar)
