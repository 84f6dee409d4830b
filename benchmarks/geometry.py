"""Time geometry scoring against the released recipe, by hand: ``python benchmarks/geometry.py [--scale room]``.

Scales: ``room``, 49 x 560 x 560 pixels of a 5.2 x 4.1 x 2.7 m room (the paper's size); ``small``, the same room at a
quarter of the size (fewer voxels, so the whole reference can be run); ``tiny``, 13 x 112 x 112 pixels of the room.

The released recipe is Open3D voxels, brute-force farthest point sampling and brute-force nearest neighbours. Open3D
runs where it imports, else a NumPy grid stands in for it. PyTorch3D has no CPU wheel; a plain compiled loop stands in
for its sampling and neighbours (PyTorch3D's own CPU code is about three times slower than this loop, see
docs/decisions). The loop's cost is the same at every iteration, so it is extrapolated from ``--brute-iterations``
unless that covers all samples. Both sides use this suite's float64 alignment, so scores can be compared.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import released
from gen3r_bench.metrics.alignment import align_frames
from gen3r_bench.metrics.chamfer_distance import Chamfer, chamfer_of_trees, kd_tree
from gen3r_bench.metrics.farthest_point import farthest_rows
from gen3r_bench.metrics.geometry import prepare_ground_truth, score_points
from gen3r_bench.metrics.voxel import average_voxels

VOXEL_SIZE: Final = 0.005
NUM_POINTS: Final = 20000
SCALES: Final = {"room": (49, 560, 1.0), "small": (49, 560, 0.25), "tiny": (13, 112, 1.0)}  # frames, pixels, size

ROOM: Final = np.array([5.2, 2.7, 4.1])  # x right, y down, z forward, centred on the origin
BOXES: Final = np.array(  # low and high corners
    [
        [[-2.6, 0.60, 1.0], [-1.4, 1.35, 2.05]],
        [[0.3, 0.95, 0.2], [1.5, 1.35, 1.0]],
        [[1.9, -0.6, 1.5], [2.6, 1.35, 2.05]],
        [[-0.6, 0.9, -1.6], [0.4, 1.35, -0.9]],
        [[-2.6, 0.4, -1.9], [-2.0, 1.35, -0.4]],
    ]
)
SPHERES: Final = np.array([[0.9, 0.72, 0.6, 0.23], [-1.9, 0.35, 1.5, 0.25], [-0.3, 1.05, 0.9, 0.30]])


@dataclass
class Step:
    """What one step took: seconds of wall clock and CPU, and how far the resident set rose above its level before."""

    name: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    megabytes: float = 0.0


@dataclass
class Timings:
    """Steps of one recipe."""

    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        before = _reset_peak()
        entry = Step(name)
        begin, cpu_begin = time.perf_counter(), time.process_time()
        yield entry
        entry.seconds += time.perf_counter() - begin
        entry.cpu_seconds += time.process_time() - cpu_begin
        entry.megabytes = max(0.0, _status_megabytes("VmHWM") - before)
        self.steps.append(entry)

    @property
    def total(self) -> float:
        return sum(entry.seconds for entry in self.steps)

    @property
    def cpu_total(self) -> float:
        return sum(entry.cpu_seconds for entry in self.steps)


def _status_megabytes(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def _reset_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts again from the present VmRSS
    return _status_megabytes("VmRSS")


def make_clips(frames: int, pixels: int, size: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """True points, predicted points (both [F, H, W, 3] float32) and a 97 % mask of a walk through the room.

    The prediction has 0.4 % depth noise, a smooth 1 % depth error, a pose drift, and lies in another similarity frame.
    """
    rng = np.random.default_rng(5)
    focal = 0.85 * pixels
    centre = np.arange(pixels) + 0.5 - pixels / 2
    u, v = np.meshgrid(centre / focal, centre / focal)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1)
    truth = np.empty((frames, pixels, pixels, 3), dtype=np.float32)
    pred = np.empty_like(truth)
    turned = _rotation(0.4, 0.9)
    for frame in range(frames):
        t = frame / max(1, frames - 1)
        world_from_cam = _rotation(-0.9 + 1.8 * t, 0.12 * np.sin(5 * t))
        eye = np.array([-0.8 + 1.6 * t, 0.1 * np.sin(7 * t), -1.2 + 0.5 * t])
        depth = _cast(eye, rays @ world_from_cam.T)
        truth[frame] = size * (eye + (rays * depth[..., None]) @ world_from_cam.T)
        wrong = depth * (1 + 0.004 * rng.standard_normal(depth.shape) + 0.01 * np.sin(3 * u + 4 * t))
        drifted = _rotation(0.01 * t, -0.006 * t) @ world_from_cam
        moved = (eye + [0.02 * t, -0.01 * t, 0.015 * t]) + (rays * wrong[..., None]) @ drifted.T
        pred[frame] = 0.37 * (moved @ turned.T) + [1.0, -2.0, 0.5]
    return truth, pred, rng.random(truth.shape[:3]) < 0.97


def _rotation(yaw: float, pitch: float) -> NDArray[np.float64]:
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_y @ about_x


def _cast(eye: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance along each ray, in units of its direction, to the nearest surface."""
    slope = 1.0 / directions
    leave = np.maximum((-ROOM / 2 - eye) * slope, (ROOM / 2 - eye) * slope)
    nearest: NDArray[np.float64] = leave.min(axis=-1)
    for low, high in BOXES:
        to_low, to_high = (low - eye) * slope, (high - eye) * slope
        enter = np.minimum(to_low, to_high).max(axis=-1)
        leaves = np.maximum(to_low, to_high).min(axis=-1)
        nearest = np.where((enter > 0) & (enter < leaves) & (enter < nearest), enter, nearest)
    square = (directions * directions).sum(axis=-1)
    for x, y, z, radius in SPHERES:
        offset = eye - [x, y, z]
        half = directions @ offset
        under = half * half - square * (offset @ offset - radius * radius)
        hit = (-half - np.sqrt(np.maximum(under, 0))) / square
        nearest = np.where((under > 0) & (hit > 0) & (hit < nearest), hit, nearest)
    return nearest


