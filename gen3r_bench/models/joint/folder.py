"""A checkpoint folder of a joint diffusion: one subfolder a network, each with its ``config.json`` and weights.

Opening it reads configurations and the headers of the weights only, and refuses a folder that does not fit, naming
everything that differs in one error. The networks are read when they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import autoencoder_config
from gen3r_bench.models.checkpoint import header_tensors, read_safetensors
from gen3r_bench.models.folder import CONFIG_FILE, every, read_config
from gen3r_bench.models.joint.checkpoint import IMAGE, SCHEDULER, TEXT, TRANSFORMER, VAE, ConfigT, JointCheckpoint, Part
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig, Tokenizer, load_tokenizer
from gen3r_bench.models.wan.transformer import DitConfig

SCHEDULER_FILE: Final = "scheduler/scheduler_config.json"


class JointFolder(JointCheckpoint[ConfigT]):
    """A checkpoint folder whose every part is known to fit.

    Args:
        path: the folder that holds the subfolders of ``parts``, ``tokenizer/`` and ``scheduler/``.

    Raises:
        InputError: naming every part that is missing, incomplete, of other shapes, or of another model.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """What must be there besides the subfolders."""

    def __init__(self, path: Path) -> None:
        self._what = f"the checkpoint folder of {self.model_title}"
        if not path.is_dir():
            raise InputError(f"{path} does not exist", expected=self._what)
        self.path = path
        wanted = [*(f"{part.subfolder}/" for part in self.parts.values()), "tokenizer/", SCHEDULER_FILE, *self.files]
        missing = [name for name in wanted if not (path / name).exists()]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}", expected=f"{self._what} with all its parts")
        self.config = self._config(every(self._readers(), self._what, path))
        self.scheduler_config = self._read_scheduler()
        self._check_headers()

    def _readers(self) -> dict[str, Callable[[], Any]]:
        """What reads each field of the configuration."""

        # the released loader of this one does without a configuration, so the official folder may have none; that the
        # weights have the official size then shows when their headers are compared
        def image() -> ImageConfig:
            path = self._config_file(IMAGE)
            return ImageConfig.from_json(read_config(path)) if path.is_file() else ImageConfig.official()

        return {
            "transformer": lambda: DitConfig.from_json(read_config(self._config_file(TRANSFORMER))),
            "vae": lambda: autoencoder_config(self._config_file(VAE).parent),
            "text": lambda: TextConfig.from_json(read_config(self._config_file(TEXT))),
            "image": image,
        }

    def _config_file(self, part: Part) -> Path:
        return self.path / part.subfolder / CONFIG_FILE

    def _read_scheduler(self) -> dict[str, Any]:
        path = self.path / SCHEDULER_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error})", expected="a JSON object") from error
        name = content.get("_class_name", SCHEDULER)
        if name != SCHEDULER or content.get("use_dynamic_shifting"):
            dynamic = " with use_dynamic_shifting" if content.get("use_dynamic_shifting") else ""
            raise InputError(f"{path}: {name}{dynamic}", expected=f"{SCHEDULER} with a fixed shift")
        # the shift is the file's: the number that the released pipeline is called with never reaches this scheduler
        return {key: value for key, value in content.items() if not key.startswith("_")}

    def _check_headers(self) -> None:
        def check(part: Part) -> None:
            folder = self.path / part.subfolder
            tensors = header_tensors(folder)
            if tensors is not None:
                self._fill(part, tensors, None, place=folder)

        tasks: dict[str, Callable[[], Any]] = {part.name: partial(check, part) for part in self.parts.values()}
        every(tasks, self._what, self.path)

    def _read(self, part: Part, dtype: torch.dtype | None) -> nn.Module:
        folder = self.path / part.subfolder
        return self._fill(part, read_safetensors(folder), dtype, place=folder)

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.path / "tokenizer")
