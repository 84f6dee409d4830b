"""Layouts of `mini`: rooms, tables and courts. Training and test use disjoint plans within each family."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from gen3r_bench.datasets.mini import furniture as f
from gen3r_bench.datasets.mini.draws import Draw
from gen3r_bench.datasets.mini.world import Builder, World

FAMILIES: Final = ("room", "table", "court")

PLANS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "train": {"room": ("lounge", "dining", "store"), "table": ("ring", "rows"), "court": ("garden", "market")},
    "test": {"room": ("study", "bedroom", "gallery"), "table": ("arc", "towers"), "court": ("plaza", "yard")},
}


def build_world(draw: Draw, split: str, family: str, plan: str) -> World:
    """Lay out one scene."""
    return {"room": _room, "table": _table, "court": _court}[family](Builder(draw, split), plan)


class _Floor:
    """Keeps footprints (discs) apart."""

    def __init__(self, draw: Draw, width: float, depth: float) -> None:
        self.draw, self.width, self.depth = draw, width, depth
        self.taken: list[tuple[float, float, float]] = []

    def take(self, x: float, y: float, radius: float) -> bool:
        if any(math.hypot(x - a, y - b) < radius + r for a, b, r in self.taken):
            return False
        self.taken.append((x, y, radius))
        return True

    def wall(self, width: float, depth: float) -> f.Place | None:
        """A free place with the back against a wall, or None."""
        for _ in range(30):
            side = self.draw.integer(0, 3)
            along_x = side % 2 == 0
            reach = 0.5 * (self.width if along_x else self.depth) - 0.5 * width - 0.1
            out = 0.5 * (self.depth if along_x else self.width) - 0.5 * depth - 0.04
            s = self.draw.uniform(-reach, reach)
            x, y, yaw = ((s, out, 0.0), (out, s, -0.5 * math.pi), (s, -out, math.pi), (-out, s, 0.5 * math.pi))[side]
            if self.take(x, y, 0.5 * max(width, depth)):
                return x, y, 0.0, yaw
        return None

    def free(self, radius: float, margin: float, keep: float = 0.0) -> f.Place | None:
        """A free place in the open, ``keep`` metres from the centre, or None."""
        for _ in range(30):
            x = self.draw.uniform(-0.5, 0.5) * (self.width - 2 * margin)
            y = self.draw.uniform(-0.5, 0.5) * (self.depth - 2 * margin)
            if math.hypot(x, y) >= keep and self.take(x, y, radius):
                return x, y, 0.0, self.draw.uniform(0.0, 2 * math.pi)
        return None

    def corner(self, radius: float) -> f.Place | None:
        """A free corner, or None."""
        for sx, sy in self.draw.shuffled([(1, 1), (1, -1), (-1, 1), (-1, -1)]):
            x, y = sx * (0.5 * self.width - radius - 0.08), sy * (0.5 * self.depth - radius - 0.08)
            if self.take(x, y, radius):
                return x, y, 0.0, 0.0
        return None


def _shell(b: Builder, width: float, depth: float, height: float) -> None:
    """Floor, ceiling and four walls with a skirting, each with its own texture."""
    b.place(0, 0)
    w, d, h = 0.5 * width, 0.5 * depth, 0.5 * height
    b.rect((0, 0, 0), (w, 0, 0), (0, d, 0), b.skin("ground"))
    b.rect((0, 0, height), (w, 0, 0), (0, d, 0), b.skin("calm"))
    for x, y, u in ((0, d, (w, 0, 0)), (0, -d, (w, 0, 0)), (w, 0, (0, d, 0)), (-w, 0, (0, d, 0))):
        b.rect((x, y, h), u, (0.0, 0.0, -h), b.skin("shell"))
    trim = b.skin("object")
    for x, y, size in (
        (0, d, (width, 0.04, 0.12)),
        (0, -d, (width, 0.04, 0.12)),
        (w, 0, (0.04, depth, 0.12)),
        (-w, 0, (0.04, depth, 0.12)),
    ):
        b.box((x, y, 0.06), size, trim, tile=1.5)
    b.close(everywhere=True)


def _pictures(b: Builder, width: float, depth: float, count: int) -> None:
    """Pictures and windows on the walls, above the furniture."""
    slots = b.draw.shuffled([(side, third) for side in range(4) for third in (-1, 0, 1)])
    for side, third in slots[:count]:
        along_x = side % 2 == 0
        length, out = (width, 0.5 * depth) if along_x else (depth, 0.5 * width)
        s = third * length * 0.3 + b.draw.uniform(-0.1, 0.1)
        w, h = b.draw.uniform(0.7, 1.2), b.draw.uniform(0.6, 0.9)
        x, y, yaw = (
            (s, out, 0.0), (out, s, -0.5 * math.pi), (s, -out, math.pi), (-out, s, 0.5 * math.pi)
        )[side]  # fmt: skip
        b.place(x, y, b.draw.uniform(1.55, 1.85), yaw)
        b.box((0, -0.02, 0), (w + 0.12, 0.04, h + 0.12), b.skin("calm"))
        b.box((0, -0.035, 0), (w, 0.05, h), b.skin("picture"), tile=max(w, h))
    if count:
        b.things.append("pictures on the walls")


def _put(b: Builder, at: f.Place | None, make: Callable[[Builder, f.Place], None]) -> None:
    if at is not None:
        make(b, at)


def _indoor_lights(
    b: Builder, width: float, depth: float, height: float
) -> tuple[list[tuple[float, ...]], list[float]]:
    warm = b.draw.uniform(0.0, 1.0)
    colour = (1.0, 0.93 - 0.1 * warm, 0.84 - 0.25 * warm)
    key = b.draw.uniform(1.5, 2.1)
    x, y = b.draw.uniform(-0.3, 0.3) * width, b.draw.uniform(-0.3, 0.3) * depth
    lights = [(1.0, x, y, height - 0.25, *(key * c for c in colour), 3.0)]
    x, y = -x + b.draw.uniform(-0.5, 0.5), -y + b.draw.uniform(-0.5, 0.5)
    lights.append((2.0, x, y, height - 0.35, 0.6, 0.66, 0.75, 3.0))
    ambient = [0.40, 0.42, 0.46, 0.30, 0.27, 0.24]
    return lights, [*ambient, 0, 0, 0, 0, 0, 0, 1.0, 0.0]


def _room(b: Builder, plan: str) -> World:
    width, depth, height = b.draw.uniform(4.6, 6.4), b.draw.uniform(4.6, 6.4), b.draw.uniform(2.6, 3.1)
    _shell(b, width, depth, height)
    floor = _Floor(b.draw, width, depth)
    if plan in ("lounge", "study", "bedroom") or b.draw.chance(0.4):
        b.place(0, 0, 0, b.draw.uniform(-0.4, 0.4))
        b.box((0, 0, 0.01), (b.draw.uniform(1.8, 2.6), b.draw.uniform(1.4, 2.0), 0.02), b.skin("object"))
        b.things.append("a rug")
    if plan == "lounge":
        _put(b, floor.wall(2.1, 0.9), f.sofa)
        f.table(b, (0, 0, 0, b.draw.uniform(-0.5, 0.5)), 1.0, 0.6, 0.42)
        _on_top(b, 0.42, 0.25, 2)
        floor.take(0, 0, 0.7)
        _put(b, floor.wall(1.6, 0.4), f.shelf)
        _put(b, floor.corner(0.3), f.lamp)
        _put(b, floor.corner(0.35), f.plant)
        _put(b, floor.wall(1.6, 0.5), f.cabinet)
    elif plan == "dining":
        f.table(b, (0, 0, 0, b.draw.uniform(-0.5, 0.5)), 1.5, 0.95, 0.75)
        _on_top(b, 0.75, 0.4, 3)
        floor.take(0, 0, 0.8)
        for k in range(4):
            angle = 0.4 + 0.5 * math.pi * k + b.draw.uniform(-0.2, 0.2)
            floor.take(1.1 * math.cos(angle), 1.1 * math.sin(angle), 0.1)
            b.draw.choice((f.stool, f.chair))(
                b, (1.1 * math.cos(angle), 1.1 * math.sin(angle), 0, angle - 0.5 * math.pi)
            )
        for make, w in ((f.cabinet, 1.6), (f.shelf, 1.6), (f.cabinet, 1.6)):
            _put(b, floor.wall(w, 0.5), make)
        _put(b, floor.corner(0.35), f.plant)
    elif plan == "store":
        for _ in range(3):
            _put(b, floor.wall(1.6, 0.4), f.shelf)
        for _ in range(3):
            _put(b, floor.free(0.5, 1.2), f.crate)
        for _ in range(2):
            _put(b, floor.free(0.4, 1.0), f.barrel)
    elif plan == "study":
        x, y = b.draw.uniform(-0.4, 0.4), b.draw.uniform(-0.4, 0.4)
        yaw = b.draw.uniform(0, 2 * math.pi)
        f.table(b, (x, y, 0, yaw), 1.5, 0.75, 0.74)
        _on_top(b, 0.74, 0.35, 4, x, y)
        floor.take(x, y, 0.8)
        f.chair(b, (x + 0.75 * math.sin(yaw), y - 0.75 * math.cos(yaw), 0, yaw + math.pi + b.draw.uniform(-0.4, 0.4)))
        floor.take(x + 0.75 * math.sin(yaw), y - 0.75 * math.cos(yaw), 0.2)
        for make, w in ((f.shelf, 1.6), (f.shelf, 1.6), (f.wardrobe, 1.5)):
            _put(b, floor.wall(w, 0.5), make)
        _put(b, floor.corner(0.3), f.lamp)
    elif plan == "bedroom":
        _put(b, floor.wall(1.6, 2.1), f.bed)
        _put(b, floor.wall(1.5, 0.55), f.wardrobe)
        _put(b, floor.wall(1.6, 0.5), f.cabinet)
        _put(b, floor.free(0.35, 1.2), f.stool)
        _put(b, floor.corner(0.3), f.lamp)
        _put(b, floor.corner(0.35), f.plant)
    else:
        for _ in range(5):
            _put(b, floor.free(0.55, 1.0), f.pedestal)
        _put(b, floor.wall(1.5, 0.5), f.bench)
        _put(b, floor.corner(0.35), f.plant)
    _pictures(b, width, depth, 9 if plan == "gallery" else b.draw.integer(4, 6))
    lights, sky = _indoor_lights(b, width, depth, height)
    focus = (b.draw.uniform(-0.4, 0.4), b.draw.uniform(-0.4, 0.4), b.draw.uniform(0.6, 1.0))
    bounds = ((-0.5 * width + 0.4, -0.5 * depth + 0.4, 1.0), (0.5 * width - 0.4, 0.5 * depth - 0.4, 2.0))
    return b.world("room", plan, lights, sky, focus, bounds, (1.5, 3.2))


def _on_top(b: Builder, z: float, reach: float, count: int, x: float = 0.0, y: float = 0.0) -> None:
    start = b.draw.uniform(0.0, 2 * math.pi)
    for k in range(count):
        angle = start + 2 * math.pi * k / count
        at = (x + reach * math.cos(angle) * 0.8, y + reach * math.sin(angle) * 0.8, z, b.draw.uniform(0, 3))
        b.draw.choice(f.SMALL)(b, at, 1.0)


def _table(b: Builder, plan: str) -> World:
    width, depth, height = b.draw.uniform(5.0, 7.0), b.draw.uniform(5.0, 7.0), b.draw.uniform(2.7, 3.2)
    _shell(b, width, depth, height)
    top = b.draw.uniform(0.66, 0.8)
    if b.draw.chance(0.35):
        b.place(0, 0)
        b.frustum((0, 0, 0), 0.35, 0.25, top - 0.06, b.skin("object"))
        b.frustum((0, 0, top - 0.06), 0.8, 0.8, 0.06, b.skin("object"), cap=b.skin("object"))
        b.things.append("a round table")
    else:
        f.table(b, (0, 0, 0, b.draw.uniform(0, 3)), b.draw.uniform(1.4, 1.7), b.draw.uniform(1.2, 1.4), top)
    b.things.clear()
    places: list[tuple[float, float, float]] = []
    turn = b.draw.uniform(0, 2 * math.pi)
    if plan == "ring":
        n = b.draw.integer(5, 7)
        places = [
            (0.42 * math.cos(turn + 6.2832 * k / n), 0.42 * math.sin(turn + 6.2832 * k / n), 1.3) for k in range(n)
        ]
        places.append((0.0, 0.0, 2.0))
    elif plan == "rows":
        c, s = math.cos(turn), math.sin(turn)
        for i in (-1, 0, 1):
            for j in (-0.5, 0.5):
                places.append((0.38 * i * c - 0.42 * j * s, 0.38 * i * s + 0.42 * j * c, 1.4))
    elif plan == "arc":
        for k in range(5):
            angle = turn + 0.85 * (k - 2)
            places.append((0.5 * math.cos(angle), 0.5 * math.sin(angle), 1.0 + 0.25 * k))
        places.append((-0.15 * math.cos(turn), -0.15 * math.sin(turn), 2.1))
    else:
        for k in range(3):
            angle = turn + 2.1 * k
            places.append((0.4 * math.cos(angle), 0.4 * math.sin(angle), 1.6))
    for x, y, size in places:
        z = top
        if plan == "towers":
            for level in range(b.draw.integer(1, 2)):
                b.place(x, y, z, b.draw.uniform(0, 3))
                tall, wide = b.draw.uniform(0.1, 0.18), 0.36 - 0.08 * level
                b.box((0, 0, 0.5 * tall), (wide, wide, tall), b.skin("object"), cap=b.skin("object"))
                b.things.append("stacked blocks")
                z += tall
        b.draw.choice(f.SMALL)(b, (x, y, z, b.draw.uniform(0, 6.28)), size)
    floor = _Floor(b.draw, width, depth)
    for make in b.draw.shuffled([f.cabinet, f.shelf, f.shelf, f.plant])[:2]:
        named = list(b.things)
        _put(b, floor.wall(1.6, 0.5), make)
        b.things = named
    _pictures(b, width, depth, b.draw.integer(3, 6))
    b.things.remove("pictures on the walls")
    lights, sky = _indoor_lights(b, 2.5, 2.5, height)
    focus = (b.draw.uniform(-0.1, 0.1), b.draw.uniform(-0.1, 0.1), top + b.draw.uniform(0.02, 0.14))
    bounds = ((-0.5 * width + 0.4, -0.5 * depth + 0.4, top + 0.25), (0.5 * width - 0.4, 0.5 * depth - 0.4, 1.9))
    return b.world("table", plan, lights, sky, focus, bounds, (1.1, 1.7))


def _court(b: Builder, plan: str) -> World:
    width, depth = b.draw.uniform(9.0, 13.0), b.draw.uniform(9.0, 13.0)
    b.place(0, 0)
    b.rect((0, 0, 0), (0.5 * width + 6, 0, 0), (0, 0.5 * depth + 6, 0), b.skin("ground"), tile=4.0)
    b.close(everywhere=True)
    wall, trim = [b.skin("shell") for _ in range(4)], b.skin("object")
    low = b.draw.uniform(1.3, 2.2)
    for side in range(4):
        along_x = side % 2 == 0
        length, out = (width, 0.5 * depth) if along_x else (depth, 0.5 * width)
        sign = 1 if side < 2 else -1
        x, y, yaw = (0.0, sign * out, 0.0) if along_x else (sign * out, 0.0, 0.5 * math.pi)
        high = low + b.draw.uniform(-0.2, 0.4)
        b.place(x, y, 0, yaw)
        b.box((0, 0, 0.5 * high), (length + 0.3, 0.3, high), wall[side], tile=4.0)
        b.box((0, 0, high + 0.05), (length + 0.4, 0.42, 0.1), trim, tile=2.0)
    if b.draw.chance(0.7):
        side = b.draw.choice((-1, 1))
        b.place(b.draw.uniform(-2, 2), side * (0.5 * depth + 2.0))
        b.box((0, 0, 2.2), (b.draw.uniform(4, 7), 3.0, 4.4), b.skin("shell"), tile=3.5, cap=b.skin("object"))
        b.things.append("a house behind the wall")
    floor = _Floor(b.draw, width - 0.6, depth - 0.6)
    if plan == "garden":
        wants = [(f.tree, 0.9)] * 4 + [(f.hedge, 1.0)] * 3 + [(f.bench, 0.8)] * 2 + [(f.plant, 0.4)] * 2
    elif plan == "market":
        wants = [(f.stall, 1.1)] * 3 + [(f.crate, 0.5)] * 3 + [(f.barrel, 0.4)] * 3 + [(f.tree, 0.9)] * 2
    elif plan == "plaza":
        floor.take(0, 0, 1.2)
        f.fountain(b, (0, 0, 0, 0))
        n, turn, ring = b.draw.integer(4, 6), b.draw.uniform(0, 6), b.draw.uniform(2.6, 3.2)
        for k in range(n):
            angle = turn + 2 * math.pi * k / n
            floor.take(ring * math.cos(angle), ring * math.sin(angle), 0.4)
            f.column(b, (ring * math.cos(angle), ring * math.sin(angle), 0, angle))
        wants = [(f.bench, 0.8)] * 2 + [(f.tree, 0.9)] * 2 + [(f.plant, 0.35)] * 2
    else:
        at = floor.wall(2.8, 2.4)
        _put(b, at, f.shed)
        wants = [(f.crate, 0.5)] * 4 + [(f.barrel, 0.4)] * 4 + [(f.tree, 0.9)] * 2 + [(f.hedge, 1.0)] * 2
    for make, radius in wants:
        _put(b, floor.free(radius, 1.0), make)
    azimuth, height = b.draw.uniform(0, 2 * math.pi), b.draw.uniform(0.6, 1.1)
    direction = (math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height), math.sin(height))
    lights = [(0.0, *direction, 1.5, 1.38, 1.15, 1.0)]
    haze = b.draw.uniform(0.0, 1.0)
    zenith = [0.12 + 0.1 * haze, 0.28 + 0.12 * haze, 0.75]
    horizon = [0.75, 0.85 - 0.05 * haze, 1.0 - 0.1 * haze]
    sky = [0.40, 0.46, 0.58, 0.24, 0.22, 0.18, *zenith, *horizon, 1.0, 0.0]
    focus = (b.draw.uniform(-0.8, 0.8), b.draw.uniform(-0.8, 0.8), b.draw.uniform(0.7, 1.1))
    bounds = ((-0.5 * width + 0.6, -0.5 * depth + 0.6, 1.2), (0.5 * width - 0.6, 0.5 * depth - 0.6, 2.6))
    return b.world("court", plan, lights, sky, focus, bounds, (2.6, 4.6))
