"""WVD's sampling: from visible frames, cameras and a prompt to a clip, its point maps, and what they say of cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.models.joint.conditioning import parted
from gen3r_bench.models.joint.pipeline import ClipInputs, JointPipeline, Sampling, dtype_of
from gen3r_bench.models.video_autoencoder import Tiling, VideoAutoencoder
from gen3r_bench.models.wvd.config import WvdConfig


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A generated clip.

    Attributes:
        rgb: [F, H, W, 3] uint8.
        points: [F, H, W, 3] float32 in [-1, 1]: the world point that each pixel sees, normalised. The scene's unit is
            not generated, so these are the points, in a unit of their own.
    """

    rgb: NDArray[np.uint8]
    points: NDArray[np.float32]


class WvdPipeline(JointPipeline[WvdConfig]):
    """Samples clips; see ``JointPipeline``."""

    @torch.inference_mode()
    def __call__(self, inputs: ClipInputs, sampling: Sampling | None = None) -> Clip:
        """Generate a clip; the same inputs give the same clip.

        Raises:
            InputError: where length or size do not fit the networks, or the inputs contradict each other.
        """
        return self.decode(self.sample(inputs, sampling or Sampling()))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Clip:
        """A clip of a joint latent, such as ``sample`` gives."""
        appearance, geometry = parted(latents, self.config.axis)
        rgb = self.decode_frames(appearance)
        with self.parts.use("vae") as module:
            points = decode_points(
                cast("VideoAutoencoder", module),
                geometry,
                tiling=self._tiling,
                latents_per_chunk=self._latents_per_chunk,
            )
        return Clip(rgb=rgb, points=points)


def encode_points(vae: VideoAutoencoder, points: NDArray[np.float32], *, generator: torch.Generator | None) -> Tensor:
    """[1, c, f, h, w] one draw of the latents of point maps [F, H, W, 3] in [-1, 1], as if they were frames."""
    weights = next(vae.parameters())
    video = torch.from_numpy(np.array(points)).permute(3, 0, 1, 2)[None].to(weights.device, weights.dtype)
    return vae.encode(video).sample(generator)


def decode_points(
    vae: VideoAutoencoder, latent: Tensor, *, tiling: Tiling | None = None, latents_per_chunk: int = 1
) -> NDArray[np.float32]:
    """[F, H, W, 3] float32 point maps in [-1, 1] of a latent [1, c, f, h, w]."""
    video = vae.decode(latent.to(dtype_of(vae)), tiling=tiling, latents_per_chunk=latents_per_chunk)
    points: NDArray[np.float32] = video[0].float().permute(1, 2, 3, 0).cpu().numpy()
    return np.ascontiguousarray(points)
