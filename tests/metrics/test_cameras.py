from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.cameras import (
    AUC5,
    AUC5_EXACT,
    AUC15,
    AUC15_EXACT,
    AUC30,
    AUC30_EXACT,
    ROTATION_ERROR,
    TRANSLATION_ERROR,
    RelativePoseErrors,
    drawn_frames,
    pooled_pose_errors,
    pose_auc,
    relative_pose_errors,
)

SEEDS = st.integers(0, 2**32 - 1)
METRICS = (AUC5, AUC15, AUC30, AUC5_EXACT, AUC15_EXACT, AUC30_EXACT, ROTATION_ERROR, TRANSLATION_ERROR)


def poses_of(rotation: Rotation, centres: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(centres), 1, 1))
    poses[:, :3, :3] = rotation.as_matrix()
    poses[:, :3, 3] = centres
    return poses


def random_poses(rng: np.random.Generator, frames: int) -> np.ndarray:
    return poses_of(Rotation.random(frames, rng=rng), rng.normal(size=(frames, 3)))


def nudged(poses: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    turn = Rotation.from_rotvec(size * rng.normal(size=(len(poses), 3)))
    return poses_of(
        Rotation.from_matrix(poses[:, :3, :3]) * turn, poses[:, :3, 3] + size * rng.normal(size=(len(poses), 3))
    )


def errors_of(rotation: list[float], translation: list[float] | None = None) -> RelativePoseErrors:
    pairs = np.stack([np.arange(len(rotation)), np.arange(len(rotation)) + 1], axis=1)
    return RelativePoseErrors(np.array(rotation), np.array(translation or [0.0] * len(rotation)), pairs)


def naive_errors(pred: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair by pair with general inverses and scipy's angles."""
    rotation, translation = [], []
    for i in range(len(gt)):
        for j in range(i + 1, len(gt)):
            a, b = np.linalg.inv(pred[i]) @ pred[j], np.linalg.inv(gt[i]) @ gt[j]
            between = Rotation.from_matrix(a[:3, :3]).inv() * Rotation.from_matrix(b[:3, :3])
            rotation.append(np.degrees(between.magnitude()))
            cosine = abs(a[:3, 3] @ b[:3, 3]) / np.linalg.norm(a[:3, 3]) / np.linalg.norm(b[:3, 3])
            translation.append(np.degrees(np.arccos(min(cosine, 1.0))))
    return np.array(rotation), np.array(translation)


GUARD = 1e-15
"""What VGGT adds to a length of motion, and the least 1 - cos² that it allows."""


def distances_of(poses: np.ndarray) -> np.ndarray:
    """Between the centres of all pairs of frames, in the order of their errors."""
    first, second = np.triu_indices(len(poses), k=1)
    return np.linalg.norm(poses[second, :3, 3] - poses[first, :3, 3], axis=1)


def guarded(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """How far 1 - cos² of each pair's directions may lie from its exact value.

    The guard shortens two directions, of centres d and e apart, by 1e-15 / d and 1e-15 / e, and cos² by twice the sum;
    the clip adds 1e-15; two norms, two divisions, three products, sums, a square and the two roots add 14 digits.
    """
    return GUARD * (1 + 2 / distances_of(pred) + 2 / distances_of(gt)) + 14 * np.finfo(np.float64).eps


def angle_bound_deg(gap: np.ndarray, one_deg: np.ndarray, other_deg: np.ndarray) -> np.ndarray:
    """How far two angles up to 90° lie apart whose sin² differ by ``gap``: sin² a - sin² b = sin(a + b) sin(a - b).

    And sin(a + b) is no smaller than the sine of their difference, so that is no larger than the root.
    """
    total = np.sin(np.radians(one_deg + other_deg))
    return np.degrees(np.arcsin(np.minimum(np.sqrt(gap), gap / np.maximum(total, GUARD))))


def rounded_centres_deg(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """How far each pair's two directions turn where every coordinate is off by 8 of its last digits."""
    digit = 8 * np.finfo(np.float64).eps
    turns = (digit * np.linalg.norm(poses[:, :3, 3], axis=1).max() / distances_of(poses) for poses in (pred, gt))
    return np.degrees(sum(turns))


# What VGGT's own evaluation/test_co3d.py (August 2025, the text of ypzhng/vggt 653aa10) gives for golden_trajectories()
UPSTREAM = {
    "auc": {30: 0.7511111111111111, 15: 0.5022222222222222, 5: 0.0711111111111111, 3: 0.007407407407407408},
    "mean_rotation": 6.291605136814221,
    "mean_translation": 5.50309885940238,
    "first_rotations": [5.48109206882847, 6.471602762716228, 6.986122628063305],
    "first_translations": [10.694405910190923, 6.22529196682219, 0.2700222229250538],
}
UPSTREAM_EQUAL_ROTATIONS = 3.6222548091772005e-06


def golden_trajectories() -> tuple[np.ndarray, np.ndarray]:
    """The trajectories that the golden file describes under ``_inputs``."""
    i = np.arange(10)
    about = Rotation.from_rotvec
    axis = np.eye(3)
    gt_rotation = about(np.outer(0.01 * i, axis[2])) * about(np.outer(0.05 * i, axis[1]))
    gt_centre = np.stack([0.3 * i, 0.05 * np.sin(i), 0.002 * i**2], axis=1)
    turn = about(np.outer(0.10 * np.sin(2 * i), axis[1])) * about(np.outer(0.06 * np.cos(i), axis[0]))
    centre = 1.7 * gt_centre + 0.06 * np.stack([np.sin(3 * i), np.cos(2 * i), np.sin(i)], axis=1)
    return poses_of(gt_rotation * turn, centre), poses_of(gt_rotation, gt_centre)


@pytest.mark.parametrize("world", ["as given", "moved"])
def test_matches_upstream_vggt(world: str) -> None:
    pred, gt = golden_trajectories()
    if world == "moved":
        move = np.eye(4)
        move[:3, :3] = (Rotation.from_rotvec([0.4, 0, 0]) * Rotation.from_rotvec([0, 0, 0.9])).as_matrix()
        move[:3, 3] = [1, 2, 3]
        pred = move @ pred
    errors = relative_pose_errors(pred, gt)
    for threshold, auc in UPSTREAM["auc"].items():
        assert pose_auc(errors, threshold=threshold) == pytest.approx(auc, abs=1e-12)
    assert errors.rotation_deg.mean() == pytest.approx(UPSTREAM["mean_rotation"], abs=1e-9)
    assert errors.translation_deg.mean() == pytest.approx(UPSTREAM["mean_translation"], abs=1e-9)
    np.testing.assert_allclose(errors.rotation_deg[:3], UPSTREAM["first_rotations"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(errors.translation_deg[:3], UPSTREAM["first_translations"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(errors.pairs[:3], [[0, 1], [0, 2], [0, 3]])


def test_copies_of_upstreams_numbers_are_true(shared_dir: Path) -> None:
    goldens = json.loads((shared_dir / "goldens" / "upstream_functions.json").read_text())
    vggt = goldens["vggt_auc"]["v2_current/pred"]
    assert {threshold: vggt[f"auc{threshold}"] for threshold in UPSTREAM["auc"]} == UPSTREAM["auc"]
    assert [vggt["mean_r_deg"], vggt["mean_t_deg"]] == [UPSTREAM["mean_rotation"], UPSTREAM["mean_translation"]]
    assert vggt["first_pairs_r"] == UPSTREAM["first_rotations"]
    assert vggt["first_pairs_t"] == UPSTREAM["first_translations"]
    assert goldens["vggt_identical_static"]["r_deg"] == [UPSTREAM_EQUAL_ROTATIONS] * 3
    assert goldens["vggt_auc_boundary"] == {"errors_deg": EDGES, "auc30": EDGES_AUC}


EDGES, EDGES_AUC = [0.0, 0.5, 1.0, 29.999, 30.0, 30.001], 0.5055555555555555


def test_matches_upstream_at_bin_edges() -> None:
    assert pose_auc(errors_of(EDGES)) == pytest.approx(EDGES_AUC, abs=1e-12)


def test_matches_upstream_without_motion() -> None:
    still = np.tile(np.eye(4), (3, 1, 1))
    errors = relative_pose_errors(still, still)
    np.testing.assert_allclose(errors.rotation_deg, UPSTREAM_EQUAL_ROTATIONS, rtol=0, atol=1e-9)
    np.testing.assert_allclose(errors.translation_deg, 90.0, rtol=0, atol=1e-9)
    assert errors.static_pairs == 3
    assert pose_auc(errors) == 0.0


@given(SEEDS, st.integers(2, 12))
def test_equals_naive_loop(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    pred, gt = random_poses(rng, frames), random_poses(rng, frames)
    errors = relative_pose_errors(pred, gt)
    rotation, translation = naive_errors(pred, gt)
    # an arc cosine near 0 or 180 degrees keeps half the digits, in upstream's formula as in the naive one
    np.testing.assert_allclose(errors.rotation_deg, rotation, rtol=0, atol=1e-5)
    bound = angle_bound_deg(2 * guarded(pred, gt), errors.translation_deg, translation)
    assert (np.abs(errors.translation_deg - translation) <= bound + rounded_centres_deg(pred, gt)).all()
    assert len(errors) == frames * (frames - 1) // 2
    assert errors.static_pairs == 0


@given(SEEDS, st.floats(1e-3, 1e3))
def test_worlds_and_scale_do_not_matter(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    gt = random_poses(rng, 6)
    pred = nudged(gt, rng, 0.05)
    moved = random_poses(rng, 1) @ pred
    moved[:, :3, 3] *= scale
    moved_gt = random_poses(rng, 1) @ gt
    plain, other = relative_pose_errors(pred, gt), relative_pose_errors(moved, moved_gt)
    np.testing.assert_allclose(other.rotation_deg, plain.rotation_deg, rtol=0, atol=1e-5)
    gap = guarded(pred, gt) + guarded(moved, moved_gt)
    bound = angle_bound_deg(gap, other.translation_deg, plain.translation_deg)
    bound += rounded_centres_deg(pred, gt) + rounded_centres_deg(moved, moved_gt)
    assert (np.abs(other.translation_deg - plain.translation_deg) <= bound).all()
    largest = max(1e-5, bound.max())
    assert pose_auc(other, dialect="exact") == pytest.approx(pose_auc(plain, dialect="exact"), abs=largest / 30)


@given(SEEDS)
def test_exchange_and_order_of_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gt = random_poses(rng, 5)
    pred = nudged(gt, rng, 0.3)
    errors = relative_pose_errors(pred, gt)
    exchanged = relative_pose_errors(gt, pred)
    np.testing.assert_array_equal(exchanged.rotation_deg, errors.rotation_deg)
    np.testing.assert_array_equal(exchanged.translation_deg, errors.translation_deg)
    # the angle between rotations has no first frame; the direction of motion is seen from the pair's first frame
    order = rng.permutation(5)
    shuffled = relative_pose_errors(pred[order], gt[order])
    np.testing.assert_allclose(np.sort(shuffled.rotation_deg), np.sort(errors.rotation_deg), atol=1e-5)


@given(SEEDS)
@example(4357)  # two centres 0.077 apart: 1.3e-5 degrees
def test_perfect_poses_score_one(seed: int) -> None:
    gt = random_poses(np.random.default_rng(seed), 4)
    errors = relative_pose_errors(gt, gt)
    np.testing.assert_allclose(errors.rotation_deg, UPSTREAM_EQUAL_ROTATIONS, rtol=0, atol=1e-9)
    bound = np.degrees(np.arcsin(np.sqrt(guarded(gt, gt).max())))  # of the two centres that are closest
    assert errors.translation_deg.max() <= bound
    assert AUC30.function is not None
    assert AUC30.function(errors) == 1.0
    assert pose_auc(errors, dialect="exact") == pytest.approx(1.0, abs=bound / 30)


def test_reversed_motion_is_no_error_and_a_right_angle_is_the_worst() -> None:
    gt = poses_of(Rotation.identity(3), np.outer(np.arange(3.0), [1, 0, 0]))
    back, across = gt.copy(), gt.copy()
    back[:, :3, 3] *= -1
    across[:, :3, 3] = np.outer(np.arange(3.0), [0, 1, 0])
    assert relative_pose_errors(back, gt).translation_deg.max() < 1e-5
    np.testing.assert_allclose(relative_pose_errors(across, gt).translation_deg, 90.0)


@pytest.mark.parametrize("degrees", [1e-3, 0.5, 29.0, 90.0, 179.9])
def test_known_rotation(degrees: float) -> None:
    gt = poses_of(Rotation.identity(2), np.array([[0.0, 0, 0], [1, 0, 0]]))
    pred = gt.copy()
    pred[1, :3, :3] = Rotation.from_rotvec([0, 0, degrees], degrees=True).as_matrix()
    assert relative_pose_errors(pred, gt).rotation_deg[0] == pytest.approx(degrees, abs=1e-6)


def test_half_turn() -> None:
    gt = poses_of(Rotation.identity(2), np.array([[0.0, 0, 0], [1, 0, 0]]))
    pred = gt.copy()
    pred[1, :3, :3] = np.diag([-1.0, -1.0, 1.0])
    assert relative_pose_errors(pred, gt).rotation_deg[0] == 180.0


def test_auc_falls_as_noise_grows() -> None:
    rng = np.random.default_rng(0)
    gt = random_poses(rng, 20)
    scores = [
        pose_auc(relative_pose_errors(nudged(gt, np.random.default_rng(1), size), gt))
        for size in (0, 0.02, 0.1, 0.3, 1)
    ]
    assert scores[0] == 1.0
    assert all(a > b for a, b in itertools.pairwise(scores))


def test_frozen_prediction_fails_every_pair() -> None:
    gt = random_poses(np.random.default_rng(0), 5)
    errors = relative_pose_errors(np.tile(gt[:1], (5, 1, 1)), gt)
    np.testing.assert_array_equal(errors.translation_deg, 90.0)
    assert errors.static_pairs == 0
    assert pose_auc(errors) == 0.0


def test_static_pairs_are_counted_on_the_truth() -> None:
    centres = np.array([[0.0, 0, 0], [0, 0, 0], [1e-9, 0, 0], [1, 0, 0]])
    gt = poses_of(Rotation.identity(4), centres)
    assert relative_pose_errors(random_poses(np.random.default_rng(0), 4), gt).static_pairs == 3


def test_distant_world_keeps_its_digits() -> None:
    rng = np.random.default_rng(0)
    gt = random_poses(rng, 6)
    pred = nudged(gt, rng, 0.02)
    far = gt.copy()
    far[:, :3, 3] += [4e5, -2e5, 1e5]  # a world in a national survey grid
    np.testing.assert_allclose(
        relative_pose_errors(pred, far).translation_deg, relative_pose_errors(pred, gt).translation_deg, atol=1e-6
    )


def test_real_trajectory(shared_dir: Path) -> None:
    """RGBD-SLAM against motion capture, TUM fr1/xyz: a good estimate whose errors are known to be near a degree."""

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        table = np.loadtxt(shared_dir / "data" / "tum_traj_fr1_xyz" / f"freiburg1_xyz-{name}.txt")
        return table[:, 0], poses_of(Rotation.from_quat(table[:, 4:8]), table[:, 1:4])

    time, pred = read("rgbdslam")
    true_time, gt = read("groundtruth")
    nearest = np.abs(true_time[None] - time[:, None]).argmin(axis=1)
    close = np.abs(true_time[nearest] - time) < 0.02
    errors = relative_pose_errors(pred[close][::16], gt[nearest][close][::16])
    assert len(errors) > 500
    assert np.median(errors.rotation_deg) < 2
    assert np.median(errors.translation_deg) < 5
    assert 0.6 < pose_auc(errors) < 1


@pytest.mark.parametrize("threshold", [1, 5, 30, 90])
def test_naive_area(threshold: int) -> None:
    rng = np.random.default_rng(3)
    errors = errors_of(list(rng.uniform(0, 60, 50)), list(rng.uniform(0, 60, 50)))
    counts, _ = np.histogram(errors.largest_deg, bins=np.arange(threshold + 1))
    assert pose_auc(errors, threshold=threshold) == pytest.approx(np.mean(np.cumsum(counts) / 50), abs=1e-12)
    middles = (np.arange(20000) + 0.5) * threshold / 20000
    recall = (errors.largest_deg[None] <= middles[:, None]).mean(axis=1)
    assert pose_auc(errors, threshold=threshold, dialect="exact") == pytest.approx(recall.mean(), abs=1e-4)


@given(st.lists(st.floats(0, 180), min_size=1, max_size=30), st.integers(1, 180))
def test_auc_bounds_and_dialects(degrees: list[float], threshold: int) -> None:
    errors = errors_of(degrees)
    binned, exact = pose_auc(errors, threshold=threshold), pose_auc(errors, threshold=threshold, dialect="exact")
    assert 0 <= exact <= binned + 1e-12
    assert binned <= min(1.0, exact + 1 / threshold + 1e-12)
    assert pose_auc(errors_of(degrees[::-1]), threshold=threshold) == binned


def test_largest_error_decides() -> None:
    assert pose_auc(errors_of([1.0, 50.0], [50.0, 1.0])) == 0.0
    assert pose_auc(errors_of([0.0, 0.0], [0.5, 12.0])) == (30 + 18) / 60


@pytest.mark.parametrize(
    ("threshold", "dialect", "words"),
    [
        (0, "hist1deg", "positive"),
        (-3, "exact", "positive"),
        (float("nan"), "exact", "positive"),
        (float("inf"), "exact", "positive"),
        (2.5, "hist1deg", "whole degrees"),
        (30, "hist", "'hist'; expected hist1deg or exact"),
    ],
)
def test_auc_refuses(threshold: float, dialect: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pose_auc(errors_of([1.0]), threshold=threshold, dialect=dialect)  # type: ignore[arg-type]


def test_exact_takes_a_fraction_of_a_degree() -> None:
    assert pose_auc(errors_of([0.25, 1.0]), threshold=0.5, dialect="exact") == 0.25


def changed(index: tuple, value: float) -> np.ndarray:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[index] = value
    return poses


GOOD = np.tile(np.eye(4), (3, 1, 1))


@pytest.mark.parametrize(
    ("pred", "gt", "words"),
    [
        (GOOD, GOOD[:2], "3 predicted poses for 2 true ones"),
        (GOOD[:1], GOOD[:1], "at least 2 frames"),
        (GOOD[:0], GOOD[:0], "at least 2 frames"),
        (GOOD[:, :3], GOOD, "pred_world_from_cam has shape"),
        (GOOD, GOOD[0], "gt_world_from_cam has shape"),
        (changed((1, 0, 3), np.nan), GOOD, "non-finite"),
        (GOOD, changed((1, 0, 3), np.inf), "gt_world_from_cam holds 1 non-finite"),
        (changed((2, 0, 0), 2.0), GOOD, "pred_world_from_cam: the rotation of frame 2"),
        (changed((2, 2, 2), -1.0), GOOD, "reflection"),
        (changed((1, 3, 0), 1.0), GOOD, "0 0 0 1"),
        (GOOD.astype(complex), GOOD, "real numbers"),
        (None, GOOD, "missing"),
    ],
)
def test_poses_refused(pred: np.ndarray, gt: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        relative_pose_errors(pred, gt)


@pytest.mark.parametrize(
    ("rotation", "translation", "pairs", "words"),
    [
        ([], [], np.zeros((0, 2)), "0 pairs"),
        ([1.0], [1.0, 2.0], [[0, 1]], "translation_deg has shape"),
        ([1.0], [1.0], [[0, 1], [0, 2]], "pairs has shape"),
        ([np.nan], [1.0], [[0, 1]], "non-finite"),
        ([-1.0], [1.0], [[0, 1]], "negative"),
    ],
)
def test_errors_refused(rotation: list, translation: list, pairs: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RelativePoseErrors(np.array(rotation), np.array(translation), np.array(pairs))


@settings(max_examples=30)
@given(SEEDS)
def test_metrics_stay_in_their_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = relative_pose_errors(random_poses(rng, 5), random_poses(rng, 5))
    for metric in METRICS:
        assert metric.function is not None
        value = metric.function(errors)
        assert isinstance(value, float)
        assert metric.bounds[0] <= value <= metric.bounds[1], metric.key


def test_inputs_are_not_modified() -> None:
    gt = random_poses(np.random.default_rng(0), 5)
    pred = gt.astype(np.float32)
    before = gt.copy(), pred.copy()
    errors = relative_pose_errors(pred, gt)
    np.testing.assert_array_equal(gt, before[0])
    np.testing.assert_array_equal(pred, before[1])
    assert gt.flags.writeable
    assert not errors.rotation_deg.flags.writeable
    assert errors.largest_deg.max() < 0.01


@given(SEEDS, st.lists(st.integers(2, 7), min_size=1, max_size=4))
@settings(max_examples=30)
def test_pooled_area_is_the_mean_of_clips_weighted_by_their_pairs(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    clips = []
    for frames in lengths:
        gt = random_poses(rng, frames)
        clips.append(relative_pose_errors(nudged(gt, rng, 0.2), gt))
    pooled = pooled_pose_errors(clips)
    assert len(pooled) == sum(len(clip) for clip in clips)
    for dialect in ("hist1deg", "exact"):
        own = [pose_auc(clip, dialect=dialect) for clip in clips]
        expected = np.average(own, weights=[len(clip) for clip in clips])
        assert pose_auc(pooled, dialect=dialect) == pytest.approx(expected, abs=1e-12)


def test_pooling_keeps_what_it_pools() -> None:
    one, other = errors_of([1.0, 2.0], [3.0, 4.0]), errors_of([5.0])
    pooled = pooled_pose_errors([one, other])
    assert pooled.rotation_deg.tolist() == [1, 2, 5]
    assert pooled.translation_deg.tolist() == [3, 4, 0]
    with pytest.raises(InputError, match="0 clips"):
        pooled_pose_errors([])


@given(st.integers(2, 60), st.integers(2, 20), SEEDS)
def test_drawn_frames_are_different_sorted_and_the_same_for_a_seed(num_frames: int, count: int, seed: int) -> None:
    drawn = drawn_frames(num_frames, count, seed)
    assert len(drawn) == min(num_frames, count)
    assert (np.diff(drawn) > 0).all()
    assert drawn[0] >= 0
    assert drawn[-1] < num_frames
    assert drawn.tolist() == drawn_frames(num_frames, count, seed).tolist()


def test_every_frame_is_drawn_sometimes() -> None:
    counts = np.zeros(12)
    for seed in range(400):
        counts[drawn_frames(12, 3, seed)] += 1
    assert counts.min() > 60  # 100 expected
    with pytest.raises(InputError, match="at least 2"):
        drawn_frames(5, 1, 0)
