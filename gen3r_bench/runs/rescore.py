"""Score kept predictions again, and say where a record claims something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import DIAGNOSTICS
from gen3r_bench.errors import BenchError
from gen3r_bench.metrics.base import Kind, Metric
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.protocols.scoring import score
from gen3r_bench.runs.audit import Finding
from gen3r_bench.runs.kept import Kept, SceneSource, by_clip, kept_predictions
from gen3r_bench.runs.record import RunHeader
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Prediction

RESCORED_KINDS: Final[frozenset[Kind]] = frozenset({"points", "poses", "frames"})
"""Kinds of metrics that are cheap enough for a check; films go through networks for minutes a scene."""
POINT_TOLERANCE: Final = (0.02, 1e-4)
"""Relative and absolute: another processor's libm may move a pixel of ``mini`` by its last digit, and with it which
points are sampled, so that a distance changes by a part of the sampling's own error. One machine repeats exactly."""
POSE_TOLERANCE: Final = (0.0, 2e-3)
"""An error that lies on the edge of a one-degree bin may fall to its other side: one pair of 78 is 0.0004 of an AUC."""
FRAME_TOLERANCE: Final = (0.0, 1e-3)
"""Of SSIM and LPIPS: a true pixel that differs by one step, and the order of a convolution's sums."""
DECIBEL_TOLERANCE: Final = (0.0, 0.01)
"""Of PSNR, for the same reason."""


@dataclass(slots=True)
class Rescored:
    """What scoring again found.

    Attributes:
        predictions: how many were scored again.
        kept: how many the folder holds.
        largest: the largest difference from a record, by metric key, within the tolerance or not.
        findings: scores that a prediction does not give, and predictions that cannot be read or scored.
        skipped: why scores were not computed again, and how many.
    """

    predictions: int = 0
    kept: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def rescore(run: Run, metrics: Mapping[str, Metric], roots: Mapping[str, Path] | None = None) -> Rescored:
    """Score every kept prediction of a run again, on the CPU.

    Args:
        run: with the bundles in its folder.
        metrics: registered metrics by key.
        roots: where datasets lie; predictions of a dataset that needs a root and has none are counted as skipped.

    Raises:
        StoreError: where a card cannot be read.
    """
    kept = kept_predictions(run)
    result = Rescored(kept=len(kept))
    sources: dict[str, SceneSource | str] = {}
    for group in by_clip(kept):
        dataset = group[0].entry.dataset
        if dataset not in sources:
            sources[dataset] = _source(run.header, dataset, roots or {})
        source = sources[dataset]
        if isinstance(source, str):
            result.skipped[source] += sum(len(one.record.scores) for one in group)
            continue
        try:
            truth = source.truth(group[0])
        except BenchError as error:
            result.findings += [Finding.about(one.record, "scene", str(error)) for one in group]
            continue
        predictions: dict[Path, Prediction] = {}  # cards of one conditioning share a bundle
        for one in group:
            _rescore_one(run.header, one, truth, metrics, predictions, result)
    return result


def _source(header: RunHeader, dataset: str, roots: Mapping[str, Path]) -> SceneSource | str:
    """The dataset's scenes, or why they cannot be opened here."""
    needs_root = registry.datasets().load(dataset).info.needs_root
    if needs_root and dataset not in roots:
        return f"no data root for {dataset} (--data-root {dataset}=DIR)"
    plan = tuple(entry for entry in header.plan if entry.dataset == dataset)
    return SceneSource(header.model_copy(update={"plan": plan}), roots)


def _rescore_one(
    header: RunHeader,
    kept: Kept,
    truth: SceneTruth,
    metrics: Mapping[str, Metric],
    predictions: dict[Path, Prediction],
    result: Rescored,
) -> None:
    record = kept.record
    wanted = []
    for key in dict.fromkeys(key.partition("/")[0] for key in record.scores):
        obstacle = _obstacle(header, record.made_with.get(key, ""), metrics.get(key), key)
        if obstacle is None:
            wanted.append(key)
        else:
            result.skipped[obstacle] += 1
    if not wanted:
        return
    row = header.row(record.row)
    diagnostic = DIAGNOSTICS.get(row.method_id) if row.kind == "diagnostic" else None
    try:
        if kept.folder not in predictions:
            predictions[kept.folder] = kept.prediction()
        found = score(
            kept.card.model_copy(update={"metrics": tuple(wanted)}),
            truth,
            predictions[kept.folder],
            metrics,
            pred_fps_start=diagnostic.pred_fps_start if diagnostic else None,
            backend=header.geometry_backend,
        )
    except BenchError as error:
        result.findings.append(Finding.about(record, "prediction", str(error)))
        return
    result.predictions += 1
    for key, claimed in record.scores.items():
        name = key.partition("/")[0]
        if name not in wanted:
            continue
        if key not in found.values:
            reason = found.unsupported.get(name, "the prediction has no such score")
            result.findings.append(Finding.about(record, "rescored", f"{key} is {claimed:g} in the record: {reason}"))
            continue
        difference = abs(found.values[key] - claimed)
        result.largest[key] = max(difference, result.largest.get(key, 0.0))
        relative, absolute = tolerance(metrics[name])
        if difference > absolute + relative * abs(found.values[key]):
            text = f"{key} is {claimed:.6g} in the record, the prediction gives {found.values[key]:.6g}"
            result.findings.append(Finding.about(record, "rescored", text))


def _obstacle(header: RunHeader, made_with: str, metric: Metric | None, key: str) -> str | None:
    """Why a score is not computed again, or None where it is."""
    if metric is None or metric.kind not in RESCORED_KINDS:
        return f"{key} is not scored again: it needs more than a check should take"
    if (obstacle := metric.obstacle()) is not None:
        return f"{key} cannot be scored here: {obstacle}"
    then, now = dict(header.provenances.get(made_with, {})), metric.facts("cpu")
    then.pop("device", None)
    now.pop("device", None)
    if then != now:
        name = next(name for name in {**then, **now} if then.get(name) != now.get(name))
        return f"{key} was computed with {name} {then.get(name, 'unknown')}, here it is {now.get(name, 'unknown')}"
    return None


def tolerance(metric: Metric) -> tuple[float, float]:
    """The relative and absolute difference that two machines may have in a score."""
    if metric.kind == "points":
        return POINT_TOLERANCE
    if metric.kind == "poses":
        return POSE_TOLERANCE
    return DECIBEL_TOLERANCE if metric.unit == "dB" else FRAME_TOLERANCE
