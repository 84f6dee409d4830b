"""Similarity alignment: upstream's numbers, the textbook, invariances, and everything that has no answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gen3r_bench.errors import BenchError, InputError
from gen3r_bench.metrics.alignment import AlignmentError, Similarity, align_frames, align_points


def rotation_matrix(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def random_similarity(rng: np.random.Generator) -> Similarity:
    return Similarity(float(np.exp(rng.uniform(-3, 3))), rotation_matrix(rng), rng.uniform(-10, 10, 3))


def textbook_umeyama(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Umeyama 1991, equations 38 to 42, written out."""
    mean_x, mean_y = source.mean(axis=0), target.mean(axis=0)
    x, y = source - mean_x, target - mean_y
    u, d, vt = np.linalg.svd(y.T @ x / len(x))
    s = np.diag([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    r = u @ s @ vt
    c = np.trace(np.diag(d) @ s) / (x**2).sum(axis=1).mean()
    return c, r, mean_y - c * r @ mean_x


@pytest.fixture(params=["numba", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", "1" if request.param == "numpy" else "0")
    return str(request.param)


def golden_points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs that upstream_functions.json describes under `_inputs`."""

    def rx(a: float) -> np.ndarray:
        return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])

    def rz(a: float) -> np.ndarray:
        return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])

    f, y, x = np.meshgrid(np.arange(2), np.arange(6), np.arange(8), indexing="ij")
    gt = np.stack([0.2 * x + 0.1 * f, 0.15 * y, 2 + 0.1 * np.sin(x) + 0.05 * y], axis=-1)
    wave = np.stack([np.sin(5 * x), np.cos(3 * y), np.sin(2 * x + f)], axis=-1)
    pred = 0.5 * gt @ (rz(0.3) @ rx(0.2)).T + [0.3, -0.2, 1] + 0.03 * wave
    mask = np.ones(gt.shape[:3], dtype=bool)
    mask[0, 0, 0] = False
    return pred, gt, mask


# What the released Gen3R code (gen3r/utils/eval_utils.py, commit 1df25b6) gives for golden_points(), in float32
UPSTREAM = {
    "s_upstream": 2.0060768127441406,
    "s_textbook": 1.9841411563958944,
    "R": [
        [0.954153835773468, 0.2991701662540436, 0.00935448706150055],
        [-0.2940034866333008, 0.9308972358703613, 0.21677815914154053],
        [0.056145474314689636, -0.20958980917930603, 0.9761760234832764],
    ],
    "t": [-0.48487043380737305, 0.07356202602386475, -2.0752134323120117],
    "rmse_aligned": 0.07897557318210602,
}


def test_equals_the_released_code(path: str) -> None:
    pred, gt, mask = golden_points()
    fit = align_points(pred[mask], gt[mask])
    assert_allclose(fit.scale, UPSTREAM["s_upstream"], rtol=1e-6)
    assert_allclose(fit.rotation, UPSTREAM["R"], atol=1e-6)
    assert_allclose(fit.translation, UPSTREAM["t"], atol=2e-6)
    assert_allclose(fit.residual, UPSTREAM["rmse_aligned"], rtol=1e-5)
    assert_allclose(align_points(pred[mask], gt[mask], scale="umeyama").scale, UPSTREAM["s_textbook"], rtol=1e-9)


def test_the_numbers_above_are_those_of_the_golden_file(shared_dir: Path) -> None:
    golden = json.loads((shared_dir / "goldens" / "upstream_functions.json").read_text())
    assert golden["gen3r_umeyama"] == UPSTREAM


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_textbook(seed: int, path: str) -> None:
    rng = np.random.default_rng(seed)
    source = rng.standard_normal((200, 3)) * [3, 1, 0.5] + [5, -3, 100]
    target = random_similarity(rng).apply(source) + rng.normal(0, 0.2, (200, 3))
    scale, rotation, translation = textbook_umeyama(source, target)
    fit = align_points(source, target, scale="umeyama")
    assert_allclose(fit.scale, scale, rtol=1e-10)
    assert_allclose(fit.rotation, rotation, atol=1e-10)
    assert_allclose(fit.translation, translation, rtol=1e-9, atol=1e-8)
    ratio = align_points(source, target)
    assert_allclose(ratio.rotation, rotation, atol=1e-10)
    assert_allclose(ratio.scale, np.sqrt(target.var(axis=0).sum() / source.var(axis=0).sum()), rtol=1e-10)
    assert align_points(source, target, scale="none").scale == 1.0
    assert fit.residual <= ratio.residual * (1 + 1e-12)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 60), rule=st.sampled_from(["variance-ratio", "umeyama"]))
@settings(max_examples=60, deadline=None)
def test_recovers_an_exact_similarity(seed: int, n: int, rule: str) -> None:
    rng = np.random.default_rng(seed)
    source = rng.standard_normal((n, 3))
    truth = random_similarity(rng)
    fit = align_points(source, truth.apply(source), scale=rule)
    assert_allclose(fit.scale, truth.scale, rtol=1e-9)
    assert_allclose(fit.rotation, truth.rotation, atol=1e-8)
    assert_allclose(fit.translation, truth.translation, atol=1e-7)
    assert fit.residual < 1e-9 * truth.scale + 1e-12


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_aligned_points_do_not_depend_on_the_frame_of_the_source_or_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    target += 2 * source
    once = align_points(source, target)
    moved = random_similarity(rng).apply(source)
    again = align_points(moved, target)
    assert_allclose(again.apply(moved), once.apply(source), atol=1e-8)
    assert_allclose(again.residual, once.residual, rtol=1e-8)
    order = rng.permutation(50)
    shuffled = align_points(source[order], target[order])
    assert_allclose(shuffled.rotation, once.rotation, atol=1e-10)
    assert_allclose(shuffled.scale, once.scale, rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_inverse_undoes_apply(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forward = random_similarity(rng)
    points = rng.uniform(-5, 5, (2, 7, 3))
    assert_allclose(forward.inverse().apply(forward.apply(points)), points, atol=1e-10)
    assert_allclose(forward.inverse().inverse().matrix, forward.matrix, atol=1e-9)


def test_the_inverse_carries_the_residual_in_the_other_unit() -> None:
    rng = np.random.default_rng(0)
    source = rng.standard_normal((100, 3))
    fit = align_points(source, 4 * source + rng.normal(0, 0.1, source.shape))
    assert_allclose(fit.inverse().residual, fit.residual / fit.scale)


def test_residual_is_the_rms_distance(path: str) -> None:
    rng = np.random.default_rng(1)
    source, target = rng.standard_normal((2, 40, 3))
    fit = align_points(source, target)
    assert_allclose(fit.residual, np.sqrt(((fit.apply(source) - target) ** 2).sum(axis=1).mean()), rtol=1e-12)


def test_residual_grows_with_noise() -> None:
    rng = np.random.default_rng(2)
    source, noise = rng.standard_normal((2, 500, 3))
    residuals = [align_points(source + size * noise, source).residual for size in (0, 0.01, 0.03, 0.1, 0.3)]
    assert residuals == sorted(residuals)
    assert residuals[0] < 1e-12


def test_a_mirrored_cloud_gets_a_proper_rotation(path: str) -> None:
    source = np.random.default_rng(3).standard_normal((100, 3)) * [3, 2, 1]
    for rule in ("variance-ratio", "umeyama", "none"):
        fit = align_points(source, 2 * source * [1, 1, -1], scale=rule)
        assert_allclose(np.linalg.det(fit.rotation), 1.0)
        assert fit.scale > 0
        assert fit.residual > 0.5
    assert_allclose(align_points(source, 2 * source * [1, 1, -1]).scale, 2.0, rtol=1e-12)


def test_a_planar_cloud_is_enough(path: str) -> None:
    rng = np.random.default_rng(4)
    source = rng.standard_normal((50, 3)) * [1, 1, 0]
    truth = random_similarity(rng)
    fit = align_points(source, truth.apply(source))
    assert_allclose(fit.rotation, truth.rotation, atol=1e-9)


def test_three_points_are_enough() -> None:
    truth = random_similarity(np.random.default_rng(5))
    source = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert_allclose(align_points(source, truth.apply(source)).matrix, truth.matrix, atol=1e-9)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), "0 usable point pairs"),
        (np.eye(3)[:2], np.eye(3)[:2], "2 usable point pairs; a similarity needs at least 3"),
        (np.ones((9, 3)), np.random.default_rng(0).random((9, 3)), "all 9 source points are the same"),
        (np.random.default_rng(0).random((9, 3)), np.full((9, 3), 0.1), "all 9 target points are the same"),
        (np.arange(9.0)[:, None] * [1, 2, 3], np.random.default_rng(0).random((9, 3)), "lie on one line"),
        (np.arange(9.0)[:, None] * [1, 2, 3], np.arange(9.0)[:, None] * [0, 2, 0], "lie on one line"),
        (np.full((9, 3), np.nan), np.ones((9, 3)), "9 of 9 point pairs are not finite"),
        (np.vstack([np.eye(3), [[0, 0, np.inf]]]), np.ones((4, 3)), "1 of 4 point pairs are not finite"),
        (1e300 * np.random.default_rng(0).random((9, 3)), np.random.default_rng(0).random((9, 3)), "too large"),
    ],
)
@pytest.mark.parametrize("rule", ["variance-ratio", "umeyama", "none"])
def test_no_similarity_is_an_error_with_its_reason(
    source: np.ndarray, target: np.ndarray, reason: str, rule: str, path: str
) -> None:
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(AlignmentError, match=reason):
        align_points(source, target, scale=rule)
    assert issubclass(AlignmentError, BenchError)


def test_a_nearly_collinear_cloud_is_refused_and_a_thin_one_is_not() -> None:
    rng = np.random.default_rng(6)
    along, across = rng.standard_normal((2, 100, 1))
    thin = along * [1.0, 0, 0] + 1e-2 * across * [0, 1.0, 0]
    align_points(thin, thin)
    with pytest.raises(AlignmentError, match="one line"):
        align_points(thin * [1, 1e-2, 1], thin * [1, 1e-2, 1])


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (np.zeros((4, 2)), np.zeros((4, 2)), r"source has shape \[4, 2\]; expected shape \[N, 3\]"),
        (np.zeros((4, 3)), np.zeros((5, 3)), "source of 4 and target of 5 points"),
        (np.zeros((4, 3), complex), np.zeros((4, 3)), "type complex128"),
    ],
)
def test_wrong_input_is_an_input_error(source: np.ndarray, target: np.ndarray, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        align_points(source, target)


def test_an_unknown_scale_rule_lists_the_legal_ones() -> None:
    with pytest.raises(InputError, match="'variance-ratio' or 'umeyama' or 'none'"):
        align_points(np.eye(3), np.eye(3), scale="rms")  # type: ignore[arg-type]


def test_the_input_is_not_changed_and_may_be_read_only_or_strided() -> None:
    rng = np.random.default_rng(7)
    wide = rng.random((30, 6)).astype(np.float32)
    source, target = wide[:, ::2], wide[:, 1::2]
    wide.flags.writeable = False
    assert_allclose(align_points(source, target).matrix, align_points(source.copy(), target.copy()).matrix)


def test_a_far_origin_costs_no_digits(path: str) -> None:
    rng = np.random.default_rng(8)
    source = rng.standard_normal((1000, 3))
    truth = random_similarity(rng)
    far = np.array([1e5, -1e5, 1e5])
    fit = align_points(source + far, truth.apply(source))
    assert_allclose(fit.matrix, truth.matrix, rtol=1e-8, atol=1e-9)


def test_frames_use_the_mask_of_their_target_and_drop_what_is_not_finite(path: str) -> None:
    rng = np.random.default_rng(9)
    target = rng.standard_normal((4, 20, 3)).astype(np.float32)
    frames = np.array([3, 1])
    truth = random_similarity(rng)
    source = truth.inverse().apply(target[frames])
    mask = rng.random((4, 20)) < 0.8
    mask[:, :2] = True
    source[0, 0, 1] = np.nan
    target[1, 1, 2] = np.inf
    fit = align_frames(source, target, frames, mask)
    expected = mask[frames]
    expected[0, 0] = expected[1, 1] = False
    assert np.array_equal(fit.used, expected)
    assert (fit.n_used, fit.n_dropped) == (expected.sum(), 2)
    assert_allclose(fit.similarity.matrix, truth.matrix, rtol=1e-5, atol=1e-6 * truth.scale)
    with pytest.raises(AlignmentError, match=r"2 of .* not finite"):
        align_frames(source, target, frames, mask, drop_non_finite=False)


def test_compiled_and_numpy_sums_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(10)
    source = rng.standard_normal((3, 500, 3)).astype(np.float32)
    target = (source + rng.normal(0, 0.1, source.shape)).astype(np.float32)
    mask = rng.random((3, 500)) < 0.9
    fits = []
    for off in ("0", "1"):
        monkeypatch.setenv("GEN3R_BENCH_NO_NUMBA", off)
        fits.append(align_frames(source, target, np.arange(3), mask).similarity)
    assert_allclose(fits[0].matrix, fits[1].matrix, atol=1e-13)
    assert_allclose(fits[0].translation, fits[1].translation, atol=1e-13)
    assert_allclose(fits[0].residual, fits[1].residual, rtol=1e-12)
