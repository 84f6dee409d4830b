"""Appends metrics to a run: scores its kept predictions for what their records lack; whatever stands there stays.

A record that gains a score is written once more, with the same key, the old scores copied and the new ones added; the
old line stays in the file. Nothing that has a score is computed again, so a kill loses at most the record in work, or
the videos that are scored in one go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.baselines.diagnostics import DIAGNOSTICS
from gen3r_bench.errors import BenchError, InputError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.protocols.scoring import Scores, score
from gen3r_bench.runs.attempt import Failure, attempt, log_failure
from gen3r_bench.runs.kept import Kept, SceneSource, by_clip, kept_predictions
from gen3r_bench.runs.record import Record, RunHeader
from gen3r_bench.runs.store import RecordWriter, Run, read_header, read_run
from gen3r_bench.scene import Prediction, conditioning_indices

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Told a scene, how many (record, metric) pairs are dealt with, and of how many."""


@dataclass(frozen=True, slots=True)
class Video:
    """One kept prediction for a metric that scores many videos in one go.

    Attributes:
        name: unique in the run, fit for a file name.
        frames: reads the predicted frames, [F, H, W, 3] uint8.
        shown: reads the frames that the setting showed to the method, [n, H, W, 3] uint8.
    """

    name: str
    frames: Callable[[], NDArray[np.uint8]]
    shown: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class BatchScorer:
    """How a metric is computed that scores many videos in one go, since its network is slow to load.

    Attributes:
        obstacle: why it cannot be computed here and now, or None.
        facts: what its scores are made with.
        score: a score for each video, or why there is none, in their order.
        at_once: how many videos it is handed in one go; their scores are written before the next ones are read.
    """

    obstacle: Callable[[], str | None]
    facts: Callable[[], Mapping[str, str]]
    score: Callable[[Sequence[Video]], Sequence[float | Failure]]
    at_once: int = 50


@dataclass(frozen=True, slots=True)
class Appended:
    """What came of appending.

    Attributes:
        run: as it is now.
        scored: how many (record, metric) pairs got a score.
        reasons: why others got none, by metric key.
        without_prediction: how many records lack a metric, but the run kept no prediction of theirs.
    """

    run: Run
    scored: int
    reasons: Mapping[str, Counter[str]]
    without_prediction: int


def metrics_named(names: Iterable[str], header: RunHeader, metrics: Mapping[str, Metric]) -> dict[str, tuple[str, ...]]:
    """The metric keys that words on the command line mean, by protocol.

    A name (``lpips``) or a family (``vbench``) means the metrics of that name that the run's cards ask for. A key
    (``lpips@alex``) that no card asks for is scored too, under the cards that have metrics of its kind.

    Raises:
        UnknownNameError: where no metric is called that.
        InputError: where there is no name, or no card of the run asks for it, and it is no key.
    """
    names = list(names)
    if not names:
        raise InputError("no metric", expected="one or more, by name, key or family", fix="--metrics lpips")
    asked = {card.name: [str(key) for key in card.content["metrics"]] for card in header.protocols}
    chosen: dict[str, dict[str, None]] = {protocol: {} for protocol in asked}
    for name in names:
        meant = {key for key, metric in metrics.items() if name in (key, metric.name, _family(metric))}
        if not meant:
            known = {word for metric in metrics.values() for word in (metric.key, metric.name, _family(metric)) if word}
            raise UnknownNameError("metric", name, known)
        found = {protocol: [key for key in keys if key in meant] for protocol, keys in asked.items()}
        if not any(found.values()) and name in metrics:
            kind = metrics[name].kind
            alike = {key for key, metric in metrics.items() if metric.kind == kind}
            found = {protocol: [name] for protocol, keys in asked.items() if alike.intersection(keys)}
        if not any(found.values()):
            legal = sorted({key for keys in asked.values() for key in keys})
            raise InputError(
                f"metric {name!r} for a run of {', '.join(asked)}",
                expected=f"one that its protocols ask for: {', '.join(legal)}",
            )
        for protocol, keys in found.items():
            chosen[protocol].update(dict.fromkeys(keys))
    return {protocol: tuple(keys) for protocol, keys in chosen.items()}


def _family(metric: Metric) -> str:
    """``vbench`` for the video metrics of VBench, whatever the version in their dialect."""
    return metric.dialect.partition("-")[0] if metric.kind == "video" else ""


