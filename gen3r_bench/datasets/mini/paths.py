"""Camera paths of `mini`: orbit, dolly, pan and hand-held walk, drawn until one keeps clear and sees enough.

A path is a function of t in [0, 1]; a clip of F frames samples it at i / (F - 1). More frames are therefore denser
samples of the SAME path: the first and last camera never change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.datasets.mini import raycast
from gen3r_bench.datasets.mini.draws import Draw
from gen3r_bench.datasets.mini.world import World
from gen3r_bench.errors import SceneError

KINDS: Final = ("orbit", "dolly", "walk", "pan")
CLEARANCE: Final = 0.25
"""Metres that every camera keeps from every solid."""

_PROBE: Final = 16
_ATTEMPTS: Final = 150


@dataclass(frozen=True, slots=True)
class CameraPath:
    """A drawn path.

    Attributes:
        kind: of ``KINDS``.
        half_view: tangent of half the field of view over the frame's shorter side.
        position: [2, 3] start and end, or, for an orbit, the centre and (azimuth, sweep, radius).
        target: [2, 3] what is looked at, at the start and at the end.
        rise: metres that the camera climbs over the clip (orbits), after ``height``.
        height: of an orbit's start.
        sway: amplitude of hand shake: metres; the view shakes by the same number of half radians.
        phases: of the shake.
    """

    kind: str
    half_view: float
    position: NDArray[np.float64]
    target: NDArray[np.float64]
    rise: float
    height: float
    sway: float
    phases: tuple[float, ...]

    def poses(self, t: Sequence[float]) -> NDArray[np.float64]:
        """[F, 4, 4] world_from_cam in OpenCV axes and the scene's z-up world."""
        return np.stack([self._pose(s) for s in t])

    def _pose(self, t: float) -> NDArray[np.float64]:
        if self.kind == "orbit":
            azimuth, sweep, radius = self.position[1]
            angle = azimuth + sweep * t
            x, y, _ = self.position[0]
            eye = np.array([x + radius * math.cos(angle), y + radius * math.sin(angle), self.height + self.rise * t])
        else:
            eye = self.position[0] * (1.0 - t) + self.position[1] * t
        look = self.target[0] * (1.0 - t) + self.target[1] * t
        shake = [self.sway * math.sin(2.0 * math.pi * f * t + p) for f, p in zip(_RATES, self.phases, strict=True)]
        eye = eye + np.array(shake[:3])
        look = look + 0.5 * float(np.linalg.norm(look - eye)) * np.array(shake[3:])
        return _looking(eye, look)


_RATES: Final = (0.8, 1.1, 2.3, 0.7, 1.3, 1.7)


