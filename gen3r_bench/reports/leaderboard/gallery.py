"""Pictures and clouds of scenes, from kept predictions and the scenes themselves, as files that a page loads on demand.

A page that was opened from disk cannot fetch files, but it may load pictures and scripts: a scene is one small script
that hands its clouds over, and names its pictures. Equal pictures are one file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import BenchError
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.protocols.scoring import check_fit
from gen3r_bench.reports.error_map import error_map
from gen3r_bench.reports.leaderboard import pictures
from gen3r_bench.reports.leaderboard.clouds import Box, box_of, shown_alignment, small_cloud
from gen3r_bench.reports.leaderboard.schema import Board, Leaderboard
from gen3r_bench.runs.kept import Kept, SceneSource, kept_predictions
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Prediction, Scene

OWN_DATASETS: Final = frozenset({"mini"})
"""Datasets whose frames this project made or may pass on; all others have licences of their own."""
NO_PREDICTIONS: Final = (
    "The runs kept no predictions of these scenes: run with --keep-predictions to see pictures here."
)
_LICENCE: Final = (
    "Frames, depth and points of the dataset are left out, since its licence may forbid passing them on: export with "
    "--with-ground-truth-frames if you may."
)


@dataclass(slots=True)
class ClipPictures:
    """What a page knows about the pictures of one set of scenes.

    Attributes:
        scripts: scene id to the name of its script in the assets folder.
        why: why scenes have no pictures, or lack some; "" where nothing is missing.
    """

    scripts: dict[str, str] = field(default_factory=dict)
    why: str = ""


Gallery = Mapping[str, ClipPictures]
"""Pictures by board id."""


def write_gallery(
    runs: Sequence[Run],
    board: Leaderboard,
    assets: Path,
    *,
    roots: Mapping[str, Path],
    most_bytes: int,
    with_ground_truth: bool,
    progress: Callable[[str], None] | None = None,
) -> dict[str, ClipPictures]:
    """Write pictures of the first scenes of every set of scenes whose predictions were kept.

    Args:
        runs: the runs of the leaderboard.
        board: what they say; boards of one conditioning and clip share their pictures.
        assets: the folder to write into; made where there is something to write.
        roots: where datasets lie.
        most_bytes: of all pictures together; each set of scenes gets its share, first scenes first.
        with_ground_truth: also what shows frames of datasets that are not ours.
        progress: told each scene.
    """
    store = _Store(assets)
    sets: dict[tuple[object, ...], list[Board]] = {}
    for item in board.boards:
        sets.setdefault(_clip_key(board, item), []).append(item)
    found: dict[str, ClipPictures] = {}
    for number, boards in enumerate(sets.values()):
        first = boards[0]
        shown = with_ground_truth or first.dataset in OWN_DATASETS
        kept = _kept_rows(runs, first, board.card(first.protocol).cameras)
        end = store.size_bytes + (most_bytes - store.size_bytes) // (len(sets) - number)
        pictures_of = _write_clip(kept, store, f"c{number}", roots, end, shown, progress)
        found |= {item.id: pictures_of for item in boards}
    return found


class _Store:
    """Files of the assets folder; pictures are named by their content, so that equal ones are one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()
        self._pending: dict[str, bytes] = {}
        self.size_bytes = 0

    def picture(self, data: bytes) -> str:
        """The name of a picture of the scene at hand."""
        return self._add(f"{hashlib.sha256(data).hexdigest()[:16]}.webp", data)

    def script(self, name: str, scene_id: str, content: Mapping[str, Any]) -> str:
        """A script that hands a scene over to the page; its text cannot end the script, nor start another."""
        call = f"gen3rBenchScene({_for_script(scene_id)},{_for_script(content)});\n"
        return self._add(f"{name}.js", call.encode("ascii"))

    def _add(self, name: str, data: bytes) -> str:
        if name not in self._written:
            self._pending[name] = data
        return name

    def keep(self, most_bytes: int) -> bool:
        """Write what was added since the last call, unless the folder would grow beyond ``most_bytes``."""
        size = sum(map(len, self._pending.values()))
        fits = self.size_bytes + size <= most_bytes
        if fits:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name, data in self._pending.items():
                (self._folder / name).write_bytes(data)
            self._written |= self._pending.keys()
            self.size_bytes += size
        self.drop()
        return fits

    def drop(self) -> None:
        """Forget what was added since the last call of `keep`."""
        self._pending.clear()


