"""The geometry adapter's recipe: VGGT's tokens of a clip in, the same tokens out, through latents like the RGB ones."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from gen3r_bench.models.adapter_checkpoint import KnownAdapterConfig, build_adapter
from gen3r_bench.models.autoencoder_checkpoint import load_autoencoder
from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.models.code_adapter import CodeAdapter, CodeAdapterConfig
from gen3r_bench.models.folder import CONFIG_KEY, SIDE_KEY, VGGT_KEY
from gen3r_bench.models.geometry_adapter import GeometryAdapterConfig, pack_tokens, unpack_tokens
from gen3r_bench.models.token_adapter import TokenAdapter
from gen3r_bench.models.vggt import Vggt, VggtTokens
from gen3r_bench.models.vggt_checkpoint import load_vggt
from gen3r_bench.models.video_autoencoder import VideoAutoencoder
from gen3r_bench.training.adapter_losses import (
    adaptive_weight,
    camera_loss,
    cosine_loss,
    distance_loss,
    divergence,
    token_loss,
)
from gen3r_bench.training.adapter_start import AdapterStart, ScaledAdapter, set_logvar, start_code
from gen3r_bench.training.latents import as_images, drawn_clips, first_clips, normal_noise, statistics_of
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.schedule import Schedule
from gen3r_bench.training.sources import frozen_sha256, require_sources, source_path


class AdapterBatch(NamedTuple):
    """B clips.

    Attributes:
        clips: [B, 3, F, H, W] in [-1, 1].
        noise: [B, c, f, h, w], standard normal: of the posterior's draws.
        dense_frames: which of the B * F frames the depth and point heads answer.
    """

    clips: Tensor
    noise: Tensor
    dense_frames: Tensor


class AdapterWeights(BaseModel):
    """How much each term counts; the defaults are those of the released training.

    Attributes:
        reconstruction: of tokens and of what VGGT's heads say of them, together.
        camera: of the camera head's answers, within the reconstruction.
        depth: of the depth head's, within it.
        points: of the point head's, within it.
        cosine: of the angle between tokens, which the paper does not name.
        divergence: of the posterior's divergence, after it was scaled, see ``adaptive_weight``.
        share: the largest share of the reconstruction that the scaled divergence has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reconstruction: float = Field(default=0.5, ge=0)
    camera: float = Field(default=10.0, ge=0)
    depth: float = Field(default=2.0, ge=0)
    points: float = Field(default=1.0, ge=0)
    cosine: float = Field(default=0.1, ge=0)
    divergence: float = Field(default=2.0, ge=0)
    share: float = Field(default=0.1, ge=0)


