"""What Gen3R needs before anything is loaded, stage by stage."""

from __future__ import annotations

from typing import Any

import torch

from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS
from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline
from gen3r_bench.models.geometry_adapter import unpack_tokens
from gen3r_bench.models.joint.plan import generation_stages, half_latent, plan_stages
from gen3r_bench.models.plan import ModelPlan


def plan(
    config: Gen3rConfig,
    *,
    num_frames: int = 49,
    image_size: tuple[int, int] = (560, 560),
    dtype: torch.dtype = torch.bfloat16,
) -> ModelPlan:
    """The stages of a clip in their order; text and image encoder are dropped after use.

    Args:
        config: sizes of the networks.
        num_frames: of the clip, 1 + 4 k.
        image_size: (height, width) in pixels.
        dtype: of all weights but VGGT's heads, which are float32 as in the pipeline.

    Raises:
        InputError: where the clip does not fit the networks.
    """
    config.check_clip(num_frames, image_size)
    grid = tuple(side // config.vggt.patch_size for side in image_size)

    def heads(module: Any) -> object:
        tokens = torch.empty(1, config.adapter.token_channels, num_frames, *grid, dtype=dtype)
        return module.decode(unpack_tokens(tokens, patch_start=config.vggt.patch_start), image_size, points=False)

    stages = (
        *generation_stages(config, num_frames, image_size, dtype),
        ("latents to tokens", "adapter", lambda m: m.decode(half_latent(config, num_frames, image_size, dtype))),
        ("tokens to depth and cameras", "vggt", heads),
    )
    return plan_stages(config, PARTS, stages, dtype, in_float32=Gen3rPipeline.in_float32)
