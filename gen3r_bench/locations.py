"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def weights_root() -> Path:
    """``$GEN3R_BENCH_WEIGHTS``, else ``$XDG_CACHE_HOME/gen3r-bench/weights``, else ``~/.cache/gen3r-bench/weights``."""
    if own := os.environ.get("GEN3R_BENCH_WEIGHTS"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "gen3r-bench" / "weights"
