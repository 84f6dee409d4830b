"""Kept predictions as VBench's videos: which frames and which image go in, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest

from gen3r_bench import registry
from gen3r_bench.metrics import vbench
from gen3r_bench.metrics.vbench import VbenchOptions, VideoFailure
from gen3r_bench.runs.append import Video
from gen3r_bench.runs.attempt import Failure
from gen3r_bench.runs.videos import vbench_scorers

OPTIONS = VbenchOptions(device="cuda", videos_per_job=7)


def video(name: str, level: int) -> Video:
    frames = np.full((3, 4, 4, 3), level, np.uint8)
    shown = np.stack([frames[0] + 1, frames[0] + 2])
    return Video(name, lambda: frames, lambda: shown)


def test_every_registered_video_metric_has_a_scorer() -> None:
    assert set(vbench_scorers(OPTIONS)) == {key for key, metric in registry.metrics().items() if metric.kind == "video"}


def test_frames_and_the_first_shown_image_go_in_and_scores_and_reasons_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def score_videos(dimension, items, *, options):
        calls.append((dimension, options))
        assert [int(item.frames()[0, 0, 0, 0]) for item in items] == [10, 20]
        assert [int(item.reference()[0, 0, 0]) for item in items] == [11, 21]
        return [0.5, VideoFailure("crashed", "its last words")]

    monkeypatch.setattr(vbench, "score_videos", score_videos)
    scorer = vbench_scorers(OPTIONS)["i2v_background@vbench-0.1.5"]
    assert scorer.score([video("a", 10), video("b", 20)]) == [0.5, Failure("crashed", "its last words")]
    assert calls == [("i2v_background", OPTIONS)]
    assert scorer.at_once == 7


def test_obstacle_and_facts_are_those_of_the_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vbench, "unavailable", lambda dimension, options: f"no {dimension} on {options.device}")
    monkeypatch.setattr(vbench, "provenance", lambda dimension, options: {"dimension": dimension})
    scorers = vbench_scorers(OPTIONS)
    assert scorers["i2v_subject@vbench-0.1.5"].obstacle() == "no i2v_subject on cuda"
    assert scorers["motion_smoothness@vbench-0.1.5"].facts() == {"dimension": "motion_smoothness"}
