"""Surface textures: crops of scikit-image's bundled pictures and procedural patterns, at the detail a frame size needs.

Training and test draw from disjoint pictures AND disjoint patterns. A texture has 12 to 24 texels a surface at the
default frame size of 112 pixels, and proportionally more at larger sizes: the same picture, sharper.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.datasets.mini.draws import Draw
from gen3r_bench.errors import SceneError

DEFAULT_SIDE: Final = 112
"""Frame side, in pixels, at which a texture has the texels that its layout drew."""

PICTURES: Final[dict[str, tuple[str, ...]]] = {
    "train": ("astronaut", "brick", "chelsea", "coins", "gravel", "logo", "text"),
    "test": ("camera", "coffee", "grass", "ihc", "moon", "page"),
}
"""Bundled PNGs a split may use; only PNGs, whose pixels do not depend on the decoder."""

PATTERNS: Final[dict[str, tuple[str, ...]]] = {
    "train": ("checker", "stripes", "clouds", "dots"),
    "test": ("bond", "plaid", "rings", "shards"),
}

_SHA256: Final[dict[str, str]] = {
    "astronaut": "a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071",
    "brick": "664a145c5253f0d66db1a12776785f0ea35a44cc7447ffc933f6d6118dc58643",
    "camera": "5cb24482a53416f99052258be2b1ee38cd31c559a70c8a8b321cba231b332e21",
    "chelsea": "416b729128bfb2c3d1eb69bf9b1734a796293abc17939267b2dc94f8a5784031",
    "coffee": "0ce2b51640b9c95f19617f03eabf40c3f0368589cc1ee1190b70966165ac184f",
    "coins": "e080cc03805f1fa70516c3cb84883d4633bda2a1b51841da7c22f3d14c072451",
    "grass": "b18dae4c68bf850a7a7b28a29d1846c76be890665117b57fd125fe29c4d4ede6",
    "gravel": "3d51ad45f789cd8b98534b7af6bce774e499ead45421135afd757358c7230009",
    "ihc": "c5b3ef509a92f16d4c29be8cf0300fe75d53e13a3ce650159db932caea8dcc1b",
    "logo": "17be4850288aa25b79790e4508165da432585627d4bd46d7992ab1d6496f43df",
    "moon": "a20362266d5b01021f6f0f54bd603c3137f921b741770420deeb5ea0141716c0",
    "page": "667bfd85aab58052ae90251fae1a265cf8be6d1097b1e61dcfc183b65887a1fe",
    "text": "6705caed21e6281799a52591c27498da5526cace39f2b6af3141b2ff11e2e517",
}
"""Of the decoded pixels: another picture under the same name would change scenes without changing their version."""

MASTER_SIDE: Final = 120
"""Texels of the finest version of a texture: 24 at the default side are 120 at 560."""


@dataclass(frozen=True, slots=True)
class TextureSpec:
    """One texture, independent of resolution.

    Attributes:
        source: name of a picture or a pattern.
        texels: a side at the default frame size.
        crop: (left, top, side) of a picture's crop as shares of its shorter side and of the room left beside it.
        dark: RGB in 0..1 (display values) that the darkest grey maps to; pictures in colour keep their own colours.
        light: RGB that the lightest grey maps to.
        contrast: standard deviation that the texture is brought to at the default size.
        seed: of the pattern.
    """

    source: str
    texels: int
    crop: tuple[float, float, float]
    dark: tuple[float, float, float]
    light: tuple[float, float, float]
    contrast: float
    seed: str


def draw_texture(draw: Draw, split: str, role: str, index: int) -> TextureSpec:
    """Choose a texture for a surface; ``role`` is "shell", "ground", "object", "picture", "leaves" or "calm"."""
    photo = draw.chance({"picture": 1.0, "calm": 0.0}.get(role, 0.65))
    sources = PICTURES[split] if photo else PATTERNS[split]
    source = draw.choice(sources)
    if role in ("ground", "leaves") and draw.chance(0.75):
        source = draw.choice(("brick", "gravel", "clouds") if split == "train" else ("grass", "bond", "shards"))
    texels = draw.integer(18, 24) if role in ("shell", "ground", "picture") else draw.integer(12, 20)
    hue = draw.uniform(0.0, 1.0)
    if role == "leaves":
        hue = draw.uniform(0.2, 0.4)
    elif role == "ground" and draw.chance(0.6):
        hue = draw.uniform(0.06, 0.3)
    saturation = draw.uniform(0.08, 0.3) if role in ("shell", "ground", "calm") else draw.uniform(0.15, 0.6)
    dark = colorsys.hsv_to_rgb(hue, min(1.0, saturation * 1.3), draw.uniform(0.2, 0.4))
    light = colorsys.hsv_to_rgb((hue + draw.uniform(-0.08, 0.08)) % 1.0, saturation * 0.8, draw.uniform(0.75, 0.98))
    contrast = {"calm": 0.06, "shell": 0.16, "picture": 0.24}.get(role, 0.2)
    side = draw.uniform(0.85, 1.0) if role == "picture" else draw.uniform(0.3, 0.6)
    crop = (draw.uniform(0.0, 1.0), draw.uniform(0.0, 1.0), side)
    return TextureSpec(source, texels, crop, dark, light, contrast, f"{index}/{draw.uniform(0, 1):.9f}")


def sky_texture(draw: Draw) -> TextureSpec:
    """Soft clouds; the same generator for both splits, because a sky has no texture to learn."""
    dark, light = (0.0, 0.0, 0.0), (0.8, 0.8, 0.8)
    return TextureSpec("clouds", 16, (0, 0, 1), dark, light, 0.3, f"sky/{draw.uniform(0, 1):.9f}")


def master_texture(spec: TextureSpec) -> NDArray[np.float64]:
    """[n, n, 3] display values in 0..1 at the largest detail that any frame size needs.

    Raises:
        SceneError: where scikit-image's picture is missing or is not the one this dataset was made with.
    """
    fine = _picture_crop(spec) if spec.source in _SHA256 else _PATTERN[spec.source](Draw(spec.seed))[..., None]
    # contrast is measured at the default size, so that a larger frame shows the same texture, only sharper
    coarse = _area_resample(fine, spec.texels)
    mean = coarse.mean(axis=(0, 1))
    gain = min(4.0, spec.contrast / max(float(coarse.std()), 1e-3))
    fine = 0.5 + gain * (_area_resample(fine, MASTER_SIDE) - mean)
    if fine.shape[2] == 3:
        return np.asarray(np.clip(fine - 0.5 + np.clip(mean, 0.3, 0.7), 0.02, 0.98), dtype=np.float64)
    fine = np.clip(fine, 0.0, 1.0)
    return np.asarray(np.array(spec.dark) * (1.0 - fine) + np.array(spec.light) * fine, dtype=np.float64)


def texture_at(master: NDArray[np.float64], spec: TextureSpec, frame_side: int) -> NDArray[np.float32]:
    """[n, n, 3] float32 in linear light, n proportional to the frame's shorter side."""
    texels = min(MASTER_SIDE, max(4, round(spec.texels * frame_side / DEFAULT_SIDE)))
    return np.asarray(_area_resample(master, texels) ** 2.2, dtype=np.float32)


