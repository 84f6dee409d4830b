"""Carries out a plan: reads each clip once, asks each row once a conditioning, scores, and writes records.

Whatever a dataset, a method or a metric raises on one scene becomes a failure record with its reason, and the other
scenes go on.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from gen3r_bench import registry
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.conditioning import condition, conditioning_name
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.protocols.scoring import Scores, check_fit, score
from gen3r_bench.runs.attempt import Failure, attempt, log_failure
from gen3r_bench.runs.bundle import write_bundle
from gen3r_bench.runs.kept import bundle_folder
from gen3r_bench.runs.plan import Plan, Task, merged_header, record_key
from gen3r_bench.runs.record import Alignment, Record
from gen3r_bench.runs.rows import Row
from gen3r_bench.runs.store import HEADER_NAME, RecordWriter, Run, read_header, read_run
from gen3r_bench.scene import Prediction

Progress = Callable[[str, int], None]
"""Called with a scene and the number of records that are new or were found finished."""
T = TypeVar("T")


def execute(
    plan: Plan,
    out: Path,
    *,
    command: str,
    jobs: int = 1,
    keep_predictions: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run a plan into a folder, skipping the records that it already holds, and return the whole run.

    Args:
        plan: what to do.
        out: the run's folder; continued where it holds the same protocols.
        command: for the record.
        jobs: scenes side by side, in threads: the kernels release the interpreter's lock.
        keep_predictions: also write a bundle of every prediction.
        progress: told after every scene of every row.

    Raises:
        StoreError: where the folder cannot be written, is in use, or holds another protocol version.
    """
    with RecordWriter(out) as writer:
        header = plan.header(command)
        if (out / HEADER_NAME).exists():
            header = merged_header(read_header(out), header, str(out))
        writer.write_header(header)
        work = _Work(plan, writer, keep_predictions, progress or _silent)
        with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="scene") as pool:
            futures = [pool.submit(work.run, task) for task in plan.tasks()]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                work.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return read_run(out)


def _silent(scene_id: str, count: int) -> None:
    """No progress shown."""
    del scene_id, count


