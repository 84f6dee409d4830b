"""Aether's sampling: from one, two or all frames, and maybe cameras, to frames, disparity and a raymap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.aether.config import RAYMAP_CHANNELS, AetherConfig
from gen3r_bench.models.aether.folder import PARTS, AetherFolder
from gen3r_bench.models.aether.raymap import (
    SPATIAL_RATIO,
    TEMPORAL_RATIO,
    encode_raymap,
    fold_raymap,
    unfold_raymap,
)
from gen3r_bench.models.parts import Offload, Parts
from gen3r_bench.scene import Cameras

Task = Literal["prediction", "planning", "reconstruction"]
ROTARY_THETA: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a clip is drawn; the defaults are the released ones of prediction and planning.

    Attributes:
        steps: of the solver.
        guidance: weight against the pass without the given frames; 1 turns that pass off.
        varied: whether the weight varies with the noise level, as it does whenever the released pipeline guides.
    """

    steps: int = 50
    guidance: float = 3.0
    varied: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps", expected="at least 1")

    @classmethod
    def reconstruction(cls) -> Sampling:
        """The released steps of a reconstruction, which is never guided."""
        return cls(steps=4, guidance=1.0, varied=False)

    def weight(self, timestep: int) -> float:
        """Weight of guidance at a timestep (1 to 1000).

        The released formula is meant to rise with the steps done but is given the timestep: between 1 and
        1 + ``guidance`` it jumps about, until the last ``steps`` timesteps.
        """
        if not self.varied:
            return self.guidance
        share = (self.steps - timestep) / self.steps
        return 1 + self.guidance * (1 - math.cos(math.pi * share**5)) / 2


@dataclass(frozen=True, slots=True, eq=False)
class ClipInputs:
    """What a clip is generated from.

    Attributes:
        rgb: [n, H, W, 3] float32 in [0, 1]: the first frame (prediction), the first and last (planning), or all of
            them (reconstruction).
        num_frames: F, of ``CLIP_LENGTHS``.
        cameras: of all F frames at (H, W), or None.
        seed: of all noise.
        dmax: see ``encode_raymap``.
    """

    rgb: NDArray[np.float32]
    num_frames: int
    cameras: Cameras | None
    seed: int
    dmax: float = 1.0

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]

    @property
    def task(self) -> Task:
        """What the number of frames asks for.

        Raises:
            InputError: where no task takes that number.
        """
        tasks: dict[int, Task] = {1: "prediction", 2: "planning", self.num_frames: "reconstruction"}
        if len(self.rgb) not in tasks:
            raise InputError(f"{len(self.rgb)} given frames of {self.num_frames}", expected="1, 2 or all of them")
        return tasks[len(self.rgb)]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """What the networks give, before cameras and depth are read from it.

    Attributes:
        rgb: [F, H, W, 3] float32 in [0, 1].
        disparity: [F, H, W] float32, 1 at the nearest point; noise may take it above 1.
        raymap: [F, 6, H / 8, W / 8] float32, see ``decode_raymap``.
    """

    rgb: NDArray[np.float32]
    disparity: NDArray[np.float32]
    raymap: NDArray[np.float32]


