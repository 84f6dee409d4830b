"""What the transformer of a joint diffusion holds before its first step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import torch
from torch import nn

from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
from gen3r_bench.models.wan.transformer import JointDit

_TRANSFORMER: Final = "transformer."
"""Before its tensors' names, in a file that holds the encoders too."""


def initialise(network: JointDit) -> None:
    """Begin as a diffusion transformer does: even variances through linear layers, and a flow of zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    weight = network.patch_embedding.weight
    nn.init.xavier_uniform_(weight.view(len(weight), math.prod(weight.shape[1:])))
    nn.init.zeros_(network.head.head.weight)


def begin_from(network: JointDit, path: Path) -> None:
    """Give a transformer the weights of another one, whose patches may have fewer channels: the new ones do nothing.

    Raises:
        InputError: where anything else differs.
    """
    tensors = dict(read_safetensors(path))
    if any(name.startswith(_TRANSFORMER) for name in tensors):  # a file of ``FileNetworks``
        tensors = {
            name.removeprefix(_TRANSFORMER): tensor for name, tensor in tensors.items() if name.startswith(_TRANSFORMER)
        }
    own, given = network.patch_embedding.weight, tensors.get("patch_embedding.weight")
    if given is not None and given.ndim == own.ndim and given.shape[1] < own.shape[1]:
        wider = torch.zeros(len(given), own.shape[1], *given.shape[2:], dtype=given.dtype)
        wider[:, : given.shape[1]] = given
        tensors["patch_embedding.weight"] = wider
    load_exactly(network, tensors, what=f"the transformer in {path}", dtype=torch.float32)