class GeometryAdapterRecipe(MiniRecipe):
    """How a geometry adapter is trained on ``mini``, between a frozen VGGT and a frozen RGB autoencoder.

    Its posterior is drawn to that of the same clip's appearance, number by number, or to a standard normal, as the
    released code has it where the paper's alignment is ablated; by ``weights``, or not at all. Its latents are measured
    when it is done: their mean and deviation over ``measured_clips`` become part of its configuration.

    Attributes:
        model: sizes of the adapter.
        weights: of the losses.
        vggt: whose tokens these are: "reference" (this project's own), "official", or a path.
        autoencoder: whose posterior they are drawn to: the same.
        toward: "appearance", or "normal" for the ablation without the alignment.
        frames: of a clip, 1 + 4 k.
        batch: clips a step.
        dense_frames: of a batch, that the depth and point heads answer.
        measured_clips: training clips whose latents are measured; the first ones.
        start: what it begins with; None: as PyTorch draws it.
    """

    model: KnownAdapterConfig
    weights: AdapterWeights = AdapterWeights()
    vggt: str
    autoencoder: str
    toward: Literal["appearance", "normal"] = "appearance"
    batch: int = Field(ge=1)
    dense_frames: int = Field(ge=1)
    measured_clips: int = Field(ge=1)
    start: AdapterStart | None = None

    @cached_property
    def _vggt(self) -> Vggt:
        return load_vggt(source_path("vggt", self.vggt), dtype=torch.float32).requires_grad_(False)

    @cached_property
    def _autoencoder(self) -> VideoAutoencoder:
        path = source_path("wan-vae", self.autoencoder)
        return load_autoencoder(path, dtype=torch.float32).requires_grad_(False)

    def facts(self) -> dict[str, Any]:
        """With the hashes of the frozen networks' weights, where these are there."""
        paths = {"vggt": source_path("vggt", self.vggt), "autoencoder": source_path("wan-vae", self.autoencoder)}
        return self._facts(
            "geometry-adapter", exclude=["start"] if self.start is None else (), frozen_sha256=frozen_sha256(paths)
        )

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        assert isinstance(shipped, TokenAdapter)
        return {SIDE_KEY: str(self.side), VGGT_KEY: self.vggt, CONFIG_KEY: json.dumps(shipped.config.to_json())}

    def network(self) -> TokenAdapter | ScaledAdapter:
        require_sources([("vggt", self.vggt), ("wan-vae", self.autoencoder)])
        adapter = build_adapter(self.model)
        if self.start is None:
            return adapter
        set_logvar(adapter, self.start.logvar)
        with torch.no_grad():
            clips = list(first_clips(self._dataset, self._profile, self.start.clips))
            tokens = torch.cat([pack_tokens(self._tokens(clip[None])) for clip in clips])
            mean, std = statistics_of(tokens)
            scaled = ScaledAdapter(adapter, torch.tensor(mean), torch.tensor(std))
            if isinstance(adapter, CodeAdapter):
                appearance = self._appearance(torch.stack(clips))
                start_code(adapter, scaled.scaled(tokens), None if appearance is None else appearance.mean)
        return scaled

    def shipped(self, network: nn.Module) -> TokenAdapter:
        if isinstance(network, ScaledAdapter):
            network = network.unscaled()
        assert isinstance(network, TokenAdapter)
        weights = next(network.parameters())
        with torch.inference_mode():
            means = [
                network.encode(pack_tokens(self._tokens(clip[None].to(weights)))).mean
                for clip in first_clips(self._dataset, self._profile, self.measured_clips)
            ]
        mean, std = statistics_of(torch.cat(means))
        measured = build_adapter(dataclasses.replace(self.model, latent_mean=mean, latent_std=std))
        measured.load_state_dict(network.state_dict())
        return measured.to(weights).eval()

    def draw_batch(self, draw: np.random.Generator) -> AdapterBatch:
        clips = drawn_clips(self._dataset, self._profile, draw, clips=self.clips, batch=self.batch)
        grid = (self.side // self._vggt.config.patch_size,) * 2
        noise = normal_noise(draw, self.batch, self.model.latent_channels, self.frames, self.model.latent_size(grid))
        frames = draw.permutation(self.batch * self.frames)[: self.dense_frames]
        return AdapterBatch(clips, noise, torch.from_numpy(frames))

    def losses(self, network: nn.Module, batch: AdapterBatch) -> dict[str, Tensor]:
        with torch.no_grad():
            tokens = self._tokens(batch.clips)
            token_map = pack_tokens(tokens)
            truth = self._heads(tokens, batch.dense_frames)
            appearance = self._appearance(batch.clips)
        posterior, decoded = network(token_map, batch.noise)
        found = self._heads(unpack_tokens(decoded, patch_start=tokens.patch_start), batch.dense_frames)
        losses = {
            "tokens": token_loss(decoded, token_map),
            "camera": camera_loss(found.poses, truth.poses),
            "depth": distance_loss(found.depth, truth.depth),
            "points": distance_loss(found.points, truth.points),
            "cosine": cosine_loss(decoded, token_map),
            "divergence": divergence(posterior, appearance),
        }
        weights = self.weights
        reconstruction = weights.reconstruction * (
            losses["tokens"]
            + weights.camera * losses["camera"]
            + weights.depth * losses["depth"]
            + weights.points * losses["points"]
        )
        scale = adaptive_weight(float(reconstruction.detach()), float(losses["divergence"].detach()), weights.share)
        total = reconstruction + weights.cosine * losses["cosine"] + weights.divergence * scale * losses["divergence"]
        return {"total": total, **losses}

    def _tokens(self, clips: Tensor) -> VggtTokens:
        """Of clips in [-1, 1]."""
        return self._vggt.to(clips.device).encode(as_images(clips), bfloat16=False)

    def _appearance(self, clips: Tensor) -> DiagonalGaussian | None:
        """What the posterior is drawn to; None for a standard normal."""
        if self.toward == "normal":
            return None
        return self._autoencoder.to(clips.device).encode(clips, latents_per_chunk=self.frames)

    def _heads(self, tokens: VggtTokens, dense_frames: Tensor) -> _Answers:
        """What VGGT's heads say, in float32."""
        vggt = self._vggt
        layers = [layer[:, :, tokens.patch_start :].flatten(0, 1)[dense_frames].float() for layer in tokens.layers]
        with torch.autocast(layers[0].device.type, enabled=False):
            return _Answers(
                vggt.camera_head(tokens.layers[-1][:, :, 0].float()),
                vggt.depth_head(layers, tokens.grid)[0],
                vggt.point_head(layers, tokens.grid)[0],
            )


class _Answers(NamedTuple):
    poses: Tensor
    depth: Tensor
    points: Tensor


REFERENCE: Final = GeometryAdapterRecipe(
    model=CodeAdapterConfig(),
    schedule=Schedule(
        steps=3600, learning_rate=3e-4, warmup_steps=100, decay_steps=3000, weight_decay=1e-4, clip_norm=0.5
    ),
    vggt="reference",
    autoencoder="reference",
    side=64,
    frames=13,
    clips=6144,
    batch=1,
    dense_frames=4,
    measured_clips=256,
    start=AdapterStart(clips=128, logvar=-6.0),
)
"""For this project's own VGGT and RGB autoencoder."""

WITHOUT_KL: Final = REFERENCE.model_copy(
    update={
        "toward": "normal",
        "weights": REFERENCE.weights.model_copy(update={"divergence": 0.0}),
    }
)
"""The ablation: equation 7 without its divergence, which is still measured, from a standard normal.

The released switch trains on that one, with a share of 1; then the posterior becomes the standard normal itself, and
says nothing of a clip. Without any, and from where the other begins, it stays near there for thousands of steps: what
makes latents speak at first is the alignment. Hence a start of its own.
"""

OFFICIAL: Final = GeometryAdapterRecipe(
    # measured anew, like every latent that is trained here
    model=dataclasses.replace(GeometryAdapterConfig.official(), latent_mean=(0.0,) * 16, latent_std=(1.0,) * 16),
    schedule=Schedule(
        steps=6000,
        learning_rate=1e-5,
        warmup_steps=0,
        decay_steps=6000,
        betas=(0.9, 0.999),
        weight_decay=1e-4,
        clip_norm=0.5,
        accumulate=8,
        precision="bfloat16",
        seed=42,
        save_every=500,
    ),
    vggt="official",
    autoencoder="official",
    side=560,
    frames=49,
    clips=100_000,
    batch=1,
    dense_frames=49,
    measured_clips=1000,
)
"""The authors' second stage (after 15,000 steps with 25 frames) on ``mini``; they used 24 GPUs, a batch of 192 clips.

Their rate falls to a fifth, not to zero.
"""
