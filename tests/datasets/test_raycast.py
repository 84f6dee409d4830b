"""The kernels against an oracle that shares nothing with them: signed distances in NumPy, marched along the ray."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gen3r_bench.datasets.mini import raycast

YAW = 0.7
C, S = math.cos(YAW), math.sin(YAW)


def packed(*numbers: float) -> np.ndarray:
    return np.array([[*numbers, *[0.0] * (14 - len(numbers)), 1.0, 0.0]])


def local(p: np.ndarray, centre: np.ndarray) -> np.ndarray:
    x, y, z = (p - centre).T
    return np.stack([C * x + S * y, -S * x + C * y, z], axis=-1)


CENTRE = np.array([0.3, -0.2, 0.5])


def inside_box(p: np.ndarray) -> np.ndarray:
    return (np.abs(local(p, CENTRE)) <= [0.4, 0.6, 0.3]).all(axis=-1)


def inside_ellipsoid(p: np.ndarray) -> np.ndarray:
    return (local(p, CENTRE) ** 2 / np.array([0.4, 0.6, 0.3]) ** 2).sum(axis=-1) <= 1


def inside_frustum(p: np.ndarray, r0: float = 0.5, r1: float = 0.2) -> np.ndarray:
    x, y, z = (p - CENTRE).T
    return (z >= 0) & (z <= 0.8) & (np.hypot(x, y) <= r0 + (r1 - r0) * z / 0.8)


SOLIDS = {
    "box": (raycast.BOX, packed(*CENTRE, C, S, 0.4, 0.6, 0.3), inside_box),
    "ellipsoid": (raycast.ELLIPSOID, packed(*CENTRE, C, S, 0.4, 0.6, 0.3), inside_ellipsoid),
    "cone stump": (raycast.FRUSTUM, packed(*CENTRE, C, S, 0.5, 0.2, 0.8), inside_frustum),
    "widening stump": (raycast.FRUSTUM, packed(*CENTRE, C, S, 0.1, 0.6, 0.8), lambda p: inside_frustum(p, 0.1, 0.6)),
    "cylinder": (raycast.FRUSTUM, packed(*CENTRE, C, S, 0.4, 0.4, 0.8), lambda p: inside_frustum(p, 0.4, 0.4)),
}


def rays(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    origin = rng.normal(size=(count, 3))
    origin = 2.0 * origin / np.linalg.norm(origin, axis=1, keepdims=True) + CENTRE
    direction = CENTRE + rng.uniform(-0.7, 0.7, (count, 3)) - origin
    return origin, direction


def first_crossing(inside, origin: np.ndarray, direction: np.ndarray) -> float:
    """Where a ray enters a solid: a fine march, then bisection; infinite where it never does."""
    t = np.linspace(0, 3, 6001)
    found = np.flatnonzero(inside(origin + t[:, None] * direction))
    if not found.size:
        return math.inf
    low, high = t[found[0] - 1], t[found[0]]
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if inside((origin + middle * direction)[None])[0] else (middle, high)
    return high


@pytest.mark.parametrize("name", SOLIDS)
def test_hits_agree_with_marching(name: str) -> None:
    kind, data, inside = SOLIDS[name]
    hits = 0
    for o, d in zip(*rays(), strict=True):
        got, _ = raycast.intersect(kind, data, 0, *o, *d)
        expected = first_crossing(inside, o, d)
        if math.isinf(expected):  # the march may step over a corner thinner than its step
            assert math.isinf(got) or got > 0
            if not math.isinf(got):
                assert inside((o + (got + 1e-9) * d)[None])[0] or inside((o + (got - 1e-9) * d)[None])[0]
            continue
        hits += 1
        assert got == pytest.approx(expected, abs=1e-3)
        assert inside((o + (got + 1e-7) * d)[None])[0]
        assert not inside((o + (got - 1e-7) * d)[None])[0]
    assert hits > 80


@pytest.mark.parametrize("name", SOLIDS)
def test_axis_parallel_rays_have_no_holes(name: str) -> None:
    kind, data, inside = SOLIDS[name]
    middle = CENTRE + np.array([0.01, 0.02, 0.15])
    for direction in np.vstack([np.eye(3), -np.eye(3)]):
        origin = middle - 3 * direction
        got, _ = raycast.intersect(kind, data, 0, *origin, *direction)
        assert got == pytest.approx(first_crossing(inside, origin, direction), abs=1e-3)


def test_rectangles_agree_with_plane_geometry() -> None:
    u = np.array([C, S, 0.0])
    v = np.array([0.0, 0.0, 1.0])
    data = packed(*CENTRE, *u, *v, 0.6, 0.4, *np.cross(u, v))
    hits = 0
    for o, d in zip(*rays(), strict=True):
        s, t, z = np.linalg.solve(np.stack([u, v, -d], axis=1), o - CENTRE)
        expected = z if abs(s) <= 0.6 and abs(t) <= 0.4 and z > 0 else math.inf
        got, _ = raycast.intersect(raycast.RECT, data, 0, *o, *d)
        assert got == pytest.approx(expected, rel=1e-9)
        hits += math.isfinite(expected)
    assert hits > 80


@pytest.mark.parametrize("name", SOLIDS)
def test_normals_point_out_and_are_unit(name: str) -> None:
    kind, data, inside = SOLIDS[name]
    for o, d in zip(*rays(100), strict=True):
        t, face = raycast.intersect(kind, data, 0, *o, *d)
        if math.isinf(t):
            continue
        p = o + t * d
        *normal, u, v = raycast._surface(kind, data, 0, face, *p)
        assert np.linalg.norm(normal) == pytest.approx(1.0)
        assert np.dot(normal, d) < 1e-9
        assert not inside((p + 1e-6 * np.array(normal))[None])[0]
        assert inside((p - 1e-6 * np.array(normal))[None])[0]
        assert math.isfinite(u)
        assert math.isfinite(v)


def test_bounding_spheres_change_no_hit() -> None:
    from gen3r_bench.datasets.mini.dataset import compose

    for scene_id in ("test/000", "test/001", "test/002"):
        world, path = compose(scene_id)
        unbounded = world.spheres.copy()
        unbounded[:, 3] = np.inf
        found = []
        for spheres in (world.spheres, unbounded):
            depth, seen = np.empty((64, 64)), np.empty((64, 64), dtype=np.int64)
            raycast.cast(
                world.kinds, world.data, spheres, world.ranges, path.poses([0.3])[0], path.half_view, depth, seen
            )
            found.append((depth, seen))
        assert (found[0][0] == found[1][0]).all()
        assert (found[0][1] == found[1][1]).all()


@pytest.mark.parametrize("name", SOLIDS)
def test_inside_agrees_with_the_solids(name: str) -> None:
    kind, data, inside = SOLIDS[name]
    points = CENTRE + np.random.default_rng(1).uniform(-1, 1, (500, 3))
    for point in points[inside(points)]:
        assert raycast.inside(np.array([kind]), data, *point, 0.0) == 0
    far = 1.5 * np.eye(3) + CENTRE
    for point in far:
        assert raycast.inside(np.array([kind]), data, *point, 0.25) == -1
