from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import image
from gen3r_bench.metrics.image import (
    PSNR,
    SSIM,
    SSIM_SAMPLE,
    SSIM_TORCHMETRICS,
    pooled_psnr,
    psnr,
    squared_error,
    ssim,
)

SEEDS = st.integers(0, 2**32 - 1)
DIALECTS = ("skimage-gauss", "skimage-gauss-sample", "torchmetrics")


@pytest.fixture(params=["compiled", "numpy"])
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the compiled kernel and with its NumPy counterpart."""
    if request.param == "numpy":
        monkeypatch.setattr(image, "compiled", lambda module: None)
    return request.param


def noise(seed: int, shape: tuple[int, ...] = (2, 24, 31, 3), size: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gt = rng.random(shape)
    return np.clip(gt + rng.normal(0, size, shape), 0, 1), gt


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of scikit-image, each with a darker, shifted and noisy copy, uint8."""
    gt = np.stack([data.astronaut()[100:260, 120:320], data.coffee()[100:260, 120:320]])
    rough = np.roll(gt, 2, axis=2) * 0.9 + np.random.default_rng(0).normal(0, 6, gt.shape)
    return np.clip(rough, 0, 255).astype(np.uint8), gt


def skimage_ssim(pred: np.ndarray, gt: np.ndarray, *, sample: bool = False) -> list[float]:
    return [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=sample, channel_axis=2, data_range=1
        )
        for a, b in zip(pred, gt, strict=True)
    ]


def torchmetrics_ssim(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = (torch.tensor(clip).permute(0, 3, 1, 2) for clip in (pred, gt))
    return functional.structural_similarity_index_measure(a, b, data_range=1.0, reduction="none").numpy()


def test_psnr_equals_skimage() -> None:
    pred, gt = photographs()
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(pred, gt, strict=True)]
    np.testing.assert_allclose(psnr(pred, gt), expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("both_paths")
@pytest.mark.parametrize("dialect", ["skimage-gauss", "skimage-gauss-sample"])
def test_ssim_equals_skimage(dialect: image.SsimDialect) -> None:
    photos = tuple(clip / 255 for clip in photographs())
    for pred, gt in (photos, *(noise(0, shape) for shape in [(1, 11, 11, 3), (1, 11, 40, 3), (2, 37, 12, 3)])):
        expected = skimage_ssim(pred, gt, sample=dialect == "skimage-gauss-sample")
        np.testing.assert_allclose(ssim(pred, gt, dialect=dialect), expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("both_paths")
def test_ssim_equals_torchmetrics() -> None:
    pred, gt = photographs()
    ours = ssim(pred, gt, dialect="torchmetrics")
    np.testing.assert_allclose(ours, torchmetrics_ssim(pred / 255, gt / 255), rtol=0, atol=1e-9)
    single = torchmetrics_ssim((pred / 255).astype(np.float32), (gt / 255).astype(np.float32))
    # in single precision, as it is mostly called, torchmetrics itself is off by 1.1e-5 on the second picture
    np.testing.assert_allclose(ours, single, rtol=0, atol=2e-5)
    for seed, shape in enumerate([(1, 11, 11, 3), (1, 11, 40, 3), (2, 37, 12, 3)]):
        pred, gt = noise(seed, shape)
        np.testing.assert_allclose(
            ssim(pred, gt, dialect="torchmetrics"), torchmetrics_ssim(pred, gt), rtol=0, atol=1e-9
        )


def test_dialects_differ() -> None:
    pred, gt = photographs()
    scores = [ssim(pred, gt, dialect=dialect) for dialect in DIALECTS]
    for one, other in itertools.combinations(scores, 2):
        assert (np.abs(one - other) > 1e-5).all()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(11, 30), st.integers(11, 30), st.sampled_from(DIALECTS))
def test_compiled_equals_numpy(seed: int, height: int, width: int, dialect: image.SsimDialect) -> None:
    pred, gt = noise(seed, (1, height, width, 3))
    compiled = ssim(pred, gt, dialect=dialect)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "compiled", lambda module: None)
        np.testing.assert_allclose(ssim(pred, gt, dialect=dialect), compiled, rtol=0, atol=1e-12)


# What the evaluation code of LVSM (2fea924) and of DepthSplat (2dad25a) gives, in float32, for golden_images()
UPSTREAM = {"psnr": 29.509294509887695, "ssim": 0.9808923602104187}


