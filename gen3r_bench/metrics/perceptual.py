"""Perceptual image metrics: LPIPS, declared so that tables have its column; this version cannot compute it."""

from __future__ import annotations

from typing import Final, Literal

from gen3r_bench.metrics.base import Metric


def _lpips(backbone: Literal["vgg", "alex", "squeeze"]) -> Metric:
    return Metric(
        name="lpips",
        dialect=backbone,
        title="LPIPS",
        unit="",
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        reference=f"Zhang et al. 2018 (github.com/richzhang/PerceptualSimilarity), v0.1, {backbone} backbone",
        kind="frames",
        function=None,
        unsupported_reason="LPIPS is not part of this version: it needs the lpips package and its backbone weights",
    )


LPIPS_VGG: Final = _lpips("vgg")
LPIPS_ALEX: Final = _lpips("alex")
LPIPS_SQUEEZE: Final = _lpips("squeeze")
