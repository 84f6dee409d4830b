"""A scene before it is rendered: primitives, textures, lights, and the builder that furniture is made with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.datasets.mini.draws import Draw
from gen3r_bench.datasets.mini.raycast import BOX, ELLIPSOID, FRUSTUM, RECT
from gen3r_bench.datasets.mini.textures import TextureSpec, draw_texture, sky_texture


@dataclass(frozen=True, slots=True)
class World:
    """What the ray caster needs, plus what paths and prompts need to know.

    Attributes:
        kinds: [P] int64, see ``raycast``.
        data: [P, 16] float64.
        skins: [P, 2] int64 texture indices (sides; top and bottom).
        spheres: [G, 4] float64 bounding spheres of the groups.
        ranges: [G, 2] int64 first and one past the last primitive of each group.
        textures: specs that ``skins`` index.
        lights: [L, 8] float64.
        sky: [14] float64 ambient, sky colours, exposure, cloud texture.
        family: "room", "table" or "court".
        plan: layout within the family.
        things: nouns of what stands there, in order of importance.
        focus: [3] what a camera should look at.
        bounds: [2, 3] corners of the box that a camera may be in.
        reach: (nearest, farthest) horizontal distance of a camera from the focus, metres.
    """

    kinds: NDArray[np.int64]
    data: NDArray[np.float64]
    skins: NDArray[np.int64]
    spheres: NDArray[np.float64]
    ranges: NDArray[np.int64]
    textures: tuple[TextureSpec, ...]
    lights: NDArray[np.float64]
    sky: NDArray[np.float64]
    family: str
    plan: str
    things: tuple[str, ...]
    focus: NDArray[np.float64]
    bounds: NDArray[np.float64]
    reach: tuple[float, float]


class Builder:
    """Collects primitives in groups; each group is placed by a position and a yaw."""

    def __init__(self, draw: Draw, split: str) -> None:
        self.draw = draw
        self.split = split
        self.textures: list[TextureSpec] = [sky_texture(draw)]
        self.things: list[str] = []
        self._kinds: list[int] = []
        self._data: list[list[float]] = []
        self._skins: list[tuple[int, int]] = []
        self._ranges: list[tuple[int, int]] = []
        self._spheres: list[tuple[float, float, float, float]] = []
        self._start = 0
        self._origin = (0.0, 0.0, 0.0)
        self._yaw = 0.0

    def skin(self, role: str) -> int:
        """A new texture for a role; returns its index."""
        self.textures.append(draw_texture(self.draw, self.split, role, len(self.textures)))
        return len(self.textures) - 1

    def place(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> None:
        """Start a group whose local origin is (x, y, z), turned by ``yaw`` about the vertical."""
        self.close()
        self._origin = (x, y, z)
        self._yaw = yaw

    def close(self, *, everywhere: bool = False) -> None:
        """End the group; ``everywhere`` spares the bounding sphere of a room's walls."""
        first, end = self._start, len(self._kinds)
        if first == end:
            return
        balls = [_ball(self._kinds[i], self._data[i]) for i in range(first, end)]
        low = [min(b[k] - b[3] for b in balls) for k in range(3)]
        high = [max(b[k] + b[3] for b in balls) for k in range(3)]
        centre = [0.5 * (a + b) for a, b in zip(low, high, strict=True)]
        radius = max(math.dist(centre, b[:3]) + b[3] for b in balls) + 1e-9
        self._spheres.append((centre[0], centre[1], centre[2], math.inf if everywhere else radius))
        self._ranges.append((first, end))
        self._start = end

    def _world(self, x: float, y: float, z: float) -> list[float]:
        c, s = math.cos(self._yaw), math.sin(self._yaw)
        return [self._origin[0] + c * x - s * y, self._origin[1] + s * x + c * y, self._origin[2] + z]

    def _add(
        self, kind: int, numbers: list[float], skin: int, cap: int | None, period: float, glow: float = 0.0
    ) -> None:
        self._kinds.append(kind)
        self._data.append([*numbers, *([0.0] * (14 - len(numbers))), period, glow])
        self._skins.append((skin, skin if cap is None else cap))

    def box(
        self,
        centre: tuple[float, float, float],
        size: tuple[float, float, float],
        skin: int,
        *,
        cap: int | None = None,
        yaw: float = 0.0,
        tile: float | None = None,
    ) -> None:
        """A box of full ``size``; its longest side shows one texture unless ``tile`` metres are given."""
        turn = self._yaw + yaw
        half = [0.5 * n for n in size]
        numbers = [*self._world(*centre), math.cos(turn), math.sin(turn), *half]
        self._add(BOX, numbers, skin, cap, tile or max(size))

    def ellipsoid(self, centre: tuple[float, float, float], axes: tuple[float, float, float], skin: int) -> None:
        """An ellipsoid of the given semi-axes."""
        numbers = [*self._world(*centre), math.cos(self._yaw), math.sin(self._yaw), *axes]
        self._add(ELLIPSOID, numbers, skin, None, 1.0)

    def frustum(
        self,
        base: tuple[float, float, float],
        bottom: float,
        top: float,
        height: float,
        skin: int,
        *,
        cap: int | None = None,
        glow: float = 0.0,
    ) -> None:
        """A closed vertical cone stump (a cylinder where both radii are equal) standing on ``base``."""
        numbers = [*self._world(*base), math.cos(self._yaw), math.sin(self._yaw), bottom, top, height]
        self._add(FRUSTUM, numbers, skin, cap, max(math.pi * max(bottom, top), height), glow)

    def rect(
        self,
        centre: tuple[float, float, float],
        u: tuple[float, float, float],
        v: tuple[float, float, float],
        skin: int,
        *,
        tile: float | None = None,
    ) -> None:
        """A flat rectangle spanned by the half-side vectors ``u`` and ``v`` (orthogonal)."""
        c, s = math.cos(self._yaw), math.sin(self._yaw)
        sides = [(c * a[0] - s * a[1], s * a[0] + c * a[1], a[2]) for a in (u, v)]
        half = [math.hypot(*a) for a in sides]
        axes = [[k / n for k in a] for a, n in zip(sides, half, strict=True)]
        normal = np.cross(axes[0], axes[1]).tolist()
        numbers = [*self._world(*centre), *axes[0], *axes[1], *half, *normal]
        self._add(RECT, numbers, skin, None, tile or 2.0 * max(half))

    def world(
        self,
        family: str,
        plan: str,
        lights: Sequence[tuple[float, ...]],
        sky: list[float],
        focus: tuple[float, float, float],
        bounds: tuple[tuple[float, float, float], tuple[float, float, float]],
        reach: tuple[float, float],
    ) -> World:
        """The finished scene."""
        self.close()
        return World(
            np.array(self._kinds, dtype=np.int64),
            np.array(self._data, dtype=np.float64),
            np.array(self._skins, dtype=np.int64),
            np.array(self._spheres, dtype=np.float64),
            np.array(self._ranges, dtype=np.int64),
            tuple(self.textures),
            np.array(lights, dtype=np.float64),
            np.array(sky, dtype=np.float64),
            family,
            plan,
            tuple(dict.fromkeys(self.things)),
            np.array(focus, dtype=np.float64),
            np.array(bounds, dtype=np.float64),
            reach,
        )


def _ball(kind: int, numbers: list[float]) -> tuple[float, float, float, float]:
    x, y, z = numbers[:3]
    if kind == RECT:
        return x, y, z, math.hypot(numbers[9], numbers[10])
    if kind == BOX:
        return x, y, z, math.hypot(*numbers[5:8])
    if kind == ELLIPSOID:
        return x, y, z, max(numbers[5:8])
    half = 0.5 * numbers[7]
    return x, y, z + half, math.hypot(half, max(numbers[5:7]))