def golden_images() -> tuple[np.ndarray, np.ndarray]:
    y, x, c = np.meshgrid(np.arange(48), np.arange(64), np.arange(3), indexing="ij")
    gt = 0.5 + 0.5 * np.sin(0.3 * x + 0.2 * y + c)
    return np.clip(gt + 0.05 * np.cos(0.5 * x - 0.1 * y + 2 * c), 0, 1)[None], gt[None]


def test_matches_lvsm_and_depthsplat() -> None:
    pred, gt = golden_images()
    assert psnr(pred, gt)[0] == pytest.approx(UPSTREAM["psnr"], abs=2e-5)
    assert ssim(pred, gt, dialect="skimage-gauss-sample")[0] == pytest.approx(UPSTREAM["ssim"], abs=1e-7)
    # the default dialect has population covariance, as the original paper: near on this picture, not equal
    assert 1e-6 < abs(ssim(pred, gt)[0] - UPSTREAM["ssim"]) < 1e-5


def test_copies_of_upstreams_numbers_are_true(shared_dir: Path) -> None:
    goldens = json.loads((shared_dir / "goldens" / "upstream_functions.json").read_text())
    assert goldens["image_metrics"] == {"lvsm": UPSTREAM, "depthsplat": UPSTREAM}


@pytest.mark.usefixtures("both_paths")
def test_identical_frames() -> None:
    pred, gt = photographs()
    pred[1] = gt[1]
    decibel = psnr(pred, gt)
    assert np.isfinite(decibel[0])
    assert decibel[1] == np.inf
    for dialect in DIALECTS:
        score = ssim(pred, gt, dialect=dialect)
        assert score[0] < 1
        assert score[1] == 1.0


@pytest.mark.usefixtures("both_paths")
def test_constant_frames() -> None:
    black, white = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    assert psnr(black, white)[0] == 0.0
    for dialect in DIALECTS:
        assert ssim(black, white, dialect=dialect)[0] == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-9)
        assert ssim(white, white, dialect=dialect)[0] == 1.0
    grey = np.full((1, 16, 16, 3), 51, np.uint8)
    assert psnr(grey, black)[0] == pytest.approx(20 * np.log10(5))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.001, 0.5))
def test_properties(seed: int, size: float) -> None:
    pred, gt = noise(seed, (3, 12, 14, 3), size)
    order = [2, 0, 1]
    for metric in (psnr, *(lambda a, b, d=d: ssim(a, b, dialect=d) for d in DIALECTS)):
        score = metric(pred, gt)
        assert score.shape == (3,)
        assert score.dtype == np.float64
        np.testing.assert_allclose(metric(gt, pred), score, rtol=1e-12)
        np.testing.assert_array_equal(metric(pred[order], gt[order]), score[order])
        np.testing.assert_array_equal(metric(pred[1:2], gt[1:2]), score[1:2])
        # mirrored and turned pictures are as alike as before, and so are exchanged channels
        np.testing.assert_allclose(metric(pred[:, ::-1], gt[:, ::-1]), score, rtol=1e-9)
        np.testing.assert_allclose(metric(pred.swapaxes(1, 2), gt.swapaxes(1, 2)), score, rtol=1e-9)
        np.testing.assert_allclose(metric(pred[..., ::-1], gt[..., ::-1]), score, rtol=1e-9)
    assert (psnr(pred, gt) >= 0).all()
    assert (np.abs(ssim(pred, gt)) <= 1).all()


@pytest.mark.parametrize("metric", [PSNR, SSIM, SSIM_SAMPLE, SSIM_TORCHMETRICS], ids=lambda metric: metric.key)
def test_scores_fall_as_noise_grows(metric) -> None:
    gt = photographs()[1]
    grain = np.random.default_rng(0).normal(size=gt.shape)
    scores = [metric.function(np.clip(gt / 255 + size * grain, 0, 1), gt) for size in (0.01, 0.03, 0.1, 0.3)]
    assert all((a > b).all() for a, b in itertools.pairwise(scores))
    assert all(((metric.bounds[0] <= s) & (s <= metric.bounds[1])).all() for s in scores)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_types_agree(metric) -> None:
    pred, gt = photographs()
    score = metric(pred, gt)
    np.testing.assert_array_equal(metric(pred / 255, gt / 255), score)
    np.testing.assert_array_equal(metric(pred, gt / 255), score)
    np.testing.assert_allclose(metric((pred / 255).astype(np.float32), gt), score, rtol=1e-5)
    np.testing.assert_array_equal(metric(np.asfortranarray(pred), gt[:, :, :, :]), score)
    np.testing.assert_allclose(metric((pred / 255).astype(np.float16), gt), score, rtol=1e-2)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_inputs_are_not_modified(metric) -> None:
    for pred, gt in (photographs(), noise(0)):
        before = pred.copy(), gt.copy()
        pred.flags.writeable = False
        metric(pred, gt)
        np.testing.assert_array_equal(pred, before[0])
        np.testing.assert_array_equal(gt, before[1])


