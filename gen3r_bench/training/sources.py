"""Where a recipe finds the trained networks that it builds on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from gen3r_bench.locations import weights_root

SHIPPED: Final = ("reference", "without-kl")
"""Names of checkpoints that this package ships, each of some methods."""
_OFFICIAL: Final = {
    "geometry-adapter": Path("gen3r", "geo_adapter"),
    "vggt": Path("gen3r", "vggt"),
    "wan-fun": Path("wan2.1-fun-v1.1-1.3b-control-camera"),
    "wan-vae": Path("gen3r", "wan_vae"),
}
"""Below ``weights_root()``: Gen3R's checkpoint holds all but the one that it began from."""


def source_path(method: str, checkpoint: str) -> Path:
    """Where the weights of a checkpoint lie, or would lie: of ``SHIPPED``, "official", or a path."""
    if checkpoint in SHIPPED:
        return Path(str(files("gen3r_bench.baselines"))) / "weights" / f"{method}-{checkpoint}.safetensors"
    if checkpoint == "official":
        return weights_root() / _OFFICIAL[method]
    return Path(checkpoint).expanduser()
