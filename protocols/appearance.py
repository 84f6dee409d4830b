"""Appearance of generated frames, with cameras (Tables 1, 4, 6) and without (Table 7); how frame metrics are fed."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card, ClipPlan
from gen3r_bench.protocols.geometry import MINI_CLIP

APPEARANCE_DATASETS: Final = {
    "realestate10k": ClipPlan(scenes=200),
    "dl3dv": ClipPlan(scenes=200),
    "co3dv2": ClipPlan(scenes=300),
    "wildrgbd": ClipPlan(scenes=300),
    "tartanair": ClipPlan(scenes=80),
    "mini": MINI_CLIP,
}
FREE_DATASETS: Final = {"realestate10k": ClipPlan(scenes=200), "dl3dv": ClipPlan(scenes=200), "mini": MINI_CLIP}
APPEARANCE_METRICS: Final = (
    "psnr@8bit",
    "ssim@skimage-gauss",
    "lpips@vgg",
    "i2v_subject@vbench-0.1.5",
    "i2v_background@vbench-0.1.5",
    "imaging_quality@vbench-0.1.5",
)
FREE_METRICS: Final = (
    "i2v_subject@vbench-0.1.5",
    "i2v_background@vbench-0.1.5",
    "aesthetic_quality@vbench-0.1.5",
    "imaging_quality@vbench-0.1.5",
    "motion_smoothness@vbench-0.1.5",
)

APPEARANCE_1VIEW: Final = Card(
    name="appearance-1view",
    title="Appearance from one view",
    summary="Frames generated from the first frame and the cameras, against the true frames.",
    paper_tables=(1, 4, 6),
    family="appearance",
    setting="1view",
    cameras="given",
    datasets=APPEARANCE_DATASETS,
    metrics=APPEARANCE_METRICS,
    frames_scored=("all", "novel"),
)
APPEARANCE_2VIEW: Final = Card(
    name="appearance-2view",
    title="Appearance from two views",
    summary="Frames generated from the first and last frame and the cameras, against the true frames.",
    paper_tables=(1, 4, 6),
    family="appearance",
    setting="2view",
    cameras="given",
    datasets=APPEARANCE_DATASETS,
    metrics=APPEARANCE_METRICS,
    frames_scored=("all", "novel"),
)
FREE_1VIEW: Final = Card(
    name="free-1view",
    title="Generation without cameras from one view",
    summary="Frames generated from the first frame alone, judged without a reference video.",
    paper_tables=(7,),
    family="appearance",
    setting="1view",
    cameras="none",
    datasets=FREE_DATASETS,
    metrics=FREE_METRICS,
)
FREE_2VIEW: Final = Card(
    name="free-2view",
    title="Generation without cameras from two views",
    summary="Frames generated from the first and last frame alone, judged without a reference video.",
    paper_tables=(7,),
    family="appearance",
    setting="2view",
    cameras="none",
    datasets=FREE_DATASETS,
    metrics=FREE_METRICS,
)


def score_frames(
    card: Card,
    metric: Metric,
    pred_rgb: NDArray[np.uint8],
    true_rgb: NDArray[np.uint8],
    novel: NDArray[np.bool_],
    *,
    device: str = "cpu",
) -> dict[str, float]:
    """Mean of a per-frame metric over the frames that the card scores.

    Args:
        card: says which frames are scored and where PSNR is capped.
        metric: of kind ``frames``.
        pred_rgb: [n, H, W, 3] uint8.
        true_rgb: [n, H, W, 3] uint8, the same frames.
        novel: [n] whether the frame was withheld from the method.
        device: where the metric's network runs, if it has one.

    Returns:
        ``metric.key`` for all frames and ``metric.key/novel`` for the withheld ones, where the card asks for them and
        there are any.
    """
    assert metric.function is not None
    options = {"device": device} if metric.takes_device else {}
    per_frame = np.asarray(metric.function(pred_rgb, true_rgb, **options), dtype=np.float64)
    if metric.name == "psnr":
        per_frame = np.minimum(per_frame, card.psnr_cap_db)
    scores = {}
    if "all" in card.frames_scored:
        scores[metric.key] = float(per_frame.mean())
    if "novel" in card.frames_scored and novel.any():
        scores[f"{metric.key}/novel"] = float(per_frame[novel].mean())
    return scores
