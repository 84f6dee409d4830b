"""Aether at a size for tests, with weights by formula, and the answers that an untrained network would not give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from tiny_gen3r import fill, wave
from torch import nn

from gen3r_bench.models.aether.config import AetherConfig
from gen3r_bench.models.aether.folder import PARTS, SCHEDULER_FILE
from gen3r_bench.models.aether.pipeline import ClipInputs
from gen3r_bench.scene import Cameras

GOLDENS: Final = Path(__file__).parent / "models" / "goldens" / "aether_clips.json"
"""Numbers of the released pipeline at ``frozen_inputs``."""

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


def camera_path(frames: int, size: tuple[int, int], *, motion: float = 1.0, shake: float = 0.0) -> Cameras:
    """A camera that walks a curve while it turns about all axes; ``shake`` adds a jitter of its own."""
    time = np.arange(frames)
    jitter = shake * np.sin(time[:, None] * np.array([12.9, 7.3, 3.1]) + np.arange(3))
    turns = motion * (np.stack([0.01 * time, 0.02 * time, 0.3 * np.sin(time / 9)], axis=1) + 0.1 * jitter)
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    poses[:, :3, 3] = np.stack([0.06 * time, 0.3 * np.sin(time / 7), 0.002 * time**2], axis=1) + 0.2 * jitter
    poses[:, :3, 3] *= motion
    focal = np.array([[80.0, 0, size[1] / 2], [0, 80.0, size[0] / 2], [0, 0, 1]])
    return Cameras(poses, np.repeat(focal[None], frames, axis=0), size).rebased()


def frozen_inputs(given: int) -> ClipInputs:
    """17 frames of 32 x 48 from one, two or all frames, with cameras."""
    rgb = ((wave((given, 32, 48, 3), 7) + 1) / 2).numpy()
    return ClipInputs(rgb=rgb, num_frames=17, cameras=camera_path(17, (32, 48)), seed=11, dmax=0.5)