def append_metrics(
    path: Path,
    chosen: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Metric],
    *,
    roots: Mapping[str, Path] | None = None,
    device: str = "cpu",
    batches: Mapping[str, BatchScorer] | None = None,
    progress: Progress | None = None,
) -> Appended:
    """Score a run's kept predictions by the chosen metrics where their records lack them.

    Args:
        path: the run's folder.
        chosen: metric keys by protocol, from `metrics_named`.
        metrics: registered metrics by key.
        roots: where datasets lie on this machine.
        device: where the networks of metrics run.
        batches: how the metrics are computed that score many videos in one go, by key; the others are asked for one
            prediction after another.
        progress: told after every prediction.

    Raises:
        InputError: where the run kept no prediction, or a dataset's root is missing.
        StoreError: where the run cannot be read or written, or is in use.
    """
    read_header(path)  # a folder that is no run is told so before a file is made in it
    with RecordWriter(path) as writer:
        run = read_run(path)
        kept = kept_predictions(run, without_scores=True)
        lacking = [
            _Lacking(item, keys) for item in kept if (keys := _absent(item.record, chosen[item.record.protocol]))
        ]
        known = {item.record.identity for item in kept}
        lost = [
            record
            for record in run.records
            if record.identity not in known
            and (record.status == "ok" or record.n_frames > 0)
            and _absent(record, chosen.get(record.protocol, ()))
        ]
        if lost and not kept:
            raise InputError(
                f"{path} kept no predictions", expected="a run with kept predictions", fix=_how_to_keep(run.header)
            )
        work = _Work(writer, run, metrics, SceneSource(run.header, roots) if lacking else None, device, progress)
        work.total = sum(len(item.keys) for item in lacking)
        batches = batches or {}
        singly = [_Lacking(item.kept, tuple(key for key in item.keys if key not in batches)) for item in lacking]
        work.score_singly([item for item in singly if item.keys])
        for key, scorer in batches.items():
            videos = [item.kept for item in lacking if key in item.keys]
            if videos:
                work.score_in_one_go(key, scorer, videos)
    return Appended(read_run(path), work.scored, work.reasons, len(lost))


def _absent(record: Record, keys: Iterable[str]) -> tuple[str, ...]:
    """The metrics that a record has no score of, over whatever choice of frames."""
    present = {key.partition("/")[0] for key in record.scores}
    return tuple(key for key in keys if key not in present)


def _how_to_keep(header: RunHeader) -> str:
    if header.command.startswith("gen3r-bench score"):
        return f"`{header.command} --fresh` scores the folder anew, with every metric that can be computed now"
    return f"`{header.command} --keep-predictions --fresh` makes and keeps them"


@dataclass(frozen=True, slots=True)
class _Lacking:
    """A kept prediction, and the metrics that its record lacks."""

    kept: Kept
    keys: tuple[str, ...]


