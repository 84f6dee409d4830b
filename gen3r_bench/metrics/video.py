"""Video metrics: five dimensions of VBench, declared so that tables have their columns, not yet computed."""

from __future__ import annotations

from typing import Final

from gen3r_bench.metrics.base import Metric


def _vbench(name: str, title: str, network: str) -> Metric:
    return Metric(
        name=name,
        dialect="vbench-0.1.5",
        title=title,
        unit="",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        reference=f"VBench 0.1.5 {name} ({network}), raw score (github.com/Vchitect/VBench)",
        kind="video",
        function=None,
        unsupported_reason=f"VBench is not part of this version: {name} needs the vbench package and {network} weights",
    )


I2V_SUBJECT: Final = _vbench("i2v_subject", "I2V Subj.", "DINO ViT-B/16")
I2V_BACKGROUND: Final = _vbench("i2v_background", "I2V BG", "DreamSim")
IMAGING_QUALITY: Final = _vbench("imaging_quality", "I.Q.", "MUSIQ")
AESTHETIC_QUALITY: Final = _vbench("aesthetic_quality", "Aes.Q.", "CLIP ViT-L/14 and LAION aesthetic head")
MOTION_SMOOTHNESS: Final = _vbench("motion_smoothness", "M.S.", "AMT-S")
