"""Things that stand in `mini` scenes, each built from a few primitives around a local origin on the floor.

A piece faces local -y: its back is at +y. Every function places one group and names the thing for the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from gen3r_bench.datasets.mini.world import Builder

Place = tuple[float, float, float, float]
"""x, y, z of the local origin, metres, and yaw, radians."""


def table(b: Builder, at: Place, width: float, depth: float, height: float) -> None:
    b.place(*at)
    wood, leg = b.skin("object"), b.skin("object")
    b.box((0, 0, height - 0.03), (width, depth, 0.06), wood, tile=0.5 * (width + depth))
    if b.draw.chance(0.6):
        for x in (-1, 1):
            for y in (-1, 1):
                b.box(
                    (x * (0.5 * width - 0.07), y * (0.5 * depth - 0.07), 0.5 * height - 0.03),
                    (0.09, 0.09, height - 0.06),
                    leg,
                )
    else:
        b.frustum((0, 0, 0), 0.28 * depth, 0.22 * depth, 0.06, leg)
        b.frustum((0, 0, 0.06), 0.1, 0.08, height - 0.12, leg)
    b.things.append("a table")


def chair(b: Builder, at: Place) -> None:
    b.place(*at)
    skin = b.skin("object")
    b.box((0, 0, 0.44), (0.46, 0.46, 0.07), skin)
    b.box((0, 0.21, 0.75), (0.46, 0.06, 0.5), b.skin("object"))
    for x in (-0.19, 0.19):
        for y in (-0.19, 0.19):
            b.box((x, y, 0.2), (0.06, 0.06, 0.4), skin)
    b.things.append("a chair")


def stool(b: Builder, at: Place) -> None:
    b.place(*at)
    skin = b.skin("object")
    b.frustum((0, 0, 0), 0.2, 0.14, 0.42, skin)
    b.frustum((0, 0, 0.42), 0.21, 0.21, 0.07, b.skin("object"))
    b.things.append("a stool")


def sofa(b: Builder, at: Place) -> None:
    b.place(*at)
    width = b.draw.uniform(1.6, 2.1)
    cloth, pillow = b.skin("object"), b.skin("object")
    b.box((0, 0, 0.2), (width, 0.85, 0.4), cloth, tile=1.1)
    b.box((0, 0.33, 0.58), (width, 0.2, 0.42), cloth, tile=1.1)
    for side in (-1, 1):
        b.box((side * (0.5 * width - 0.09), -0.05, 0.46), (0.18, 0.72, 0.26), cloth, tile=1.1)
        b.ellipsoid((side * 0.27 * width, 0.13, 0.55), (0.24, 0.11, 0.17), pillow)
    b.things.append("a sofa")


def shelf(b: Builder, at: Place) -> None:
    b.place(*at)
    width, boards, gap = b.draw.uniform(1.0, 1.6), b.draw.integer(3, 4), 0.42
    height = boards * gap + 0.06
    skin, books = b.skin("object"), [b.skin("object") for _ in range(3)]
    b.box((0, 0.17, 0.5 * height), (width, 0.03, height), b.skin("shell"))
    for side in (-1, 1):
        b.box((side * (0.5 * width + 0.02), 0, 0.5 * height), (0.05, 0.36, height), skin)
    for level in range(boards + 1):
        b.box((0, 0, level * gap + 0.03), (width, 0.34, 0.045), skin)
    b.close()
    b.place(*at)
    for level in range(boards):
        x = -0.5 * width + 0.08
        while x < 0.5 * width - 0.3:
            w = b.draw.uniform(0.14, 0.3)
            tall = b.draw.uniform(0.18, 0.34)
            floor = level * gap + 0.055
            if b.draw.chance(0.65):
                b.box((x + 0.5 * w, -0.02, floor + 0.5 * tall), (w - 0.02, 0.22, tall), b.draw.choice(books))
            else:
                r = 0.45 * min(w, tall)
                b.ellipsoid((x + 0.5 * w, -0.02, floor + r), (r, r, r), b.draw.choice(books))
            x += w + b.draw.uniform(0.0, 0.12)
    b.things.append("a shelf")


def wardrobe(b: Builder, at: Place) -> None:
    b.place(*at)
    width, height = b.draw.uniform(1.0, 1.5), b.draw.uniform(1.7, 2.1)
    body, door = b.skin("object"), b.skin("object")
    b.box((0, 0.03, 0.5 * height), (width, 0.5, height), body, tile=1.2)
    for side in (-1, 1):
        b.box((side * 0.25 * width, -0.235, 0.5 * height), (0.46 * width, 0.04, 0.92 * height), door, tile=1.0)
    b.things.append("a wardrobe")


def cabinet(b: Builder, at: Place) -> None:
    b.place(*at)
    width, front = b.draw.uniform(1.0, 1.6), b.skin("object")
    b.box((0, 0.02, 0.42), (width, 0.44, 0.84), b.skin("object"), tile=0.9)
    for k in range(3):
        b.box(((k - 1) * width / 3.05, -0.21, 0.44), (0.3 * width, 0.04, 0.66), front)
    b.things.append("a cabinet")
    x, y, z, yaw = at
    for side in (-0.3, 0.3):
        thing = b.draw.choice(SMALL)
        thing(b, (x + side * width * math.cos(yaw), y + side * width * math.sin(yaw), z + 0.84, yaw), 1.4)


def bed(b: Builder, at: Place) -> None:
    b.place(*at)
    width = b.draw.uniform(1.3, 1.6)
    wood, cloth, pillow = b.skin("object"), b.skin("object"), b.skin("object")
    b.box((0, -0.0, 0.17), (width, 2.0, 0.34), wood, tile=1.0)
    b.box((0, -0.04, 0.44), (width - 0.06, 1.9, 0.2), cloth, tile=1.1)
    b.box((0, 0.99, 0.5), (width, 0.07, 1.0), wood, tile=1.0)
    for side in (-1, 1):
        b.ellipsoid((side * 0.24 * width, 0.66, 0.62), (0.3, 0.2, 0.11), pillow)
    b.things.append("a bed")


def lamp(b: Builder, at: Place) -> None:
    b.place(*at)
    metal = b.skin("object")
    b.frustum((0, 0, 0), 0.17, 0.15, 0.05, metal)
    b.frustum((0, 0, 0.05), 0.035, 0.035, 1.3, metal)
    b.frustum((0, 0, 1.3), 0.26, 0.16, 0.3, b.skin("object"), glow=0.8)
    b.things.append("a floor lamp")


def plant(b: Builder, at: Place) -> None:
    b.place(*at)
    leaves = b.skin("leaves")
    b.frustum((0, 0, 0), 0.15, 0.21, 0.36, b.skin("object"))
    b.frustum((0, 0, 0.36), 0.04, 0.03, 0.3, leaves)
    for k in range(3):
        angle = 2.1 * k
        b.ellipsoid((0.14 * math.cos(angle), 0.14 * math.sin(angle), 0.78 + 0.16 * k), (0.22, 0.19, 0.2), leaves)
    b.things.append("a potted plant")


def crate(b: Builder, at: Place) -> None:
    b.place(*at)
    size = b.draw.uniform(0.4, 0.7)
    skin = b.skin("object")
    b.box((0, 0, 0.5 * size), (size, size, size), skin, cap=b.skin("object"))
    if b.draw.chance(0.5):
        upper = 0.7 * size
        b.box((0, 0, size + 0.5 * upper), (upper, upper, upper), b.skin("object"), yaw=b.draw.uniform(0.2, 0.8))
    b.things.append("a stack of crates")


def barrel(b: Builder, at: Place) -> None:
    b.place(*at)
    skin, lid = b.skin("object"), b.skin("object")
    b.frustum((0, 0, 0), 0.25, 0.32, 0.45, skin)
    b.frustum((0, 0, 0.45), 0.32, 0.25, 0.45, skin, cap=lid)
    b.things.append("a barrel")


def pedestal(b: Builder, at: Place) -> None:
    b.place(*at)
    height = b.draw.uniform(0.7, 1.0)
    if b.draw.chance(0.5):
        b.box((0, 0, 0.5 * height), (0.4, 0.4, height), b.skin("object"))
    else:
        b.frustum((0, 0, 0), 0.26, 0.2, height, b.skin("object"))
    b.things.append("a pedestal")
    x, y, z, yaw = at
    b.draw.choice(SMALL)(b, (x, y, z + height, yaw), 1.9)


def bench(b: Builder, at: Place) -> None:
    b.place(*at)
    skin = b.skin("object")
    b.box((0, 0, 0.43), (1.4, 0.42, 0.07), skin, tile=0.8)
    b.box((0, 0.2, 0.72), (1.4, 0.06, 0.34), skin, tile=0.8)
    for side in (-0.55, 0.55):
        b.box((side, 0, 0.2), (0.1, 0.38, 0.4), b.skin("object"))
    b.things.append("a bench")


def tree(b: Builder, at: Place) -> None:
    b.place(*at)
    leaves, tall = b.skin("leaves"), b.draw.uniform(1.1, 1.7)
    b.frustum((0, 0, 0), 0.17, 0.11, tall + 0.2, b.skin("object"))
    if b.draw.chance(0.4):
        for k in range(3):
            b.frustum((0, 0, tall - 0.4 + 0.6 * k), 0.95 - 0.25 * k, 0.15, 0.9, leaves)
    else:
        for k in range(4):
            angle = 1.6 * k + b.draw.uniform(0, 0.6)
            r = b.draw.uniform(0.5, 0.75)
            b.ellipsoid((0.4 * math.cos(angle), 0.4 * math.sin(angle), tall + 0.4 + 0.18 * k), (r, r, 0.8 * r), leaves)
    b.things.append("a tree")


def hedge(b: Builder, at: Place) -> None:
    b.place(*at)
    b.box((0, 0, 0.45), (b.draw.uniform(1.4, 2.2), 0.6, 0.9), b.skin("leaves"), tile=1.0)
    b.things.append("a hedge")


def shed(b: Builder, at: Place) -> None:
    b.place(*at)
    width, depth, height = b.draw.uniform(2.0, 2.8), b.draw.uniform(1.6, 2.2), b.draw.uniform(1.9, 2.3)
    roof, rise = b.skin("object"), 0.75
    b.box((0, 0, 0.5 * height), (width, depth, height), b.skin("shell"), tile=2.0)
    b.box((0, -0.5 * depth - 0.02, 0.8), (0.8, 0.05, 1.6), b.skin("object"), tile=1.0)
    for side in (-1, 1):
        b.rect(
            (0, side * 0.28 * depth, height + 0.5 * rise),
            (0.56 * width, 0, 0),
            (0, side * 0.3 * depth, -0.5 * rise),
            roof,
            tile=1.6,
        )
    b.things.append("a shed")


def column(b: Builder, at: Place) -> None:
    b.place(*at)
    stone, tall = b.skin("object"), b.draw.uniform(1.8, 2.8)
    b.box((0, 0, 0.12), (0.62, 0.62, 0.24), stone)
    b.frustum((0, 0, 0.24), 0.24, 0.19, tall, stone)
    b.box((0, 0, tall + 0.32), (0.56, 0.56, 0.16), stone)
    b.things.append("a column")


def fountain(b: Builder, at: Place) -> None:
    b.place(*at)
    stone, water = b.skin("object"), b.skin("calm")
    b.frustum((0, 0, 0), 0.95, 1.05, 0.45, stone, cap=water)
    b.frustum((0, 0, 0.45), 0.2, 0.16, 0.7, b.skin("object"))
    b.frustum((0, 0, 1.1), 0.25, 0.5, 0.16, stone, cap=water)
    b.ellipsoid((0, 0, 1.42), (0.17, 0.17, 0.2), b.skin("object"))
    b.things.append("a fountain")


def stall(b: Builder, at: Place) -> None:
    b.place(*at)
    wood, cloth = b.skin("object"), b.skin("object")
    b.box((0, 0, 0.45), (1.6, 0.8, 0.9), wood, tile=0.9)
    for x in (-0.75, 0.75):
        b.box((x, 0.36, 1.05), (0.08, 0.08, 2.1), wood)
        b.box((x, -0.36, 0.95), (0.08, 0.08, 1.9), wood)
    b.rect((0, 0, 2.0), (0.95, 0, 0), (0, 0.55, 0.15), cloth, tile=1.2)
    for k in range(4):
        r = b.draw.uniform(0.11, 0.17)
        b.ellipsoid((-0.55 + 0.37 * k, b.draw.uniform(-0.15, 0.15), 0.9 + r), (r, r, r), b.skin("object"))
    b.things.append("a market stall")


def box_object(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    w, d, h = (size * b.draw.uniform(0.12, 0.24) for _ in range(3))
    b.box((0, 0, 0.5 * h), (w, d, h), b.skin("object"), cap=b.skin("object"))
    b.things.append("a box")


def ball(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    r = size * b.draw.uniform(0.07, 0.12)
    b.ellipsoid((0, 0, r), (r, r, r), b.skin("object"))
    b.things.append("a ball")


def vase(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    skin, r = b.skin("object"), size * b.draw.uniform(0.06, 0.09)
    b.frustum((0, 0, 0), 0.7 * r, 1.3 * r, 1.6 * r, skin)
    b.frustum((0, 0, 1.6 * r), 1.3 * r, 0.5 * r, 1.2 * r, skin)
    b.frustum((0, 0, 2.8 * r), 0.5 * r, 0.75 * r, 0.6 * r, skin)
    b.things.append("a vase")


def can(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    r = size * b.draw.uniform(0.05, 0.08)
    b.frustum((0, 0, 0), r, r, r * b.draw.uniform(1.8, 3.2), b.skin("object"), cap=b.skin("object"))
    b.things.append("a can")


def cone(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    r = size * b.draw.uniform(0.08, 0.11)
    b.frustum((0, 0, 0), r, 0.1 * r, 2.4 * r, b.skin("object"))
    b.things.append("a cone")


def books(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    z = 0.0
    for _ in range(b.draw.integer(2, 4)):
        h = size * b.draw.uniform(0.03, 0.05)
        b.box((0, 0, z + 0.5 * h), (0.26 * size, 0.19 * size, h), b.skin("object"), yaw=b.draw.uniform(-0.35, 0.35))
        z += h
    b.things.append("a stack of books")


def mug(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    skin, r = b.skin("object"), size * 0.06
    b.frustum((0, 0, 0), 0.85 * r, r, 2.0 * r, skin, cap=b.skin("calm"))
    b.box((1.15 * r, 0, 1.05 * r), (0.5 * r, 0.25 * r, 1.1 * r), skin)
    b.things.append("a mug")


def egg(b: Builder, at: Place, size: float) -> None:
    b.place(*at)
    r = size * b.draw.uniform(0.06, 0.09)
    b.frustum((0, 0, 0), 0.7 * r, 0.5 * r, 0.5 * r, b.skin("object"))
    b.ellipsoid((0, 0, 1.9 * r), (r, 0.9 * r, 1.5 * r), b.skin("object"))
    b.things.append("an egg in a cup")


SMALL: Final[tuple[Callable[[Builder, Place, float], None], ...]] = (
    box_object, ball, vase, can, cone, books, mug, egg,
)  # fmt: skip
