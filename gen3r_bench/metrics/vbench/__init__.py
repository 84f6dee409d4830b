"""Five dimensions of VBench 0.1.5 for videos in memory, computed by the package itself in a worker process.

``score_videos`` writes each video as a lossless film, hands many to one worker, and gives a score or a reason for each.
Values are VBench's raw ones, 0 to 1 (imaging quality, which VBench gives per video as 0 to 100, divided by 100 as its
mean is), not the min-max normalised ones of its leaderboard totals.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import BenchError, InputError
from gen3r_bench.metrics.base import RANDOM_WEIGHTS
from gen3r_bench.metrics.vbench import staging
from gen3r_bench.metrics.vbench.files import DIMENSIONS, Dimension, are_random, files_of, weight_paths
from gen3r_bench.metrics.vbench.job import JobFailure, JobVideo, VbenchOptions, probe, run_job
from gen3r_bench.metrics.weight_files import obstacle, sha256_of

__all__ = [
    "DIMENSIONS",
    "Dimension",
    "VbenchOptions",
    "VideoFailure",
    "VideoItem",
    "provenance",
    "score_videos",
    "too_short",
    "unavailable",
]

INSTALL: Final = "pip install --no-deps -r requirements-vbench.txt"
MOST_JOBS_PER_BATCH: Final = 24
"""How many workers a batch may start while it looks for the video that makes them fail."""
_FEWEST_FRAMES: Final[dict[Dimension, int]] = {"i2v_subject": 2, "i2v_background": 2, "motion_smoothness": 3}


@dataclass(frozen=True, slots=True)
class VideoItem:
    """A video to be scored; its pixels are read when its turn comes, and not kept.

    Attributes:
        name: in failures.
        frames: gives [n, H, W, 3] uint8 RGB.
        reference: gives [H, W, 3] uint8 RGB, the image that the video is to continue; of the i2v dimensions.
    """

    name: str
    frames: Callable[[], NDArray[np.uint8]]
    reference: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """Why a video has no score, in one line, and the last lines of the worker's log."""

    reason: str
    log: str = ""


def too_short(dimension: Dimension, num_frames: int) -> str | None:
    """Why a video of so many frames has no such score, or None where it has one."""
    fewest = _FEWEST_FRAMES.get(dimension, 1)
    if num_frames >= fewest:
        return None
    return f"VBench's {dimension} needs {fewest} frames, the prediction has {num_frames}"


def unavailable(dimension: Dimension, options: VbenchOptions) -> str | None:
    """Why a dimension cannot be computed here, with the command that helps; None where it can. Loads no model.

    As for LPIPS, a file whose hash is not the published one is refused, unless it is marked as random numbers.
    """
    try:
        found = probe(options.interpreter)
    except InputError as error:
        return str(error)
    modules = list(found.missing[dimension])
    if modules:
        where = "" if options.python is None else f" for {options.python}"
        return f"VBench is not installed{where} (no module {modules[0]}): run {INSTALL}"
    if find_spec("av") is None:
        return "lossless films need PyAV, which is not installed: run pip install 'gen3r-bench[video]'"
    missing = [file for file in files_of(dimension) if file.missing()]
    if missing:
        paths = [str(path) for file in missing for path in file.missing()]
        names = " ".join(file.name for file in missing)
        return f"weights missing ({', '.join(paths)}): run gen3r-bench weights fetch {names}"
    for file in files_of(dimension):
        # what is known of an archive is known of the download, which is no longer here
        if file.sha256 is not None and not file.members:
            reason = obstacle(file.path, file.sha256, f"gen3r-bench weights fetch {file.name}")
            if reason is not None:
                return reason
    return None


def provenance(dimension: Dimension, options: VbenchOptions) -> dict[str, str]:
    """What decides a score besides the pixels: versions, choices and the weights' hashes.

    Raises:
        InputError: where the interpreter does not run.
    """
    versions = probe(options.interpreter).versions
    facts = {"dimension": dimension, "device": options.device.partition(":")[0]}
    facts |= {name: version for name, version in versions.items() if name in _DECISIVE[dimension]}
    facts["encoding"] = staging.ENCODING
    if dimension.startswith("i2v_"):
        facts["reference_image"] = "first conditioning frame"
        facts["antialias"] = antialias_class(versions.get("torchvision", ""))
    if dimension == "aesthetic_quality":
        facts["clip_precision"] = "float16" if options.device.startswith("cuda") else "float32"
    for path in weight_paths(dimension):
        facts[f"sha256 {path.name}"] = sha256_of(path)
    if are_random(dimension):
        facts["weights"] = RANDOM_WEIGHTS
    return facts


_ALWAYS: Final = ("python", "vbench", "torch", "torchvision", "decord")
_DECISIVE: Final[dict[Dimension, tuple[str, ...]]] = {
    "i2v_subject": _ALWAYS,
    "i2v_background": (*_ALWAYS, "dreamsim", "peft"),
    "imaging_quality": (*_ALWAYS, "pyiqa"),
    "aesthetic_quality": (*_ALWAYS, "openai-clip"),
    "motion_smoothness": _ALWAYS,
}


