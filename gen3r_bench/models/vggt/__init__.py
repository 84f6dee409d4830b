"""VGGT: cameras, depth and points of a set of views in one pass (Wang et al., CVPR 2025, arXiv 2503.11651)."""

from gen3r_bench.models.vggt.cameras import cameras_from_pose_encoding
from gen3r_bench.models.vggt.config import VggtConfig
from gen3r_bench.models.vggt.network import Vggt, VggtOutput, VggtTokens

__all__ = ["Vggt", "VggtConfig", "VggtOutput", "VggtTokens", "cameras_from_pose_encoding"]
