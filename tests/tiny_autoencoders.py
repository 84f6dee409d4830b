"""Tiny geometry adapter and Wan VAE with weights and inputs by formula: the same numbers on every machine."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig

FRAMES = 9
ADAPTER_CONFIG = GeometryAdapterConfig.tiny()
VAE_CONFIG = WanVaeConfig.tiny()


def wavy(shape: tuple[int, ...], seed: int) -> Tensor:
    """Sines of growing frequency in [-1, 1]: irregular, and a formula, so no random generator can change them."""
    index = torch.arange(int(torch.tensor(shape).prod()), dtype=torch.float64)
    return torch.sin(0.37 * seed + 1.7 * index + 0.0013 * index**2).reshape(shape).float()


def formula_weights(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """A tensor a key: gains near one, small biases, and weights that keep the signal's size."""
    tensors = {}
    for key, shape in shapes.items():
        values = wavy(tuple(shape), zlib.crc32(key.encode()) % 9973)
        if key.endswith("gamma"):
            tensors[key] = 1 + 0.2 * values
        elif key.endswith("bias"):
            tensors[key] = 0.1 * values
        else:
            tensors[key] = values * (2 / shape[1:].numel()) ** 0.5
    return tensors


def with_formula_weights(module: nn.Module) -> Any:
    module.load_state_dict(formula_weights({key: tensor.shape for key, tensor in module.state_dict().items()}))
    return module.eval().requires_grad_(False)


def tiny_adapter() -> GeometryAdapter:
    return with_formula_weights(GeometryAdapter(ADAPTER_CONFIG))


def tiny_vae() -> WanVae:
    return with_formula_weights(WanVae(VAE_CONFIG))


def token_map(frames: int = FRAMES, grid: tuple[int, int] = (40, 40)) -> Tensor:
    return wavy((1, ADAPTER_CONFIG.token_channels, frames, *grid), 1)


def clip(frames: int = FRAMES, size: tuple[int, int] = (48, 64)) -> Tensor:
    return wavy((1, 3, frames, *size), 2)


def latent(frames: int, size: tuple[int, int]) -> Tensor:
    return wavy((1, 16, frames, *size), 3)


def summary(tensor: Tensor) -> dict[str, Any]:
    """What a golden keeps of an output."""
    flat = tensor.double().flatten()
    picked = torch.linspace(0, flat.numel() - 1, 7).long()
    return {
        "shape": list(tensor.shape),
        "mean": float(flat.mean()),
        "std": float(flat.std()),
        "largest": float(flat.abs().max()),
        "picked": flat[picked].tolist(),
    }


def distance(ours: dict[str, Any], golden: dict[str, Any]) -> float:
    """Largest difference between two summaries, over the golden's largest value."""
    assert ours["shape"] == golden["shape"]
    numbers = [[s["mean"], s["std"], s["largest"], *s["picked"]] for s in (ours, golden)]
    return max(abs(a - b) for a, b in zip(*numbers, strict=True)) / golden["largest"]


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of ``theirs``."""
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def key_digest(module: nn.Module) -> str:
    """One hash of all names and shapes of a state dict."""
    lines = sorted(f"{key} {list(tensor.shape)}" for key, tensor in module.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
