"""The RGB autoencoder's recipe: clips in, the same clips out, through latents of 1/4 of the frames, 1/8 of the size."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from gen3r_bench.models.autoencoder_checkpoint import KnownConfig, build_autoencoder
from gen3r_bench.models.causal3d import FRAMES_PER_LATENT, DiagonalGaussian
from gen3r_bench.models.folder import CONFIG_KEY
from gen3r_bench.models.patch_autoencoder import (
    PatchAutoencoderConfig,
    PatchVideoAutoencoder,
    chunk_patches,
    first_patches,
)
from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO, VideoAutoencoder
from gen3r_bench.models.wan.vae import WanVaeConfig
from gen3r_bench.training.latents import drawn_clips, first_clips, normal_noise, statistics_of
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.principal_components import principal_components
from gen3r_bench.training.schedule import Schedule


class ClipBatch(NamedTuple):
    """B clips.

    Attributes:
        clips: [B, 3, F, H, W] in [-1, 1].
        noise: [B, c, f, h, w], standard normal: of the posterior's draws.
    """

    clips: Tensor
    noise: Tensor


class WanVaeRecipe(MiniRecipe):
    """How an RGB autoencoder is trained on ``mini``.

    The loss of a clip is the squared and the absolute error of its numbers in [-1, 1], and the divergence of the
    posterior from a standard normal, each a mean over its elements times its weight. A patch autoencoder begins as the
    principal components of the training clips' patches, and its latents are measured when it is done: their mean and
    deviation over ``measured_clips`` become part of its configuration.

    Attributes:
        model: sizes of the network, and thereby which it is.
        side: of the square frames, pixels; a multiple of 8.
        frames: of a clip, 1 + 4 k.
        batch: clips a step.
        square_weight: of the mean squared error.
        absolute_weight: of the mean absolute error.
        divergence_weight: of the divergence from a standard normal, nats a latent number.
        principal_clips: training clips whose patches give the principal components; the first ones.
        measured_clips: training clips whose latents are measured; the first ones.
    """

    model: KnownConfig
    side: int = Field(ge=8, multiple_of=SPATIAL_RATIO)
    batch: int = Field(ge=1)
    square_weight: float = Field(ge=0)
    absolute_weight: float = Field(ge=0)
    divergence_weight: float = Field(ge=0)
    principal_clips: int = Field(ge=1)
    measured_clips: int = Field(ge=1)

    @field_validator("frames")
    @classmethod
    def _whole_latents(cls, frames: int) -> int:
        if (frames - 1) % FRAMES_PER_LATENT:
            raise ValueError(f"frames {frames}, not 1 + {FRAMES_PER_LATENT} k")
        return frames

    def facts(self) -> dict[str, Any]:
        return self._facts("wan-vae", autoencoder=self.model.to_json()["_class_name"])

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        assert isinstance(shipped, VideoAutoencoder)
        return {CONFIG_KEY: json.dumps(shipped.config.to_json())}

    def network(self) -> VideoAutoencoder:
        autoencoder = build_autoencoder(self.model)
        if isinstance(autoencoder, PatchVideoAutoencoder):
            clips = torch.stack(list(first_clips(self._dataset, self._profile, self.principal_clips)))
            channels = self.model.latent_channels
            autoencoder.start_from(
                principal_components(first_patches(clips[:, :, :1]), channels),
                principal_components(chunk_patches(clips[:, :, 1:]), channels),
            )
        return autoencoder

    def draw_batch(self, draw: np.random.Generator) -> ClipBatch:
        clips = drawn_clips(self._dataset, self._profile, draw, clips=self.clips, batch=self.batch)
        size = (self.side // SPATIAL_RATIO, self.side // SPATIAL_RATIO)
        noise = normal_noise(draw, self.batch, self.model.latent_channels, self.frames, size)
        return ClipBatch(clips, noise)

    def losses(self, network: nn.Module, batch: ClipBatch) -> dict[str, Tensor]:
        posterior, decoded = network(batch.clips, batch.noise)
        difference = decoded.float() - batch.clips
        square, absolute = difference.square().mean(), difference.abs().mean()
        divergence = divergence_from_normal(posterior)
        total = self.square_weight * square + self.absolute_weight * absolute + self.divergence_weight * divergence
        return {"total": total, "square": square, "absolute": absolute, "divergence": divergence}

    def shipped(self, network: nn.Module) -> VideoAutoencoder:
        assert isinstance(network, VideoAutoencoder)
        weights = next(network.parameters())
        with torch.inference_mode():
            means = [
                network.encode(clip[None].to(weights)).mean
                for clip in first_clips(self._dataset, self._profile, self.measured_clips)
            ]
        mean, std = statistics_of(torch.cat(means))
        measured = build_autoencoder(dataclasses.replace(self.model, latent_mean=mean, latent_std=std))
        measured.load_state_dict(network.state_dict())
        return measured.to(weights).eval()


def divergence_from_normal(posterior: DiagonalGaussian) -> Tensor:
    """Mean over all elements of the Kullback–Leibler divergence KL(posterior || standard normal), in nats."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence: Tensor = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return divergence


REFERENCE: Final = WanVaeRecipe(
    model=PatchAutoencoderConfig(),
    schedule=Schedule(steps=4000, learning_rate=6e-4, warmup_steps=100, decay_steps=1500, weight_decay=0.0),
    side=64,
    frames=13,
    clips=2048,
    batch=2,
    square_weight=1.0,
    absolute_weight=0.02,
    divergence_weight=1e-4,
    principal_clips=256,
    measured_clips=256,
)
"""What the shipped checkpoint was trained with."""

OFFICIAL: Final = WanVaeRecipe(
    # measured anew, like every latent that is trained here
    model=dataclasses.replace(WanVaeConfig.official(), latent_mean=(0.0,) * 16, latent_std=(1.0,) * 16),
    schedule=Schedule(
        steps=100_000,
        learning_rate=1e-4,
        warmup_steps=1000,
        decay_steps=99_000,
        weight_decay=0.0,
        precision="bfloat16",
        save_every=2000,
    ),
    side=128,
    frames=13,
    clips=100_000,
    batch=4,
    square_weight=0.0,
    absolute_weight=3.0,
    divergence_weight=3e-6,
    principal_clips=1,
    measured_clips=1000,
)
