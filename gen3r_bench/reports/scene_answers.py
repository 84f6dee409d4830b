"""What rows of a run answered one scene, brought into the scene's own world, ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.alignment import AlignmentError, ScaleRule, Similarity, align_frames
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.conditioning import conditioning_name
from gen3r_bench.reports.explanation import decimals
from gen3r_bench.runs.audit import random_metrics
from gen3r_bench.runs.kept import Kept, SceneSource, kept_predictions
from gen3r_bench.runs.record import RowEntry, RunHeader
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Cameras, Prediction, Scene, conditioning_indices, invert_rigid


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One row's prediction of a scene.

    Attributes:
        row: whose.
        prediction: as kept.
        scores: (title, number) of every protocol that this prediction serves, in the order of the cards; numbers of
            random weights are no scores.
        points: [n, H, W, 3] in the true world where it could be aligned, in its own where the scene has no depth; None
            where the prediction has no geometry.
        depth: [n, H, W] along the view, in the scene's unit where aligned; None as ``points``.
        aligned: whether both were brought into the scene's world.
    """

    row: RowEntry
    prediction: Prediction
    scores: tuple[tuple[str, str], ...]
    points: NDArray[np.float64] | None
    depth: NDArray[np.float64] | None
    aligned: bool


@dataclass(frozen=True, slots=True, eq=False)
class SceneAnswers:
    """A scene, what was shown of it, and the rows' answers in the order of the run."""

    run: str
    dataset_title: str
    scene: Scene
    conditioning: str
    given: tuple[int, ...]
    true_points: NDArray[np.float32] | None
    answers: tuple[Answer, ...]


def scene_answers(
    run: Run,
    scene_id: str,
    metrics: Mapping[str, Metric],
    *,
    protocol: str | None = None,
    rows: Sequence[str] = (),
    dataset: str | None = None,
    seed: int | None = None,
    roots: Mapping[str, Path] | None = None,
) -> SceneAnswers:
    """Read one scene and the kept predictions of it.

    Args:
        run: with bundles (``--keep-predictions``).
        scene_id: a scene of the run.
        metrics: registered metrics by key.
        protocol: whose predictions; None: those of the run's first protocol that kept any of this scene. Protocols
            that show a method the same share its predictions, and their scores stand side by side.
        rows: labels, in the order to show them; empty: all of the run.
        dataset: where scenes of two datasets share an id.
        seed: of the predictions; None: the run's first.
        roots: where datasets lie on this machine.

    Raises:
        UnknownNameError: where the run has no such scene, protocol, row or dataset.
        InputError: where it kept no prediction of it.
        SceneError: where the scene cannot be read, or has changed.
        StoreError: where a prediction is damaged.
    """
    header = run.header
    _check_names(run, scene_id, protocol, rows, dataset, seed)
    seed = header.seeds[0] if seed is None else seed
    kept = [
        item
        for item in kept_predictions(run)
        if item.record.scene_id == scene_id and item.record.seed == seed and dataset in {None, item.record.dataset}
    ]
    wanted = [item for item in kept if protocol in {None, item.card.name} and (not rows or item.record.row in rows)]
    if not wanted:
        raise InputError(
            f"{run.path} keeps no prediction of scene {scene_id}"
            + (f" by {' or '.join(rows)}" if rows else "")
            + (f" for {protocol}" if protocol else ""),
            expected="a run made with --keep-predictions, and a row that answered this scene",
            fix=f"{header.command} --keep-predictions --fresh",
        )
    first = wanted[0]
    name = conditioning_name(first.card)
    # of one reading of the clip: protocols may read others of the same scene
    same = [item for item in kept if conditioning_name(item.card) == name and item.profile == first.profile]
    same = [item for item in same if item.record.dataset == first.record.dataset]
    truth = SceneSource(header, roots).truth(first)
    scene = truth.scene
    true_points = truth.points() if scene.depth is not None and scene.valid.any() else None
    labels = list(rows) or [row.label for row in header.rows]
    answers = []
    for label in dict.fromkeys(labels):
        of_row = [item for item in same if item.record.row == label]
        if of_row:
            answers.append(_answer(header, label, of_row, scene, true_points, metrics))
    return SceneAnswers(
        run=run.path.resolve().name,
        dataset_title=first.entry.dataset_title,
        scene=scene,
        conditioning=name,
        given=conditioning_indices(first.card.setting, scene.num_frames),
        true_points=true_points,
        answers=tuple(answers),
    )


