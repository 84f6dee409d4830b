"""The sampling of frames alone, from visible frames, cameras and a prompt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.models.joint.pipeline import ClipInputs, JointPipeline, Sampling
from gen3r_bench.models.video.config import VideoConfig


class VideoPipeline(JointPipeline[VideoConfig]):
    """Samples clips; see ``JointPipeline``."""

    @torch.inference_mode()
    def __call__(self, inputs: ClipInputs, sampling: Sampling | None = None) -> NDArray[np.uint8]:
        """Generate the frames of a clip, [F, H, W, 3]; the same inputs give the same frames.

        Raises:
            InputError: where length or size do not fit the networks, or the inputs contradict each other.
        """
        return self.decode(self.sample(inputs, sampling or Sampling()))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Frames of latents [1, c, f, h, w], such as ``sample`` gives."""
        return self.decode_frames(latents)
