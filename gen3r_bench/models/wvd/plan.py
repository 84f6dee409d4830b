"""What WVD needs before anything is loaded, stage by stage; recovering cameras takes no network, so it is no stage."""

from __future__ import annotations

import torch

from gen3r_bench.models.joint.plan import generation_stages, half_latent, plan_stages
from gen3r_bench.models.plan import ModelPlan
from gen3r_bench.models.wvd.config import WvdConfig
from gen3r_bench.models.wvd.folder import PARTS


def plan(
    config: WvdConfig,
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
    stages = (
        *generation_stages(config, num_frames, image_size, dtype),
        ("latents to points", "vae", lambda m: m.decode(half_latent(config, num_frames, image_size, dtype))),
    )
    return plan_stages(config, PARTS, stages, dtype)
