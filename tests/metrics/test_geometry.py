"""The whole scoring: against the recipe written out naively, its options, its invariances and its refusals."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import AlignmentError, GeometryScore, prepare_ground_truth, score_points
from gen3r_bench.metrics.alignment import Similarity, align_points
from gen3r_bench.metrics.geometry import ACCURACY, CHAMFER, COMPLETENESS, RELATIVE_PERCENT

FRAMES, HEIGHT, WIDTH = 4, 20, 24
OPTIONS = {"voxel_size": 0.05, "num_points": 120}


def clip(noise: float = 0.02, seed: int = 0, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and true points of a wavy wall, the prediction in another similarity frame, and a mask."""
    rng = np.random.default_rng(seed)
    frame, y, x = np.meshgrid(np.arange(frames), np.linspace(0, 1, HEIGHT), np.linspace(0, 1.2, WIDTH), indexing="ij")
    wall = 2 + 0.2 * np.sin(4 * x + frame) + 0.1 * np.cos(6 * y)
    truth = np.stack([x + 0.05 * frame, y, wall], axis=-1)
    away = Similarity(0.4, np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([1.0, 2, 3]))
    pred = away.apply(truth + rng.normal(0, noise, truth.shape))
    mask = rng.random(truth.shape[:3]) < 0.9
    return pred.astype(np.float32), truth.astype(np.float32), mask


def naive_cloud(points: np.ndarray, voxel_size: float | None, k: int) -> np.ndarray:
    """Voxel means in order of first appearance, then farthest points by measuring everything."""
    if voxel_size is not None:
        origin = points.min(axis=0) - voxel_size / 2
        cells: dict[tuple[int, ...], list[np.ndarray]] = {}
        for point in points:
            cells.setdefault(tuple(np.floor((point - origin) / voxel_size).astype(int)), []).append(point)
        points = np.array([np.mean(members, axis=0) for members in cells.values()])
    points = points.astype(np.float32)
    chosen, distance = [0], np.full(len(points), np.inf, dtype=np.float32)
    while len(chosen) < min(k, len(points)):
        off = points - points[chosen[-1]]
        distance = np.minimum(distance, off[:, 0] * off[:, 0] + off[:, 1] * off[:, 1] + off[:, 2] * off[:, 2])
        chosen.append(int(distance.argmax()))
    return points[chosen].astype(np.float64)


def naive_scores(
    pred: np.ndarray, truth: np.ndarray, mask: np.ndarray, frames: list[int], voxel_size: float | None, k: int
) -> tuple[float, float, float, float]:
    """The recipe of the released code's masked branch, on finite points."""
    used = mask[frames]
    similarity = align_points(pred[used], truth[frames][used])
    sample_pred = naive_cloud(similarity.apply(pred[used]), voxel_size, k)
    sample_gt = naive_cloud(truth[mask].astype(np.float64), voxel_size, k)
    distances = cdist(sample_pred, sample_gt)
    accuracy, completeness = distances.min(axis=1).mean(), distances.min(axis=0).mean()
    diagonal = np.linalg.norm(sample_gt.max(axis=0) - sample_gt.min(axis=0))
    both = (accuracy + completeness) / 2
    return accuracy, completeness, both, 100 * both / diagonal


def numbers(score: GeometryScore) -> tuple[float, float, float, float]:
    return score.accuracy, score.completeness, score.chamfer, score.relative_percent