def _for_script(content: object) -> str:
    """ASCII JSON in which no character means anything to HTML."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _clip_key(board: Leaderboard, item: Board) -> tuple[object, ...]:
    """Equal for boards that are served by one prediction of the same clips."""
    options = tuple(sorted(item.dataset_options.items()))
    setting = (item.setting, board.card(item.protocol).cameras)
    return (*setting, item.dataset, *item.clip.model_dump().values(), options, frozenset(item.scenes))


_Rows = Mapping[str, tuple[Run, Kept]]
"""Kept predictions of one scene, with their runs, by row label."""


def _kept_rows(runs: Sequence[Run], item: Board, cameras: str) -> dict[str, _Rows]:
    """The kept predictions of a board's scenes: of several seeds the first, by a geometry card where one shares it."""
    rows: dict[str, dict[str, tuple[Run, Kept]]] = {scene: {} for scene in item.scenes}
    clip = item.clip
    for run in runs:
        for one in kept_predictions(run):
            entry = one.entry
            same_clip = (entry.frames, entry.stride, entry.start, entry.image_size) == (
                clip.frames,
                clip.stride,
                clip.start,
                clip.image_size,
            )
            same_setting = (entry.dataset, one.card.setting, one.card.cameras) == (item.dataset, item.setting, cameras)
            scene = one.record.scene_id
            if not (same_clip and same_setting and scene in rows and set(entry.scenes) == set(item.scenes)):
                continue
            before = rows[scene].get(one.record.row)
            if before is None or (before[1].record.seed == one.record.seed and before[1].card.geometry is None):
                rows[scene][one.record.row] = (run, one)
    return dict(rows)


def _write_clip(
    kept: Mapping[str, _Rows],
    store: _Store,
    name: str,
    roots: Mapping[str, Path],
    end: int,
    shown: bool,
    progress: Callable[[str], None] | None,
) -> ClipPictures:
    """The pictures of one set of scenes, until the store has grown to ``end`` bytes."""
    result = ClipPictures()
    if not any(kept.values()):
        result.why = NO_PREDICTIONS
        return result
    sources: dict[int, SceneSource] = {}
    full = False
    for number, (scene_id, rows) in enumerate(kept.items()):
        if not rows:
            continue
        if progress is not None:
            progress(scene_id)
        try:
            run, first = next(iter(rows.values()))
            if id(run) not in sources:
                sources[id(run)] = SceneSource(run.header, roots)
            content = _scene(sources[id(run)].truth(first), rows, store, shown)
        except BenchError as error:
            store.drop()
            result.why = f"Scenes could not be opened for pictures: {error}."
            if not result.scripts:
                return result
            continue
        script = store.script(f"{name}-{number}", scene_id, content)
        full = not store.keep(end)
        if full:
            break
        result.scripts[scene_id] = script
    notes = [result.why]
    if full:
        notes.append(
            f"{len(result.scripts)} of {len(kept)} scenes have pictures, the first ones, so that the folder stays "
            "small (--pictures-mb)."
        )
    if not shown:
        notes.append(_LICENCE)
    result.why = " ".join(note for note in notes if note)
    return result


def _scene(truth: SceneTruth, rows: _Rows, store: _Store, shown: bool) -> dict[str, Any]:
    """What the page shows of one scene."""
    scene = truth.scene
    frames = pictures.shown_frames(scene.num_frames)
    drawer = _Drawer(scene, truth.points() if scene.depth is not None else None, frames, store, shown)
    return {
        "frames": list(frames),
        "of": scene.num_frames,
        "prompt": scene.prompt if shown else "",
        "truth": drawer.truth(),
        "rows": [drawer.row(run.header.row(label), kept) for label, (run, kept) in rows.items()],
        "clouds": drawer.clouds,
    }