@numba.njit(nogil=True)
def plain_farthest_points(points: NDArray[Any], iterations: int, start: int) -> NDArray[Any]:
    """The definition: measure all points at every step; the stand-in for PyTorch3D's CPU sampling."""
    distance = np.full(len(points), np.inf, np.float32)
    rows = np.empty(iterations, np.int64)
    row = start
    for sample in range(iterations):
        rows[sample] = row
        qx, qy, qz = points[row, 0], points[row, 1], points[row, 2]
        best, row = np.float32(-1), 0
        for i in range(len(points)):
            dx, dy, dz = points[i, 0] - qx, points[i, 1] - qy, points[i, 2] - qz
            distance[i] = min(distance[i], dx * dx + dy * dy + dz * dz)
            if distance[i] > best:
                best, row = distance[i], i
    return rows


@numba.njit(nogil=True)
def plain_neighbours(points: NDArray[Any], others: NDArray[Any]) -> float:
    """Mean distance to the nearest of ``others``, by measuring all."""
    total = 0.0
    for i in range(len(points)):
        best = np.float32(np.inf)
        for j in range(len(others)):
            dx, dy, dz = points[i, 0] - others[j, 0], points[i, 1] - others[j, 1], points[i, 2] - others[j, 2]
            best = min(best, dx * dx + dy * dy + dz * dz)
        total += np.sqrt(np.float64(best))
    return total / len(points)


