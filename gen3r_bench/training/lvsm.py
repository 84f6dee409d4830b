"""LVSM's recipe: one or two frames of a clip in, another frame of it out."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gen3r_bench.models.folder import SIDE_KEY
from gen3r_bench.models.lvsm import Lvsm, LvsmConfig, build, normalised_poses, pluecker_rays
from gen3r_bench.training.attention import matching_loss, watched_attention
from gen3r_bench.training.augmentation import augmented
from gen3r_bench.training.matches import patch_matches
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.schedule import Schedule


class LvsmBatch(NamedTuple):
    """B samples of V views and T targets of P patches.

    Attributes:
        images: [B, V, 3, H, W] in [0, 1].
        rays: [B, V, 6, H, W].
        target_images: [B, T, 3, H, W] in [0, 1].
        target_rays: [B, T, 6, H, W].
        matches: [B, T, P, V * P], see ``patch_matches``; T = 0 where the recipe tells no attention.
    """

    images: Tensor
    rays: Tensor
    target_images: Tensor
    target_rays: Tensor
    matches: Tensor


class LvsmRecipe(MiniRecipe):
    """How a decoder-only LVSM is trained on ``mini``.

    The authors train with two views, a squared and a perceptual error. Here one view and two take turns, for the suite
    asks for both, and a term is added that makes training on a laptop possible: a few attention heads are told where in
    the views a target's patch is seen, which ``mini`` knows exactly (cross-entropy against ``patch_matches``). It needs
    no part of the network that LVSM lacks and is gone at inference.

    Attributes:
        model: sizes of the network.
        frames: of a clip; its poses are normalised together.
        batch: samples, each of a clip of its own.
        targets: frames of a sample that are rendered, each drawn from all of the clip.
        two_views: share of batches with two views; the others have one.
        protocol_views: share of samples whose views are the first frame (and the last), as the suite shows them; the
            others are any.
        matching_blocks: blocks, counted from 0, whose attention is told.
        matching_heads: how many heads of each, from the first on.
        matching_weight: of that term beside the mean squared error; 0 leaves it out.
    """

    model: LvsmConfig
    frames: int = Field(ge=2)
    batch: int = Field(ge=1)
    targets: int = Field(default=1, ge=1)
    two_views: float = Field(default=0.5, ge=0, le=1)
    protocol_views: float = Field(default=0.5, ge=0, le=1)
    matching_blocks: tuple[int, ...] = ()
    matching_heads: int = Field(default=1, ge=1)
    matching_weight: float = Field(default=0.0, ge=0)

    def facts(self) -> dict[str, Any]:
        return self._facts("lvsm")

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        return {SIDE_KEY: str(self.side)}

    def network(self) -> Lvsm:
        return build(self.model)

    def shipped(self, network: nn.Module) -> nn.Module:
        return network

    def draw_batch(self, draw: np.random.Generator) -> LvsmBatch:
        count = 2 if draw.random() < self.two_views else 1
        samples = [self._sample(draw, count) for _ in range(self.batch)]
        return LvsmBatch(*(torch.stack(tensors) for tensors in zip(*samples, strict=True)))

    def _sample(self, draw: np.random.Generator, count: int) -> tuple[Tensor, ...]:
        scene = augmented(self._dataset.train_scene(int(draw.integers(self.clips)), self._profile), draw)
        if draw.random() < self.protocol_views:
            views = [0, self.frames - 1][:count]
        else:
            views = [int(frame) for frame in draw.permutation(self.frames)[:count]]
        targets = [int(frame) for frame in draw.integers(self.frames, size=self.targets)]
        rays = pluecker_rays(normalised_poses(scene.cameras.world_from_cam), scene.cameras, self.side)
        images = torch.tensor(scene.rgb.copy()).permute(0, 3, 1, 2).float() / 255
        told = targets if self.matching_weight else []
        patches = (self.side // self.model.patch_size) ** 2
        matches = np.empty((len(told), patches, count * patches), dtype=np.float32)
        for place, target in enumerate(told):
            matches[place] = patch_matches(scene, target, views, self.model.patch_size)
        return images[views], rays[views], images[targets], rays[targets], torch.from_numpy(matches)

    def losses(self, network: nn.Module, batch: LvsmBatch) -> dict[str, Tensor]:
        told = self.matching_blocks if self.matching_weight else ()
        with watched_attention(network, [f"transformer_blocks.{block}.attn" for block in told]) as watched:
            rendered = network(batch.images, batch.rays, batch.target_rays)
        image = mse_loss(rendered.float(), batch.target_images)
        if not watched:
            return {"total": image, "image": image}
        matches, heads = batch.matches.flatten(0, 1), self.matching_heads
        views = slice(matches.shape[-1])
        matching = torch.stack(
            [matching_loss(q[:, :heads, views.stop :], k[:, :heads], matches, views) for q, k in watched]
        ).mean()
        return {"total": image + self.matching_weight * matching, "image": image, "matching": matching}


REFERENCE: Final = LvsmRecipe(
    model=LvsmConfig(width=192, head_width=32, depth=6, patch_size=8),
    schedule=Schedule(steps=1150, learning_rate=1.5e-3, warmup_steps=100, decay_steps=400),
    side=64,
    frames=13,
    clips=2048,
    batch=8,
    matching_blocks=(2, 3),
    matching_heads=2,
    matching_weight=0.01,
)
"""What the shipped checkpoint was trained with: 2.9 million parameters, about 14 CPU minutes besides rendering."""

OFFICIAL: Final = LvsmRecipe(
    model=LvsmConfig.official(),
    schedule=Schedule(
        steps=100_000,
        learning_rate=4e-4,
        warmup_steps=3000,
        decay_steps=97_000,
        precision="bfloat16",
        save_every=2000,
    ),
    side=256,
    frames=13,
    clips=100_000,
    batch=8,
    targets=6,
    two_views=1.0,
    protocol_views=0.0,
)
"""The authors' sizes and schedule (a batch is one GPU's; they used 64) on ``mini``, without their perceptual loss."""
