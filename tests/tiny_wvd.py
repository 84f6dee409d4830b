"""WVD at a size for tests, with weights by formula."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_gen3r import fill, write_parts
from torch import nn

from gen3r_bench.models.joint.conditioning import Axis
from gen3r_bench.models.wvd.config import OPTIONS_FILE, WvdConfig
from gen3r_bench.models.wvd.folder import PARTS


def tiny_modules(config: WvdConfig) -> dict[str, nn.Module]:
    modules = {name: fill(part.build(config)) for name, part in PARTS.items()}
    # small latents keep an untrained sampler finite
    modules["transformer"].get_submodule("head.head").weight.mul_(0.3)
    return modules


def write_wvd_folder(path: Path, axis: Axis = "width") -> Path:
    """A checkpoint folder of tiny networks."""
    config = WvdConfig.tiny(axis)
    configs = {
        "transformer": config.transformer.to_json(),
        "vae": config.vae.to_json(),
        "text": config.text.to_json(),
        "image": config.image.to_json(),
    }
    write_parts(path, PARTS, configs, tiny_modules(config))
    (path / OPTIONS_FILE).write_text(json.dumps(config.options()))
    return path
