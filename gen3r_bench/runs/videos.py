"""VBench over a run's kept predictions: each dimension loads its network once for many videos."""

from __future__ import annotations

from collections.abc import Sequence

from gen3r_bench.metrics import vbench
from gen3r_bench.metrics.vbench import Dimension, VbenchOptions, VideoFailure, VideoItem
from gen3r_bench.metrics.video import DIALECT
from gen3r_bench.runs.append import BatchScorer, Video
from gen3r_bench.runs.attempt import Failure


def vbench_scorers(options: VbenchOptions) -> dict[str, BatchScorer]:
    """How each of VBench's metrics is computed, by metric key."""
    return {f"{dimension}@{DIALECT}": _scorer(dimension, options) for dimension in vbench.DIMENSIONS}


def _scorer(dimension: Dimension, options: VbenchOptions) -> BatchScorer:
    def score(videos: Sequence[Video]) -> list[float | Failure]:
        found = vbench.score_videos(dimension, [_item(video) for video in videos], options=options)
        return [Failure(value.reason, value.log) if isinstance(value, VideoFailure) else value for value in found]

    return BatchScorer(
        obstacle=lambda: vbench.unavailable(dimension, options),
        facts=lambda: vbench.provenance(dimension, options),
        score=score,
        at_once=options.videos_per_job,
    )


def _item(video: Video) -> VideoItem:
    """Of the frames that a setting shows, VBench takes one: the first."""
    return VideoItem(video.name, video.frames, lambda: video.shown()[0])