def _looking(eye: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.array([forward[1], -forward[0], 0.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, eye
    return pose


def draw_path(draw: Draw, world: World, preferred: str) -> CameraPath:
    """A path of the preferred kind, or of the next kind that fits, that passes every check of ``_flaw``.

    Raises:
        SceneError: where nothing fits, which no scene of this version does (tested).
    """
    first = KINDS.index(preferred)
    flaws: dict[str, int] = {}
    for kind in KINDS[first:] + KINDS[:first]:
        for _ in range(_ATTEMPTS):
            path = _candidate(draw, world, kind)
            flaw = _flaw(path, world)
            if flaw is None:
                return path
            flaws[flaw] = flaws.get(flaw, 0) + 1
    raise SceneError(f"no camera path fits this {world.plan}: {flaws}")


def _candidate(draw: Draw, world: World, kind: str) -> CameraPath:
    near, far = world.reach
    low, high = world.bounds[:, 2]
    radius, azimuth = draw.uniform(near, far), draw.uniform(0.0, 2.0 * math.pi)
    height = draw.uniform(low, high)
    eye = np.array([world.focus[0] + radius * math.cos(azimuth), world.focus[1] + radius * math.sin(azimuth), height])
    toward = world.focus - eye
    ahead = np.array([toward[0], toward[1], 0.0]) / math.hypot(toward[0], toward[1])
    across = np.array([ahead[1], -ahead[0], 0.0]) * (1.0 if draw.chance(0.5) else -1.0)
    step = radius * draw.uniform(0.3, 0.6)
    rise = draw.uniform(-0.1, 0.15) * radius
    position = np.stack([eye, eye])
    target = np.stack([world.focus, world.focus])
    sway = 0.0
    if kind == "orbit":
        position = np.array([world.focus, [azimuth, draw.uniform(0.35, 0.8) * (1 if draw.chance(0.5) else -1), radius]])
    elif kind == "dolly":
        along = draw.choice((ahead, -ahead, across, 0.8 * ahead + 0.6 * across))
        position[1] += step * along
        target[1] += (0.0 if along is ahead else 0.7) * step * along
    elif kind == "pan":
        # a turn about a point behind the eye, as of someone turning on the spot, so that there is a baseline
        turn = draw.uniform(0.3, 0.6)
        position[1] += 0.3 * radius * across
        target = np.stack([world.focus - 0.5 * turn * radius * across, world.focus + 0.6 * turn * radius * across])
    else:
        position[1] += step * (ahead * draw.uniform(0.5, 1.0) + across * draw.uniform(0.0, 0.6))
        target[1] += step * across * draw.uniform(0.0, 0.7)
        sway = draw.uniform(0.015, 0.03)
    half_view = math.tan(math.radians(draw.uniform(27.0, 35.0)))
    phases = tuple(draw.uniform(0.0, 2.0 * math.pi) for _ in _RATES)
    return CameraPath(kind, half_view, position, target, rise, height, sway, phases)


def _flaw(path: CameraPath, world: World) -> str | None:
    """Why a path will not do, or None."""
    for eye in path.poses([i / 48 for i in range(49)])[:, :3, 3]:
        if (eye < world.bounds[0] - 0.1).any() or (eye > world.bounds[1] + 0.1).any():
            return "leaves the scene"
        if raycast.inside(world.kinds, world.data, eye[0], eye[1], eye[2], CLEARANCE) >= 0:
            return "touches a solid"
    poses = path.poses([i / 8 for i in range(9)])
    standing = np.repeat(np.isfinite(world.spheres[:, 3]), np.diff(world.ranges, axis=1)[:, 0])
    depth = np.empty((len(poses), _PROBE, _PROBE))
    seen = np.empty(depth.shape, dtype=np.int64)
    for i, pose in enumerate(poses):
        raycast.cast(world.kinds, world.data, world.spheres, world.ranges, pose, path.half_view, depth[i], seen[i])
        hit = np.isfinite(depth[i])
        if hit.mean() < 0.6:
            return "too much sky"
        if np.percentile(depth[i][hit], 3) < 0.25 * world.reach[0] or np.median(depth[i][hit]) < 0.6 * world.reach[0]:
            return "too near"
        if len(np.unique(seen[i][hit])) < 9 or standing[seen[i][hit]].mean() < 0.2:
            return "too plain"
    baseline = float(np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1).max())
    typical = float(np.median(depth[0][np.isfinite(depth[0])]))
    if not 0.15 <= baseline / typical <= 0.7:
        return "baseline"
    if _overlap(poses[0], poses[-1], depth[0], path.half_view) < 0.45:
        return "too little overlap"
    return None


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64], depth: NDArray[np.float64], reach: float) -> float:
    """Share of the points seen from ``a`` that lie in the view of ``b``."""
    n = len(depth)
    ray = ((np.arange(n) + 0.5) / n * 2.0 - 1.0) * reach
    hit = np.isfinite(depth)
    z = depth[hit]
    local = np.stack([(ray[None, :] * np.ones((n, 1)))[hit] * z, (ray[:, None] * np.ones((1, n)))[hit] * z, z], axis=1)
    points = (local @ a[:3, :3].T + a[:3, 3] - b[:3, 3]) @ b[:3, :3]
    inside = (points[:, 2] > 0) & (np.abs(points[:, :2]) < reach * points[:, 2:]).all(axis=1)
    return float(inside.sum() / depth.size)
