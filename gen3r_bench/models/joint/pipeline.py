"""The sampling that Gen3R and WVD share: from visible frames, cameras and a prompt to a joint latent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.checkpoint import ConfigT, JointCheckpoint
from gen3r_bench.models.joint.conditioning import (
    SPATIAL_RATIO,
    camera_condition,
    encode_condition,
    visibility_mask,
    visible_clip,
)
from gen3r_bench.models.parts import Offload, Parts
from gen3r_bench.models.video_autoencoder import Tiling, VideoAutoencoder
from gen3r_bench.models.wan.image_encoder import ImageEncoder
from gen3r_bench.models.wan.text import TextEncoder, Tokenizer
from gen3r_bench.models.wan.transformer import Context, JointDit
from gen3r_bench.scene import Cameras


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a clip is drawn; the defaults are those of Gen3R's released ``infer.py``.

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


class JointPipeline(Generic[ConfigT]):
    """Samples joint latents; a subclass decodes them.

    Args:
        config: sizes of the networks.
        parts: the networks.
        tokenizer: of the text encoder.
        scheduler: makes a fresh FlowMatchEulerDiscreteScheduler of diffusers, whose names type checkers cannot see.
        tiling: of the Wan VAE; None computes whole frames.
        latents_per_chunk: latent frames that an autoencoder computes at once; trades memory for speed, never changes
            the result.

    Everything random is drawn from one CPU generator in float32 (first the initial noise, then the condition's
    latents), so a seed means the same clip on every device, up to the device's arithmetic.
    """

    in_float32: ClassVar[Collection[str]] = ()
    """Parts that are never lowered."""

    def __init__(
        self,
        config: ConfigT,
        parts: Parts,
        tokenizer: Tokenizer,
        scheduler: Callable[[], Any],
        *,
        tiling: Tiling | None = None,
        latents_per_chunk: int = 1,
    ) -> None:
        self.config = config
        self.parts = parts
        self._tokenizer = tokenizer
        self._scheduler = scheduler
        self._tiling = tiling
        self._latents_per_chunk = latents_per_chunk
        self._text: dict[str, Tensor] = {}

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: JointCheckpoint[ConfigT],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        offload: Offload = "encoders",
        tiling: Tiling | None = None,
        latents_per_chunk: int = 1,
    ) -> Self:
        """The pipeline of a checkpoint folder or file.

        Args:
            checkpoint: that fits.
            device: where networks run.
            dtype: of all weights; those of ``in_float32`` are never lowered. None: bfloat16 on CUDA, float32 elsewhere.
            offload: see ``Parts``.
            tiling: of the Wan VAE.
            latents_per_chunk: of the autoencoders.
        """
        device = torch.device(device)
        lowered = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)

        def load(name: str) -> nn.Module:
            least = torch.promote_types(lowered, torch.float32)
            return checkpoint.load(name, dtype=least if name in cls.in_float32 else lowered)

        parts = Parts(load, device, offload)
        return cls(
            checkpoint.config,
            parts,
            checkpoint.tokenizer(),
            checkpoint.scheduler,
            tiling=tiling,
            latents_per_chunk=latents_per_chunk,
        )

    @torch.inference_mode()
    def sample(
        self, inputs: ClipInputs, sampling: Sampling, on_step: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """The joint latent of a clip, float32, on the device; see ``conditioning.parted``.

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
            rays = camera_condition(
                inputs.cameras, inputs.num_frames, inputs.image_size, self.config.axis, self.config.style
            )
            cameras = dit.embed_cameras(rays.to(self.parts.device))
            for step, timestep in enumerate(scheduler.timesteps):
                answer = _guided(dit, latents, timestep, condition, contexts, cameras, sampling.guidance)
                flow = answer
                if self.config.style.answer == "clean":
                    flow = (latents - answer) / (timestep / scheduler.config.num_train_timesteps)
                latents = scheduler.step(flow, timestep, latents, return_dict=False)[0]
                if on_step is not None:
                    on_step(step + 1, sampling.steps)
        return latents

    def _check(self, inputs: ClipInputs) -> None:
        self.config.check_clip(inputs.num_frames, inputs.image_size)
        indices = list(inputs.frame_indices)
        if len(indices) != len(inputs.rgb) or indices != sorted(set(indices)) or not indices:
            raise InputError(f"{len(inputs.rgb)} frames at {indices}", expected="one ascending place a frame")
        if indices[0] != 0 or indices[-1] >= inputs.num_frames:
            raise InputError(f"frames at {indices}", expected=f"places from 0 to {inputs.num_frames - 1}, 0 among them")

    def _noise(self, inputs: ClipInputs, generator: torch.Generator) -> Tensor:
        shape = self.config.latent_shape(inputs.num_frames, inputs.image_size)
        return torch.randn(shape, generator=generator).to(self.parts.device)

    def _condition(self, inputs: ClipInputs, generator: torch.Generator) -> Tensor:
        height, width = (side // SPATIAL_RATIO for side in inputs.image_size)
        clip = visible_clip(inputs.rgb, inputs.frame_indices, inputs.num_frames, self.config.style.fill)
        mask = visibility_mask(inputs.frame_indices, inputs.num_frames, (height, width), self.config.axis)
        with self.parts.use("vae") as module:
            vae = cast("VideoAutoencoder", module)
            clip = clip.to(self.parts.device, dtype_of(vae))
            return encode_condition(
                vae,
                clip,
                mask,
                generator=generator,
                tiling=self._tiling,
                axis=self.config.axis,
                latents_per_chunk=self._latents_per_chunk,
            )

    def decode_frames(self, appearance: Tensor) -> NDArray[np.uint8]:
        """[F, H, W, 3] of the appearance's latent."""
        with self.parts.use("vae") as module:
            vae = cast("VideoAutoencoder", module)
            video = vae.decode(
                appearance.to(dtype_of(vae)), tiling=self._tiling, latents_per_chunk=self._latents_per_chunk
            )
        frames: NDArray[np.uint8] = (
            (video[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
        )
        return frames

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


def _guided(
    dit: JointDit,
    latents: Tensor,
    timestep: Tensor,
    condition: Tensor,
    contexts: Sequence[Context],
    cameras: Tensor,
    guidance: float,
) -> Tensor:
    """Answer towards the prompt and away from the negative one; both passes see the same frames and cameras.

    One pass after the other: at the paper's size a pass fills the device, so a batch of two only takes more memory.
    """
    time = timestep.expand(len(latents))
    answer = dit.flow(latents, time, condition, contexts[0], cameras).float()
    if len(contexts) == 1:
        return answer
    without = dit.flow(latents, time, condition, contexts[1], cameras).float()
    return without + guidance * (answer - without)


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type of a network's weights, and so of its inputs."""
    return next(module.parameters()).dtype


def parts_from_modules(modules: Mapping[str, nn.Module], wanted: Collection[str]) -> Parts:
    """Networks that are already in memory, on the CPU, for tests and notebooks; all wanted ones must be there."""
    missing = sorted(set(wanted) - modules.keys())
    if missing:
        raise InputError(f"no {', '.join(missing)}", expected=f"all of {', '.join(wanted)}")
    return Parts(modules.__getitem__, torch.device("cpu"), "none")
