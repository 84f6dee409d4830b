"""Gen3R's sampling: from visible frames, cameras and a prompt to a clip with depth and cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.gen3r.conditioning import (
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    camera_condition,
    encode_condition,
    visibility_mask,
    visible_clip,
)
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS, Gen3rFolder
from gen3r_bench.models.geometry_adapter import GeometryAdapter, unpack_tokens
from gen3r_bench.models.parts import Offload, Parts
from gen3r_bench.models.vggt import Vggt, cameras_from_pose_encoding
from gen3r_bench.models.video_autoencoder import Tiling, VideoAutoencoder
from gen3r_bench.models.wan.image_encoder import ImageEncoder
from gen3r_bench.models.wan.text import TextEncoder, Tokenizer
from gen3r_bench.models.wan.transformer import Context, JointDit
from gen3r_bench.scene import Cameras, unproject_depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a clip is drawn; the defaults are those of the released ``infer.py``.

    Attributes:
        steps: of the Euler solver.
        guidance: weight of the prompt against the negative prompt; 1 turns the second pass off.
        negative_prompt: of the unconditional pass. Training dropped the prompt to "", not to this.
    """

    steps: int = 50
    guidance: float = 5.0
    negative_prompt: str = "bad detailed"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps", expected="at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class ClipInputs:
    """What a clip is generated from.

    Attributes:
        rgb: [n, H, W, 3] uint8, the visible frames.
        frame_indices: their n places, ascending.
        num_frames: F, 1 + 4 k.
        cameras: of all F frames at (H, W), or None.
        prompt: text, or "".
        seed: of the initial noise and of the draw of the condition's latents.
    """

    rgb: NDArray[np.uint8]
    frame_indices: Sequence[int]
    num_frames: int
    cameras: Cameras | None
    prompt: str
    seed: int

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A generated clip.

    Attributes:
        rgb: [F, H, W, 3] uint8.
        depth: [F, H, W] float32 z-depth, in the unit of ``cameras``.
        depth_confidence: [F, H, W] float32, at least 1.
        cameras: predicted; the first is near the identity, not equal to it.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    depth_confidence: NDArray[np.float32]
    cameras: Cameras

    def points_world(self) -> NDArray[np.float32]:
        """[F, H, W, 3] depth unprojected through the pixel centres (+0.5); the released code takes whole pixels."""
        return unproject_depth(self.depth, self.cameras)


