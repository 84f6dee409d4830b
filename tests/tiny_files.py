"""Joint files of tiny networks, with weights by formula, beside frozen networks of the same kind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_gen3r import fill
from torch import nn

from gen3r_bench.models.checkpoint import weights_sha256
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.joint.conditioning import ConditionStyle
from gen3r_bench.models.joint.file import FileFacts, FileNetworks, FrozenPart, file_metadata
from gen3r_bench.models.joint.pipeline import Sampling
from gen3r_bench.models.joint.words import WordTokenizer
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder
from gen3r_bench.models.vggt import Vggt, VggtConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig

SIDE, FRAMES = 32, 5
WORDS = ("a", "room", "wall")
STYLE = ConditionStyle(fill="nearest", moment_gain=2.0, turn_gain=8.0)
FEW = Sampling(steps=2, guidance=1.5, negative_prompt="")
VGGT_CONFIG = dataclasses.replace(VggtConfig.tiny(), patch_size=8)
ADAPTER_CONFIG = dataclasses.replace(
    GeometryAdapterConfig.tiny(5 * VGGT_CONFIG.token_width), grid_unit=1, latent_unit=1
)
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "Gen3r": {},
    "Wvd": {"axis": "channel", "normalisation": "box"},
    "Video": {},
}


def write_frozen(folder: Path) -> dict[str, Path]:
    """The networks that tiny files are trained beside, a file each, by the files' names for them."""
    folder.mkdir(parents=True, exist_ok=True)
    vggt = fill(Vggt(VGGT_CONFIG))
    pose = vggt.get_submodule("camera_head.pose_branch.fc2")
    pose.weight.mul_(0.02)  # an untrained head may answer with a field of view of zero
    pose.bias[-2:] = 0.25
    patches = PatchAutoencoderConfig.tiny()
    networks: dict[str, tuple[nn.Module, Mapping[str, Any]]] = {
        "wan-vae": (fill(PatchVideoAutoencoder(patches)), patches.to_json()),
        "geometry-adapter": (fill(GeometryAdapter(ADAPTER_CONFIG)), ADAPTER_CONFIG.to_json()),
        "vggt": (vggt, VGGT_CONFIG.to_fields()),
    }
    paths = {}
    for name, (network, config) in networks.items():
        paths[name] = folder / f"{name}.safetensors"
        metadata = {"config": json.dumps(config), "side": str(SIDE)}
        save_file({k: t.contiguous() for k, t in network.state_dict().items()}, paths[name], metadata=metadata)
    return paths


def tiny_networks(class_name: str) -> FileNetworks:
    """Transformer and encoders, by formula; small latents keep an untrained sampler finite."""
    channels = 2 * 16 if class_name == "Wvd" else 16
    dit = dataclasses.replace(
        DitConfig.tiny(), out_dim=channels, in_dim=channels + 20, halves=2 if class_name == "Gen3r" else 1
    )
    text = dataclasses.replace(TextConfig.tiny(), vocab=WordTokenizer(WORDS).size)
    networks = FileNetworks.of_sizes(dit, text, ImageConfig.tiny())
    fill(networks)
    networks.transformer.get_submodule("head.head").weight.mul_(0.3)
    return networks


def tiny_facts(class_name: str, frozen: Mapping[str, Path]) -> FileFacts:
    names = ("wan-vae", "geometry-adapter", "vggt") if class_name == "Gen3r" else ("wan-vae",)
    return FileFacts(
        class_name=class_name,
        words=WORDS,
        scheduler={"num_train_timesteps": 1000, "shift": 2.0},
        style=STYLE,
        sampling=FEW,
        options=OPTIONS[class_name],
        parts={name: FrozenPart(checkpoint=str(frozen[name]), sha256=weights_sha256(frozen[name])) for name in names},
    )


def write_file(path: Path, class_name: str, frozen: Mapping[str, Path]) -> Path:
    """A file as a training releases it: weights in float16, everything else in the metadata."""
    networks = tiny_networks(class_name)
    metadata = file_metadata(networks, tiny_facts(class_name, frozen), side=SIDE, frames=FRAMES)
    tensors = {key: tensor.to(torch.float16).contiguous() for key, tensor in networks.state_dict().items()}
    save_file(tensors, path, metadata=metadata)
    return path


def rewrite(path: Path, out: Path, *, tensors: Mapping[str, Any] | None = None, **metadata: str) -> Path:
    """A copy of a safetensors file that says something else."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        said = file.metadata()
    save_file({**held, **(tensors or {})}, out, metadata={**said, **metadata})
    return out
