"""Scores a run's kept predictions again, as their cards say and in every other dialect."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gen3r_bench.baselines.diagnostics import DIAGNOSTICS
from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.dialects import DEFAULT, DIALECTS, Dialect, Rescored, dialects_of, headline_key, rescore
from gen3r_bench.runs.attempt import Failure, attempt
from gen3r_bench.runs.kept import Kept, SceneSource, by_clip, card_of, kept_predictions
from gen3r_bench.runs.record import Record
from gen3r_bench.runs.store import Run

SAME: Final = 1e-9
"""Relative difference of a score and its repetition up to which they are the same number, written twice."""
SAME_NETWORK: Final = 1e-4
"""The same for metrics with a network, whose float32 sums depend on the machine and its threads."""

Progress = Callable[[str, int, int], None]
"""Told a scene, how many predictions are done, and of how many."""

Place = tuple[str, str, str, str, int]
"""Protocol, dataset, scene, row, seed: what a record is of."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of a run is scored again; empty means all of it.

    Attributes:
        protocols, rows, scenes: names, as the run has them.
        dialects: keys of dialects; the card's own way is always scored.
    """

    protocols: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()

    def check(self, run: Run) -> None:
        """Raise UnknownNameError where the run has no such name."""
        header = run.header
        for kind, given, known in (
            ("protocol of the run", self.protocols, [card.name for card in header.protocols]),
            ("row of the run", self.rows, [row.label for row in header.rows]),
            ("scene of the run", self.scenes, [scene for entry in header.plan for scene in entry.scenes]),
            ("dialect", self.dialects, [dialect.key for dialect in DIALECTS]),
        ):
            unknown = next((name for name in given if name not in known), None)
            if unknown is not None:
                raise UnknownNameError(kind, unknown, set(known))

    def takes(self, place: Place) -> bool:
        protocol, _, scene, row, _ = place
        return (
            (not self.protocols or protocol in self.protocols)
            and (not self.rows or row in self.rows)
            and (not self.scenes or scene in self.scenes)
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A score that did not come out again: a finding about reproducibility, never a dialect's doing."""

    place: Place
    metric: str
    recorded: float
    again: float


@dataclass(slots=True)
class RescoredRun:
    """A run's kept predictions in every dialect.

    Attributes:
        run: as read.
        cards: by protocol, as they were when the run was made.
        dialects: those scored, by protocol and metric key.
        planned: every place that the header asks for and the choice takes.
        results: by place, where the scene and the prediction could be read.
        reasons: by place, why there is no result.
        compared: how many recorded scores were computed again in the card's own way.
        differences: those that came out as another number.
    """

    run: Run
    cards: Mapping[str, Card]
    dialects: Mapping[str, Mapping[str, Sequence[Dialect]]]
    planned: Sequence[Place]
    results: dict[Place, Rescored] = field(default_factory=dict)
    reasons: dict[Place, str] = field(default_factory=dict)
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def failed(self) -> dict[Place, str]:
        """The kept predictions that could not be scored again, and why."""
        kept = {record.identity for record in self.run.records if record.status == "ok"}
        return {place: reason for place, reason in self.reasons.items() if place in kept and reason != NOT_KEPT}


NOT_KEPT: Final = "its prediction was not kept"


