"""Where things lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

SHIPPED: Final = ("reference", "without-kl")
"""Names of checkpoints that this package ships, each of some networks."""
GEN3R_HUB_ID: Final = "JaceyH919/Gen3R"
"""Gen3R's released checkpoint, a Hugging Face model."""
GEN3R_FOLDERS: Final[Mapping[str, str]] = {"geometry-adapter": "geo_adapter", "vggt": "vggt", "wan-vae": "wan_vae"}
"""Where Gen3R's released checkpoint holds a network that other methods use as well."""


def weights_root() -> Path:
    """``$GEN3R_BENCH_WEIGHTS``, else ``$XDG_CACHE_HOME/gen3r-bench/weights``, else ``~/.cache/gen3r-bench/weights``."""
    if own := os.environ.get("GEN3R_BENCH_WEIGHTS"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "gen3r-bench" / "weights"


def shipped_weights(network: str, checkpoint: str = "reference") -> Path:
    """The file of one of this project's own networks, such as ``vggt``, in the package."""
    return Path(str(files("gen3r_bench.baselines"))) / "weights" / f"{network}-{checkpoint}.safetensors"


def hub_command(hub_id: str, root: Path, *, chosen: str = "") -> str:
    """The shell command that fetches into ``root`` a Hugging Face model, or of it one file or a folder, as "vggt/"."""
    chosen = f'--include "{chosen}*" ' if chosen.endswith("/") else f"{chosen} " if chosen else ""
    return f"hf download {hub_id} {chosen}--local-dir {root}"
