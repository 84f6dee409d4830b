"""What VGGT needs before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch

from gen3r_bench.errors import InputError
from gen3r_bench.models.plan import ModelPlan, stage_plan
from gen3r_bench.models.vggt.config import VggtConfig
from gen3r_bench.models.vggt.network import Vggt, VggtTokens


def plan(config: VggtConfig, *, num_frames: int, side: int, frames_at_once: int) -> ModelPlan:
    """Two stages of one network, which is kept in float32: frames to tokens, and tokens to depth and cameras.

    Args:
        config: sizes of the network.
        num_frames: that it is shown.
        side: of its square frames, in pixels.
        frames_at_once: that the depth head holds.

    Raises:
        InputError: where the side is no whole number of patches.
    """
    grid = side // config.patch_size
    if side % config.patch_size:
        raise InputError(f"frames of {side} x {side} pixels", expected=f"multiples of {config.patch_size}")

    def decode(module: Any) -> object:
        shape = (1, num_frames, config.patch_start + grid**2, config.token_width)
        tokens = VggtTokens(tuple(torch.empty(shape) for _ in range(4)), config.patch_start, (grid, grid))
        return module.decode(tokens, (side, side), frames_at_once=frames_at_once, points=False)

    def encode(module: Any) -> object:
        return module.encode(torch.empty(1, num_frames, 3, side, side))

    with torch.device("meta"), torch.inference_mode():
        network = Vggt(config).eval()
        dense = f"tokens to depth, {frames_at_once} frames at a time, and cameras"
        return ModelPlan(
            stages=[
                stage_plan(network, f"{num_frames} frames of {side} x {side} to tokens", "vggt", encode),
                stage_plan(network, dense, "vggt", decode),
            ]
        )
