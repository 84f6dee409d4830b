"""Camera control (Table 5): do the generated frames follow the cameras that were asked for?"""

from __future__ import annotations

from typing import Final

from gen3r_bench.protocols.card import Card, ClipPlan
from gen3r_bench.protocols.geometry import MINI_CLIP

POSE_DATASETS: Final = {
    "realestate10k": ClipPlan(scenes=200),
    "wildrgbd": ClipPlan(scenes=300),
    "mini": MINI_CLIP,
}
POSE_METRICS: Final = ("auc30@hist1deg", "auc15@hist1deg", "auc5@hist1deg")

CAMERA_1VIEW: Final = Card(
    name="camera-1view",
    title="Camera control from one view",
    summary="The method's own cameras for the generated frames, against the cameras that it was given.",
    paper_tables=(5,),
    family="cameras",
    setting="1view",
    cameras="given",
    datasets=POSE_DATASETS,
    metrics=POSE_METRICS,
)
CAMERA_2VIEW: Final = Card(
    name="camera-2view",
    title="Camera control from two views",
    summary="The method's own cameras for the generated frames, against the cameras that it was given.",
    paper_tables=(5,),
    family="cameras",
    setting="2view",
    cameras="given",
    datasets=POSE_DATASETS,
    metrics=POSE_METRICS,
)