@dataclass(slots=True)
class _Work:
    """What the passes over one run share; ``latest`` is the state of every record as it stands in the file."""

    writer: RecordWriter
    run: Run
    metrics: Mapping[str, Metric]
    source: SceneSource | None
    device: str
    progress: Progress | None
    total: int = 0
    done: int = 0
    scored: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    latest: dict[tuple[Any, ...], Record] = field(default_factory=dict)

    def score_singly(self, lacking: Sequence[_Lacking]) -> None:
        """One prediction after another, those of one clip together, so that each clip is read once."""
        wanted = {item.kept.record.identity: item.keys for item in lacking}
        for group in by_clip([item.kept for item in lacking]):
            truth = attempt(lambda first=group[0]: self._truth(first))  # type: ignore[misc]
            # protocols that share a conditioning share one bundle, which is read once
            for _, sharing in groupby(sorted(group, key=lambda kept: str(kept.folder)), key=lambda kept: kept.folder):
                items = list(sharing)
                prediction = attempt(items[0].prediction)
                for kept in items:
                    self._score(kept, wanted[kept.record.identity], truth, prediction)

    def _truth(self, kept: Kept) -> SceneTruth:
        assert self.source is not None
        return self.source.truth(kept)

    def _score(
        self, kept: Kept, keys: Sequence[str], truth: SceneTruth | Failure, prediction: Prediction | Failure
    ) -> None:
        """Every metric by itself, so that one that fails costs no other; point metrics share their work."""
        values: dict[str, float] = {}
        unsupported: dict[str, str] = {}
        facts: dict[str, Mapping[str, str]] = {}
        points = tuple(key for key in keys if self.metrics[key].kind == "points")
        for part in filter(None, [points, *((key,) for key in keys if key not in points)]):
            scores = self._scores(kept, part, truth, prediction)
            if isinstance(scores, Failure):
                self._log(kept, scores)
                unsupported |= dict.fromkeys(part, scores.reason)
            else:
                values |= scores.values
                unsupported |= scores.unsupported
                facts |= scores.facts
        self._write(kept, values, unsupported, facts)

    def _scores(
        self, kept: Kept, keys: tuple[str, ...], truth: SceneTruth | Failure, prediction: Prediction | Failure
    ) -> Scores | Failure:
        if isinstance(truth, Failure):
            return truth
        if isinstance(prediction, Failure):
            return prediction
        row = self.run.header.row(kept.record.row)
        diagnostic = DIAGNOSTICS.get(row.method_id) if row.kind == "diagnostic" else None
        return attempt(
            lambda: score(
                kept.card.model_copy(update={"metrics": keys}),
                truth,
                prediction,
                self.metrics,
                pred_fps_start=None if diagnostic is None else diagnostic.pred_fps_start,
                backend=self.run.header.geometry_backend,
                device=self.device,
            )
        )

    def score_in_one_go(self, key: str, scorer: BatchScorer, kept: Sequence[Kept]) -> None:
        """Every prediction by one metric."""
        obstacle = scorer.obstacle()
        if obstacle is not None:
            for item in kept:
                self._write(item, {}, {key: obstacle}, {})
            return
        with_frames = [item for item in kept if (item.folder / "rgb").is_dir()]
        for item in kept:
            if item not in with_frames:
                self._write(item, {}, {key: "the prediction holds no frames"}, {})
        for start in range(0, len(with_frames), scorer.at_once):
            self._score_part(key, scorer, with_frames[start : start + scorer.at_once])

    def _score_part(self, key: str, scorer: BatchScorer, kept: Sequence[Kept]) -> None:
        found = attempt(lambda: list(scorer.score([self._video(item) for item in kept])))
        facts: Mapping[str, str] = {}
        if not isinstance(found, Failure):
            made_with = attempt(scorer.facts)
            if isinstance(made_with, Failure):  # a score is none where nobody can say what it was made with
                found = made_with
            else:
                facts = made_with
        scores: Sequence[float | Failure] = [found] * len(kept) if isinstance(found, Failure) else found
        for item, value in zip(kept, scores, strict=True):
            if isinstance(value, Failure):
                self._log(item, value)
                self._write(item, {}, {key: value.reason}, {})
            elif not np.isfinite(value):
                self._write(item, {}, {key: f"{key} came out as {value}, which is not a score"}, {})
            else:
                self._write(item, {key: float(value)}, {}, {key: facts})

    def _video(self, kept: Kept) -> Video:
        def read_frames() -> NDArray[np.uint8]:
            rgb = kept.prediction().rgb
            assert rgb is not None
            return rgb

        def read_shown() -> NDArray[np.uint8]:
            scene = self._truth(kept).scene
            return scene.rgb[list(conditioning_indices(kept.card.setting, scene.num_frames))]

        def frames() -> NDArray[np.uint8]:
            return self._read(kept, read_frames)

        def shown() -> NDArray[np.uint8]:
            return self._read(kept, read_shown)

        record = kept.record
        parts = (record.row, record.protocol, str(record.seed), record.dataset, record.scene_id)
        return Video("-".join(parts).replace("/", "_"), frames, shown)

    def _read(self, kept: Kept, action: Callable[[], T]) -> T:
        """What an action gives; whatever it raises becomes a BenchError, which costs no other video its score."""
        found = attempt(action)
        if isinstance(found, Failure):
            self._log(kept, found)
            raise BenchError(found.reason)
        return found

    def _log(self, kept: Kept, failure: Failure) -> None:
        record = kept.record
        log_failure(self.run.path, f"{record.row} {record.dataset} {record.scene_id} {record.protocol}", failure)

    def _write(
        self,
        kept: Kept,
        values: Mapping[str, float],
        unsupported: Mapping[str, str],
        facts: Mapping[str, Mapping[str, str]],
    ) -> None:
        old = self.latest.get(kept.record.identity, kept.record)
        made_with = {key: self.writer.note_provenance(content) for key, content in facts.items()}
        new = merged(old, values, unsupported, made_with)
        if new != old:
            self.writer.append(new)
            self.latest[old.identity] = new
        done = {key.partition("/")[0] for key in values}
        self.scored += len(done)
        for key, reason in unsupported.items():
            self.reasons.setdefault(key, Counter())[reason] += 1
        self.done += len(done) + len(unsupported)
        if self.progress is not None:
            self.progress(old.scene_id, self.done, self.total)


def merged(
    record: Record, values: Mapping[str, float], unsupported: Mapping[str, str], made_with: Mapping[str, str]
) -> Record:
    """A record with what it lacked: what it has stays as it is, and a reason goes where a score came."""
    scores = {**values, **record.scores}
    scored = {key.partition("/")[0] for key in scores}
    reasons = {key: text for key, text in {**record.unsupported, **unsupported}.items() if key not in scored}
    return Record.model_validate(
        {
            **record.model_dump(),
            "status": "ok" if scores else record.status,
            "scores": {key: scores[key] for key in [*record.scores, *(k for k in values if k not in record.scores)]},
            "unsupported": reasons,
            "made_with": {**made_with, **record.made_with},
            "reason": "" if scores else "; ".join(dict.fromkeys(reasons.values())) or record.reason,
        }
    )
