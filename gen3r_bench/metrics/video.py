"""Video metrics: five dimensions of VBench, computed by the package itself over a run's kept predictions."""

from __future__ import annotations

from typing import Final

from gen3r_bench.metrics.base import Metric
from gen3r_bench.metrics.vbench import VbenchOptions, unavailable
from gen3r_bench.metrics.vbench.files import Dimension

DIALECT: Final = "vbench-0.1.5"


def _vbench(name: Dimension, title: str, network: str) -> Metric:
    return Metric(
        name=name,
        dialect=DIALECT,
        title=title,
        unit="",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        reference=f"VBench 0.1.5 {name} ({network}), raw score (github.com/Vchitect/VBench)",
        kind="video",
        function=None,
        unsupported_reason=(
            "VBench scores the kept predictions of a run in one go: run gen3r-bench score RUN --metrics vbench"
        ),
        unavailable=lambda: unavailable(name, VbenchOptions.from_environment()),
    )


I2V_SUBJECT: Final = _vbench("i2v_subject", "I2V Subj.", "DINO ViT-B/16")
I2V_BACKGROUND: Final = _vbench("i2v_background", "I2V BG", "DreamSim")
IMAGING_QUALITY: Final = _vbench("imaging_quality", "I.Q.", "MUSIQ")
AESTHETIC_QUALITY: Final = _vbench("aesthetic_quality", "Aes.Q.", "CLIP ViT-L/14 and LAION aesthetic head")
MOTION_SMOOTHNESS: Final = _vbench("motion_smoothness", "M.S.", "AMT-S")