class AetherPipeline:
    """Samples clips.

    Args:
        config: sizes of the networks.
        parts: the networks.
        scheduler: makes a fresh CogVideoXDPMScheduler of diffusers, whose names type checkers cannot see.

    Everything random is drawn from one CPU generator in float32, in the released order (latents of the given frames,
    initial noise, noise of every step), so a seed means the same clip on every device, up to the device's arithmetic.
    Frames are taken as 12 a second, the released default: nothing here knows the true rate.
    """

    def __init__(self, config: AetherConfig, parts: Parts, scheduler: Callable[[], Any]) -> None:
        self.config = config
        self.parts = parts
        self._scheduler = scheduler
        self._no_prompt: Tensor | None = None

    @classmethod
    def from_folder(
        cls,
        folder: AetherFolder,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        offload: Offload = "encoders",
    ) -> AetherPipeline:
        """The pipeline of a checkpoint folder.

        Args:
            folder: that fits.
            device: where networks run.
            dtype: of all weights; None: bfloat16 on CUDA, float32 elsewhere. Latents are float32 between the steps
                (the released pipeline rounds them to bfloat16).
            offload: see ``Parts``.
        """
        device = torch.device(device)
        lowered = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        parts = Parts(lambda name: folder.load(name, dtype=lowered), device, offload)
        return cls(folder.config, parts, folder.scheduler)

    @torch.inference_mode()
    def __call__(self, inputs: ClipInputs, sampling: Sampling | None = None) -> Clip:
        """Generate a clip; the same inputs give the same clip.

        Raises:
            InputError: where length or size do not fit the networks, or the inputs contradict each other.
        """
        default = Sampling.reconstruction() if inputs.task == "reconstruction" else Sampling()
        return self.decode(self.sample(inputs, sampling or default))

    @torch.inference_mode()
    def sample(self, inputs: ClipInputs, sampling: Sampling) -> Tensor:
        """[1, 1 + k, 56, h, w] float32 latents on the device: frames, disparity and raymap, one behind the other."""
        self._check(inputs, sampling)
        generator = torch.Generator().manual_seed(inputs.seed)
        condition = self._condition(inputs, generator)
        shape = (*condition.shape[:2], self.config.transformer["out_channels"], *condition.shape[3:])
        scheduler = self._scheduler()
        scheduler.set_timesteps(sampling.steps, device=self.parts.device)
        latents: Tensor = torch.randn(shape, generator=generator).to(self.parts.device) * scheduler.init_noise_sigma
        without = condition.clone()
        without[:, :, : self.config.latent_channels] = 0  # the cameras stay
        conditions = [condition] if sampling.guidance <= 1 else [condition, without]
        prompt = self._empty_prompt()
        rotary = rotary_positions(self.config, shape[1], inputs.image_size, self.parts.device)
        before, clean = None, None
        with self.parts.use("transformer") as dit:
            for timestep in scheduler.timesteps:
                passes = [_velocity(dit, latents, given, timestep, prompt, rotary) for given in conditions]
                velocity = passes[0]
                if len(passes) == 2:
                    velocity = passes[1] + sampling.weight(int(timestep)) * (passes[0] - passes[1])
                latents, clean = scheduler.step(velocity, clean, timestep, before, latents, generator=generator)
                before = timestep
        return latents

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Clip:
        """The clip of joint latents, such as ``sample`` gives."""
        channels = self.config.latent_channels
        rgb = self._decode_video(latents[:, :, :channels])
        disparity = self._decode_video(latents[:, :, channels : 2 * channels])
        return Clip(
            rgb=(rgb / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).cpu().numpy(),
            disparity=(disparity.mean(dim=0) / 2 + 0.5).square().cpu().numpy(),
            raymap=unfold_raymap(latents[0, :, 2 * channels :].float()).cpu().numpy(),
        )

    def _decode_video(self, latents: Tensor) -> Tensor:
        """[3, F, H, W] float32 in about [-1, 1] of [1, f, c, h, w] latents."""
        with self.parts.use("vae") as vae:
            scaled = latents.transpose(1, 2) / self.config.vae["scaling_factor"]
            video: Tensor = vae.decode(scaled.to(_dtype(vae))).sample[0].float()
        return video

    def _check(self, inputs: ClipInputs, sampling: Sampling) -> None:
        self.config.check_clip(inputs.num_frames, inputs.image_size)
        cameras, task = inputs.cameras, inputs.task
        if cameras is not None and (len(cameras), cameras.image_size) != (inputs.num_frames, inputs.image_size):
            raise InputError(
                f"cameras of {len(cameras)} frames at {cameras.image_size}",
                expected=f"{inputs.num_frames} at {inputs.image_size}",
            )
        if task == "reconstruction" and sampling.guidance > 1:
            raise InputError(f"guidance {sampling.guidance} of a reconstruction", expected="1, none")

    def _condition(self, inputs: ClipInputs, generator: torch.Generator) -> Tensor:
        """[1, f, c + 24, h, w] float32: latents of the given frames at their places and zeros, then the raymap."""
        frames = 1 + (inputs.num_frames - 1) // TEMPORAL_RATIO
        height, width = (side // SPATIAL_RATIO for side in inputs.image_size)
        latents = torch.zeros(1, frames, self.config.latent_channels, height, width, device=self.parts.device)
        if inputs.task == "reconstruction":
            latents[:] = self._encode_video(inputs.rgb, generator)
        else:
            for place, image in zip((0, -1), inputs.rgb, strict=False):
                latents[:, place] = self._encode_video(image[None], generator)[:, 0]
        raymap = torch.zeros(1, frames, RAYMAP_CHANNELS, height, width, device=self.parts.device)
        if inputs.cameras is not None:
            raymap[0] = fold_raymap(torch.from_numpy(encode_raymap(inputs.cameras, dmax=inputs.dmax)))
        return torch.cat([latents, raymap], dim=2)

    def _encode_video(self, rgb: NDArray[np.float32], generator: torch.Generator) -> Tensor:
        """[1, f, c, h, w] float32: one draw from the VAE's posterior, as in training, scaled for the transformer."""
        video = torch.from_numpy(np.array(rgb)).permute(3, 0, 1, 2)[None] * 2 - 1
        with self.parts.use("vae") as vae:
            posterior = vae.encode(video.to(self.parts.device, _dtype(vae))).latent_dist
            mean, deviation = posterior.mean.float(), posterior.std.float()
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        factor = self.config.vae["scaling_factor"]
        if self.config.vae["invert_scale_latents"]:
            factor = 1 / factor
        scaled: Tensor = (mean + deviation * noise) * factor
        return scaled.transpose(1, 2)

    def _empty_prompt(self) -> Tensor:
        """[1, n, dim] features of "", the only prompt that Aether knows; encoded once."""
        if self._no_prompt is None:
            with self.parts.use("text") as encoder:
                ids = torch.full((1, self.config.transformer["max_text_seq_length"]), encoder.config.pad_token_id)
                ids[0, 0] = encoder.config.eos_token_id
                # without a mask: CogVideoX attends to the padding too
                self._no_prompt = encoder(ids.to(self.parts.device))[0].cpu()
        assert self._no_prompt is not None
        return self._no_prompt.to(self.parts.device)


def rotary_positions(
    config: AetherConfig, latent_frames: int, image_size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, head] of the tokens' places.

    A frame is put in the middle of the native grid, as large as fits: a square one has, to a quarter of a place, those
    of the native frame's middle.
    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    patch = int(config.transformer["patch_size"])
    grid = [side // config.size_step for side in image_size]
    native = [config.transformer[name] // patch for name in ("sample_height", "sample_width")]
    scale = min(whole / cells for whole, cells in zip(native, grid, strict=True))
    extent = [round(cells * scale) for cells in grid]
    start = [round((whole - cells) / 2) for whole, cells in zip(native, extent, strict=True)]
    cosines, sines = get_3d_rotary_pos_embed(
        embed_dim=config.transformer["attention_head_dim"],
        crops_coords=(start, [low + cells for low, cells in zip(start, extent, strict=True)]),
        grid_size=grid,
        temporal_size=latent_frames,
        theta=ROTARY_THETA,
        device=device,
    )
    return cosines, sines


def _velocity(
    dit: nn.Module, latents: Tensor, condition: Tensor, timestep: Tensor, prompt: Tensor, rotary: tuple[Tensor, Tensor]
) -> Tensor:
    """What the transformer answers. One pass after the other: at the native size a pass fills the device."""
    dtype = _dtype(dit)
    (velocity,) = dit(
        hidden_states=torch.cat([latents, condition], dim=2).to(dtype),
        encoder_hidden_states=prompt.to(dtype),
        timestep=timestep.expand(len(latents)),
        image_rotary_emb=rotary,
        return_dict=False,
    )
    answer: Tensor = velocity
    return answer.float()


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def parts_from_modules(modules: dict[str, nn.Module], device: torch.device | str = "cpu") -> Parts:
    """Networks that are already in memory, for tests and notebooks; all of ``PARTS`` must be there."""
    missing = sorted(PARTS.keys() - modules.keys())
    if missing:
        raise InputError(f"no {', '.join(missing)}", expected=f"all of {', '.join(PARTS)}")
    return Parts(modules.__getitem__, torch.device(device), "none")
