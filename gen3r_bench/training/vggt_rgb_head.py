"""The recipe of VGGT's RGB head: a clip's frames read back from the tokens of a frozen VGGT."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from gen3r_bench.models.folder import CONFIG_KEY, SIDE_KEY, VGGT_KEY
from gen3r_bench.models.vggt import Vggt
from gen3r_bench.models.vggt.heads import RgbHead
from gen3r_bench.models.vggt_checkpoint import load_vggt
from gen3r_bench.training.latents import as_images, drawn_clips
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.schedule import Schedule
from gen3r_bench.training.sources import frozen_sha256, require_sources, source_path


class RgbHeadBatch(NamedTuple):
    """B clips.

    Attributes:
        clips: [B, 3, F, H, W] in [-1, 1].
        shown: which of the B * F frames the head answers.
    """

    clips: Tensor
    shown: Tensor


class RgbHeadRecipe(MiniRecipe):
    """How a head is taught to say what VGGT was shown, by the squared error of its pixels; VGGT stays as it is.

    Attributes:
        vggt: whose tokens: "reference" (this project's own), "official", or a path.
        batch: clips a step.
        shown: of a batch's frames, that the head answers.
    """

    vggt: str
    batch: int = Field(ge=1)
    shown: int = Field(ge=1)

    @cached_property
    def _vggt(self) -> Vggt:
        return load_vggt(source_path("vggt", self.vggt), dtype=torch.float32).requires_grad_(False)

    def facts(self) -> dict[str, Any]:
        """With the hash of VGGT's weights, where these are there."""
        return self._facts("vggt-rgb-head", frozen_sha256=frozen_sha256({"vggt": source_path("vggt", self.vggt)}))

    def network(self) -> RgbHead:
        require_sources([("vggt", self.vggt)])
        return RgbHead(self._vggt.config)

    def shipped(self, network: nn.Module) -> nn.Module:
        return network

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        assert isinstance(shipped, RgbHead)
        config = json.dumps(dataclasses.asdict(shipped.config))
        return {CONFIG_KEY: config, SIDE_KEY: str(self.side), VGGT_KEY: self.vggt}

    def draw_batch(self, draw: np.random.Generator) -> RgbHeadBatch:
        clips = drawn_clips(self._dataset, self._profile, draw, clips=self.clips, batch=self.batch)
        return RgbHeadBatch(clips, torch.from_numpy(draw.permutation(self.batch * self.frames)[: self.shown]))

    def losses(self, network: nn.Module, batch: RgbHeadBatch) -> dict[str, Tensor]:
        images = as_images(batch.clips)
        with torch.no_grad():
            tokens = self._vggt.to(images.device).encode(images, bfloat16=False)
            patches = [layer[:, :, tokens.patch_start :].flatten(0, 1)[batch.shown].float() for layer in tokens.layers]
        found = network(patches, tokens.grid)
        truth = images.flatten(0, 1)[batch.shown].permute(0, 2, 3, 1)
        return {"total": (found.float() - truth).square().mean()}


REFERENCE: Final = RgbHeadRecipe(
    schedule=Schedule(steps=3000, learning_rate=1e-3, warmup_steps=100, decay_steps=2900, weight_decay=0.01),
    vggt="reference",
    side=64,
    frames=13,
    clips=2048,
    batch=1,
    shown=6,
)
"""For this project's own VGGT."""

OFFICIAL: Final = RgbHeadRecipe(
    schedule=Schedule(
        steps=6000,
        learning_rate=1e-4,
        warmup_steps=100,
        decay_steps=5900,
        weight_decay=0.01,
        accumulate=8,
        precision="bfloat16",
        save_every=500,
    ),
    vggt="official",
    side=560,
    frames=49,
    clips=100_000,
    batch=1,
    shown=12,
)
"""At the official sizes; the paper says nothing of its head's training, so every number here is our choice."""