def time_ours(truth: NDArray[Any], pred: NDArray[Any], mask: NDArray[Any]) -> tuple[Timings, list[Any]]:
    """Our path, step by step (score_points does the same in one call)."""
    timings = Timings()
    frames, pixels = len(truth), truth.shape[1] * truth.shape[2]
    with timings.step("alignment"):
        fit = align_frames(
            pred.reshape(frames, pixels, 3),
            truth.reshape(frames, pixels, 3),
            np.arange(frames),
            mask.reshape(frames, -1),
        )
    sampled: list[Any] = []
    for name, points, moved_by in (("prediction", pred, fit.similarity), ("truth", truth, None)):
        with timings.step(f"voxels, {name}"):
            voxels = average_voxels(points.reshape(-1, 3), fit.used.reshape(-1), moved_by, VOXEL_SIZE)
        with timings.step(f"farthest points, {name}"):
            start = int(voxels.first.argmin())
            rows = farthest_rows(voxels.means, voxels.first, NUM_POINTS, start, morton_sorted=voxels.morton_sorted)
        order = np.argsort(voxels.first)
        sampled.append((np.ascontiguousarray(voxels.means[:, rows].T), voxels.means[:, order].T))
        del voxels, order
    with timings.step("neighbours"):
        scores = chamfer_of_trees(*(kd_tree(sample) for sample, _ in sampled))
    return timings, [fit, sampled, scores]


def _open3d_or_numpy() -> tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]:
    try:
        released.voxel_downsample(np.zeros((1, 3)), VOXEL_SIZE)
    except InputError as error:
        print(f"  {error}\n  -> a NumPy grid stands in for Open3D's")
        return "NumPy grid", lambda points: _numpy_voxels(points)
    return "Open3D", lambda points: released.voxel_downsample(points, VOXEL_SIZE)


def _numpy_voxels(points: NDArray[Any]) -> NDArray[Any]:
    index = np.floor((points - (points.min(axis=0) - VOXEL_SIZE / 2)) / VOXEL_SIZE).astype(np.int64)
    _, inverse, counts = np.unique(
        (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2], return_inverse=True, return_counts=True
    )
    return np.stack([np.bincount(inverse, weights=points[:, axis]) / counts for axis in range(3)], axis=1)


