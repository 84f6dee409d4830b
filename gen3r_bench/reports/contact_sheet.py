"""Pictures of scenes as a person would check them: frames, depth, and the cameras from above. Drawn with Pillow."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gen3r_bench.datasets.doctor import Diagnosis, Level
from gen3r_bench.scene import Cameras, Scene, unproject_depth

THUMBNAIL: Final = 150
COLUMNS: Final = 6
MAP: Final = 2 * THUMBNAIL
_GAP: Final = 6
_LINE: Final = 17
_WIDTH: Final = COLUMNS * (THUMBNAIL + _GAP) + MAP + 3 * _GAP
_TEXT_COLUMNS: Final = 200
_DRAWABLE: Final = str.maketrans({"×": "x", "–": "-", "≤": "<=", "…": "..."})  # Pillow's own font lacks them

_INK: Final = (30, 30, 34)
_GREY: Final = (140, 140, 146)
_PAPER: Final = (250, 250, 248)
_NONE: Final = (225, 225, 225)  # where there is no depth
_COLOURS: Final[dict[Level, tuple[int, int, int]]] = {
    "ok": (34, 120, 60),
    "warning": (176, 110, 0),
    "error": (190, 30, 40),
}
_RAMP: Final = np.array(  # near to far; even steps of lightness, so that it also reads without colour
    [[252, 253, 191], [254, 176, 120], [241, 96, 93], [183, 55, 121], [114, 31, 129], [44, 17, 95], [0, 0, 4]]
)


def scene_panel(diagnosis: Diagnosis, scene: Scene | None) -> Image.Image:
    """One scene: its name and findings, frames spread over the clip, their depth, and the path from above.

    Args:
        diagnosis: what the doctor said of it.
        scene: as read; None where it could not be.
    """
    notes = _notes(diagnosis)
    height = 2 * _GAP + _LINE * (1 + len(notes)) + (0 if scene is None else 2 * THUMBNAIL + 3 * _GAP)
    panel = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(13)
    draw.text((_GAP, _GAP), f"{diagnosis.dataset}  {diagnosis.scene_id}".translate(_DRAWABLE), _INK, font)
    said = f"{diagnosis.level}, convention: {diagnosis.convention or 'cannot tell'}"
    draw.text((_WIDTH - _GAP, _GAP), said, _COLOURS[diagnosis.level], font, anchor="ra")
    for line, (level, text) in enumerate(notes, 1):
        draw.text((_GAP, _GAP + line * _LINE), text, _COLOURS[level], ImageFont.load_default(12))
    if scene is None:
        return panel
    top = 2 * _GAP + _LINE * (1 + len(notes))
    frames = np.linspace(0, scene.num_frames - 1, min(COLUMNS, scene.num_frames)).round().astype(int)
    bounds = _depth_bounds(scene)
    for column, frame in enumerate(frames.tolist()):
        left = _GAP + column * (THUMBNAIL + _GAP)
        panel.paste(_thumbnail(Image.fromarray(scene.rgb[frame]), Image.Resampling.BILINEAR), (left, top))
        draw.text((left + 3, top + 2), str(frame), "white", font, stroke_width=2, stroke_fill="black")
        if scene.depth is not None:
            coloured = Image.fromarray(coloured_depth(scene.depth[frame], scene.valid[frame], bounds))
            panel.paste(_thumbnail(coloured, Image.Resampling.NEAREST), (left, top + THUMBNAIL + _GAP))
    if scene.depth is None:
        draw.text((_GAP, top + THUMBNAIL + 2 * _GAP), "no depth in this dataset", _GREY, font)
    panel.paste(path_from_above(scene, frames.tolist()), (_WIDTH - MAP - _GAP, top))
    return panel


def stacked(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels below each other, with a line between them."""
    sheet = Image.new("RGB", (_WIDTH, sum(panel.height for panel in panels) + max(0, len(panels) - 1)), _GREY)
    top = 0
    for panel in panels:
        sheet.paste(panel, (0, top))
        top += panel.height + 1
    return sheet


def coloured_depth(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], bounds: tuple[float, float]
) -> NDArray[np.uint8]:
    """[h, w] depth as [h, w, 3] uint8: bright is near, dark is far, grey is unknown; in steps of the logarithm."""
    low, high = bounds
    safe = np.clip(np.where(valid, depth, low), low, high)
    share = np.log(safe / low) / max(np.log(high / low), 1e-9)
    steps = np.linspace(0, 1, len(_RAMP))
    colours = np.stack([np.interp(share, steps, _RAMP[:, channel]) for channel in range(3)], axis=-1)
    return np.where(valid[..., None], colours.round(), _NONE).astype(np.uint8)


