"""VGGT's recipe: frames of a clip in; cameras, depth and points out."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from gen3r_bench.models.folder import CONFIG_KEY, SIDE_KEY
from gen3r_bench.models.vggt import Vggt, VggtConfig
from gen3r_bench.models.vggt.blocks import Block, Rotation
from gen3r_bench.scene import Scene
from gen3r_bench.training.attention import matching_loss, watched_attention
from gen3r_bench.training.augmentation import augmented, reordered
from gen3r_bench.training.geometry_losses import (
    camera_loss,
    confident_loss,
    masked_l1,
    pose_encoding,
    relative_pose_loss,
    scene_unit,
)
from gen3r_bench.training.matches import patch_flow, patch_matches
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.schedule import Schedule


class VggtBatch(NamedTuple):
    """B clips of F frames with P patches; lengths are in each clip's own unit, see ``scene_unit``.

    Attributes:
        images: [B, F, 3, H, W] in [0, 1].
        pose: [B, F, 9], see ``pose_encoding``.
        depth: [B, F, H, W].
        points: [B, F, H, W, 3] in the first camera's axes; 0 where not valid.
        valid: [B, F, H, W] bool.
        matches: [B, (F - 1) * P, P] of every later frame in the first, see ``patch_matches``; 0 rows where the recipe
            tells no attention.
        flow: [B, F, P, 2] into the first frame, see ``patch_flow``; empty without auxiliary readouts.
        flow_known: [B, F, P] bool.
        depth_frames: which of the B * F frames the depth head answers.
        point_frames: the same for the point head.
    """

    images: Tensor
    pose: Tensor
    depth: Tensor
    points: Tensor
    valid: Tensor
    matches: Tensor
    flow: Tensor
    flow_known: Tensor
    depth_frames: Tensor
    point_frames: Tensor


class StudentAnswer(NamedTuple):
    """What is supervised.

    Attributes:
        poses: [iterations, B, F, 9] after every refinement.
        depth: [n, H, W, 1] and its confidence [n, H, W], of the chosen frames.
        points: [m, H, W, 3] and its confidence [m, H, W].
        attention: queries and keys [B, heads, F * T, channels] of each told block, rotated.
        flow: [B, F, P, 2] read from the tokens; None without auxiliary readouts.
        coarse_points: [B, F, P, 3] read from the tokens; None without auxiliary readouts.
    """

    poses: Tensor
    depth: tuple[Tensor, Tensor]
    points: tuple[Tensor, Tensor]
    attention: list[tuple[Tensor, Tensor]]
    flow: Tensor | None
    coarse_points: Tensor | None


class Student(nn.Module):
    """VGGT in training: with linear readouts of its patch tokens beside it, which are left behind afterwards."""

    def __init__(self, vggt: Vggt, *, told_blocks: tuple[int, ...], told_heads: int, readouts: bool) -> None:
        super().__init__()
        self.vggt = vggt
        self._told = [f"aggregator.global_blocks.{block}.attn" for block in told_blocks]
        self._told_heads = told_heads
        width = vggt.config.token_width
        # of the last tokens but one, so that the last blocks can use what these say
        self.readout = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 5)) if readouts else None

    def forward(self, images: Tensor, depth_frames: Tensor, point_frames: Tensor) -> StudentAnswer:
        with watched_attention(self.vggt, self._told) as watched:
            tokens = self.vggt.encode(images, bfloat16=torch.is_autocast_enabled(images.device.type))
        patches = [layer[:, :, tokens.patch_start :] for layer in tokens.layers]
        dense = [layer.flatten(0, 1) for layer in patches]
        with torch.autocast(images.device.type, enabled=False):
            poses = self.vggt.camera_head(tokens.layers[-1][:, :, 0].float())
            depth = self.vggt.depth_head([layer[depth_frames].float() for layer in dense], tokens.grid)
            points = self.vggt.point_head([layer[point_frames].float() for layer in dense], tokens.grid)
            said = None if self.readout is None else self.readout(patches[-2].float())
        config = self.vggt.config
        rotation = Rotation.of_frame(
            tokens.grid, config.patch_start, config.width // config.heads, config.rope_base, images.device
        ).repeated(images.shape[1])
        attention = [(rotation(q[:, : self._told_heads]), rotation(k[:, : self._told_heads])) for q, k in watched]
        if said is None:
            return StudentAnswer(poses, depth, points, attention, None, None)
        return StudentAnswer(poses, depth, points, attention, said[..., :2], said[..., 2:])


class LossWeights(BaseModel):
    """How much each term counts; a weight of 0 leaves it out.

    Attributes:
        camera: of VGGT's camera loss.
        depth: of its depth loss.
        points: of its point loss.
        doubt: alpha in both, see ``confident_loss``.
        relative: of the motion between any two cameras, see ``relative_pose_loss``.
        attention: of the told heads' cross-entropy, see ``matching_loss``.
        flow: of the flow into the first frame, read from the tokens.
        coarse_points: of the mean point of each patch, read from the tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    camera: float = Field(ge=0)
    depth: float = Field(ge=0)
    points: float = Field(ge=0)
    doubt: float = Field(ge=0)
    relative: float = Field(default=0.0, ge=0)
    attention: float = Field(default=0.0, ge=0)
    flow: float = Field(default=0.0, ge=0)
    coarse_points: float = Field(default=0.0, ge=0)

    @property
    def readouts(self) -> bool:
        """Whether anything is read from the tokens beside VGGT's own heads."""
        return self.flow > 0 or self.coarse_points > 0