FRAMES = np.zeros((2, 12, 12, 3))


def holding(value: float) -> np.ndarray:
    frames = FRAMES.copy()
    frames[1, 3, 4, 2] = value
    return frames


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("pred", "gt", "words"),
    [
        (FRAMES[0], FRAMES[0], r"pred has shape \[12, 12, 3\]"),
        (FRAMES, FRAMES[..., :1], "gt has shape"),
        (FRAMES.transpose(0, 3, 1, 2), FRAMES, "pred has shape"),
        (FRAMES, FRAMES[:1], "equal shapes"),
        (FRAMES, FRAMES[:, :, :11], "equal shapes"),
        (FRAMES[:0], FRAMES[:0], "empty"),
        (FRAMES[:, :0], FRAMES[:, :0], "empty"),
        (holding(np.nan), FRAMES, "pred: frame 1 holds values from nan"),
        (FRAMES, holding(1.01), "gt: frame 1 holds values from 0 to 1.01"),
        (holding(-0.01), FRAMES, "floats from 0 to 1"),
        (holding(np.inf), FRAMES, "to inf"),
        (FRAMES.astype(np.int64), FRAMES, "pred has type int64"),
        (FRAMES, FRAMES.astype(bool), "gt has type bool"),
        (None, FRAMES, "pred has shape"),
    ],
)
def test_bad_frames(metric, pred, gt, words: str) -> None:
    with pytest.raises(InputError, match=words):
        metric(pred, gt)


def test_ssim_refuses() -> None:
    with pytest.raises(InputError, match="10x12 pixels for ssim; expected at least 11x11"):
        ssim(FRAMES[:, :10], FRAMES[:, :10])
    with pytest.raises(InputError, match="'gauss'; expected skimage-gauss or skimage-gauss-sample or torchmetrics"):
        ssim(FRAMES, FRAMES, dialect="gauss")  # type: ignore[arg-type]


def test_psnr_of_one_pixel() -> None:
    assert psnr(np.full((1, 1, 1, 3), 0.5), np.zeros((1, 1, 1, 3)))[0] == pytest.approx(20 * np.log10(2))


def test_pooled_psnr_is_torchmetrics_accumulated_over_updates() -> None:
    import torch
    from torchmetrics.image import PeakSignalNoiseRatio

    accumulated = PeakSignalNoiseRatio(data_range=1.0)
    errors = []
    for seed, size in ((0, 0.02), (1, 0.1), (2, 0.3)):
        pred, gt = noise(seed, size=size)
        accumulated.update(torch.from_numpy(pred), torch.from_numpy(gt))
        errors.append(squared_error(pred, gt))
    assert pooled_psnr(np.concatenate(errors)) == pytest.approx(float(accumulated.compute()), rel=1e-6)


@given(st.lists(st.floats(1e-8, 1.0), min_size=1, max_size=20))
def test_pooling_never_raises_psnr(errors: list[float]) -> None:
    found = np.array(errors)
    own = -10 * np.log10(found)
    assert own.min() - 1e-9 <= pooled_psnr(found) <= own.mean() + 1e-9


def test_squared_error_is_what_psnr_takes_the_logarithm_of() -> None:
    pred, gt = photographs()
    np.testing.assert_allclose(-10 * np.log10(squared_error(pred, gt)), psnr(pred, gt), rtol=1e-12)
    assert pooled_psnr(squared_error(gt, gt)) == np.inf
    assert pooled_psnr([0.01]) == pytest.approx(20)


@pytest.mark.parametrize("errors", [[], [[0.1]], [-0.1], [np.nan], [np.inf, 0.1]])
def test_pooled_psnr_refuses_what_is_no_error(errors: list) -> None:
    with pytest.raises(InputError, match="error"):
        pooled_psnr(errors)
