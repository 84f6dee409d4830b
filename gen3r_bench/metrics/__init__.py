"""Metrics: pure functions of arrays, each with its metadata; a name's module is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gen3r_bench.metrics.cameras import RelativePoseErrors, pose_auc, relative_pose_errors
    from gen3r_bench.metrics.image import psnr, ssim

_EXPORTS: Final[dict[str, str]] = {
    "RelativePoseErrors": "cameras",
    "pose_auc": "cameras",
    "psnr": "image",
    "relative_pose_errors": "cameras",
    "ssim": "image",
}

__all__ = ["RelativePoseErrors", "pose_auc", "psnr", "relative_pose_errors", "ssim"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
