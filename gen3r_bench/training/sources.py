"""Where a recipe finds the trained networks that it builds on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gen3r_bench.locations import GEN3R_FOLDERS, SHIPPED, shipped_weights, weights_root

_WAN_FUN: Final = "wan2.1-fun-v1.1-1.3b-control-camera"
"""What Gen3R began from, below ``weights_root()``."""


def source_path(method: str, checkpoint: str) -> Path:
    """Where the weights of a checkpoint lie, or would lie: of ``SHIPPED``, "official", or a path."""
    if checkpoint in SHIPPED:
        return shipped_weights(method, checkpoint)
    if checkpoint == "official":
        return weights_root() / (_WAN_FUN if method == "wan-fun" else Path("gen3r", GEN3R_FOLDERS[method]))
    return Path(checkpoint).expanduser()
