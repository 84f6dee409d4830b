"""Metrics: pure functions of arrays, each with its metadata; a name's module is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gen3r_bench.metrics.alignment import AlignmentError, Similarity, align_points
    from gen3r_bench.metrics.cameras import (
        RelativePoseErrors,
        drawn_frames,
        pooled_pose_errors,
        pose_auc,
        relative_pose_errors,
    )
    from gen3r_bench.metrics.chamfer_distance import Chamfer, chamfer
    from gen3r_bench.metrics.farthest_point import farthest_point_indices
    from gen3r_bench.metrics.geometry import GeometryScore, GroundTruthCloud, prepare_ground_truth, score_points
    from gen3r_bench.metrics.image import pooled_psnr, psnr, squared_error, ssim
    from gen3r_bench.metrics.perceptual import lpips
    from gen3r_bench.metrics.voxel import voxel_downsample

_EXPORTS: Final[dict[str, str]] = {
    "AlignmentError": "alignment",
    "Chamfer": "chamfer_distance",
    "GeometryScore": "geometry",
    "GroundTruthCloud": "geometry",
    "RelativePoseErrors": "cameras",
    "Similarity": "alignment",
    "align_points": "alignment",
    "chamfer": "chamfer_distance",
    "drawn_frames": "cameras",
    "farthest_point_indices": "farthest_point",
    "lpips": "perceptual",
    "pooled_pose_errors": "cameras",
    "pooled_psnr": "image",
    "pose_auc": "cameras",
    "prepare_ground_truth": "geometry",
    "psnr": "image",
    "relative_pose_errors": "cameras",
    "score_points": "geometry",
    "squared_error": "image",
    "ssim": "image",
    "voxel_downsample": "voxel",
}

__all__ = [
    "AlignmentError",
    "Chamfer",
    "GeometryScore",
    "GroundTruthCloud",
    "RelativePoseErrors",
    "Similarity",
    "align_points",
    "chamfer",
    "drawn_frames",
    "farthest_point_indices",
    "lpips",
    "pooled_pose_errors",
    "pooled_psnr",
    "pose_auc",
    "prepare_ground_truth",
    "psnr",
    "relative_pose_errors",
    "score_points",
    "squared_error",
    "ssim",
    "voxel_downsample",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
