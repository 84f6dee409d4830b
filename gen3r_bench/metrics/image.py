"""Image metrics, frame by frame: PSNR and SSIM; and PSNR of pooled errors, as some evaluations have it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics._numba import compiled
from gen3r_bench.metrics.base import Metric
from gen3r_bench.metrics.frames import clips, unit_range

SsimDialect = Literal["skimage-gauss", "skimage-gauss-sample", "torchmetrics"]
SSIM_DIALECTS: Final[tuple[str, ...]] = get_args(SsimDialect)

SSIM_SIGMA: Final = 1.5
SSIM_RADIUS: Final = 5
_K1: Final = 0.01
_K2: Final = 0.03


def _frame_pairs(pred: NDArray[Any], gt: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pairs of frames in [0, 1], one in memory at a time."""
    for index, (pred_frame, gt_frame) in enumerate(zip(pred, gt, strict=True)):
        yield unit_range(pred_frame, "pred", index), unit_range(gt_frame, "gt", index)


def psnr(pred: ArrayLike, gt: ArrayLike) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each frame: ``-10 log10`` of its mean squared error, with a data range of 1.

    Rounding to 8 bit is the protocol's business: uint8 frames are divided by 255, float frames are taken as they are.

    Args:
        pred: [F, H, W, 3] predicted frames, uint8 or floats in [0, 1].
        gt: [F, H, W, 3] true frames; uint8 and floats may be mixed.

    Returns:
        [F] float64, dB; infinity where the two frames are identical.

    Raises:
        InputError: on wrong or different shapes, no frame, another type, NaN, or floats outside [0, 1].

    >>> import numpy as np
    >>> gt = np.zeros((2, 4, 4, 3))
    >>> psnr(np.stack([gt[0] + 0.1, gt[1]]), gt)
    array([20., inf])
    """
    return _decibel(squared_error(pred, gt))


def _decibel(error: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        decibel: NDArray[np.float64] = -10.0 * np.log10(error)
    return decibel


def squared_error(pred: ArrayLike, gt: ArrayLike) -> NDArray[np.float64]:
    """Mean squared error of each frame, with a data range of 1: what `psnr` takes the logarithm of.

    Args:
        pred: [F, H, W, 3] predicted frames, uint8 or floats in [0, 1].
        gt: [F, H, W, 3] true frames; uint8 and floats may be mixed.

    Returns:
        [F] float64, 0 to 1.

    Raises:
        InputError: as `psnr`.
    """
    pred_clip, gt_clip = clips(pred, gt)
    return np.array([np.square(a - b).mean() for a, b in _frame_pairs(pred_clip, gt_clip)])


def pooled_psnr(errors: ArrayLike) -> float:
    """PSNR of many frames whose squared errors are averaged BEFORE the logarithm, as accumulating evaluators do.

    Never above the mean of the frames' own PSNR (the logarithm is concave): one bad frame costs more here.

    Args:
        errors: [N] mean squared errors of frames of one size, from `squared_error`; of one clip, or of several.

    Returns:
        dB; infinity where every error is 0.

    Raises:
        InputError: on no error, a wrong shape, or errors that are negative or not finite.

    Source: torchmetrics ``PeakSignalNoiseRatio``, which sums squared errors over all updates.

    >>> import numpy as np
    >>> errors = np.array([0.01, 0.0001])
    >>> round(pooled_psnr(errors), 2), (-10 * np.log10(errors)).mean().round(2).item()
    (22.97, 30.0)
    """
    found = np.asarray(errors, dtype=np.float64)
    if found.ndim != 1 or found.size == 0:
        raise InputError(f"errors of shape {list(found.shape)}", expected="one squared error a frame, at least one")
    if not (np.isfinite(found).all() and found.min() >= 0):
        raise InputError("squared errors that are negative or not finite", expected="the output of squared_error")
    return float(_decibel(found.mean(keepdims=True))[0])


def _gaussian_weights() -> NDArray[np.float64]:
    offset = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offset / SSIM_SIGMA) ** 2)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def _interleaved(frame: NDArray[np.float64], *, mirrored: bool) -> NDArray[np.float64]:
    """A [H, W, 3] frame as a [H, W * 3] plane, with a mirrored border as wide as the window's radius if asked."""
    if mirrored:
        side = (SSIM_RADIUS, SSIM_RADIUS)
        frame = np.pad(frame, (side, side, (0, 0)), mode="reflect")
    return np.ascontiguousarray(frame).reshape(len(frame), -1)


