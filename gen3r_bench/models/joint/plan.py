"""What generating a joint latent needs before anything is loaded: the stages that Gen3R and WVD share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from gen3r_bench.models.joint.checkpoint import Part
from gen3r_bench.models.joint.config import JointConfig
from gen3r_bench.models.plan import ModelPlan, StagePlan, count_numbers, stage_plan

Stage = tuple[str, str, Callable[[Any], object]]
"""What happens, the network, the call that does it on meta tensors of a clip's shapes."""
_CLIP_UNUSED: Final = 581_928_705
"""Parameters of the official ``clip_image_encoder`` that no stage uses: its text half, last block and projections."""
_DROPPED: Final = ("text_encoder", "clip_image_encoder")


def plan_stages(
    config: JointConfig,
    parts: Mapping[str, Part],
    stages: Iterable[Stage],
    dtype: torch.dtype,
    *,
    in_float32: Iterable[str] = (),
) -> ModelPlan:
    """The stages of a clip in their order; text and image encoder are dropped after use.

    Args:
        config: sizes of the networks.
        parts: the networks.
        stages: of a clip.
        dtype: of all weights but those of ``in_float32``.
        in_float32: parts that are never lowered.
    """
    rows: list[StagePlan] = []
    with torch.device("meta"), torch.inference_mode():
        for stage, name, run in stages:
            module = parts[name].build(config).eval()
            on_disk = count_numbers(module)
            if parts[name].cut:
                delattr(module, parts[name].cut)
            if name == "image" and config.image == type(config.image).official():
                on_disk += _CLIP_UNUSED
            module.to(torch.float32 if name in in_float32 else dtype)
            rows.append(stage_plan(module, stage, parts[name].subfolder, run, tensors_on_disk=on_disk))
    return ModelPlan(stages=rows, dropped=_DROPPED)


def generation_stages(
    config: JointConfig, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> Iterator[Stage]:
    """From visible frames and a prompt to a joint latent, and its appearance to frames."""
    dit = config.transformer
    joint = config.latent_shape(num_frames, image_size)

    def denoise(module: Any) -> object:
        context = module.embed_context(torch.empty(1, dit.text_len, dit.text_dim), _image_features(config))
        # no name: the rays are freed once they are embedded
        cameras = module.embed_cameras(
            torch.empty(1, dit.camera_dim, joint[2], image_size[0], image_size[1] * dit.halves)
        )
        condition = torch.empty(1, dit.in_dim - dit.out_dim, *joint[2:], dtype=dtype)
        return module.flow(torch.empty(joint), torch.empty(1), condition, context, cameras)

    yield (
        "visible frames to latents",
        "vae",
        lambda m: m.encode(torch.empty(1, 3, num_frames, *image_size, dtype=dtype)),
    )
    # a text is encoded at its own length; this is the longest
    yield "prompts to features", "text", lambda m: m(torch.zeros(1, dit.text_len, dtype=torch.long))
    yield "first frame to features", "image", lambda m: m(torch.empty(1, 3, *image_size))
    yield "denoising", "transformer", denoise
    yield "latents to frames", "vae", lambda m: m.decode(half_latent(config, num_frames, image_size, dtype))


def half_latent(config: JointConfig, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """A latent of the appearance's shape, or of the geometry's; without content on the meta device."""
    frames, height, width = config.latent_shape(num_frames, image_size)[2:]
    return torch.empty(1, config.vae.latent_channels, frames, height, width // config.transformer.halves, dtype=dtype)


def _image_features(config: JointConfig) -> Tensor:
    return torch.empty(1, config.image.num_tokens, config.image.dim)