def path_from_above(scene: Scene, frames: Sequence[int]) -> Image.Image:
    """`MAP` x `MAP` pixels: the camera path from above, x to the right and z (the first camera's view) up.

    Grey dots are depth, seen from above; triangles are the views of ``frames``, from blue (first) to red (last).
    """
    image = Image.new("RGB", (MAP, MAP), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    centres = scene.cameras.world_from_cam[:, :3, 3][:, [0, 2]]
    points = _points_above(scene, frames)
    reach = max(float(np.ptp(centres, axis=0).max()), 1e-9)
    views = _views(
        scene.cameras, frames, 0.35 * reach if points is None else 0.25 * float(np.ptp(points, axis=0).max())
    )
    shown = np.concatenate([centres, views.reshape(-1, 2), *([] if points is None else [points])])
    low, high = shown.min(axis=0), shown.max(axis=0)
    size = max(float((high - low).max()), 1e-9) * 1.12
    middle = (low + high) / 2

    def placed(at: NDArray[np.float64]) -> list[tuple[float, float]]:
        unit = (at - middle) / size
        return [(float(x), float(y)) for x, y in zip((unit[:, 0] + 0.5) * MAP, (0.5 - unit[:, 1]) * MAP, strict=True)]

    if points is not None:
        draw.point(placed(points), (185, 185, 190))
    draw.line(placed(centres), _INK, 2)
    for view, frame in zip(views, frames, strict=True):
        share = frame / max(scene.num_frames - 1, 1)
        draw.polygon(placed(view), outline=(int(30 + 190 * share), 50, int(220 - 180 * share)))
    draw.rectangle((0, 0, MAP - 1, MAP - 1), outline=_GREY)
    bar = 10.0 ** np.floor(np.log10(size / 2))
    length = float(bar / size * MAP)
    draw.line([(10, MAP - 12), (10 + length, MAP - 12)], _INK, 2)
    draw.text((10, MAP - 28), f"{bar:g}{' m' if scene.scale == 'metric' else ''}", _INK, font)
    draw.text((MAP - 6, MAP - 20), "from above", _GREY, font, anchor="ra")
    return image


def _thumbnail(picture: Image.Image, resample: Image.Resampling) -> Image.Image:
    """`THUMBNAIL` pixels square; a picture of another shape is shown whole, on grey."""
    ratio = THUMBNAIL / max(picture.size)
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    out = Image.new("RGB", (THUMBNAIL, THUMBNAIL), _NONE)
    out.paste(picture.resize(size, resample), ((THUMBNAIL - size[0]) // 2, (THUMBNAIL - size[1]) // 2))
    return out


def _notes(diagnosis: Diagnosis) -> list[tuple[Level, str]]:
    """What was found wrong, in lines that fit; what is fine, in one."""
    notes: list[tuple[Level, str]] = []
    for finding in diagnosis.findings:
        if finding.level != "ok":
            text = f"{finding.check}: {finding.measured}. {finding.message}"
            notes += [(finding.level, part) for part in _wrapped(text)]
    fine = [f"{finding.check} {finding.measured}" for finding in diagnosis.findings if finding.level == "ok"]
    return notes + [("ok", part) for part in _wrapped("; ".join(fine))]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text.translate(_DRAWABLE), _TEXT_COLUMNS)


def _depth_bounds(scene: Scene) -> tuple[float, float]:
    """Depths that the darkest and brightest colours stand for."""
    if scene.depth is None or not scene.valid.any():
        return 1.0, 2.0
    low, high = np.percentile(scene.depth[:, ::4, ::4][scene.valid[:, ::4, ::4]], [1, 99])
    return float(low), max(float(high), float(low) * 1.001)


def _points_above(scene: Scene, frames: Sequence[int]) -> NDArray[np.float64] | None:
    """[N, 2] (x, z) of some pixels of ``frames``, without the farthest; None without depth."""
    if scene.depth is None:
        return None
    found = []
    for frame in frames:
        cameras = Cameras(
            scene.cameras.world_from_cam[frame, None], scene.cameras.intrinsics[frame, None], scene.image_size
        )
        step = max(1, min(scene.image_size) // 40)
        points = unproject_depth(scene.depth[frame, None], cameras)[0, ::step, ::step]
        found.append(points[scene.valid[frame, ::step, ::step]][:, [0, 2]])
    points = np.concatenate(found).astype(np.float64)
    if not len(points):
        return None
    low, high = np.percentile(points, [3, 97], axis=0)
    kept: NDArray[np.float64] = points[((points >= low) & (points <= high)).all(axis=1)]
    return kept


def _views(cameras: Cameras, frames: Sequence[int], length: float) -> NDArray[np.float64]:
    """[n, 3, 2] triangles (x, z): a camera's centre, and the left and right ends of its view at depth ``length``."""
    width = cameras.image_size[1]
    out = []
    for frame in frames:
        k, pose = cameras.intrinsics[frame], cameras.world_from_cam[frame]
        ends = [[(edge - k[0, 2]) / k[0, 0] * length, 0.0, length] for edge in (0.0, float(width))]
        corners = [pose[:3, 3], *(pose[:3, :3] @ np.array(end) + pose[:3, 3] for end in ends)]
        out.append(np.stack(corners)[:, [0, 2]])
    return np.stack(out)
