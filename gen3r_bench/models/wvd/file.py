"""WVD in one file: see ``JointFile``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from gen3r_bench.models.joint.checkpoint import Part
from gen3r_bench.models.joint.file import JointFile
from gen3r_bench.models.wvd.config import WvdConfig
from gen3r_bench.models.wvd.folder import PARTS


class WvdFile(JointFile[WvdConfig]):
    """A file of WVD; the autoencoder of its frames and points was frozen."""

    parts: ClassVar[Mapping[str, Part]] = PARTS
    model_title: ClassVar[str] = "WVD"
    file_class: ClassVar[str] = "Wvd"
    option_names: ClassVar[tuple[str, ...]] = ("axis", "normalisation")

    def _config(self, sizes: Mapping[str, Any]) -> WvdConfig:
        return WvdConfig(**sizes)
