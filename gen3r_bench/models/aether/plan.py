"""What Aether needs before anything is loaded, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from gen3r_bench.models.aether.config import AetherConfig
from gen3r_bench.models.aether.folder import PARTS
from gen3r_bench.models.aether.pipeline import rotary_positions
from gen3r_bench.models.aether.raymap import SPATIAL_RATIO, TEMPORAL_RATIO
from gen3r_bench.models.plan import ModelPlan, stage_plan

_DROPPED: Final = ("text_encoder",)


def plan(
    config: AetherConfig,
    *,
    num_frames: int = 41,
    image_size: tuple[int, int] = (480, 720),
    dtype: torch.dtype = torch.bfloat16,
) -> ModelPlan:
    """The stages of a reconstruction, the task that encodes most frames; the text encoder is dropped after use.

    Args:
        config: sizes of the networks.
        num_frames: of the clip, of ``CLIP_LENGTHS``.
        image_size: (height, width) in pixels that the networks see.
        dtype: of all weights.

    Raises:
        InputError: where the clip does not fit the networks.
    """
    config.check_clip(num_frames, image_size)
    stages = []
    with torch.device("meta"), torch.inference_mode():
        for stage, name, run in _stages(config, num_frames, image_size, dtype):
            module = PARTS[name].build(config).eval()
            # not by .to(): diffusers warns there, of layers that this network does not have
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.data = tensor.data.to(dtype)
            stages.append(stage_plan(module, stage, PARTS[name].subfolder, run))
    return ModelPlan(stages=stages, dropped=_DROPPED)


def _stages(
    config: AetherConfig, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> Iterator[tuple[str, str, Callable[[Any], object]]]:
    """(what happens, network, the call that does it on meta tensors of a clip's shapes)."""
    dit = config.transformer
    frames = 1 + (num_frames - 1) // TEMPORAL_RATIO
    height, width = (side // SPATIAL_RATIO for side in image_size)
    meta = torch.device("meta")

    def denoise(module: Any) -> object:
        return module(
            hidden_states=torch.empty(1, frames, dit["in_channels"], height, width, dtype=dtype),
            encoder_hidden_states=torch.empty(1, dit["max_text_seq_length"], dit["text_embed_dim"], dtype=dtype),
            timestep=torch.empty(1),
            image_rotary_emb=rotary_positions(config, frames, image_size, meta),
        )

    yield "frames to latents", "vae", lambda m: m.encode(torch.empty(1, 3, num_frames, *image_size, dtype=dtype))
    yield "empty prompt", "text", lambda m: m(torch.zeros(1, dit["max_text_seq_length"], dtype=torch.long))
    yield "denoising", "transformer", denoise
    yield (
        "latents to frames, then disparity",
        "vae",
        lambda m: m.decode(torch.empty(1, config.latent_channels, frames, height, width, dtype=dtype)),
    )
