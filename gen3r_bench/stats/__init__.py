"""What a set of scenes can say about a mean and about a difference: pure functions of numbers, no files."""

from gen3r_bench.stats.bootstrap import Interval, mean_interval, scene_means
from gen3r_bench.stats.paired import (
    PairedComparison,
    SignFlip,
    compare_paired,
    holm,
    minimum_detectable_difference,
    sign_flip,
)

__all__ = [
    "Interval",
    "PairedComparison",
    "SignFlip",
    "compare_paired",
    "holm",
    "mean_interval",
    "minimum_detectable_difference",
    "scene_means",
    "sign_flip",
]