def _mean_ssim(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    step: int,
    covariance_factor: float,
    c1: float,
    c2: float,
) -> float:
    """Mean SSIM of all windows inside two [H, W * step] planes of interleaved channels.

    The formula needs the two variances only as their sum, so four filtered maps do where five are customary.
    """
    from scipy.ndimage import correlate1d

    radius = len(weights) // 2

    def filtered(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        image = plane.reshape(len(plane), -1, step)
        both: NDArray[np.float64] = correlate1d(correlate1d(image, weights, axis=0), weights, axis=1)
        return both[radius:-radius, radius:-radius]

    mean_x, mean_y = filtered(x), filtered(y)
    product = mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    covariance = covariance_factor * (filtered(x * y) - product)
    variances = covariance_factor * (filtered(x**2 + y**2) - squares)
    similarity = ((2.0 * product + c1) * (2.0 * covariance + c2)) / ((squares + c1) * (variances + c2))
    return float(similarity.mean())


def ssim(pred: ArrayLike, gt: ArrayLike, *, dialect: SsimDialect = "skimage-gauss") -> NDArray[np.float64]:
    """Structural similarity of each frame: Gaussian window of 11 pixels, sigma 1.5, mean over R, G and B.

    All dialects use K1 = 0.01, K2 = 0.03, a data range of 1 and float64. They differ in the third digit.

    Args:
        pred: [F, H, W, 3] predicted frames, uint8 or floats in [0, 1]; H and W at least 11.
        gt: [F, H, W, 3] true frames; uint8 and floats may be mixed.
        dialect: ``skimage-gauss`` averages the pixels whose window lies inside the frame, as scikit-image does with
            ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``; ``skimage-gauss-sample`` is the same with
            scikit-image's default of sample (co)variances, as in the evaluation code of LVSM and DepthSplat;
            ``torchmetrics`` mirrors the frame at its border and averages all pixels.

    Returns:
        [F] float64, -1 to 1; 1 for identical frames.

    Raises:
        InputError: as ``psnr``, on frames smaller than the window, and on an unknown dialect.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.

    >>> import numpy as np
    >>> gt = np.linspace(0, 1, 16 * 16 * 3).reshape(1, 16, 16, 3)
    >>> ssim(gt, gt)
    array([1.])
    >>> ssim(gt**2, gt).round(4), ssim(gt**2, gt, dialect="torchmetrics").round(4)
    (array([0.7793]), array([0.6581]))
    """
    if dialect not in SSIM_DIALECTS:
        raise InputError(f"dialect {dialect!r}", expected=" or ".join(SSIM_DIALECTS))
    pred_clip, gt_clip = clips(pred, gt)
    window = 2 * SSIM_RADIUS + 1
    height, width = gt_clip.shape[1:3]
    if min(height, width) < window:
        raise InputError(f"frames of {height}x{width} pixels for ssim", expected=f"at least {window}x{window}")
    kernels = compiled("_ssim_numba")
    mean_ssim = _mean_ssim if kernels is None else kernels.mean_ssim
    weights = _gaussian_weights()
    # scikit-image's N / (N - 1), with N the pixels of the window although they are weighted
    covariance_factor = window**2 / (window**2 - 1) if dialect == "skimage-gauss-sample" else 1.0
    scores = np.empty(len(gt_clip))
    for index, pair in enumerate(_frame_pairs(pred_clip, gt_clip)):
        x, y = (_interleaved(frame, mirrored=dialect == "torchmetrics") for frame in pair)
        scores[index] = mean_ssim(x, y, weights, 3, covariance_factor, _K1**2, _K2**2)
    return scores


PSNR: Final = Metric(
    name="psnr",
    dialect="8bit",
    title="PSNR",
    unit="dB",
    higher_is_better=True,
    bounds=(0.0, float("inf")),
    reference="10 log10(1 / MSE) of each frame of 8-bit RGB, data range 1",
    kind="frames",
    function=psnr,
)


def _ssim_metric(dialect: SsimDialect, reference: str) -> Metric:
    return Metric(
        name="ssim",
        dialect=dialect,
        title="SSIM",
        unit="",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        reference=f"Wang et al. 2004; {reference}",
        kind="frames",
        function=partial(ssim, dialect=dialect),
    )


SSIM: Final = _ssim_metric(
    "skimage-gauss", "scikit-image structural_similarity with gaussian_weights, sigma 1.5, population covariance"
)
SSIM_SAMPLE: Final = _ssim_metric(
    "skimage-gauss-sample",
    "scikit-image structural_similarity with gaussian_weights, as called by LVSM and DepthSplat (sample covariance)",
)
SSIM_TORCHMETRICS: Final = _ssim_metric(
    "torchmetrics", "torchmetrics structural_similarity_index_measure, defaults, data range 1"
)
