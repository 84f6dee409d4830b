"""The whole network, cut where Gen3R's adapter takes hold of it: ``encode`` to tokens, ``decode`` from tokens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.vggt.aggregator import Aggregator
from gen3r_bench.models.vggt.config import VggtConfig
from gen3r_bench.models.vggt.heads import CameraHead, DenseHead


@dataclass(frozen=True, slots=True, eq=False)
class VggtTokens:
    """What the heads read.

    Attributes:
        layers: tokens [B, F, P, 2C] of the four used layers; P counts the camera token, the registers, and the patches
            in rows.
        patch_start: index of the first patch token.
        grid: (rows, columns) of patches.
    """

    layers: tuple[Tensor, ...]
    patch_start: int
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class VggtOutput:
    """What the heads say, all in one unit of length that is VGGT's own.

    Attributes:
        depth: [B, F, H, W], z-depth, positive.
        depth_confidence: [B, F, H, W], at least 1.
        points: [B, F, H, W, 3], of the point head, in the first camera's axes; None where not asked for.
        points_confidence: [B, F, H, W], at least 1; None with ``points``.
        pose_encoding: [B, F, 9]; see ``cameras_from_pose_encoding``.
    """

    depth: Tensor
    depth_confidence: Tensor
    points: Tensor | None
    points_confidence: Tensor | None
    pose_encoding: Tensor


class Vggt(nn.Module):
    """VGGT without its tracker; state-dict keys are those of ``facebook/VGGT-1B``, less ``track_head.*``.

    Reference: Wang et al., "VGGT: Visual Geometry Grounded Transformer", CVPR 2025 (arXiv 2503.11651).
    """

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.point_head = DenseHead(config, channels=3)
        self.depth_head = DenseHead(config, channels=1)

    def encode(self, images: Tensor, *, bfloat16: bool | None = None) -> VggtTokens:
        """Tokens of the four used layers.

        Args:
            images: [B, F, 3, H, W] in [0, 1], RGB; H and W are multiples of the patch size. The first frame's camera
                is the world; the order of the others does not matter.
            bfloat16: whether matrix products run in bfloat16; None: on CUDA they do.

        Raises:
            InputError: on other shapes or sizes.
        """
        patch = self.config.patch_size
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise InputError(f"images of shape {list(images.shape)}", expected="[batch, frames, 3, height, width]")
        height, width = images.shape[3:]
        if height % patch or width % patch:
            raise InputError(
                f"images of {height} x {width} pixels", expected=f"multiples of {patch}", fix="resize them to 560 x 560"
            )
        lowered = images.device.type == "cuda" if bfloat16 is None else bfloat16
        with _autocast(images.device, enabled=lowered):
            layers = self.aggregator(images)
        return VggtTokens(layers, self.config.patch_start, (height // patch, width // patch))

    def decode(
        self,
        tokens: VggtTokens,
        image_size: tuple[int, int],
        *,
        frames_at_once: int = 8,
        points: bool = True,
    ) -> VggtOutput:
        """Cameras, depth and points from tokens alone, in the heads' own precision (float32 unless converted).

        Args:
            tokens: of ``encode``, or made elsewhere in its layout. Of the tokens before ``patch_start``, only the
                first of the last layer is read.
            image_size: (height, width) in pixels of the images that the tokens describe.
            frames_at_once: how many frames the dense heads hold in memory; the answer does not depend on it.
            points: whether the point head runs.

        Raises:
            InputError: where tokens, grid and size do not belong together.
        """
        self._check(tokens, image_size, frames_at_once)
        dtype = self.camera_head.token_norm.weight.dtype
        with _autocast(tokens.layers[0].device, enabled=False):
            pose_encoding = self.camera_head(tokens.layers[-1][:, :, 0].to(dtype))[-1]
            depth, depth_confidence = self._dense(self.depth_head, tokens, frames_at_once, dtype)
            xyz = xyz_confidence = None
            if points:
                xyz, xyz_confidence = self._dense(self.point_head, tokens, frames_at_once, dtype)
        return VggtOutput(depth[..., 0], depth_confidence, xyz, xyz_confidence, pose_encoding)

    def forward(self, images: Tensor, *, bfloat16: bool | None = None) -> VggtOutput:
        """``decode(encode(images))`` at the images' own size."""
        return self.decode(self.encode(images, bfloat16=bfloat16), (images.shape[3], images.shape[4]))

    def _check(self, tokens: VggtTokens, image_size: tuple[int, int], frames_at_once: int) -> None:
        config, (rows, columns) = self.config, tokens.grid
        if (rows * config.patch_size, columns * config.patch_size) != tuple(image_size):
            raise InputError(
                f"an image of {tuple(image_size)} for tokens of {rows} x {columns} patches",
                expected=f"{(rows * config.patch_size, columns * config.patch_size)}",
            )
        shapes = {tuple(layer.shape) for layer in tokens.layers}
        tail = (tokens.patch_start + rows * columns, config.token_width)
        if len(tokens.layers) != 4 or len(shapes) != 1 or tokens.layers[0].ndim != 4 or next(iter(shapes))[2:] != tail:
            raise InputError(
                f"{len(tokens.layers)} layers of tokens of shapes {sorted(shapes)}",
                expected=f"4 of shape [batch, frames, {tail[0]}, {tail[1]}]",
            )
        if frames_at_once < 1:
            raise InputError(f"{frames_at_once} frames at once", expected="at least 1")

    @staticmethod
    def _dense(head: DenseHead, tokens: VggtTokens, at_once: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        batch, frames = tokens.layers[0].shape[:2]
        patches = [layer[:, :, tokens.patch_start :].flatten(0, 1) for layer in tokens.layers]
        maps, confidences = [], []
        for start in range(0, batch * frames, at_once):
            values, confidence = head([layer[start : start + at_once].to(dtype) for layer in patches], tokens.grid)
            maps.append(values)
            confidences.append(confidence)
        whole, confidence = torch.cat(maps), torch.cat(confidences)
        return (
            whole.reshape(batch, frames, *whole.shape[1:]),
            confidence.reshape(batch, frames, *confidence.shape[1:]),
        )


def _autocast(device: torch.device, *, enabled: bool) -> AbstractContextManager[object]:
    """Matrix products in bfloat16, or as the weights are stored, whatever the caller's context says."""
    if device.type == "meta" and not enabled:  # has no autocast to switch off
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