def _check_names(
    run: Run, scene_id: str, protocol: str | None, rows: Sequence[str], dataset: str | None, seed: int | None
) -> None:
    header = run.header
    scenes = {scene for entry in header.plan for scene in entry.scenes}
    asked: list[tuple[str, Iterable[str], set[str]]] = [
        ("scene of the run", [scene_id], scenes),
        ("protocol of the run", [] if protocol is None else [protocol], {card.name for card in header.protocols}),
        ("row of the run", rows, {row.label for row in header.rows}),
        ("dataset of the run", [] if dataset is None else [dataset], {entry.dataset for entry in header.plan}),
    ]
    for kind, given, known in asked:
        for word in given:
            if word not in known:
                raise UnknownNameError(kind, word, known)
    if seed is not None and seed not in header.seeds:
        raise InputError(f"seed {seed}", expected=f"one of the run's: {', '.join(map(str, header.seeds))}")


def _answer(
    header: RunHeader,
    label: str,
    items: Sequence[Kept],
    scene: Scene,
    true_points: NDArray[np.float32] | None,
    metrics: Mapping[str, Metric],
) -> Answer:
    prediction = items[0].prediction()
    scores: dict[str, str] = {}
    for item in items:
        random = random_metrics(item.record, header)
        for key, value in item.record.scores.items():
            bare, _, frames = key.partition("/")
            metric = metrics.get(bare)
            if metric is not None and bare not in random:
                title = f"{metric.title} ({frames})" if frames else metric.title
                unit = f" {metric.unit}" if metric.unit in {"dB", "%"} else ""
                scores[title] = f"{value:.{decimals(metric)}f}{unit}"
    own = prediction.world_points()
    scale: ScaleRule = next(
        (item.card.geometry.alignment_scale for item in items if item.card.geometry is not None), "variance-ratio"
    )
    similarity = None if own is None or true_points is None else _fit(prediction, own, scene, true_points, scale)
    points = None if own is None else (similarity or Similarity.identity()).apply(own)
    return Answer(
        row=header.row(label),
        prediction=prediction,
        scores=tuple(scores.items()),
        points=points,
        depth=_depth(prediction, points, scene, similarity),
        aligned=similarity is not None,
    )


def _fit(
    prediction: Prediction,
    own: NDArray[np.float32],
    scene: Scene,
    true_points: NDArray[np.float32],
    scale: ScaleRule,
) -> Similarity | None:
    """The alignment that scoring uses; None where none is defined."""
    frames = np.asarray(prediction.frame_indices, dtype=np.int64)
    try:
        return align_frames(
            own.reshape(len(own), -1, 3),
            true_points.reshape(len(true_points), -1, 3),
            frames,
            scene.valid.reshape(len(scene.valid), -1),
            scale=scale,
        ).similarity
    except AlignmentError:
        return None


def _depth(
    prediction: Prediction, points: NDArray[np.float64] | None, scene: Scene, similarity: Similarity | None
) -> NDArray[np.float64] | None:
    if prediction.depth is not None:
        return prediction.depth.astype(np.float64) * (1.0 if similarity is None else similarity.scale)
    if points is None:
        return None
    cameras: Cameras = scene.cameras
    cam_from_world = invert_rigid(cameras.world_from_cam)[list(prediction.frame_indices)]
    # along the true view: all that points without cameras can say
    depth: NDArray[np.float64] = (
        np.einsum("fc,fhwc->fhw", cam_from_world[:, 2, :3], points) + cam_from_world[:, 2, 3, None, None]
    )
    return depth
