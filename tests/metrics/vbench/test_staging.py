"""Films without loss: what is written comes back bit for bit, or is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gen3r_bench.errors import BenchError
from gen3r_bench.metrics.vbench import staging

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.just(3))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=SIZES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_any_frames_come_back_bit_for_bit(tmp_path: Path, frames: np.ndarray) -> None:
    path = tmp_path / "film.mp4"
    staging.write_video(path, frames)
    np.testing.assert_array_equal(staging.read_video(path), frames)


def test_noise_at_a_size_that_no_coder_likes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 113, 97, 3), dtype=np.uint8)
    staging.write_video(tmp_path / "film.mp4", frames)
    np.testing.assert_array_equal(staging.read_video(tmp_path / "film.mp4"), frames)


def test_frames_that_do_not_lie_in_one_piece(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 20, 40, 3), dtype=np.uint8)[:, ::-1, ::2]
    staging.write_video(tmp_path / "film.mp4", frames)
    np.testing.assert_array_equal(staging.read_video(tmp_path / "film.mp4"), frames)


def test_a_coder_that_loses_one_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.full((3, 16, 16, 3), 128, np.uint8)
    changed = frames.copy()
    changed[1, 2, 3, 0] += 1
    monkeypatch.setattr(staging, "read_video", lambda path: changed)
    with pytest.raises(BenchError, match="lossless film of 3 frames came back changed"):
        staging.write_video(tmp_path / "film.mp4", frames)


def test_a_coder_that_drops_a_frame_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.full((3, 16, 16, 3), 128, np.uint8)
    monkeypatch.setattr(staging, "read_video", lambda path: frames[:2])
    with pytest.raises(BenchError, match="came back changed"):
        staging.write_video(tmp_path / "film.mp4", frames)


def test_the_reference_is_an_rgb_png(tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    staging.write_image(tmp_path / "image.png", image)
    with Image.open(tmp_path / "image.png") as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), image)
