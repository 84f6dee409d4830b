"""Gen3R's sampling: from visible frames, cameras and a prompt to a clip with depth and cameras."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.geometry_adapter import unpack_tokens
from gen3r_bench.models.joint.conditioning import SPATIAL_RATIO, parted
from gen3r_bench.models.joint.pipeline import ClipInputs, JointPipeline, Sampling, dtype_of
from gen3r_bench.models.token_adapter import TokenAdapter
from gen3r_bench.models.vggt import Vggt, cameras_from_pose_encoding
from gen3r_bench.scene import Cameras, unproject_depth


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


class Gen3rPipeline(JointPipeline[Gen3rConfig]):
    """Samples clips; see ``JointPipeline``."""

    # the heads' exponentials turn bfloat16's three digits into visible steps of depth
    in_float32: ClassVar[Collection[str]] = ("vggt",)

    @torch.inference_mode()
    def __call__(self, inputs: ClipInputs, sampling: Sampling | None = None) -> Clip:
        """Generate a clip; the same inputs give the same clip.

        Raises:
            InputError: where length or size do not fit the networks, or the inputs contradict each other.
        """
        return self.decode(self.sample(inputs, sampling or Sampling()))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Clip:
        """A clip of joint latents [1, c, f, h, 2 w], such as ``sample`` gives."""
        appearance, geometry = parted(latents, self.config.axis)
        size = (appearance.shape[-2] * SPATIAL_RATIO, appearance.shape[-1] * SPATIAL_RATIO)
        rgb = self.decode_frames(appearance)
        with self.parts.use("adapter") as module:
            adapter = cast("TokenAdapter", module)
            token_map = adapter.decode(geometry.to(dtype_of(adapter)), latents_per_chunk=self._latents_per_chunk)
            tokens = unpack_tokens(token_map, patch_start=self.config.vggt.patch_start)
        with self.parts.use("vggt") as module:
            output = cast("Vggt", module).decode(tokens, size, points=False)
        return Clip(
            rgb=rgb,
            depth=output.depth[0].float().cpu().numpy(),
            depth_confidence=output.depth_confidence[0].float().cpu().numpy(),
            cameras=cameras_from_pose_encoding(output.pose_encoding[0], size),
        )
