"""Many videos, one worker: every video gets its score or its own reason."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_worker import FakePython
from hypothesis import given, settings
from hypothesis import strategies as st

from gen3r_bench.errors import InputError, SceneError
from gen3r_bench.metrics import vbench
from gen3r_bench.metrics.vbench import (
    MOST_JOBS_PER_BATCH,
    VbenchOptions,
    VideoFailure,
    VideoItem,
    antialias_class,
    provenance,
    score_videos,
    too_short,
    unavailable,
)
from gen3r_bench.metrics.vbench.files import Dimension, files_of
from gen3r_bench.metrics.vbench.job import JobFailure, JobVideo
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX

Make = Callable[[str], FakePython]
HALF = "answer({name: 0.5 for name in names})"


def item(name: str, num_frames: int = 5, level: int = 0) -> VideoItem:
    frames = np.full((num_frames, 16, 24, 3), level, np.uint8)
    return VideoItem(name, lambda: frames, lambda: frames[0])


def reasons(results: list[float | VideoFailure]) -> list[str | None]:
    return [result.reason if isinstance(result, VideoFailure) else None for result in results]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; nothing may be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_one_worker_scores_them_all(fake_python: Make, weights: Path, temporary: Path) -> None:
    python = fake_python("answer({name: position(name) / 10 for name in names})")
    done: list[int] = []
    items = [item(f"video {i}") for i in range(5)]
    results = score_videos("i2v_subject", items, options=VbenchOptions(python=python.path), progress=done.append)
    assert results == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [count for _, count in python.starts()] == [5]
    assert done == [5]


def test_the_worker_reads_the_films_and_pictures_that_were_given(
    fake_python: Make, weights: Path, temporary: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    python = fake_python(
        "import shutil\nfor item in job['videos']:\n    for path in item.values():\n"
        f"        shutil.copy(path, {str(copy)!r})\n{HALF}"
    )
    frames = np.random.default_rng(0).integers(0, 256, (4, 17, 23, 3), dtype=np.uint8)
    shown = frames[2].copy()
    score_videos(
        "i2v_subject", [VideoItem("x", lambda: frames, lambda: shown)], options=VbenchOptions(python=python.path)
    )
    np.testing.assert_array_equal(vbench.staging.read_video(copy / "0000.mp4"), frames)
    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(copy / "0000.png")), shown)


def test_large_sets_go_in_batches(fake_python: Make, weights: Path, temporary: Path) -> None:
    python = fake_python(HALF)
    done: list[int] = []
    options = VbenchOptions(python=python.path, videos_per_job=2)
    assert score_videos("i2v_subject", [item("x")] * 5, options=options, progress=done.append) == [0.5] * 5
    assert [count for _, count in python.starts()] == done == [2, 2, 1]


def test_no_videos_start_no_worker(fake_python: Make, weights: Path) -> None:
    python = fake_python(HALF)
    assert score_videos("i2v_subject", [], options=VbenchOptions(python=python.path)) == []
    assert python.starts() == []


def test_imaging_quality_of_a_video_is_in_the_unit_of_its_mean(
    fake_python: Make, weights: Path, temporary: Path
) -> None:
    python = fake_python("answer({name: 62.5 + position(name) for name in names})")
    results = score_videos("imaging_quality", [item("a"), item("b")], options=VbenchOptions(python=python.path))
    assert results == [0.625, 0.635]


def test_a_video_that_kills_the_worker_costs_only_its_own_score(
    fake_python: Make, weights: Path, temporary: Path
) -> None:
    python = fake_python(
        "loaded()\nif any(position(name) == 3 for name in names):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "answer({name: 0.5 for name in names})"
    )
    results = score_videos("i2v_subject", [item("x")] * 8, options=VbenchOptions(python=python.path))
    assert reasons(results) == [None] * 3 + ["the VBench worker was killed by SIGKILL (out of memory?)"] + [None] * 4
    assert [count for _, count in python.starts()] == [8, 4, 4, 2, 2, 1, 1]


def test_a_worker_that_cannot_load_its_model_is_started_once(fake_python: Make, weights: Path, temporary: Path) -> None:
    python = fake_python("print('reading weights')\nraise RuntimeError('Error(s) in loading state_dict')")
    results = score_videos("i2v_subject", [item("x")] * 8, options=VbenchOptions(python=python.path))
    assert len(python.starts()) == 1
    assert set(reasons(results)) == {
        "the VBench worker ended with exit code 1: RuntimeError: Error(s) in loading state_dict"
    }
    assert all("reading weights" in result.log for result in results if isinstance(result, VideoFailure))


def test_nan_is_no_score(fake_python: Make, weights: Path, temporary: Path) -> None:
    python = fake_python("answer({name: [0.5, float('nan'), float('inf')][position(name)] for name in names})")
    results = score_videos("aesthetic_quality", [item("x")] * 3, options=VbenchOptions(python=python.path))
    assert reasons(results) == [
        None,
        "VBench's aesthetic_quality came out as nan, which is not a score",
        "VBench's aesthetic_quality came out as inf, which is not a score",
    ]


@pytest.mark.parametrize(
    ("dimension", "fewest"),
    [
        ("i2v_subject", 2),
        ("i2v_background", 2),
        ("motion_smoothness", 3),
        ("imaging_quality", 1),
        ("aesthetic_quality", 1),
    ],
)
def test_a_clip_that_is_too_short_is_told_so(
    fake_python: Make, weights: Path, temporary: Path, dimension: Dimension, fewest: int
) -> None:
    scale = 100 if dimension == "imaging_quality" else 1
    python = fake_python(f"answer({{name: {0.5 * scale} for name in names}})")
    items = [item("x", num_frames) for num_frames in (1, 2, 3)]
    results = score_videos(dimension, items, options=VbenchOptions(python=python.path))
    for num_frames, result in enumerate(results, start=1):
        if num_frames < fewest:
            expected = f"VBench's {dimension} needs {fewest} frames, the prediction has {num_frames}"
            assert result == VideoFailure(expected)
            assert too_short(dimension, num_frames) == expected
        else:
            assert result == 0.5
            assert too_short(dimension, num_frames) is None


def test_only_clips_that_are_too_short_start_no_worker(fake_python: Make, weights: Path, temporary: Path) -> None:
    python = fake_python(HALF)
    score_videos("motion_smoothness", [item("x", 1)], options=VbenchOptions(python=python.path))
    assert python.starts() == []


@pytest.mark.parametrize("error", [SceneError("scene 7: its files changed"), FileNotFoundError("rgb/00000.png")])
def test_a_video_that_cannot_be_read_costs_only_its_own_score(
    fake_python: Make, weights: Path, temporary: Path, error: Exception
) -> None:
    def broken() -> np.ndarray:
        raise error

    good = item("good")
    items = [good, VideoItem("no frames", broken, good.reference), VideoItem("no image", good.frames, broken), good]
    results = score_videos("i2v_subject", items, options=VbenchOptions(python=fake_python(HALF).path))
    assert reasons(results) == [
        None,
        f"no frames cannot be written for VBench: {error}",
        f"no image cannot be written for VBench: {error}",
        None,
    ]


class TestSearch:
    """The search for videos that make a worker fail, on a worker that is a function."""

    @staticmethod
    def scored(num_videos: int, bad: set[int], monkeypatch: pytest.MonkeyPatch, phase: str = "loaded") -> tuple:
        starts = []

        def run_job(dimension, videos: list[JobVideo], options, folder):
            starts.append(len(videos))
            values = [int(video.video.stem) for video in videos]
            if bad & set(values):
                return JobFailure("crashed", "log", phase)
            return [value / 100 for value in values]

        monkeypatch.setattr(vbench, "run_job", run_job)
        videos = {i: JobVideo(Path(f"{i:04d}.mp4"), Path("x.png")) for i in range(num_videos)}
        search = vbench._Search("i2v_subject", VbenchOptions(), Path("nowhere"))
        return search.scores(videos), starts

    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), num_videos=st.integers(1, 60))
    def test_every_good_video_gets_its_score(self, data: st.DataObject, num_videos: int) -> None:
        bad = data.draw(st.sets(st.integers(0, num_videos - 1), max_size=2))
        with pytest.MonkeyPatch.context() as monkeypatch:
            results, starts = self.scored(num_videos, bad, monkeypatch)
        assert results == {i: VideoFailure("crashed", "log") if i in bad else i / 100 for i in range(num_videos)}
        assert len(starts) <= 1 + 2 * len(bad) * math.ceil(math.log2(max(2, num_videos)))

    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), num_videos=st.integers(1, 200))
    def test_the_search_is_bounded_and_never_invents(self, data: st.DataObject, num_videos: int) -> None:
        bad = data.draw(st.sets(st.integers(0, num_videos - 1)))
        with pytest.MonkeyPatch.context() as monkeypatch:
            results, starts = self.scored(num_videos, bad, monkeypatch)
        assert len(starts) <= MOST_JOBS_PER_BATCH
        assert sorted(results) == list(range(num_videos))
        for i, result in results.items():
            assert isinstance(result, VideoFailure) or (i not in bad and result == i / 100)

    def test_where_every_video_fails_the_reason_says_that_the_search_stopped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        results, starts = self.scored(200, set(range(200)), monkeypatch)
        assert len(starts) <= MOST_JOBS_PER_BATCH
        assert "crashed; not narrowed down further after" in results[0].reason

    @pytest.mark.parametrize("phase", ["started", "imported"])
    def test_no_search_before_the_model_is_loaded(self, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
        _, starts = self.scored(8, {3}, monkeypatch, phase)
        assert starts == [8]


class TestUnavailable:
    def test_not_here(self, fake_python: Make, weights: Path) -> None:
        python = fake_python("")
        path = python.path
        path.write_text(path.read_text().replace("{name: [] for", "{name: ['decord'] for"))
        reason = unavailable("i2v_subject", VbenchOptions(python=path))
        assert reason == (
            f"VBench is not installed for {path} (no module decord): "
            "run pip install --no-deps -r requirements-vbench.txt"
        )

    def test_weights_missing_are_named_with_the_command_that_fetches_them(
        self, fake_python: Make, weights: Path
    ) -> None:
        options = VbenchOptions(python=fake_python(HALF).path)
        assert unavailable("aesthetic_quality", options) is None
        clip = weights / "vbench" / "clip_model" / "ViT-L-14.pt"
        clip.unlink()
        reason = unavailable("aesthetic_quality", options)
        assert reason == f"weights missing ({clip}): run gen3r-bench weights fetch vbench-clip"
        assert unavailable("imaging_quality", options) is None

    @pytest.mark.parametrize(
        ("dimension", "name"), [("imaging_quality", "vbench-musiq"), ("aesthetic_quality", "vbench-clip")]
    )
    def test_a_file_that_is_not_the_published_one_gives_no_score(
        self, fake_python: Make, weights: Path, dimension: Dimension, name: str
    ) -> None:
        python = fake_python(HALF)
        options = VbenchOptions(python=python.path)
        file = next(file for file in files_of(dimension) if file.name == name)
        file.path.write_bytes(b"<html>moved</html>")
        digest = hashlib.sha256(b"<html>moved</html>").hexdigest()
        reason = unavailable(dimension, options)
        assert reason == (
            f"{file.path.name} is not the published file, run gen3r-bench weights fetch {name}: its sha256 begins with "
            f"{digest[: len(file.sha256 or '')]}, not with {file.sha256}"
        )
        with pytest.raises(InputError, match="is not the published file"):
            score_videos(dimension, [item("x")], options=options)
        assert python.starts() == []
        file.path.with_name(file.path.name + RANDOM_SUFFIX).touch()
        assert unavailable(dimension, options) is None

    def test_nothing_starts_without_the_weights(self, fake_python: Make, weights: Path) -> None:
        python = fake_python(HALF)
        (weights / "vbench" / "amt_model" / "amt-s.pth").unlink()
        with pytest.raises(InputError, match=r"cannot be computed here: weights missing .*vbench-amt"):
            score_videos("motion_smoothness", [item("x")], options=VbenchOptions(python=python.path))
        assert python.starts() == []

    def test_an_interpreter_that_is_none(self, tmp_path: Path, weights: Path) -> None:
        reason = unavailable("i2v_subject", VbenchOptions(python=tmp_path / "nowhere"))
        assert reason is not None
        assert "nowhere" in reason

    def test_the_module_that_writes_films(
        self, fake_python: Make, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vbench, "find_spec", lambda name: None)
        reason = unavailable("i2v_subject", VbenchOptions(python=fake_python(HALF).path))
        assert reason is not None
        assert "PyAV" in reason


class TestProvenance:
    def test_facts(self, fake_python: Make, weights: Path) -> None:
        path = weights / "vbench" / "hub" / "checkpoints" / "dino_vitbase16_pretrain.pth"
        path.write_bytes(b"weights")
        facts = provenance("i2v_subject", VbenchOptions(python=fake_python(HALF).path, device="cuda:1"))
        assert facts["vbench"] == "0.1.5"
        assert facts["device"] == "cuda"
        assert facts["reference_image"] == "first conditioning frame"
        assert facts["encoding"].startswith("lossless")
        assert facts["antialias"] == "torchvision >=0.17"
        assert facts["sha256 dino_vitbase16_pretrain.pth"] == hashlib.sha256(b"weights").hexdigest()
        assert "weights" not in facts

    def test_random_weights_are_stamped(self, fake_python: Make, weights: Path) -> None:
        options = VbenchOptions(python=fake_python(HALF).path)
        path = weights / "vbench" / "amt_model" / "amt-s.pth"
        path.with_name(path.name + RANDOM_SUFFIX).touch()
        assert provenance("motion_smoothness", options)["weights"] == "random-weights"
        assert "weights" not in provenance("imaging_quality", options)

    @pytest.mark.parametrize(("device", "precision"), [("cpu", "float32"), ("cuda", "float16")])
    def test_clip_runs_in_another_precision_on_a_gpu(
        self, fake_python: Make, weights: Path, device: str, precision: str
    ) -> None:
        facts = provenance("aesthetic_quality", VbenchOptions(python=fake_python(HALF).path, device=device))
        assert facts["clip_precision"] == precision
        assert "reference_image" not in facts
        assert "antialias" not in facts

    def test_a_file_is_hashed_anew_only_where_it_changed(
        self, fake_python: Make, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = VbenchOptions(python=fake_python(HALF).path)
        path = weights / "vbench" / "amt_model" / "amt-s.pth"
        path.write_bytes(b"one")
        first = provenance("motion_smoothness", options)
        hashed = []
        digest = hashlib.file_digest
        monkeypatch.setattr(hashlib, "file_digest", lambda *arguments: hashed.append(1) or digest(*arguments))
        assert provenance("motion_smoothness", options) == first
        assert hashed == []
        path.write_bytes(b"another")
        assert provenance("motion_smoothness", options)["sha256 amt-s.pth"] == hashlib.sha256(b"another").hexdigest()
        assert hashed == [1]

    @pytest.mark.parametrize(
        ("version", "expected"),
        [
            ("0.15.2", "torchvision <0.17"),
            ("0.16.2+cu118", "torchvision <0.17"),
            ("0.17.0", "torchvision >=0.17"),
            ("0.28.0+cpu", "torchvision >=0.17"),
            ("1.0", "torchvision >=0.17"),
            ("", "unknown"),
        ],
    )
    def test_antialias_class(self, version: str, expected: str) -> None:
        assert antialias_class(version) == expected
