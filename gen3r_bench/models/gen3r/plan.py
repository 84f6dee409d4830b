"""What Gen3R needs before anything is loaded, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from gen3r_bench.models.gen3r.conditioning import SPATIAL_RATIO, TEMPORAL_RATIO
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS, Gen3rFolder
from gen3r_bench.models.geometry_adapter import unpack_tokens
from gen3r_bench.models.plan import ModelPlan, count_numbers, stage_plan

_CLIP_UNUSED: Final = 581_928_705
"""Parameters of the official ``clip_image_encoder`` that no stage uses: its text half, last block and projections."""
_DROPPED: Final = ("text_encoder", "clip_image_encoder")


def plan_checkpoint(
    checkpoint: str | None, *, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> ModelPlan:
    """The plan of a checkpoint: "official" (or None), or the path of a folder; as ``plan``."""
    config = Gen3rConfig.official() if checkpoint in {None, "official"} else Gen3rFolder(Path(str(checkpoint))).config
    return plan(config, num_frames=num_frames, image_size=image_size, dtype=dtype)


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
    rows = []
    with torch.device("meta"), torch.inference_mode():
        for stage, name, run in _stages(config, num_frames, image_size, dtype):
            module = PARTS[name].build(config).eval()
            on_disk = count_numbers(module)
            if name == "vggt":
                del module.aggregator
            elif name == "image" and config.image == type(config.image).official():
                on_disk += _CLIP_UNUSED
            module.to(torch.float32 if name == "vggt" else dtype)
            rows.append(stage_plan(module, stage, PARTS[name].subfolder, run, tensors_on_disk=on_disk))
    return ModelPlan(stages=rows, dropped=_DROPPED)


def _stages(
    config: Gen3rConfig, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> Iterator[tuple[str, str, Callable[[Any], object]]]:
    """(what happens, network, the call that does it on meta tensors of a clip's shapes)."""
    dit = config.transformer
    height, width = (side // SPATIAL_RATIO for side in image_size)
    frames = 1 + (num_frames - 1) // TEMPORAL_RATIO
    half = (1, dit.out_dim, frames, height, width)
    both = (*half[:-1], 2 * width)
    grid = tuple(side // config.vggt.patch_size for side in image_size)

    def denoise(module: Any) -> object:
        context = module.embed_context(torch.empty(1, dit.text_len, dit.text_dim), _image_features(config))
        cameras = module.embed_cameras(torch.empty(1, dit.camera_dim, frames, image_size[0], 2 * image_size[1]))
        condition = torch.empty(1, dit.in_dim - dit.out_dim, *both[2:], dtype=dtype)
        return module.flow(torch.empty(both), torch.empty(1), condition, context, cameras)

    def heads(module: Any) -> object:
        tokens = torch.empty(1, config.adapter.token_channels, num_frames, *grid, dtype=dtype)
        return module.decode(unpack_tokens(tokens, patch_start=config.vggt.patch_start), image_size, points=False)

    def latent() -> Tensor:
        return torch.empty(half, dtype=dtype)

    yield (
        "visible frames to latents",
        "vae",
        lambda m: m.encode(torch.empty(1, 3, num_frames, *image_size, dtype=dtype)),
    )
    # a text is encoded at its own length; this is the longest
    yield "prompts to features", "text", lambda m: m(torch.zeros(1, dit.text_len, dtype=torch.long))
    yield "first frame to features", "image", lambda m: m(torch.empty(1, 3, *image_size))
    yield "denoising", "transformer", denoise
    yield "latents to frames", "vae", lambda m: m.decode(latent())
    yield "latents to tokens", "adapter", lambda m: m.decode(latent())
    yield "tokens to depth and cameras", "vggt", heads


def _image_features(config: Gen3rConfig) -> Tensor:
    return torch.empty(1, config.image.num_tokens, config.image.dim)
