"""Time the camera and image metrics on a clip of the paper's size, beside the libraries and loops they replace.

Run it by hand, on an idle machine: ``python benchmarks/metrics.py``. Everything is timed in one run, single-threaded,
after one warm-up call; the difference printed is the largest one between the two results.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gen3r_bench.metrics import pose_auc, psnr, relative_pose_errors, ssim

FRAMES, SIZE = 49, 560


def seconds(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Least wall time of ``repeats`` calls, and the last result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


def row(name: str, ours: tuple[float, Any], theirs: tuple[float, Any], unit: str) -> None:
    difference = np.max(np.abs(np.asarray(ours[1]) - np.asarray(theirs[1])))
    print(f"{name:34} {ours[0]:10.4f} {theirs[0]:10.4f} {theirs[0] / ours[0]:8.1f}x   {difference:.1e} {unit}")


def clips() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.random((FRAMES, SIZE // 20, SIZE // 20, 3))
    gt = np.kron(coarse, np.ones((1, 20, 20, 1))) * 255
    pred = gt * 0.95 + rng.normal(0, 8, gt.shape)
    return np.clip(pred, 0, 255).astype(np.uint8), gt.astype(np.uint8)


def trajectories() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gt = np.tile(np.eye(4), (FRAMES, 1, 1))
    gt[:, :3, :3] = Rotation.from_rotvec(np.outer(np.linspace(0, 1, FRAMES), [0.1, 0.9, 0.2])).as_matrix()
    gt[:, :3, 3] = np.cumsum(rng.normal(0.05, 0.05, (FRAMES, 3)), axis=0)
    pred = gt.copy()
    pred[:, :3, :3] = gt[:, :3, :3] @ Rotation.from_rotvec(rng.normal(0, 0.05, (FRAMES, 3))).as_matrix()
    pred[:, :3, 3] += rng.normal(0, 0.05, (FRAMES, 3))
    return pred, gt


def skimage_psnr(pred: np.ndarray, gt: np.ndarray) -> list[float]:
    return [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(pred, gt, strict=True)]


def skimage_ssim(pred: np.ndarray, gt: np.ndarray) -> list[float]:
    return [
        structural_similarity(
            a / 255.0,
            b / 255.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=2,
            data_range=1.0,
        )
        for a, b in zip(pred, gt, strict=True)
    ]


def loop_auc(pred: np.ndarray, gt: np.ndarray) -> float:
    """Pair by pair, with general inverses."""
    largest = []
    for i in range(len(gt)):
        for j in range(i + 1, len(gt)):
            a, b = np.linalg.inv(pred[i]) @ pred[j], np.linalg.inv(gt[i]) @ gt[j]
            turn = np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1))
            cosine = abs(a[:3, 3] @ b[:3, 3]) / np.linalg.norm(a[:3, 3]) / np.linalg.norm(b[:3, 3])
            largest.append(np.degrees(max(turn, np.arccos(min(cosine, 1.0)))))
    counts, _ = np.histogram(largest, bins=np.arange(31))
    return float(np.mean(np.cumsum(counts) / len(largest)))


def main() -> None:
    pred, gt = clips()
    poses, true_poses = trajectories()
    ssim(pred[:1], gt[:1])
    relative_pose_errors(poses, true_poses)
    print(f"{FRAMES} x {SIZE} x {SIZE} uint8, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{'':34} {'ours s':>10} {'other s':>10} {'ratio':>9}   largest difference")
    row("psnr / scikit-image", seconds(lambda: psnr(pred, gt), 3), seconds(lambda: skimage_psnr(pred, gt), 3), "dB")
    ours, theirs = seconds(lambda: ssim(pred, gt), 3), seconds(lambda: skimage_ssim(pred, gt), 1)
    row("ssim / scikit-image", ours, theirs, "")
    mirrored = seconds(lambda: ssim(pred, gt, dialect="torchmetrics"), 3)
    print(f"{'ssim@torchmetrics':34} {mirrored[0]:10.4f}")
    row(
        "auc30, 1,176 pairs / loop of pairs",
        seconds(lambda: pose_auc(relative_pose_errors(poses, true_poses)), 20),
        seconds(lambda: loop_auc(poses, true_poses), 3),
        "",
    )


if __name__ == "__main__":
    main()
