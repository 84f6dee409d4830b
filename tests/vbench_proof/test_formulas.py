"""What VBench makes of a network's numbers, on numbers made by hand: networks are functions that one can work out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gen3r_bench.metrics.vbench import staging
from gen3r_bench.metrics.vbench.worker import make_importable

pytestmark = [
    pytest.mark.skipif(find_spec("vbench") is None, reason="VBench is not installed: tox -e vbench"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    import cv2  # noqa: F401  before decord

    make_importable()


def flat(*levels: int) -> np.ndarray:
    """Frames of one grey each: whatever a resize and a crop do to them, they stay so."""
    return np.stack([np.full((64, 96, 3), level, np.uint8) for level in levels])


def film(folder: Path, name: str, frames: np.ndarray) -> str:
    staging.write_video(folder / f"{name}.mp4", frames)
    return str(folder / f"{name}.mp4")


def picture(folder: Path, name: str, image: np.ndarray) -> str:
    staging.write_image(folder / f"{name}.png", image)
    return str(folder / f"{name}.png")


def direction(images):
    """A feature that turns with the grey: the angle is the first pixel's level over 255, in radians."""
    import torch

    angle = images[0, 0, 0, 0].double()
    return torch.stack([torch.cos(angle), torch.sin(angle)])[None]


def dino_direction(images):
    return direction(images * 0.229 + 0.485)  # undoes the normalisation of the first channel


def i2v(reference: float, levels: list[float]) -> float:
    """0.4 of the best agreement with the image, 0.3 each of the mean and the least agreement of neighbours."""
    angles = np.asarray(levels) / 255
    to_image = np.maximum(0, np.cos(angles - reference / 255))
    neighbours = np.maximum(0, np.cos(np.diff(angles)))
    return 0.4 * to_image.max() + 0.3 * neighbours.mean() + 0.3 * neighbours.min()


def test_i2v_subject(tmp_path: Path) -> None:
    from vbench2_beta_i2v.i2v_subject import i2v_subject

    levels = [[10, 60, 255, 200], [5, 250]]
    pairs = [
        (picture(tmp_path, f"image{i}", flat(30)[0]), film(tmp_path, f"film{i}", flat(*some)))
        for i, some in enumerate(levels)
    ]
    mean, videos = i2v_subject(dino_direction, pairs, "cpu")
    expected = [i2v(30, some) for some in levels]
    assert [video["video_results"] for video in videos] == pytest.approx(expected, abs=1e-6)
    assert mean == pytest.approx(np.mean(expected), abs=1e-6)


def test_i2v_background(tmp_path: Path) -> None:
    from vbench2_beta_i2v.i2v_background import i2v_background

    class Model:
        embed = staticmethod(direction)

    pairs = [(picture(tmp_path, "image", flat(30)[0]), film(tmp_path, "film", flat(10, 60, 255, 200)))]
    mean, videos = i2v_background(Model(), pairs, "cpu")
    assert mean == videos[0]["video_results"] == pytest.approx(i2v(30, [10, 60, 255, 200]), abs=1e-6)


def test_imaging_quality_is_a_mean_over_frames_and_only_the_mean_over_videos_is_divided_by_100(tmp_path: Path) -> None:
    from vbench.imaging_quality import technical_quality

    films = [film(tmp_path, "a", flat(0, 51, 255)), film(tmp_path, "b", flat(102))]
    mean, videos = technical_quality(lambda frame: 100 * frame.mean(), films, "cpu")
    assert [video["video_results"] for video in videos] == pytest.approx([40.0, 40.0], abs=1e-4)
    assert mean == pytest.approx(0.4, abs=1e-6)


def test_aesthetic_quality_is_a_tenth_of_the_mean_over_frames(tmp_path: Path) -> None:
    import torch
    from vbench.aesthetic_quality import laion_aesthetic

    class Clip(torch.nn.Module):
        def encode_image(self, images):
            level = images[:, 0, 0, 0] * 0.26862954 + 0.48145466
            return torch.stack([level, torch.sqrt(1 - level**2)], dim=1)

    head = torch.nn.Linear(2, 1)
    head.weight.data, head.bias.data = torch.tensor([[10.0, 0.0]]), torch.tensor([1.0])
    films = [film(tmp_path, "a", flat(*[51] * 33, 255)), film(tmp_path, "b", flat(0))]
    mean, videos = laion_aesthetic(head, Clip(), films, "cpu")
    expected = [(33 * 0.3 + 1.1) / 34, 0.1]  # over two batches of the frames
    assert [video["video_results"] for video in videos] == pytest.approx(expected, abs=1e-5)
    assert mean == pytest.approx(np.mean(expected), abs=1e-5)


def test_motion_smoothness_compares_the_odd_frames_with_what_the_even_ones_predict(tmp_path: Path) -> None:
    import torch
    from vbench.motion_smoothness import FrameProcess, MotionSmoothness

    motion = MotionSmoothness.__new__(MotionSmoothness)
    motion.device, motion.niters = "cpu", 1
    motion.anchor_resolution, motion.anchor_memory, motion.anchor_memory_bias, motion.vram_avail = 8192**2, 1, 0, 1
    motion.embt, motion.fp = torch.tensor(0.5).view(1, 1, 1, 1), FrameProcess()
    motion.model = lambda before, after, at, **options: {"imgt_pred": (before + after) / 2}
    # 100 and 200 predict 150, which is 140; 200 and 101 predict 150.5, cut to 150, which is 170; frame 5 is dropped
    path = film(tmp_path, "film", flat(100, 140, 200, 170, 101, 9))
    assert motion.motion_score(path) == pytest.approx(1 - (10 + 20) / 2 / 255, abs=1e-9)
    assert motion.motion_score(film(tmp_path, "odd", flat(100, 140, 200, 170, 101))) == motion.motion_score(path)
    with pytest.raises(AssertionError, match="more than one"):
        motion.motion_score(film(tmp_path, "short", flat(100, 140)))