class Gen3rPipeline:
    """Samples clips.

    Args:
        config: sizes of the networks.
        parts: the networks.
        tokenizer: of the text encoder.
        scheduler: makes a fresh FlowMatchEulerDiscreteScheduler of diffusers, whose names type checkers cannot see.
        tiling: of the Wan VAE; None computes whole frames.

    Everything random is drawn from one CPU generator in float32 (first the initial noise, then the condition's
    latents), so a seed means the same clip on every device, up to the device's arithmetic.
    """

    def __init__(
        self,
        config: Gen3rConfig,
        parts: Parts,
        tokenizer: Tokenizer,
        scheduler: Callable[[], Any],
        *,
        tiling: Tiling | None = None,
    ) -> None:
        self.config = config
        self.parts = parts
        self._tokenizer = tokenizer
        self._scheduler = scheduler
        self._tiling = tiling
        self._text: dict[str, Tensor] = {}

    @classmethod
    def from_folder(
        cls,
        folder: Gen3rFolder,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        offload: Offload = "encoders",
        tiling: Tiling | None = None,
    ) -> Gen3rPipeline:
        """The pipeline of a checkpoint folder.

        Args:
            folder: that fits.
            device: where networks run.
            dtype: of all weights but VGGT's heads, which stay in float32: their exponentials turn bfloat16's three
                digits into visible steps of depth. None: bfloat16 on CUDA, float32 elsewhere.
            offload: see ``Parts``.
            tiling: of the Wan VAE.
        """
        device = torch.device(device)
        lowered = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)

        def load(name: str) -> nn.Module:
            return folder.load(name, dtype=torch.float32 if name == "vggt" else lowered)

        return cls(folder.config, Parts(load, device, offload), folder.tokenizer(), folder.scheduler, tiling=tiling)

    @torch.inference_mode()
    def __call__(self, inputs: ClipInputs, sampling: Sampling | None = None) -> Clip:
        """Generate a clip; the same inputs give the same clip.

        Raises:
            InputError: where length or size do not fit the networks, or the inputs contradict each other.
        """
        return self.decode(self.sample(inputs, sampling or Sampling()))

    @torch.inference_mode()
    def sample(
        self, inputs: ClipInputs, sampling: Sampling, on_step: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """[1, c, f, h, 2 w] float32 latents on the device: appearance on the left, geometry on the right.

        Args:
            inputs: of the clip.
            sampling: of the solver.
            on_step: called with (steps done, steps) after every step.
        """
        self._check(inputs)
        generator = torch.Generator().manual_seed(inputs.seed)
        latents = self._noise(inputs, generator)
        condition = self._condition(inputs, generator)
        prompts = [inputs.prompt] if sampling.guidance <= 1 else [inputs.prompt, sampling.negative_prompt]
        texts = self._encode_texts(prompts)
        image = self._encode_image(inputs)
        scheduler = self._scheduler()
        scheduler.set_timesteps(sampling.steps, device=self.parts.device)
        with self.parts.use("transformer") as module:
            dit = cast("JointDit", module)
            # neither the context nor the cameras change from step to step: embedded once
            contexts = [dit.embed_context(text, image) for text in texts]
            rays = camera_condition(inputs.cameras, inputs.num_frames, inputs.image_size)
            cameras = dit.embed_cameras(rays.to(self.parts.device))
            for step, timestep in enumerate(scheduler.timesteps):
                flow = _guided_flow(dit, latents, timestep, condition, contexts, cameras, sampling.guidance)
                latents = scheduler.step(flow, timestep, latents, return_dict=False)[0]
                if on_step is not None:
                    on_step(step + 1, sampling.steps)
        return latents

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Clip:
        """A clip of joint latents [1, c, f, h, 2 w], such as ``sample`` gives."""
        appearance, geometry = latents.chunk(2, dim=-1)
        size = (appearance.shape[-2] * SPATIAL_RATIO, appearance.shape[-1] * SPATIAL_RATIO)
        with self.parts.use("vae") as module:
            vae = cast("VideoAutoencoder", module)
            video = vae.decode(appearance.to(_dtype(vae)), tiling=self._tiling)
        rgb = (video[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
        del video
        with self.parts.use("adapter") as module:
            adapter = cast("GeometryAdapter", module)
            tokens = unpack_tokens(
                adapter.decode(geometry.to(_dtype(adapter))), patch_start=self.config.vggt.patch_start
            )
        with self.parts.use("vggt") as module:
            output = cast("Vggt", module).decode(tokens, size, points=False)
        return Clip(
            rgb=rgb,
            depth=output.depth[0].float().cpu().numpy(),
            depth_confidence=output.depth_confidence[0].float().cpu().numpy(),
            cameras=cameras_from_pose_encoding(output.pose_encoding[0], size),
        )

    def _check(self, inputs: ClipInputs) -> None:
        self.config.check_clip(inputs.num_frames, inputs.image_size)
        indices = list(inputs.frame_indices)
        if len(indices) != len(inputs.rgb) or indices != sorted(set(indices)) or not indices:
            raise InputError(f"{len(inputs.rgb)} frames at {indices}", expected="one ascending place a frame")
        if indices[0] != 0 or indices[-1] >= inputs.num_frames:
            raise InputError(f"frames at {indices}", expected=f"places from 0 to {inputs.num_frames - 1}, 0 among them")

    def _latent_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        return image_size[0] // SPATIAL_RATIO, image_size[1] // SPATIAL_RATIO

    def _noise(self, inputs: ClipInputs, generator: torch.Generator) -> Tensor:
        height, width = self._latent_size(inputs.image_size)
        frames = 1 + (inputs.num_frames - 1) // TEMPORAL_RATIO
        shape = (1, self.config.transformer.out_dim, frames, height, 2 * width)
        return torch.randn(shape, generator=generator).to(self.parts.device)

    def _condition(self, inputs: ClipInputs, generator: torch.Generator) -> Tensor:
        clip = visible_clip(inputs.rgb, inputs.frame_indices, inputs.num_frames)
        mask = visibility_mask(inputs.frame_indices, inputs.num_frames, self._latent_size(inputs.image_size))
        with self.parts.use("vae") as module:
            vae = cast("VideoAutoencoder", module)
            clip = clip.to(self.parts.device, _dtype(vae))
            return encode_condition(vae, clip, mask, generator=generator, tiling=self._tiling)

    def _encode_texts(self, prompts: Sequence[str]) -> list[Tensor]:
        """[1, n, dim] features of each prompt; a run's negative prompt, and a prompt used twice, are encoded once."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._text]
        if missing:
            with self.parts.use("text") as module:
                encoder = cast("TextEncoder", module)
                for prompt in missing:
                    ids = self._tokenizer(prompt, self.config.transformer.text_len)
                    features = encoder(torch.tensor([ids], device=self.parts.device))
                    self._text[prompt] = features.cpu()
        return [self._text[prompt].to(self.parts.device) for prompt in prompts]

    def _encode_image(self, inputs: ClipInputs) -> Tensor:
        """Features of the first visible frame; the others reach the transformer as latents only."""
        first = torch.from_numpy(np.array(inputs.rgb[0])).permute(2, 0, 1)[None].to(self.parts.device).float() / 255
        with self.parts.use("image") as module:
            return cast("Tensor", cast("ImageEncoder", module)(first))


def _guided_flow(
    dit: JointDit,
    latents: Tensor,
    timestep: Tensor,
    condition: Tensor,
    contexts: Sequence[Context],
    cameras: Tensor,
    guidance: float,
) -> Tensor:
    """Flow towards the prompt and away from the negative one; both passes see the same frames and cameras.

    One pass after the other: at the paper's size a pass fills the device, so a batch of two only takes more memory.
    """
    time = timestep.expand(len(latents))
    flow = dit.flow(latents, time, condition, contexts[0], cameras).float()
    if len(contexts) == 1:
        return flow
    without = dit.flow(latents, time, condition, contexts[1], cameras).float()
    return without + guidance * (flow - without)


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def parts_from_modules(modules: dict[str, nn.Module], device: torch.device | str = "cpu") -> Parts:
    """Networks that are already in memory, for tests and notebooks; all of ``PARTS`` must be there."""
    missing = sorted(PARTS.keys() - modules.keys())
    if missing:
        raise InputError(f"no {', '.join(missing)}", expected=f"all of {', '.join(PARTS)}")
    return Parts(modules.__getitem__, torch.device(device), "none")
