"""A tiny LVSM whose weights and views come from a formula."""

from __future__ import annotations

import math

import numpy as np
import torch
from tiny_vggt import scattered
from torch import Tensor

from gen3r_bench.models.lvsm import Lvsm, LvsmConfig, build
from gen3r_bench.models.lvsm.config import Kind
from gen3r_bench.scene import Cameras

CONFIGS: dict[Kind, LvsmConfig] = {kind: LvsmConfig.tiny(kind) for kind in ("decoder-only", "encoder-decoder")}


def formula_lvsm(kind: Kind = "decoder-only") -> Lvsm:
    """Every norm takes part, and the answers differ from pixel to pixel."""
    network = build(CONFIGS[kind])
    weights = {}
    for place, (name, tensor) in enumerate(sorted(network.state_dict().items())):
        values = scattered(tensor.numel(), place).reshape(tensor.shape)
        values = 1 + 0.2 * values if tensor.ndim == 1 else values * (3 / tensor.shape[1]) ** 0.5
        weights[name] = torch.from_numpy(values.astype(np.float32))
    network.load_state_dict(weights)
    return network.eval()


def formula_views(batch: int, views: int, side: int) -> Tensor:
    shape = (batch, views, 3, side, side)
    return torch.from_numpy((0.5 + 0.5 * scattered(math.prod(shape), 0.5)).astype(np.float32)).reshape(shape)


def cameras_around(frames: int, side: int = 16) -> Cameras:
    """Cameras on an arc that climbs and rolls a little, with a principal point beside the centre."""
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    for i, pose in enumerate(poses):
        yaw, roll = 0.08 * i, 0.02 * i
        turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
        tilt = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
        pose[:3, :3] = tilt @ turn
        pose[:3, 3] = [0.3 * i, 0.05 * math.sin(i), 0.02 * i * i]
    intrinsics = np.tile(
        np.array([[0.9 * side, 0, 0.52 * side], [0, 0.95 * side, 0.47 * side], [0, 0, 1.0]]), (frames, 1, 1)
    )
    return Cameras(poses, intrinsics, (side, side))