class _Drawer:
    """Draws the rows of one scene to one scale: equal colours are equal depths, and clouds share a box."""

    def __init__(
        self,
        scene: Scene,
        points: NDArray[np.float32] | None,
        frames: tuple[int, ...],
        store: _Store,
        shown: bool,
    ) -> None:
        self.clouds: dict[str, dict[str, object]] = {}
        self._scene, self._points, self._frames, self._store, self._shown = scene, points, frames, store, shown
        self._bounds = None if scene.depth is None else pictures.depth_bounds(scene.depth, scene.valid)
        has_truth = points is not None and scene.valid.any()
        self._box: Box | None = box_of(points[scene.valid]) if points is not None and has_truth else None

    def truth(self) -> dict[str, Any] | None:
        """The ground truth, or None where it may not be shown."""
        scene = self._scene
        if not self._shown:
            return None
        depth, bounds = scene.depth, self._bounds
        return {
            "rgb": self._strip([scene.rgb[frame] for frame in self._frames]),
            "depth": None
            if depth is None or bounds is None
            else self._strip(
                [pictures.depth_picture(depth[frame], scene.valid[frame], bounds) for frame in self._frames]
            ),
            "cloud": None if self._points is None else self._cloud(self._points[scene.valid], scene.rgb[scene.valid]),
        }

    def row(self, entry: RowEntry, kept: Kept) -> dict[str, Any]:
        """One row's prediction; rows that copy the ground truth are left out where that may not be shown."""
        shown: dict[str, Any] = {"row": entry.label, "rgb": None, "error": None, "depth": None, "cloud": None}
        if not self._shown and entry.kind != "method":
            return shown | {"why": "it repeats frames of the dataset, which are left out"}
        try:
            prediction = kept.prediction()
            check_fit(prediction, self._scene.num_frames, self._scene.image_size)
        except BenchError as error:
            return shown | {"why": str(error)}
        place = {frame: number for number, frame in enumerate(prediction.frame_indices)}
        numbers = [place.get(frame) for frame in self._frames]
        scene, rgb = self._scene, prediction.rgb
        if rgb is not None:
            shown["rgb"] = self._strip([None if number is None else rgb[number] for number in numbers])
            if self._shown:
                pairs = zip(numbers, self._frames, strict=True)
                shown["error"] = self._strip(
                    [None if n is None else error_map(rgb[n], scene.rgb[frame]) for n, frame in pairs]
                )
        self._geometry(prediction, kept, numbers, shown)
        return shown

    def _geometry(
        self, prediction: Prediction, kept: Kept, numbers: Sequence[int | None], shown: dict[str, Any]
    ) -> None:
        """Depth and cloud of a prediction, brought to the scale of the ground truth where there is one."""
        scene = self._scene
        points = prediction.world_points()
        covered = list(prediction.frame_indices)
        similarity = None
        if points is not None and self._points is not None and scene.valid[covered].any():
            rule = kept.card.geometry.alignment_scale if kept.card.geometry else "variance-ratio"
            similarity = shown_alignment(points, self._points[covered], scene.valid[covered], rule)
        if prediction.depth is not None:
            depth = prediction.depth * np.float32(similarity.scale if similarity else 1)
            known = np.isfinite(depth) & (depth > 0)
            bounds = self._bounds or pictures.depth_bounds(depth, known)
            if bounds is not None:
                shown["depth"] = self._strip(
                    [None if n is None else pictures.depth_picture(depth[n], known[n], bounds) for n in numbers]
                )
        if points is None:
            return
        finite = np.isfinite(points).all(axis=-1)
        if not finite.any():
            return
        placed = points[finite] if similarity is None else similarity.apply(points[finite]).astype(np.float32)
        if self._box is None:
            self._box = box_of(placed)
        colours = np.full((*points.shape[:-1], 3), 140, np.uint8) if prediction.rgb is None else prediction.rgb
        shown["cloud"] = self._cloud(placed, colours[finite])

    def _strip(self, frames: Sequence[NDArray[np.uint8] | None]) -> str:
        return self._store.picture(pictures.strip(frames, self._scene.image_size))

    def _cloud(self, points: NDArray[np.float32], colours: NDArray[np.uint8]) -> str | None:
        """The name of a cloud in ``clouds``; equal clouds are kept once."""
        if self._box is None:
            return None
        cloud = small_cloud(points, colours, self._box)
        if not cloud.count:
            return None
        name = hashlib.sha256(f"{cloud.positions}|{cloud.colours}".encode()).hexdigest()[:12]
        camera = [-value / self._box.reach for value in self._box.middle]  # the first camera, in units of the box
        self.clouds[name] = {"n": cloud.count, "xyz": cloud.positions, "rgb": cloud.colours, "camera": camera}
        return name