class VggtRecipe(MiniRecipe):
    """How VGGT is trained on ``mini``.

    Under the authors' losses alone a small network leaves every camera where the first one is. Four terms make it a
    matter of an hour, and leave no trace but the weights: a few heads of the global attention are told where the first
    frame shows what a patch shows, which ``mini`` knows; two linear readouts of the tokens say each patch's flow into
    the first frame and its mean point; and relative poses are compared between all pairs.

    Attributes:
        model: sizes of the network.
        weights: of the losses.
        views: numbers of frames that a batch shows of each clip, one drawn a batch.
        frames_a_batch: how many clips make a batch: as many as hold this many frames, and at least one.
        ordered: share of clips shown in order from the first frame on, as the suite does; the others begin anywhere.
        depth_frames: of a batch, that the depth head answers (the others cost little more than the aggregator).
        point_frames: the same for the point head.
        told_blocks: global blocks, counted from 0, whose attention is told.
        told_heads: how many heads of each, from the first on.
        branch_start: what the learned scales of all blocks start from; None leaves the authors' values, under which
            blocks take thousands of steps to matter.
        token_deviation: standard deviation that the camera and register tokens start from.
    """

    model: VggtConfig
    weights: LossWeights
    views: tuple[int, ...] = Field(min_length=1)
    frames_a_batch: int = Field(ge=1)
    ordered: float = Field(default=0.5, ge=0, le=1)
    depth_frames: int = Field(ge=1)
    point_frames: int = Field(ge=1)
    told_blocks: tuple[int, ...] = ()
    told_heads: int = Field(default=1, ge=1)
    branch_start: float | None = Field(default=None, gt=0)
    token_deviation: float = Field(default=1e-6, gt=0)

    def facts(self) -> dict[str, Any]:
        return self._facts("vggt")

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        return {SIDE_KEY: str(self.side), CONFIG_KEY: json.dumps(self.model.to_fields())}

    def shipped(self, network: nn.Module) -> nn.Module:
        return network.get_submodule("vggt")

    def network(self) -> Student:
        vggt = Vggt(self.model)
        with torch.no_grad():
            vggt.aggregator.camera_token.normal_(std=self.token_deviation)
            vggt.aggregator.register_token.normal_(std=self.token_deviation)
            # an untrained head answers a camera that has not turned
            vggt.camera_head.pose_branch.fc2.bias[6] = 1 / self.model.camera_iterations
            if self.branch_start is not None:
                for module in vggt.modules():
                    if isinstance(module, Block):
                        module.ls1.gamma.fill_(self.branch_start)
                        module.ls2.gamma.fill_(self.branch_start)
        told = self.told_blocks if self.weights.attention else ()
        return Student(vggt, told_blocks=told, told_heads=self.told_heads, readouts=self.weights.readouts)

    def draw_batch(self, draw: np.random.Generator) -> VggtBatch:
        views = int(draw.choice(self.views))
        clips = max(1, self.frames_a_batch // views)
        samples = [self._sample(draw, views) for _ in range(clips)]
        frames = clips * views
        chosen = [
            torch.from_numpy(draw.permutation(frames)[: min(wanted, frames)])
            for wanted in (self.depth_frames, self.point_frames)
        ]
        return VggtBatch(*(torch.stack(tensors) for tensors in zip(*samples, strict=True)), *chosen)

    def _sample(self, draw: np.random.Generator, views: int) -> tuple[Tensor, ...]:
        scene = augmented(self._dataset.train_scene(int(draw.integers(self.clips)), self._profile), draw)
        frames = draw.permutation(self.frames)[:views]
        if draw.random() < self.ordered:
            frames = np.sort(frames)
            frames[0] = 0
        return self._tensors(reordered(scene, frames))

    def _tensors(self, scene: Scene) -> tuple[Tensor, ...]:
        """What ``VggtBatch`` holds of a clip, in its order."""
        assert scene.depth is not None
        unit, patch = scene_unit(scene), self.model.patch_size
        patches = (self.side // patch) ** 2
        later = range(1, scene.num_frames) if self.weights.attention else ()
        matches = np.zeros((len(later), patches, patches), dtype=np.float32)
        for place, frame in enumerate(later):
            matches[place] = patch_matches(scene, frame, [0], patch)
        flow, known = patch_flow(scene, 0, patch) if self.weights.readouts else (np.empty(0), np.empty(0, dtype=bool))
        return (
            torch.tensor(scene.rgb.copy()).permute(0, 3, 1, 2).float() / 255,
            torch.from_numpy(pose_encoding(scene.cameras, unit)),
            torch.from_numpy(np.where(scene.valid, scene.depth, 0) / np.float32(unit)),
            torch.from_numpy(scene.points_world() / np.float32(unit)),
            torch.tensor(scene.valid.copy()),
            torch.from_numpy(matches).flatten(0, 1),
            torch.from_numpy(flow),
            torch.from_numpy(known),
        )

    def losses(self, network: nn.Module, batch: VggtBatch) -> dict[str, Tensor]:
        answer: StudentAnswer = network(batch.images, batch.depth_frames, batch.point_frames)
        weights = self.weights
        depth, points, valid = (maps.flatten(0, 1) for maps in (batch.depth, batch.points, batch.valid))
        seen, pointed = valid[batch.depth_frames], valid[batch.point_frames]
        losses = {
            "camera": camera_loss(answer.poses, batch.pose),
            "depth": confident_loss(
                answer.depth[0], depth[batch.depth_frames][..., None], answer.depth[1], seen, alpha=weights.doubt
            ),
            "points": confident_loss(
                answer.points[0], points[batch.point_frames], answer.points[1], pointed, alpha=weights.doubt
            ),
        }
        if weights.relative:
            losses["relative"] = relative_pose_loss(answer.poses[-1].float(), batch.pose)
        if answer.attention:
            losses["attention"] = self._attention_loss(answer.attention, batch)
        if answer.flow is not None and answer.coarse_points is not None:
            losses["flow"] = masked_l1(answer.flow, batch.flow, batch.flow_known)
            losses["coarse_points"] = masked_l1(answer.coarse_points, *_by_patch(batch, self.model.patch_size))
        total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
        return {"total": total, **losses}

    def _attention_loss(self, attention: list[tuple[Tensor, Tensor]], batch: VggtBatch) -> Tensor:
        frames, start = batch.images.shape[1], self.model.patch_start
        tokens = start + (self.side // self.model.patch_size) ** 2
        asking = [frame * tokens + place for frame in range(1, frames) for place in range(start, tokens)]
        return torch.stack(
            [matching_loss(query[:, :, asking], key, batch.matches, slice(start, tokens)) for query, key in attention]
        ).mean()


def _by_patch(batch: VggtBatch, patch: int) -> tuple[Tensor, Tensor]:
    """Mean point [B, F, P, 3] of each patch's known pixels, and which patches [B, F, P] have any."""

    def cells(maps: Tensor) -> Tensor:  # [B, F, H, W, ...] to [B, F, P, pixels of a patch, ...]
        batches, frames, height, width, *rest = maps.shape
        split = maps.reshape(batches, frames, height // patch, patch, width // patch, patch, *rest)
        return split.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    known = cells(batch.valid)
    mean = (cells(batch.points) * known[..., None]).sum(3) / known.sum(3).clamp(min=1)[..., None]
    return mean, known.any(3)


REFERENCE: Final = VggtRecipe(
    model=VggtConfig.reference(),
    schedule=Schedule(steps=8000, learning_rate=1e-3, warmup_steps=100, decay_steps=4000, save_every=100),
    # depth is what such a small network lacks, so its terms weigh more than the cameras'
    weights=LossWeights(
        camera=5.0, depth=2.5, points=1.0, doubt=0.2, relative=2.0, attention=0.3, flow=5.0, coarse_points=1.5
    ),
    side=64,
    frames=13,
    clips=6144,
    views=(13, 13, 7, 4, 4, 2, 2, 1),
    frames_a_batch=26,
    depth_frames=13,
    point_frames=4,
    told_blocks=(1, 2),
    branch_start=1.0,
    token_deviation=0.5,
)
"""What the shipped checkpoint was trained with."""

OFFICIAL: Final = VggtRecipe(
    model=VggtConfig.official(),
    schedule=Schedule(
        steps=160_000,
        learning_rate=2e-4,
        warmup_steps=8000,
        decay_steps=152_000,
        precision="bfloat16",
        save_every=2000,
    ),
    weights=LossWeights(camera=1.0, depth=1.0, points=1.0, doubt=0.2),
    side=518,
    frames=24,
    clips=100_000,
    views=tuple(range(2, 25)),
    frames_a_batch=48,
    ordered=0.0,
    depth_frames=48,
    point_frames=48,
)
"""The authors' sizes and schedule (a batch is one GPU's; they used 64) on ``mini``: their losses alone, without their
tracker, the DINOv2 weights that they began with, and their other shapes and colours of frames."""
