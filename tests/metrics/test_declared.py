"""What every camera, image, perceptual and video metric declares about itself."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gen3r_bench import metrics
from gen3r_bench.metrics import cameras, image, perceptual, video
from gen3r_bench.metrics.base import Metric

DECLARED = [
    (name, value)
    for module in (cameras, image, perceptual, video)
    for name, value in vars(module).items()
    if isinstance(value, Metric)
]


@pytest.mark.parametrize("metric", [pytest.param(metric, id=name) for name, metric in DECLARED])
def test_metadata_is_complete(metric: Metric) -> None:
    assert metric.name == metric.name.lower()
    assert metric.key == f"{metric.name}@{metric.dialect}"
    assert metric.title
    assert metric.reference
    assert metric.unit in ("", "dB", "deg")
    assert metric.bounds[0] < metric.bounds[1]
    # a metric is computed, or says in a sentence why not
    assert (metric.function is None) == bool(metric.unsupported_reason)


def test_keys_are_unique() -> None:
    keys = [metric.key for _, metric in DECLARED]
    assert len(set(keys)) == len(keys) == 20


def test_every_metric_of_the_papers_appearance_and_pose_tables_is_declared(shared_dir: Path) -> None:
    wanted = set()
    for table in (1, 5, 6, 7, 8, 9):
        with (shared_dir / "paper" / f"table{table}.csv").open() as file:
            wanted |= {row["metric"] for row in csv.DictReader(file)}
    assert wanted <= {metric.name for _, metric in DECLARED}


def test_what_no_function_computes_are_the_metrics_of_videos() -> None:
    assert {metric.name for _, metric in DECLARED if metric.function is None} == {
        "i2v_subject",
        "i2v_background",
        "imaging_quality",
        "aesthetic_quality",
        "motion_smoothness",
    }


@pytest.mark.parametrize("name", ["RelativePoseErrors", "pose_auc", "psnr", "relative_pose_errors", "ssim"])
def test_public_names(name: str) -> None:
    assert callable(getattr(metrics, name))
    assert name in metrics.__all__
