"""gen3r-bench: benchmark and evaluation suite for 3D scene generation and feed-forward reconstruction."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("gen3r-bench")
