"""Aether at a size for tests, with weights by formula, and the answers that an untrained network would not give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from tiny_gen3r import fill
from torch import nn

from gen3r_bench.models.aether.config import AetherConfig
from gen3r_bench.models.aether.folder import PARTS, SCHEDULER_FILE

SCHEDULER: Final[dict[str, Any]] = {
    "_class_name": "CogVideoXDDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}
"""The scheduler of CogVideoX-5b-I2V."""


def tiny_modules(config: AetherConfig) -> dict[str, nn.Module]:
    """All networks with weights by formula."""
    modules = {name: fill(part.build(config)) for name, part in PARTS.items()}
    # small latents keep an untrained sampler, and its exponentials, within bounds
    modules["transformer"].get_submodule("proj_out").weight.mul_(0.3)
    return modules


def write_folder(path: Path, *, config: AetherConfig | None = None) -> Path:
    """A checkpoint folder in the official layout, of tiny networks."""
    config = config or AetherConfig.tiny()
    for name, module in tiny_modules(config).items():
        folder = path / PARTS[name].subfolder
        folder.mkdir(parents=True)
        content = {"_class_name": type(module).__name__, **getattr(config, name)}
        (folder / "config.json").write_text(json.dumps(content))
        tensors = {key: tensor.contiguous() for key, tensor in module.state_dict().items()}
        if name == "text":
            del tensors["encoder.embed_tokens.weight"]  # transformers writes tied weights once
        stem = "model" if name == "text" else "diffusion_pytorch_model"
        save_file(tensors, folder / f"{stem}.safetensors")
    (path / "scheduler").mkdir()
    (path / SCHEDULER_FILE).write_text(json.dumps(SCHEDULER))
    return path