def _area_resample(image: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Exact area averages of [h, w, c] over side x side equal cells."""
    for axis in (0, 1):
        size = image.shape[axis]
        edges = np.linspace(0.0, size, side + 1)
        whole = np.minimum(edges.astype(np.int64), size - 1)
        moved = np.moveaxis(image, axis, 0)
        total = np.concatenate([np.zeros_like(moved[:1]), np.cumsum(moved, axis=0)])
        at_edges = total[whole] + (edges - whole)[:, None, None] * moved[whole]
        image = np.moveaxis(np.diff(at_edges, axis=0) * (side / size), 0, axis)
    return image


@cache
def _picture_folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SceneError("mini needs scikit-image's bundled pictures; install scikit-image")
    return Path(spec.origin).parent / "data"


@cache
def _picture(name: str) -> NDArray[np.float64]:
    path = _picture_folder() / f"{name}.png"
    try:
        with Image.open(path) as image:
            raw = np.asarray(image.convert("RGB") if image.mode in ("RGB", "RGBA") else image.convert("L"))
    except OSError as error:
        raise SceneError(f"mini cannot read {path}: {error}; reinstall scikit-image") from error
    if hashlib.sha256(raw.tobytes()).hexdigest() != _SHA256[name]:
        raise SceneError(f"{path} is not the picture mini was made with; reinstall scikit-image")
    return raw.reshape(*raw.shape[:2], -1) / 255.0


@cache
def _halved(name: str) -> NDArray[np.float64]:
    picture = _picture(name)
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    quads = picture[:height, :width].reshape(height // 2, 2, width // 2, 2, -1)
    return np.asarray(quads.mean(axis=(1, 3)), dtype=np.float64)


def _picture_crop(spec: TextureSpec) -> NDArray[np.float64]:
    picture = _picture(spec.source)
    if min(picture.shape[:2]) * spec.crop[2] >= 2 * MASTER_SIDE:
        picture = _halved(spec.source)
    height, width = picture.shape[:2]
    side = int(min(height, width) * spec.crop[2])
    left = int((width - side) * spec.crop[0])
    top = int((height - side) * spec.crop[1])
    return picture[top : top + side, left : left + side]


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre = (np.arange(MASTER_SIDE) + 0.5) / MASTER_SIDE
    return centre[None, :] + np.zeros((MASTER_SIDE, 1)), centre[:, None] + np.zeros((1, MASTER_SIDE))


def _clouds(draw: Draw) -> NDArray[np.float64]:
    total = np.zeros((MASTER_SIDE, MASTER_SIDE))
    weight = 1.0
    for cells in (3, 6, 12, 24):
        lattice = np.array([draw.uniform(0, 1) for _ in range((cells + 1) ** 2)]).reshape(cells + 1, cells + 1)
        at = (np.arange(MASTER_SIDE) + 0.5) / MASTER_SIDE * cells
        low = at.astype(np.int64)
        share = at - low
        share = share * share * (3.0 - 2.0 * share)
        rows = lattice[low] * (1.0 - share)[:, None] + lattice[low + 1] * share[:, None]
        total += weight * (rows[:, low] * (1.0 - share) + rows[:, low + 1] * share)
        weight *= 0.6
    return np.asarray((total - total.min()) / (total.max() - total.min()), dtype=np.float64)


def _checker(draw: Draw) -> NDArray[np.float64]:
    x, y = _grid()
    n = draw.integer(3, 6)
    cells = np.array([draw.uniform(0.0, 0.35) for _ in range(n * n)]).reshape(n, n)
    column, row = (x * n).astype(np.int64), (y * n).astype(np.int64)
    return np.asarray(0.65 * ((column + row) % 2) + cells[row, column], dtype=np.float64)


def _stripes(draw: Draw) -> NDArray[np.float64]:
    x, y = _grid()
    n = draw.integer(4, 7)
    slope = draw.choice((0.0, 0.5, 1.0))
    shades = np.array(draw.shuffled([i / (2 * n) for i in range(2 * n + 1)]))
    return shades[np.minimum(((x + slope * y) / (1.0 + slope) * 2 * n).astype(np.int64), 2 * n)]


def _dots(draw: Draw) -> NDArray[np.float64]:
    x, y = _grid()
    out = np.full_like(x, 0.3)
    for _ in range(draw.integer(14, 24)):
        distance = np.hypot(x - draw.uniform(0, 1), y - draw.uniform(0, 1))
        out[distance < draw.uniform(0.04, 0.13)] = draw.uniform(0.0, 1.0)
    return out


def _bond(draw: Draw) -> NDArray[np.float64]:
    x, y = _grid()
    rows, columns = draw.integer(6, 9), draw.integer(3, 4)
    shades = np.array([draw.uniform(0.4, 1.0) for _ in range(rows * (columns + 1))]).reshape(rows, columns + 1)
    row = (y * rows).astype(np.int64)
    along = x * columns + 0.5 * (row % 2)
    out = shades[row, along.astype(np.int64)]
    out[((y * rows) % 1.0 < 0.16) | (along % 1.0 < 0.08)] = 0.0
    return out


def _plaid(draw: Draw) -> NDArray[np.float64]:
    n = draw.integer(7, 11)
    bands = [np.array([draw.uniform(0, 1) for _ in range(n)]) for _ in range(2)]
    x, y = _grid()
    return 0.5 * bands[0][(x * n).astype(np.int64)] + 0.5 * bands[1][(y * n).astype(np.int64)]


def _rings(draw: Draw) -> NDArray[np.float64]:
    x, y = _grid()
    warp = 0.15 * _clouds(draw)
    distance = np.hypot(x - draw.uniform(-0.3, 0.3), (y - draw.uniform(0.2, 0.8)) * draw.uniform(0.5, 1.5)) + warp
    shades = np.array([draw.uniform(0, 1) for _ in range(24)])
    return shades[(distance * draw.uniform(7.0, 11.0)).astype(np.int64) % 24]


def _shards(draw: Draw) -> NDArray[np.float64]:
    x, y = _grid()
    count = draw.integer(20, 34)
    sites = [(draw.uniform(0, 1), draw.uniform(0, 1)) for _ in range(count)]
    shades = np.array([draw.uniform(0, 1) for _ in range(count)])
    distance = np.stack([(x - sx) ** 2 + (y - sy) ** 2 for sx, sy in sites])
    return np.asarray(shades[distance.argmin(axis=0)], dtype=np.float64)


_PATTERN: Final[dict[str, Callable[[Draw], NDArray[np.float64]]]] = {
    "bond": _bond,
    "checker": _checker,
    "clouds": _clouds,
    "dots": _dots,
    "plaid": _plaid,
    "rings": _rings,
    "shards": _shards,
    "stripes": _stripes,
}
