"""Gen3R in one file: see ``JointFile``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from gen3r_bench.models.adapter_checkpoint import adapter_config
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import ADAPTER, PARTS, VGGT
from gen3r_bench.models.joint.checkpoint import Part
from gen3r_bench.models.joint.file import Frozen, JointFile
from gen3r_bench.models.vggt_checkpoint import vggt_config_at


class Gen3rFile(JointFile[Gen3rConfig]):
    """A file of Gen3R; the RGB autoencoder, the geometry adapter and VGGT were frozen."""

    parts: ClassVar[Mapping[str, Part]] = PARTS
    model_title: ClassVar[str] = "Gen3R"
    file_class: ClassVar[str] = "Gen3r"
    frozen_parts: ClassVar[Mapping[str, Frozen]] = {
        **JointFile.frozen_parts,
        ADAPTER.name: Frozen("geometry-adapter", adapter_config),
        VGGT.name: Frozen("vggt", vggt_config_at),
    }

    def _config(self, sizes: Mapping[str, Any]) -> Gen3rConfig:
        return Gen3rConfig(**sizes)