@pytest.fixture(params=["numba", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1" if request.param == "numpy" else "0")
    return str(request.param)


@pytest.mark.parametrize("voxel_size", [0.05, 0.11, None])
@pytest.mark.parametrize("frames", [None, [0], [0, 3], [2, 1]])
def test_equals_the_recipe_written_out(voxel_size: float | None, frames: list[int] | None, path: str) -> None:
    pred, truth, mask = clip()
    held = frames or list(range(FRAMES))
    score = score_points(pred[held], truth, mask, input_indices=frames, voxel_size=voxel_size, num_points=120)
    assert_allclose(numbers(score), naive_scores(pred[held], truth, mask, held, voxel_size, 120), rtol=1e-6)
    assert score.n_pixels == mask[held].sum()
    assert (score.pred_sampled, score.gt_sampled, score.capped) == (120, 120, False)
    assert score.residual == score.alignment.residual > 0


def test_compiled_and_numpy_scores_are_identical(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, truth, mask = clip()
    for start in ("first", "open3d", "middle"):
        both = []
        for off in ("0", "1"):
            monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", off)
            both.append(score_points(pred, truth, mask, start=start, **OPTIONS))
        assert_allclose(numbers(both[0]), numbers(both[1]), rtol=1e-9)
        assert np.array_equal(both[0].gt_sample, both[1].gt_sample)
        assert_allclose(both[0].pred_sample, both[1].pred_sample, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_any_real_type_and_layout(dtype: type, path: str) -> None:
    pred, truth, mask = clip()
    pred, truth = pred.astype(dtype), truth.astype(dtype)
    expected = naive_scores(pred.astype(np.float64), truth.astype(np.float64), mask, [0, 1, 2, 3], 0.05, 120)
    planar = np.moveaxis(np.ascontiguousarray(np.moveaxis(pred, -1, 0)), 0, -1)
    for given_pred in (pred, planar):
        given_pred.flags.writeable = False
        assert_allclose(numbers(score_points(given_pred, truth, mask, **OPTIONS)), expected, rtol=2e-6)


def test_read_only_memory_maps_are_read_in_place(tmp_path: Path) -> None:
    pred, truth, mask = clip()
    np.save(tmp_path / "pred.npy", pred)
    mapped = np.load(tmp_path / "pred.npy", mmap_mode="r")
    assert numbers(score_points(mapped, truth, mask, **OPTIONS)) == numbers(score_points(pred, truth, mask, **OPTIONS))


# Ends, invariances, monotony


def test_the_truth_itself_scores_zero(path: str) -> None:
    _, truth, mask = clip()
    score = score_points(truth, truth, mask, scale="none", **OPTIONS)
    assert score.chamfer < 1e-6
    assert score.residual < 1e-6


def test_another_start_gives_the_sampling_floor() -> None:
    _, truth, mask = clip()
    score = score_points(truth, truth, mask, pred_start="middle", **OPTIONS)
    assert 1e-3 < score.chamfer < 0.1
    assert score.residual < 1e-6
    both = score_points(truth, truth, mask, start="middle", **OPTIONS)
    assert both.chamfer < 1e-6


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_frame_of_the_prediction_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth, mask = clip(seed=seed)
    once = score_points(pred.astype(np.float64), truth, mask, voxel_size=None, num_points=120)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = Similarity(float(np.exp(rng.uniform(-2, 2))), turn, rng.uniform(-5, 5, 3)).apply(pred)
    again = score_points(moved, truth, mask, voxel_size=None, num_points=120)
    # float32 rounding may swap samples of nearly equal distance, hence not to the last digit
    assert_allclose(numbers(again), numbers(once), rtol=0.02)
    assert_allclose(again.residual, once.residual, rtol=1e-7)


def test_noise_makes_scores_worse() -> None:
    scores = [score_points(*clip(noise), **OPTIONS) for noise in (0.0, 0.05, 0.1, 0.2, 0.4)]
    for name in ("accuracy", "completeness", "chamfer", "relative_percent", "residual"):
        values = [getattr(score, name) for score in scores]
        assert values == sorted(values), name


def test_the_scale_rule_is_passed_on() -> None:
    pred, truth, mask = clip(noise=0.2)
    fits = {
        rule: score_points(pred, truth, mask, scale=rule, **OPTIONS) for rule in ("variance-ratio", "umeyama", "none")
    }
    assert fits["none"].alignment.scale == 1.0
    assert fits["variance-ratio"].alignment.scale > fits["umeyama"].alignment.scale
    expected = align_points(pred[mask], truth[mask], scale="umeyama")
    assert_allclose(fits["umeyama"].alignment.scale, expected.scale, rtol=1e-12)


def test_given_views_are_accurate_but_not_complete() -> None:
    _, truth, mask = clip(noise=0.0)
    truth = truth + np.array([0.5, 0, 0], dtype=np.float32) * np.arange(FRAMES)[:, None, None, None]  # frames move on
    score = score_points(truth[:1], truth, mask, input_indices=[0], **OPTIONS)
    assert score.completeness > 5 * score.accuracy


# Pixels that do not count


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_predicted_pixels_are_dropped_and_counted(bad: float, path: str) -> None:
    pred, truth, mask = clip()
    pred, holes = pred.copy(), np.zeros_like(mask)
    holes[1, 3:9, 4:11] = True
    pred[holes, 1] = bad
    score = score_points(pred, truth, mask, **OPTIONS)
    assert score.n_dropped == (holes & mask).sum()
    assert score.n_pixels == (mask & ~holes).sum()
    similarity = align_points(pred[mask & ~holes], truth[mask & ~holes])
    sample_pred = naive_cloud(similarity.apply(pred[mask & ~holes]), 0.05, 120)
    sample_gt = naive_cloud(truth[mask].astype(np.float64), 0.05, 120)  # the truth keeps the pixels
    assert_allclose(score.accuracy, cdist(sample_pred, sample_gt).min(axis=1).mean(), rtol=1e-6)
    assert_allclose(score.completeness, cdist(sample_pred, sample_gt).min(axis=0).mean(), rtol=1e-6)


def test_non_finite_true_pixels_are_dropped_from_both_sides(path: str) -> None:
    pred, truth, mask = clip()
    holed, smaller = truth.copy(), mask.copy()
    holed[0, :4] = np.nan
    smaller[0, :4] = False
    score, expected = (score_points(pred, t, m, **OPTIONS) for t, m in ((holed, mask), (truth, smaller)))
    assert numbers(score) == numbers(expected)
    assert score.n_dropped == mask[0, :4].sum()
    assert prepare_ground_truth(holed, mask, **OPTIONS).n_dropped == mask[0, :4].sum()


def test_pixels_outside_the_mask_count_only_where_asked() -> None:
    pred, truth, mask = clip()
    mask[:, :3] = False
    floaters = pred.copy()
    floaters[:, :3] += 5
    once, again = (score_points(points, truth, mask, **OPTIONS) for points in (pred, floaters))
    assert numbers(once) == numbers(again)
    unmasked = score_points(floaters, truth, mask, masked_prediction=False, **OPTIONS)
    assert unmasked.accuracy > 10 * once.accuracy
    assert unmasked.alignment.scale == once.alignment.scale
    assert unmasked.n_pixels == once.n_pixels
    floaters[:, :3] = np.nan
    holes = score_points(floaters, truth, mask, masked_prediction=False, **OPTIONS)
    assert holes.accuracy < 2 * once.accuracy


def test_fewer_voxels_than_samples_are_taken_whole_and_flagged(path: str) -> None:
    pred, truth, mask = clip()
    score = score_points(pred, truth, mask, voxel_size=0.3, num_points=5000)
    assert score.capped
    assert score.pred_sampled == score.pred_voxels == len(score.pred_sample) < 5000
    assert score.gt_sampled == score.gt_voxels == len(score.gt_sample) < 5000
    assert_allclose(numbers(score), naive_scores(pred, truth, mask, [0, 1, 2, 3], 0.3, 5000), rtol=1e-6)


def test_three_pixels_are_enough() -> None:
    pred, truth, mask = clip()
    mask[:] = False
    mask[0, 0, 0] = mask[0, 5, 9] = mask[1, 12, 3] = True
    score = score_points(pred, truth, mask)
    assert score.pred_sampled == score.gt_sampled == 3
    assert score.capped
    assert np.isfinite(numbers(score)).all()


# The shared ground truth


def test_a_prepared_ground_truth_changes_nothing() -> None:
    pred, truth, mask = clip()
    cloud = prepare_ground_truth(truth, mask, **OPTIONS)
    once, again = (
        score_points(pred, truth, mask, **OPTIONS),
        score_points(pred, truth, mask, ground_truth=cloud, **OPTIONS),
    )
    assert numbers(once) == numbers(again)
    assert again.gt_sample is cloud.sample
    assert (cloud.voxels, cloud.n_points, cloud.n_dropped) == (once.gt_voxels, mask.sum(), 0)
    assert_allclose(cloud.diagonal, np.linalg.norm(np.ptp(cloud.sample.astype(np.float64), axis=0)))
    subset = score_points(pred[:2], truth, mask, input_indices=[0, 1], ground_truth=cloud, **OPTIONS)
    assert subset.gt_sample is cloud.sample


def test_a_ground_truth_made_otherwise_is_refused() -> None:
    pred, truth, mask = clip()
    cloud = prepare_ground_truth(truth, mask, **OPTIONS)
    for other in ({"voxel_size": 0.06}, {"num_points": 121}, {"start": "middle"}, {"backend": "released"}):
        with pytest.raises(InputError, match="made with voxel_size, num_points, start, backend"):
            score_points(pred, truth, mask, ground_truth=cloud, **{**OPTIONS, **other})


def test_scores_and_clouds_cannot_be_changed() -> None:
    score = score_points(*clip(), **OPTIONS)
    with pytest.raises(FrozenInstanceError):
        score.chamfer = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        score.gt_sample[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        score.pred_sample[0] = 0


def test_threads_may_share_a_ground_truth() -> None:
    clips = [clip(seed=seed) for seed in range(6)]
    _, truth, mask = clips[0]
    cloud = prepare_ground_truth(truth, mask, **OPTIONS)

    def run(pred: np.ndarray) -> tuple[float, ...]:
        return numbers(score_points(pred, truth, mask, ground_truth=cloud, **OPTIONS))

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, [pred for pred, _, _ in clips])) == [run(pred) for pred, _, _ in clips]


# Refusals


def test_bad_input_says_what_is_legal() -> None:
    pred, truth, mask = clip()
    cases: list[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, object]]] = [
        ("an empty mask; expected at least one pixel", (pred, truth, np.zeros_like(mask)), {}),
        ("no true point under the mask is finite", (pred, np.full_like(truth, np.nan), mask), {}),
        (r"pred_points of shape \[4, 20, 23, 3\]; expected shape \[4, 20, 24, 3\]", (pred[:, :, 1:], truth, mask), {}),
        (r"pred_points of shape \[3, 20, 24, 3\].*input_indices", (pred[1:], truth, mask), {}),
        (r"pred_points of shape \[4, 20, 24\]", (pred[..., 0], truth, mask), {}),
        (r"gt_points of shape \[480, 3\]", (pred, truth[0].reshape(-1, 3), mask), {}),
        (r"mask of shape \[4, 20, 23\]", (pred, truth, mask[:, :, 1:]), {}),
        ("mask has type uint8; expected bool", (pred, truth, mask.astype(np.uint8)), {}),
        ("pred_points has type complex64", (pred.astype(np.complex64), truth, mask), {}),
        (
            r"input_indices \[0, 4\]; expected different indices from 0 to 3",
            (pred[:2], truth, mask),
            {"input_indices": [0, 4]},
        ),
        (r"input_indices \[1, 1\]", (pred[:2], truth, mask), {"input_indices": [1, 1]}),
        (r"input_indices \[-1\]", (pred[:1], truth, mask), {"input_indices": [-1]}),
        (r"input_indices \[\]", (pred[:0], truth, mask), {"input_indices": []}),
        (r"input_indices \[0.5\]", (pred[:1], truth, mask), {"input_indices": [0.5]}),
        ("num_points 0; expected at least 1", (pred, truth, mask), {"num_points": 0}),
        ("voxel size 0", (pred, truth, mask), {"voxel_size": 0.0}),
        ("fill a single voxel of 1000", (pred, truth, mask), {"voxel_size": 1000.0}),
        ("fewer than 2097152 voxels", (pred, truth, mask), {"voxel_size": 1e-9}),
        ("start 'last'; expected 'first' or 'open3d' or 'middle'", (pred, truth, mask), {"start": "last"}),
        ("start 'last'", (pred, truth, mask), {"pred_start": "last"}),
        ("start 'open3d' without voxels", (pred, truth, mask), {"start": "open3d", "voxel_size": None}),
        ("backend 'fast'; expected 'exact' or 'released'", (pred, truth, mask), {"backend": "fast"}),
        ("scale 'rms'; expected 'variance-ratio'", (pred, truth, mask), {"scale": "rms"}),
    ]
    for reason, arrays, options in cases:
        with pytest.raises(InputError, match=reason):
            score_points(*arrays, **{**OPTIONS, **options})  # type: ignore[arg-type]


def test_a_prediction_without_a_shape_is_an_alignment_error(path: str) -> None:
    pred, truth, mask = clip()
    for hopeless, reason in (
        (np.full_like(pred, np.nan), "0 usable point pairs .*not finite.*; a similarity needs at least 3"),
        (np.zeros_like(pred), "are the same point"),
        (pred * np.array([1, 0, 0], dtype=np.float32), "lie on one line"),
    ):
        with pytest.raises(AlignmentError, match=reason):
            score_points(hopeless, truth, mask, **OPTIONS)


def test_the_inputs_are_not_changed() -> None:
    arrays = clip()
    copies = [array.copy() for array in arrays]
    score_points(*arrays, **OPTIONS)
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, copies, strict=True))


