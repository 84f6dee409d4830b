"""Tiny frozen networks as files, as a recipe names them: VGGT, a video autoencoder, a geometry adapter between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from tiny_autoencoders import with_formula_weights
from tiny_gen3r import fill

from gen3r_bench.models.folder import CONFIG_KEY
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder
from gen3r_bench.models.vggt import Vggt, VggtConfig

VGGT: Final[dict[str, Any]] = {
    "width": 8, "depth": 4, "heads": 2, "encoder_depth": 1, "encoder_heads": 2, "encoder_grid": 4, "patch_size": 8,
    "used_layers": [0, 1, 2, 3], "camera_depth": 1, "camera_heads": 2, "dense_width": 8,
    "dense_layer_widths": [4, 4, 4, 4], "dense_hidden": 4,
}  # fmt: skip
ADAPTER: Final = GeometryAdapterConfig(
    token_channels=80,
    hidden_dim=4,
    resample_scale=10,
    grid_unit=1,
    latent_unit=1,
    latent_mean=(0.0,) * 16,
    latent_std=(1.0,) * 16,
)
"""For these tokens, with latents on the grid of the patches."""


def write_vggt(folder: Path) -> str:
    config = VggtConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in VGGT.items()})
    vggt = fill(Vggt(config))
    last = vggt.get_submodule("camera_head.pose_branch.fc2")
    with torch.no_grad():
        last.weight.mul_(0.02)
        last.bias[-2:] = 0.25  # fields of view that a camera can have
    path = folder / "vggt.safetensors"
    save_file(vggt.state_dict(), path, metadata={CONFIG_KEY: json.dumps(VGGT), "side": "16"})
    return str(path)


def write_autoencoder(folder: Path) -> str:
    with_formula_weights(PatchVideoAutoencoder(PatchAutoencoderConfig.tiny())).save(folder / "autoencoder")
    return str(folder / "autoencoder")


def write_adapter(folder: Path) -> str:
    adapter = fill(GeometryAdapter(ADAPTER))
    path = folder / "adapter.safetensors"
    metadata = {CONFIG_KEY: json.dumps(ADAPTER.to_json()), "side": "16"}
    save_file({key: tensor.contiguous() for key, tensor in adapter.state_dict().items()}, path, metadata=metadata)
    return str(path)
