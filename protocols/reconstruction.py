"""Reconstruction from every frame, without cameras: geometry (Table 3), poses (Table 8) and RGB (Table 9)."""

from __future__ import annotations

from typing import Final

from gen3r_bench.protocols.cameras import POSE_DATASETS, POSE_METRICS
from gen3r_bench.protocols.card import Card, ClipPlan, GeometryOptions
from gen3r_bench.protocols.geometry import GEOMETRY_DATASETS, MINI_CLIP, POINT_METRICS

GEOM_RECON: Final = Card(
    name="geom-recon",
    title="Geometry from all frames",
    summary="Point clouds reconstructed from every frame, without cameras, against the ground truth's.",
    paper_tables=(3,),
    family="reconstruction",
    setting="allview",
    cameras="none",
    datasets=GEOMETRY_DATASETS,
    metrics=POINT_METRICS,
    geometry=GeometryOptions(),
)
POSE_RECON: Final = Card(
    name="pose-recon",
    title="Camera poses from all frames",
    summary="Camera poses estimated from every frame, against the true ones.",
    paper_tables=(8,),
    family="reconstruction",
    setting="allview",
    cameras="none",
    datasets=POSE_DATASETS,
    metrics=POSE_METRICS,
)
RGB_RECON: Final = Card(
    name="rgb-recon",
    title="RGB through the autoencoder",
    summary="Every frame through a method's appearance autoencoder and back, against itself.",
    paper_tables=(9,),
    family="reconstruction",
    setting="allview",
    cameras="none",
    datasets={"realestate10k": ClipPlan(scenes=200), "dl3dv": ClipPlan(scenes=200), "mini": MINI_CLIP},
    metrics=("psnr@8bit", "ssim@skimage-gauss", "lpips@vgg"),
)
