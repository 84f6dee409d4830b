"""Where a recipe finds the trained networks that it builds on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from gen3r_bench.locations import weights_root

_OFFICIAL: Final = {"vggt": Path("gen3r", "vggt"), "wan-vae": Path("gen3r", "wan_vae")}
"""Below ``weights_root()``: Gen3R's checkpoint holds both, as it was trained with them."""


def source_path(method: str, checkpoint: str) -> Path:
    """Where the weights of a checkpoint lie, or would lie: "reference" (shipped), "official", or a path."""
    if checkpoint == "reference":
        return Path(str(files("gen3r_bench.baselines"))) / "weights" / f"{method}-reference.safetensors"
    if checkpoint == "official":
        return weights_root() / _OFFICIAL[method]
    return Path(checkpoint).expanduser()