class _Work:
    """What the scenes of one run share."""

    def __init__(self, plan: Plan, writer: RecordWriter, keep_predictions: bool, progress: Progress) -> None:
        self.plan = plan
        self.writer = writer
        self.keep_predictions = keep_predictions
        self.progress = progress
        self.metrics = registry.metrics()
        self.stop = threading.Event()

    def run(self, task: Task) -> None:
        """Read one clip, and score every row, seed and card on it that has no finished record yet."""
        fingerprint = attempt(lambda: self.plan.fingerprint(task))
        truth: SceneTruth | Failure | None = None
        for row in self.plan.rows:
            if self.stop.is_set():
                return
            row_fingerprint = attempt(lambda row=row: row.fingerprint(task.scene_id))  # type: ignore[misc]
            for seed in self.plan.seeds:
                keys = {card.name: self._key(task, card, fingerprint, row_fingerprint, seed) for card in task.cards}
                finished = {name for name, key in keys.items() if self._is_finished(key)}
                missing = [card for card in task.cards if card.name not in finished]
                if missing and truth is None:
                    truth = fingerprint if isinstance(fingerprint, Failure) else self._read(task)
                for record in self._records(task, missing, row, fingerprint, row_fingerprint, seed, truth):
                    self.writer.append(record.model_copy(update={"key": keys[record.protocol]}))
                self.progress(task.scene_id, len(task.cards))

    def _read(self, task: Task) -> SceneTruth | Failure:
        dataset = self.plan.datasets[task.dataset].reader
        return attempt(lambda: SceneTruth(dataset.load(task.scene_id, task.profile)))

    def _is_finished(self, key: str) -> bool:
        found = self.writer.found.get(key)
        return found is not None and found.status != "failed"

    def _key(
        self, task: Task, card: Card, fingerprint: str | Failure, row_fingerprint: str | Failure, seed: int
    ) -> str:
        clip, row = (
            f"unreadable: {part.reason}" if isinstance(part, Failure) else part
            for part in (fingerprint, row_fingerprint)
        )
        return record_key(card, task.dataset, task.scene_id, clip, row, seed, self.plan.geometry_backend)

    def _records(
        self,
        task: Task,
        cards: list[Card],
        row: Row,
        fingerprint: str | Failure,
        row_fingerprint: str | Failure,
        seed: int,
        truth: SceneTruth | Failure | None,
    ) -> list[Record]:
        """One record a card, in the cards' order; cards that share a conditioning share one prediction."""
        predictions: dict[str, Prediction | Failure | str] = {}
        records = []
        for card in cards:
            blank = Record.model_construct(
                key="",
                status="failed",
                protocol=card.name,
                card_hash=card.hash,
                dataset=task.dataset,
                scene_id=task.scene_id,
                row=row.entry.label,
                seed=seed,
                clip_fingerprint="" if isinstance(fingerprint, Failure) else fingerprint,
                device=self.plan.device,
                in_training_set=task.dataset in row.entry.training_sets,
            )
            assert truth is not None
            if isinstance(truth, Failure):
                records.append(self._failed(blank, truth))
                continue
            if isinstance(row_fingerprint, Failure):
                records.append(self._failed(blank, row_fingerprint))
                continue
            name = conditioning_name(card)
            if name not in predictions:
                predictions[name] = self._predict(card, row, seed, truth)
            records.append(self._scored(blank, card, row, truth, predictions[name]))
        return records

    def _predict(self, card: Card, row: Row, seed: int, truth: SceneTruth) -> Prediction | Failure | str:
        """The row's prediction, its failure, or in words why the row does not take this conditioning."""
        scene = truth.scene
        conditioning = condition(scene, card, seed)
        refusal = row.refusal(conditioning)
        if refusal is not None:
            return refusal

        def predict() -> Prediction:
            prediction, seconds, memory = _measured(lambda: row.produce(scene, conditioning), self.plan.device)
            check_fit(prediction, scene.num_frames, scene.image_size)
            if prediction.seconds is not None:
                return prediction
            return replace(prediction, seconds=seconds, peak_memory_bytes=memory)

        prediction = attempt(predict)
        if isinstance(prediction, Prediction):
            folder = bundle_folder(self.writer.run, row.entry.label, card, seed, scene.dataset, scene.scene_id)
            # one that an earlier command kept is no longer the prediction of this record
            if self.keep_predictions or folder.exists():
                write_bundle(folder, prediction)
        return prediction

    def _scored(
        self, blank: Record, card: Card, row: Row, truth: SceneTruth, prediction: Prediction | Failure | str
    ) -> Record:
        num_frames = truth.scene.num_frames
        if isinstance(prediction, str):
            return _checked(blank, status="unsupported", reason=prediction, num_frames=num_frames)
        if isinstance(prediction, Failure):
            return self._failed(blank, prediction)
        began = time.perf_counter()

        def make_record() -> tuple[Record, Scores]:
            scores = score(
                card,
                truth,
                prediction,
                self.metrics,
                pred_fps_start=row.pred_fps_start,
                backend=self.plan.geometry_backend,
                device=self.plan.device,
            )
            record = _checked(
                blank,
                status="ok" if scores.values else "unsupported",
                scores=scores.values,
                unsupported=scores.unsupported,
                reason="" if scores.values else "; ".join(dict.fromkeys(scores.unsupported.values())),
                alignment=_alignment(scores),
                n_frames=scores.n_frames,
                num_frames=num_frames,
                coverage=scores.coverage,
                adaptations=prediction.adaptations,
                flags=tuple(scores.flags),
                seconds=prediction.seconds,
                scoring_seconds=time.perf_counter() - began,
                peak_memory_bytes=prediction.peak_memory_bytes,
                memory_source=_memory_source(self.plan.device),
            )
            return record, scores

        made = attempt(make_record)
        if isinstance(made, Failure):
            return self._failed(blank, made)
        record, scores = made
        made_with = {key: self.writer.note_provenance(facts) for key, facts in scores.facts.items()}
        return record.model_copy(update={"made_with": made_with})

    def _failed(self, blank: Record, failure: Failure) -> Record:
        log_failure(self.writer.run, f"{blank.row} {blank.dataset} {blank.scene_id} {blank.protocol}", failure)
        return _checked(blank, status="failed", reason=failure.reason)


def _checked(blank: Record, **fields: object) -> Record:
    return Record.model_validate({**blank.model_dump(), **fields})


def _alignment(scores: Scores) -> Alignment | None:
    geometry = scores.geometry
    if geometry is None:
        return None
    similarity = geometry.alignment
    cosine = (np.trace(similarity.rotation) - 1) / 2
    x, y, z = (float(value) for value in similarity.translation)
    return Alignment(
        scale=float(similarity.scale),
        rotation_deg=float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))),
        translation=(x, y, z),
        residual=float(geometry.residual),
        n_pixels=geometry.n_pixels,
        n_dropped=geometry.n_dropped,
        pred_voxels=geometry.pred_voxels,
        gt_voxels=geometry.gt_voxels,
        pred_sampled=geometry.pred_sampled,
        gt_sampled=geometry.gt_sampled,
    )


def _memory_source(device: str) -> Literal["cuda", "process"]:
    return "cuda" if device.startswith("cuda") else "process"


def _measured(action: Callable[[], T], device: str) -> tuple[T, float, int]:
    """An action's result, its wall time, and the peak memory: of the GPU, or of the whole process so far."""
    if _memory_source(device) == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        began = time.perf_counter()
        result = action()
        torch.cuda.synchronize(device)
        return result, time.perf_counter() - began, int(torch.cuda.max_memory_allocated(device))
    began = time.perf_counter()
    result = action()
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024
    return result, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