def time_reference(
    truth: NDArray[Any], pred: NDArray[Any], fit: Any, ours: list[Any], iterations: int
) -> tuple[Timings, Chamfer | None, bool, bool]:
    """The released recipe; scores only where its sampling was run in full.

    Its voxels are put into our order (untimed) before sampling, so that both start at the same voxel and break ties
    alike, and samples can be compared one by one.
    """
    timings = Timings()
    library, voxels_of = _open3d_or_numpy()
    used = fit.used.reshape(-1)
    plain_farthest_points(np.zeros((2, 3), np.float32), 2, 0)
    plain_neighbours(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    samples: list[NDArray[Any]] = []
    same_voxels, same_samples, whole = True, True, True
    for (name, points, moved_by), (own_sample, own_cloud) in zip(
        (("prediction", pred, fit.similarity), ("truth", truth, None)), ours, strict=True
    ):
        with timings.step(f"align and mask, {name}"):
            flat = points.reshape(-1, 3)[used].astype(np.float64)
            flat = flat if moved_by is None else moved_by.apply(flat)
        with timings.step(f"voxels ({library}), {name}"):
            cloud = voxels_of(flat).astype(np.float32)
        del flat
        same_voxels &= len(cloud) == len(own_cloud)
        if same_voxels:
            ranked = np.empty_like(cloud)
            ranked[np.lexsort(own_cloud.T)] = cloud[np.lexsort(cloud.T)]
            same_voxels, cloud = bool((np.abs(ranked - own_cloud) <= 1e-6).all()), ranked
            del ranked
        k = min(NUM_POINTS, len(cloud))
        run = min(iterations, k)
        whole &= run == k
        text = f"farthest points (plain loop{'' if run == k else f', {run} of {k} steps, extrapolated'}), {name}"
        with timings.step(text) as entry:
            begin, cpu_begin = time.perf_counter(), time.process_time()
            rows = plain_farthest_points(cloud, run, 0)
            entry.seconds = (time.perf_counter() - begin) * (k / run - 1)
            entry.cpu_seconds = (time.process_time() - cpu_begin) * (k / run - 1)
        samples.append(cloud[rows])
        same_samples &= bool((np.abs(samples[-1] - own_sample[:run]) <= 1e-6).all())
        if run < k:
            samples[-1] = own_sample  # only to time the neighbours
        del cloud
    with timings.step("neighbours (plain loop)"):
        accuracy, completeness = plain_neighbours(*samples), plain_neighbours(*samples[::-1])
    scores = Chamfer(accuracy, completeness, (accuracy + completeness) / 2) if whole else None
    return timings, scores, same_voxels, same_samples


def _print(title: str, timings: Timings) -> None:
    print(f"\n{title:<76}   wall s    CPU s       MB")
    for entry in timings.steps:
        print(f"  {entry.name:<74}{entry.seconds:9.2f}{entry.cpu_seconds:9.2f}{entry.megabytes:9.0f}")
    largest = max(entry.megabytes for entry in timings.steps)
    print(f"  {'total, largest step':<74}{timings.total:9.2f}{timings.cpu_total:9.2f}{largest:9.0f}")


def _warm_up() -> float:
    begin = time.perf_counter()
    time_ours(*make_clips(2, 24, 1.0))
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description="Time geometry scoring against the released recipe.")
    parser.add_argument("--scale", choices=SCALES, default="room")
    parser.add_argument("--brute-iterations", type=int, default=None, help="default: 100 for room, all for others")
    parser.add_argument("--repeat", type=int, default=3, help="runs of our path; the fastest is printed")
    options = parser.parse_args()
    frames, pixels, size = SCALES[options.scale]
    iterations = options.brute_iterations or (100 if options.scale == "room" else NUM_POINTS)

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(f"compiling or loading the kernels: {_warm_up():.2f} s (not counted below)")
    truth, pred, mask = make_clips(frames, pixels, size)
    print(
        f"{options.scale}: {frames} x {pixels} x {pixels} = {mask.size / 1e6:.2f} M pixels, {mask.mean():.0%} masked in"
    )

    runs = [time_ours(truth, pred, mask) for _ in range(options.repeat)]
    ours, (fit, sampled, scores) = min(runs, key=lambda entry: entry[0].total)
    print(f"RMS distance of corresponding points after alignment: {fit.similarity.residual * 1000:.1f} mm")
    print(f"voxels: prediction {len(sampled[0][1]) / 1e6:.2f} M, truth {len(sampled[1][1]) / 1e6:.2f} M")
    _print(f"ours, measured, best of {options.repeat}", ours)

    begin = time.perf_counter()
    cloud = prepare_ground_truth(truth, mask)
    prepared = time.perf_counter() - begin
    begin = time.perf_counter()
    score = score_points(pred, truth, mask, ground_truth=cloud)
    print(
        f"  score_points: {time.perf_counter() - begin:.2f} s with a prepared ground truth, which took {prepared:.2f} s"
    )
    assert (score.accuracy, score.completeness) == (scores.accuracy, scores.completeness)

    both = [threading.Thread(target=score_points, args=(pred, truth, mask)) for _ in range(2)]
    begin = time.perf_counter()
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    print(f"  two whole scorings in two threads: {time.perf_counter() - begin:.2f} s")

    reference, theirs, same_voxels, same_samples = time_reference(truth, pred, fit, sampled, iterations)
    _print(f"released recipe, measured{'' if theirs else ' but for what is marked extrapolated'}", reference)
    wall, cpu = reference.total / ours.total, reference.cpu_total / ours.cpu_total
    print(f"\nratio: {wall:.0f} x wall, {cpu:.0f} x CPU{'' if theirs else ' (extrapolated)'}")
    print(f"voxels the same in both: {same_voxels}")
    print(f"samples the same in both, one by one, as far as both were run: {same_samples}")
    if theirs is None:
        print(f"scores of the reference: not computed; give --brute-iterations {NUM_POINTS}, or --scale small")
        return
    for name in ("accuracy", "completeness", "chamfer"):
        a, b = getattr(scores, name), getattr(theirs, name)
        print(f"{name:<13} ours {a:.9f}  reference {b:.9f}  relative difference {abs(a - b) / b:.1e}")


if __name__ == "__main__":
    main()
