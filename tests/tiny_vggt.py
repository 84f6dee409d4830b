"""A tiny VGGT whose weights and images come from a formula, so that its numbers can be frozen and compared anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gen3r_bench.models.vggt import Vggt, VggtConfig, VggtOutput, VggtTokens

CONFIG = VggtConfig.tiny()
FIELDS = ("depth", "depth_confidence", "points", "points_confidence", "pose_encoding")


def scattered(count: int, seed: float) -> np.ndarray:
    """``count`` numbers in [-1, 1): the fractional part of a large sine, so that no matrix of them is of low rank."""
    large = np.sin(np.arange(count) * 12.9898 + seed * 78.233) * 43758.5453
    return 2 * (large - np.floor(large)) - 1


def formula_weights(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights of the given keys and shapes; every bias, norm and scale takes part, and the field of view is about 1."""
    weights = {}
    for place, (name, shape) in enumerate(sorted(shapes.items())):
        values = scattered(math.prod(shape), place).reshape(shape)
        if name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1):
            values = 1 + 0.2 * values
        elif len(shape) > 1 and name.endswith("weight"):
            values = values * (2 / math.prod(shape[1:])) ** 0.5
        elif name.endswith(("token", "tokens", "pos_embed")):
            values = 0.5 * values
        else:
            values = 0.1 * values
        if name == "camera_head.pose_branch.fc2.weight":
            values[7:] *= 0.02  # keeps the field of view away from 0, where its rectifier hides every difference
        if name == "camera_head.pose_branch.fc2.bias":
            values[7:] = 0.25
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def formula_vggt() -> Vggt:
    model = Vggt(CONFIG)
    model.load_state_dict(formula_weights({name: t.shape for name, t in model.state_dict().items()}))
    return model.eval()


def formula_images(frames: int = 3, size: tuple[int, int] = (70, 70), batch: int = 1) -> Tensor:
    shape = (batch, frames, 3, *size)
    values = 0.5 + 0.5 * scattered(math.prod(shape), 0.5)
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def summary(tensor: Tensor) -> dict[str, object]:
    """Shape, mean, root mean square and nine entries spread over the tensor."""
    flat = tensor.double().flatten()
    picked = flat[torch.linspace(0, len(flat) - 1, 9).long()]
    return {
        "shape": list(tensor.shape),
        "mean": flat.mean().item(),
        "rms": flat.square().mean().sqrt().item(),
        "entries": picked.tolist(),
    }


def summaries(tokens: VggtTokens, output: VggtOutput) -> dict[str, dict[str, object]]:
    """What the goldens hold for one input; the parity test writes and compares the same."""
    layers = {f"layer{i}": summary(layer) for i, layer in enumerate(tokens.layers)}
    return layers | {name: summary(getattr(output, name)) for name in FIELDS}
