"""The official checkpoint folder of Gen3R: see ``JointFolder``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from gen3r_bench.errors import InputError
from gen3r_bench.models.adapter_checkpoint import adapter_config, build_adapter
from gen3r_bench.models.folder import read_config
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.joint.checkpoint import IMAGE, TEXT, TRANSFORMER, VAE, Part, below_model, itself
from gen3r_bench.models.joint.folder import JointFolder
from gen3r_bench.models.vggt import Vggt, VggtConfig

ADAPTER: Final = Part(
    "adapter",
    "geo_adapter",
    "geometry adapter",
    lambda c: build_adapter(c.adapter),
    below_model,
    "model.",
    lambda _: ("mean", "std"),
)
# generating a clip never encodes images with it, and the aggregator is nine tenths of its weights
VGGT: Final = Part(
    "vggt", "vggt", "VGGT", lambda c: Vggt(c.vggt), itself, "", lambda _: ("track_head.*",), cut="aggregator"
)
PARTS: Final[Mapping[str, Part]] = {part.name: part for part in (TRANSFORMER, VAE, ADAPTER, VGGT, TEXT, IMAGE)}


def vggt_config(path: Path) -> VggtConfig:
    """Sizes of VGGT in a ``config.json``: the official names, or the fields of ``VggtConfig`` for any other size.

    A file that names nothing means the official size: the class that wrote the official one has defaults.

    Raises:
        InputError: where it is missing, or asks for another network.
    """
    given = read_config(path)
    fields = {field.name for field in dataclasses.fields(VggtConfig)}
    if given.keys() <= fields:
        return VggtConfig.of_fields(given, str(path))
    official = {"img_size": 518, "patch_size": 14, "embed_dim": 1024}
    # switches of the public class; the tracker's weights are passed over, the other three heads are needed
    switches = {"enable_camera": True, "enable_point": True, "enable_depth": True}
    for name, value in {**official, **switches}.items():
        if given.pop(name, value) != value:
            raise InputError(f"{path}: another {name} than {value}", expected="the sizes of facebook/VGGT-1B")
    given.pop("enable_track", None)
    if given:
        raise InputError(f"{path}: unknown keys {', '.join(sorted(given))}", expected="the config.json of VGGT")
    return VggtConfig.official()


class Gen3rFolder(JointFolder[Gen3rConfig]):
    """A checkpoint folder of Gen3R whose every part is known to fit.

    Args:
        path: the folder that holds ``transformer/``, ``wan_vae/``, ``geo_adapter/``, ``vggt/``, ``text_encoder/``,
            ``clip_image_encoder/``, ``tokenizer/`` and ``scheduler/``.

    Raises:
        InputError: naming every part that is missing, incomplete, of other shapes, or of another model.
    """

    parts: ClassVar[Mapping[str, Part]] = PARTS
    model_title: ClassVar[str] = "Gen3R"

    def _config(self, sizes: Mapping[str, Any]) -> Gen3rConfig:
        return Gen3rConfig(**sizes)

    def _readers(self) -> dict[str, Callable[[], Any]]:
        # as of the image encoder, the official folder may lack this configuration
        def vggt() -> VggtConfig:
            path = self._config_file(VGGT)
            return vggt_config(path) if path.is_file() else VggtConfig.official()

        adapter = self._config_file(ADAPTER)
        return {**super()._readers(), "adapter": lambda: adapter_config(adapter), "vggt": vggt}