# Metadata and start-up


def test_metrics_read_the_score() -> None:
    score = score_points(*clip(), **OPTIONS)
    for metric, value in zip((ACCURACY, COMPLETENESS, CHAMFER, RELATIVE_PERCENT), numbers(score), strict=True):
        assert metric.function is not None
        assert metric.function(score) == value
        assert metric.bounds[0] <= value <= metric.bounds[1]
        assert (metric.dialect, metric.kind, metric.higher_is_better) == ("fps20k", "points", False)
        assert metric.reference
    assert [m.unit for m in (ACCURACY, COMPLETENESS, CHAMFER, RELATIVE_PERCENT)] == [*["scene unit"] * 3, "%"]
    assert CHAMFER.key == "chamfer@fps20k"


def test_importing_the_metrics_does_not_import_numba(tmp_path: Path) -> None:
    code = (
        "import sys, gen3r_bench.metrics as m, gen3r_bench.metrics.geometry;"
        "m.score_points, m.chamfer, m.align_points;"
        "assert callable(m.chamfer) and callable(m.voxel_downsample);"
        "sys.exit(any(name in sys.modules for name in ('numba', 'torch', 'open3d')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_real_points_as_a_clip(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.load(shared_dir / "data" / "points_garden" / "test_garden.npz")["means3d"][:138_000]
    truth = points.reshape(4, 150, 230, 3)
    rng = np.random.default_rng(0)
    pred = (0.3 * truth + rng.normal(0, 0.003, truth.shape)).astype(np.float32)
    mask = np.ones(truth.shape[:3], dtype=bool)
    scores = []
    for off in ("0", "1"):
        monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", off)
        scores.append(score_points(pred, truth, mask, voxel_size=0.05, num_points=1000))
    assert_allclose(numbers(scores[0]), numbers(scores[1]), rtol=1e-9)
    assert_allclose(scores[0].alignment.scale, 1 / 0.3, rtol=1e-3)


@pytest.mark.parametrize("module", ["alignment", "chamfer_distance", "farthest_point", "voxel"])
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"gen3r_bench.metrics.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
