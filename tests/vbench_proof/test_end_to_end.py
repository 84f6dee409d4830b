"""The five dimensions on random weights, in the published file formats, against VBench called by hand.

Needs VBench (``tox -e vbench``), some minutes, and 1.5 GB of disk that is given back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from vbench_proof.random_weights import WRITERS

from gen3r_bench.metrics.vbench import DIMENSIONS, VbenchOptions, VideoFailure, VideoItem, provenance, score_videos
from gen3r_bench.metrics.vbench.files import Dimension
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX

pytestmark = pytest.mark.skipif(find_spec("vbench") is None, reason="VBench is not installed: tox -e vbench")
HERE = Path(__file__).parent
OPTIONS = VbenchOptions(timeout_s=900.0)
AESTHETIC_HEAD = "vbench/aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"


def moving(num_frames: int, seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Coarse colour blocks that slide, and noise upon them: [n, H, W, 3] uint8."""
    random = np.random.default_rng(seed)
    height, width = size
    blocks = random.integers(0, 200, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(blocks, 3 * i, axis=1) for i in range(num_frames)])
    return (frames + random.integers(0, 50, frames.shape)).astype(np.uint8)


CLIPS = (moving(6, 1), moving(5, 2))


def shown(clip: np.ndarray) -> np.ndarray:
    """The reference image of a clip: not quite its first frame."""
    return clip[0] // 2 + clip[1] // 2


def items(clips: tuple[np.ndarray, ...]) -> list[VideoItem]:
    return [VideoItem(f"clip {i}", lambda c=clip: c, lambda c=clip: shown(c)) for i, clip in enumerate(clips)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights root with every file, random and marked as such; removed at the end, for it is large."""
    root = tmp_path_factory.mktemp("weights")
    subprocess.run([sys.executable, str(HERE / "random_weights.py"), str(root), *WRITERS], check=True)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(root))
    return root


def by_hand(dimension: Dimension, root: Path, clips: tuple[np.ndarray, ...], folder: Path) -> dict:
    """VBench's own answer, over films of another lossless coder than the suite's."""
    arguments: list[str] = []
    for number, clip in enumerate(clips):
        image, film = folder / f"{number}.png", folder / f"{number}.mp4"
        Image.fromarray(shown(clip)).save(image)
        with av.open(str(film), "w") as container:
            stream = container.add_stream("png", rate=8)
            stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "rgb24"
            for frame in clip:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        arguments += [str(image), str(film)]
    out = folder / "answer.json"
    command = [sys.executable, str(HERE / "direct.py"), str(root / "vbench"), dimension, str(out), *arguments]
    subprocess.run(command, check=True, cwd=folder)
    return json.loads(out.read_text())


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_scores_are_vbenchs_own_bit_for_bit(dimension: Dimension, weights: Path, tmp_path: Path) -> None:
    clips = tuple(clip[:3] for clip in CLIPS) if dimension.startswith("i2v_") else CLIPS  # networks of full size
    results = score_videos(dimension, items(clips), options=OPTIONS)
    assert not [result for result in results if isinstance(result, VideoFailure)]
    answer = by_hand(dimension, weights, clips, tmp_path)
    scale = 100 if dimension == "imaging_quality" else 1
    assert results == [value / scale for value in answer["videos"]]
    assert np.mean(results) == pytest.approx(answer["mean"], rel=1e-12)
    assert len(set(results)) == len(clips), "clips that differ have scores that differ"


def test_motion_smoothness_drops_the_last_frame_of_an_even_number(weights: Path) -> None:
    clip = moving(6, 3)
    even, odd, shorter = score_videos("motion_smoothness", items((clip, clip[:5], clip[:4])), options=OPTIONS)
    assert even == odd
    assert shorter != odd


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_score_is_stamped(dimension: Dimension, weights: Path) -> None:
    facts = provenance(dimension, OPTIONS)
    assert facts["weights"] == "random-weights"
    assert facts["vbench"] == version("vbench") == "0.1.5"
    assert facts["torchvision"] == version("torchvision")
    assert facts.get("antialias", "torchvision >=0.17") == "torchvision >=0.17"
    assert [name for name in facts if name.startswith("sha256 ")]


def test_nan_of_vbench_is_a_failure(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    weights = partial_copy(root, tmp_path, "clip_model", "aesthetic_model")
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(weights))
    head = torch.load(weights / AESTHETIC_HEAD, weights_only=True)
    torch.save({name: torch.full_like(value, float("nan")) for name, value in head.items()}, weights / AESTHETIC_HEAD)
    results = score_videos("aesthetic_quality", items(CLIPS), options=OPTIONS)
    expected = "VBench's aesthetic_quality came out as nan, which is not a score"
    assert [result.reason for result in results if isinstance(result, VideoFailure)] == [expected] * 2


def test_damaged_weights_are_a_failure_with_their_reason(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = partial_copy(root, tmp_path, "amt_model")
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(weights))
    (weights / "vbench/amt_model/amt-s.pth").write_bytes(b"<html>not found</html>")
    results = score_videos("motion_smoothness", items(CLIPS), options=OPTIONS)
    reasons = {result.reason for result in results if isinstance(result, VideoFailure)}
    assert len(results) == 2
    assert len(reasons) == 1
    assert reasons.pop().startswith("the VBench worker ended with exit code 1: ")


def partial_copy(root: Path, folder: Path, *names: str) -> Path:
    """A weights root with copies of some of the smaller files."""
    weights = folder / "weights"
    for name in names:
        shutil.copytree(root / "vbench" / name, weights / "vbench" / name)
    return weights


def test_no_table_shows_scores_of_random_weights(root: Path, tmp_path: Path) -> None:
    weights = partial_copy(root, tmp_path, "clip_model", "aesthetic_model", "amt_model")
    assert list(weights.rglob(f"*{RANDOM_SUFFIX}"))
    command = ("run", "-p", "free-1view", "--method", "freeze", "--no-diagnostics", "--limit", "1", "--out", "r")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("gen3r-bench")), *command],
        cwd=tmp_path,
        env={**os.environ, "GEN3R_BENCH_WEIGHTS": str(weights), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Predictions are kept below r" in done.stderr
    assert "random weights" in done.stdout
    record = json.loads((tmp_path / "r/records.jsonl").read_text().splitlines()[-1])
    assert set(record["scores"]) == {"motion_smoothness@vbench-0.1.5", "aesthetic_quality@vbench-0.1.5"}
    assert all("weights missing" in reason for reason in record["unsupported"].values())
    provenances = json.loads((tmp_path / "r/run.json").read_text())["provenances"]
    assert {facts["weights"] for facts in provenances.values()} == {"random-weights"}
    for score in record["scores"].values():
        assert f"{score:.4f}" not in done.stdout