def antialias_class(torchvision: str) -> str:
    """How that torchvision resizes tensors where VBench does not say: older than 0.17, without antialiasing.

    It moves both I2V scores by more than the gap between neighbouring rows of the paper, so numbers of the two classes
    never share a column (Vchitect/VBench issue 131).
    """
    try:
        major, minor = (int(part) for part in torchvision.split(".")[:2])
    except ValueError:
        return "unknown"
    return "torchvision >=0.17" if (major, minor) >= (0, 17) else "torchvision <0.17"


def score_videos(
    dimension: Dimension,
    items: Sequence[VideoItem],
    *,
    options: VbenchOptions,
    progress: Callable[[int], None] | None = None,
) -> list[float | VideoFailure]:
    """Score videos in one dimension.

    Args:
        dimension: of VBench.
        items: the videos.
        options: interpreter, device, timeout, batch size.
        progress: told how many more videos are done.

    Returns:
        For each item, in order, its score (0..1, higher is better), or why it has none. One video never takes another
        one's score with it: a batch that fails is halved until the video is found, with at most
        `MOST_JOBS_PER_BATCH` workers.

    Raises:
        InputError: where the dimension is not available here; no worker is started then.
    """
    reason = unavailable(dimension, options)
    if reason is not None:
        raise InputError(f"VBench's {dimension} cannot be computed here: {reason}", expected="VBench and its weights")
    results: list[float | VideoFailure] = []
    for batch in _batches(items, options.videos_per_job):
        results += _score_batch(dimension, batch, options)
        if progress is not None:
            progress(len(batch))
    return results


def _batches(items: Sequence[VideoItem], size: int) -> Iterator[Sequence[VideoItem]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _score_batch(
    dimension: Dimension, items: Sequence[VideoItem], options: VbenchOptions
) -> list[float | VideoFailure]:
    with tempfile.TemporaryDirectory(prefix="gen3r-bench-vbench-") as name:
        folder = Path(name)
        staged = [_staged(dimension, item, folder / f"{position:04d}") for position, item in enumerate(items)]
        videos = {position: entry for position, entry in enumerate(staged) if isinstance(entry, JobVideo)}
        scores = _Search(dimension, options, folder / "jobs").scores(videos)
        return [scores[position] if isinstance(entry, JobVideo) else entry for position, entry in enumerate(staged)]


def _staged(dimension: Dimension, item: VideoItem, stem: Path) -> JobVideo | VideoFailure:
    """An item as files, or why not: its pixels come from files too, and fail with a BenchError or OSError."""
    try:
        frames = item.frames()
        reason = too_short(dimension, len(frames))
        if reason is not None:
            return VideoFailure(reason)
        files = JobVideo(stem.with_suffix(".mp4"), stem.with_suffix(".png"))
        staging.write_video(files.video, frames)
        staging.write_image(files.image, item.reference())
    except (BenchError, OSError) as error:
        return VideoFailure(f"{item.name} cannot be written for VBench: {error}")
    return files


class _Search:
    """Scores a batch; where a worker fails on it, halves it until the others have their scores."""

    def __init__(self, dimension: Dimension, options: VbenchOptions, folder: Path) -> None:
        self._dimension = dimension
        self._options = options
        self._folder = folder
        self._jobs = 0

    def scores(self, videos: dict[int, JobVideo]) -> dict[int, float | VideoFailure]:
        found: dict[int, float | VideoFailure] = {}
        waiting = [videos] if videos else []
        while waiting:
            part = waiting.pop(0)
            answer = self._run(list(part.values()))
            if not isinstance(answer, JobFailure):
                found |= {position: self._checked(value) for position, value in zip(part, answer, strict=True)}
                continue
            failure = VideoFailure(answer.reason, answer.log)
            # a worker that never loaded its model would fail on every part alike
            if len(part) == 1 or answer.phase != "loaded":
                found |= dict.fromkeys(part, failure)
            elif self._jobs + len(waiting) + 2 > MOST_JOBS_PER_BATCH:
                bounded = f"{answer.reason}; not narrowed down further after {self._jobs} workers"
                found |= dict.fromkeys(part, VideoFailure(bounded, answer.log))
            else:
                positions = sorted(part)
                middle = len(positions) // 2
                waiting += [{p: part[p] for p in positions[:middle]}, {p: part[p] for p in positions[middle:]}]
        return found

    def _run(self, videos: list[JobVideo]) -> list[float] | JobFailure:
        self._jobs += 1
        return run_job(self._dimension, videos, self._options, self._folder / f"job-{self._jobs}")

    def _checked(self, value: float) -> float | VideoFailure:
        """A score in our unit, never one that is not a number."""
        if not math.isfinite(value):
            return VideoFailure(f"VBench's {self._dimension} came out as {value}, which is not a score")
        return value / 100 if self._dimension == "imaging_quality" else value