def rescore_run(
    run: Run,
    metrics: Mapping[str, Metric],
    *,
    roots: Mapping[str, Path] | None = None,
    choice: Choice = Choice(),
    jobs: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> RescoredRun:
    """Score a run's kept predictions again, each clip read once; nothing is written.

    Args:
        run: with bundles (``--keep-predictions``).
        metrics: registered metrics by key.
        roots: where each dataset lies on this machine.
        choice: which part of the run.
        jobs: clips side by side, in threads.
        device: where the networks of metrics run.
        progress: told after every prediction.

    Raises:
        InputError: where the run kept nothing that could be scored again, or a data root is missing.
        UnknownNameError: where the choice names something that the run does not have.
        StoreError: where a card in the header is of another version.
    """
    choice.check(run)
    work = _Work(run, metrics, choice, device, progress)
    kept = [item for item in kept_predictions(run) if item.record.identity in work.wanted]
    if not kept:
        raise InputError(
            f"{run.path} keeps no predictions" + (" of what was chosen" if choice != Choice() else ""),
            expected="a run made with --keep-predictions",
            fix=f"{run.header.command} --keep-predictions --fresh",
        )
    work.source, work.total = SceneSource(run.header, roots), len(kept)
    with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="clip") as pool:
        futures = [pool.submit(work.clip, group) for group in by_clip(kept)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            work.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return work.finished()


class _Work:
    """What the clips of one explanation share."""

    def __init__(
        self, run: Run, metrics: Mapping[str, Metric], choice: Choice, device: str, progress: Progress | None
    ) -> None:
        header = run.header
        cards = {entry.name: card_of(header, entry.name) for entry in header.protocols}
        dialects = {}
        for name, card in cards.items():
            found = dialects_of(card, metrics)
            dialects[name] = {
                key: [dialect for dialect in others if not choice.dialects or dialect.key in choice.dialects]
                for key, others in found.items()
            }
        planned = [
            place
            for entry in header.plan
            for row in header.rows
            for scene in entry.scenes
            for seed in header.seeds
            if choice.takes(place := (entry.protocol, entry.dataset, scene, row.label, seed))
        ]
        self.metrics = metrics
        self.device = device
        self.progress = progress
        self.result = RescoredRun(run, cards, dialects, planned)
        self.wanted = set(planned)
        self.stop = threading.Event()
        self.source: SceneSource | None = None
        self.done = self.total = 0
        self._mutex = threading.Lock()

    def clip(self, group: Sequence[Kept]) -> None:
        """Read one clip, and score every prediction of it; protocols that share a prediction read it once."""
        source = self.source
        assert source is not None
        truth = attempt(lambda: source.truth(group[0]))
        by_folder: dict[Path, list[Kept]] = {}
        for item in group:
            by_folder.setdefault(item.folder, []).append(item)
        for items in by_folder.values():
            if self.stop.is_set():
                return
            prediction = truth if isinstance(truth, Failure) else attempt(items[0].prediction)
            for item in items:
                found: Rescored | Failure
                if isinstance(truth, Failure):
                    found = truth
                elif isinstance(prediction, Failure):
                    found = prediction
                else:
                    scene, answer = truth, prediction
                    found = attempt(
                        lambda item=item, scene=scene, answer=answer: rescore(  # type: ignore[misc]
                            item.card,
                            scene,
                            answer,
                            self.metrics,
                            self.result.dialects[item.record.protocol],
                            samples_elsewhere=self._samples_elsewhere(item.record),
                            backend=self.result.run.header.geometry_backend,
                            device=self.device,
                        )
                    )
                self._take(item, found)

    def _samples_elsewhere(self, record: Record) -> bool:
        row = self.result.run.header.row(record.row)
        return row.kind == "diagnostic" and DIAGNOSTICS[row.method_id].pred_fps_start is not None

    def _take(self, item: Kept, found: Rescored | Failure) -> None:
        place = item.record.identity
        with self._mutex:
            self.done += 1
            if isinstance(found, Failure):
                self.result.reasons[place] = found.reason
            else:
                self.result.results[place] = found
                self._compare(item, found)
        if self.progress is not None:
            self.progress(item.record.scene_id, self.done, self.total)

    def _compare(self, item: Kept, found: Rescored) -> None:
        """Hold the card's own way against the record."""
        for key in self.result.dialects[item.record.protocol]:
            recorded = item.record.scores.get(headline_key(item.card, self.metrics[key]))
            again = found.values.get((key, DEFAULT))
            if recorded is None or again is None:
                continue
            self.result.compared += 1
            tolerance = SAME_NETWORK if self.metrics[key].takes_device else SAME
            if abs(recorded - again.value) > tolerance * max(1.0, abs(recorded)):
                self.result.differences.append(Difference(item.record.identity, key, recorded, again.value))

    def finished(self) -> RescoredRun:
        """The result, with a reason at every place that has none yet."""
        result = self.result
        records = {record.identity: record for record in result.run.records}
        for place in result.planned:
            if place in result.results or place in result.reasons:
                continue
            record = records.get(place)
            if record is None:
                result.reasons[place] = "not run yet"
            elif record.status != "ok":
                result.reasons[place] = f"{record.status}: {record.reason}"
            else:
                result.reasons[place] = NOT_KEPT
        result.differences.sort(key=lambda difference: (difference.place, difference.metric))
        return result
