"""What a diffusion of frames alone needs before anything is loaded, stage by stage."""

from __future__ import annotations

import torch

from gen3r_bench.models.joint.plan import generation_stages, plan_stages
from gen3r_bench.models.plan import ModelPlan
from gen3r_bench.models.video.config import VideoConfig
from gen3r_bench.models.video.file import PARTS


def plan(
    config: VideoConfig,
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
        dtype: of all weights.

    Raises:
        InputError: where the clip does not fit the networks.
    """
    config.check_clip(num_frames, image_size)
    return plan_stages(config, PARTS, generation_stages(config, num_frames, image_size, dtype), dtype)
