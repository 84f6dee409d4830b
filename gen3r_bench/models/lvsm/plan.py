"""What LVSM needs before anything is loaded."""

from __future__ import annotations

import torch

from gen3r_bench.models.lvsm.config import RAY_CHANNELS, LvsmConfig
from gen3r_bench.models.lvsm.network import build
from gen3r_bench.models.plan import ModelPlan, stage_plan


def plan(
    config: LvsmConfig, *, num_frames: int, side: int, targets_at_once: int, dtype: torch.dtype, views: int = 2
) -> ModelPlan:
    """One stage: all frames of a clip rendered from its views, at the network's own ``side``.

    Raises:
        InputError: where the side is not divisible by the patch size.
    """
    with torch.device("meta"), torch.inference_mode():
        network = build(config).eval().to(dtype)
        stage = stage_plan(
            network,
            f"{views} views to {num_frames} frames, {targets_at_once} at a time, {side} x {side}",
            config.kind,
            lambda module: module(
                torch.empty(1, views, 3, side, side, dtype=dtype),
                torch.empty(1, views, RAY_CHANNELS, side, side, dtype=dtype),
                torch.empty(1, num_frames, RAY_CHANNELS, side, side, dtype=dtype),
                targets_at_once=targets_at_once,
            ),
        )
    return ModelPlan(stages=[stage])
