"""A diffusion of frames alone in one file: see ``JointFile``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gen3r_bench.models.joint.checkpoint import IMAGE, TEXT, TRANSFORMER, VAE, Part
from gen3r_bench.models.joint.file import JointFile
from gen3r_bench.models.video.config import VideoConfig

PARTS: Final[Mapping[str, Part]] = {part.name: part for part in (TRANSFORMER, VAE, TEXT, IMAGE)}


class VideoFile(JointFile[VideoConfig]):
    """A file of the diffusion of frames; the RGB autoencoder was frozen."""

    parts: ClassVar[Mapping[str, Part]] = PARTS
    model_title: ClassVar[str] = "the diffusion of frames alone"
    file_class: ClassVar[str] = "Video"

    def _config(self, sizes: Mapping[str, Any]) -> VideoConfig:
        return VideoConfig(**sizes)
