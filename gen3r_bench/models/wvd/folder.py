"""A checkpoint folder of WVD: Gen3R's layout less adapter and VGGT, and ``wvd.json``. None was ever published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from gen3r_bench.models.joint.checkpoint import IMAGE, TEXT, TRANSFORMER, VAE, Part
from gen3r_bench.models.joint.folder import JointFolder
from gen3r_bench.models.wvd.config import OPTIONS_FILE, WvdConfig, read_options

PARTS: Final[Mapping[str, Part]] = {part.name: part for part in (TRANSFORMER, VAE, TEXT, IMAGE)}


class WvdFolder(JointFolder[WvdConfig]):
    """A checkpoint folder of WVD whose every part is known to fit.

    Args:
        path: the folder that holds ``transformer/``, ``wan_vae/``, ``text_encoder/``, ``clip_image_encoder/``,
            ``tokenizer/``, ``scheduler/`` and ``wvd.json``.

    Raises:
        InputError: naming every part that is missing, incomplete, of other shapes, or of another model.
    """

    parts: ClassVar[Mapping[str, Part]] = PARTS
    model_title: ClassVar[str] = "WVD"
    files: ClassVar[tuple[str, ...]] = (OPTIONS_FILE,)

    def _config(self, sizes: Mapping[str, Any]) -> WvdConfig:
        options: Mapping[str, Any] = sizes["options"]
        return WvdConfig(**{name: size for name, size in sizes.items() if name != "options"}, **options)

    def _readers(self) -> dict[str, Callable[[], Any]]:
        path: Path = self.path / OPTIONS_FILE
        return {**super()._readers(), "options": lambda: read_options(path)}
