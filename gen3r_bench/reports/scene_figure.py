"""One scene as a paper shows it: input, frames, error maps, depth and point clouds of the truth and of every method."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.reports.error_map import ERROR_COLOURS, ERROR_RANGE, error_map
from gen3r_bench.reports.figure_style import COLOURS, GREY, INK, drawable, figure_style, png_bytes
from gen3r_bench.reports.point_picture import View, draw_points, fixed_view
from gen3r_bench.reports.scene_answers import Answer, SceneAnswers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEPTH_COLOURS: Final = "magma_r"
_DPI: Final = 160
_CELL: Final = 1.12  # inches a frame is wide
_GAP: Final = 0.04
_BLOCK_GAP: Final = 0.16
_TEXT: Final = 1.5  # inches for a row's name and scores
_SIDE: Final = 0.2  # for what a line of pictures shows
_MARGIN: Final = 0.1
_LINE: Final = 0.125  # inches of a line of small text
_NONE: Final = (232, 232, 234)
_SETTINGS: Final = {"1view": "one view", "2view": "two views", "allview": "all views"}


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    """A line of pictures: what it shows, and for each shown frame a [H, W, 3] picture, or a word why there is none."""

    title: str
    pictures: Sequence[NDArray[np.uint8] | str]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """What is drawn of the truth, or of one row."""

    name: str
    lines: Sequence[tuple[str, str]]
    strips: Sequence[_Strip]
    cloud: NDArray[np.uint8] | str
    grey: bool = False


def scene_figure(found: SceneAnswers, *, columns: int = 6) -> bytes:
    """Draw a scene and its answers; returns a PNG, the same bytes for the same input on one machine.

    Args:
        found: the scene and what was answered.
        columns: how many frames, spread evenly over the clip, the first and the last among them.
    """
    from matplotlib.figure import Figure

    scene = found.scene
    shown = np.unique(np.linspace(0, scene.num_frames - 1, min(columns, scene.num_frames)).round().astype(int)).tolist()
    height, width = scene.image_size
    cell = (_CELL * height / width, _CELL) if height <= width else (_CELL, _CELL * width / height)
    bounds = _depth_bounds(found)
    cloud = 3 * cell[0] + 2 * _GAP
    pixels = round(_DPI * cloud)
    blocks = [_truth_block(found, shown, bounds, pixels)]
    blocks += [_answer_block(found, answer, shown, bounds, pixels) for answer in found.answers]
    heights = [_block_height(block, cell[0], cloud) for block in blocks]
    total_width = _MARGIN + _TEXT + _SIDE + len(shown) * (cell[1] + _GAP) + 0.08 + cloud + _MARGIN
    prompt = textwrap.wrap(drawable(scene.prompt, 500), int((total_width - 2 * _MARGIN) / 0.058))
    head = 0.34 + 0.14 * len(prompt) + 0.2
    foot = 0.5
    total_height = head + sum(heights) + _BLOCK_GAP * len(blocks) + foot
    with figure_style():
        figure = Figure(figsize=(total_width, total_height), facecolor="white")
        page = _Page(figure, total_width, total_height)
        title = f"{found.dataset_title} · {scene.scene_id} · {_conditioning(found.conditioning)}"
        page.text(_MARGIN, 0.1, drawable(title, 110), size=9.5, weight="bold")
        for number, line in enumerate(prompt):
            page.text(_MARGIN, 0.32 + 0.14 * number, line, size=7, colour=GREY, style="italic")
        for column, frame in enumerate(shown):
            left = _MARGIN + _TEXT + _SIDE + column * (cell[1] + _GAP)
            given = frame in found.given
            label = f"frame {frame}" + (" (input)" if given else "")
            page.text(
                left + cell[1] / 2, head - 0.16, label, size=7, ha="center", weight="bold" if given else "normal",
                colour=COLOURS[1] if given else INK,
            )  # fmt: skip
        right = _MARGIN + _TEXT + _SIDE + len(shown) * (cell[1] + _GAP) + 0.08
        page.text(right + cloud / 2, head - 0.16, "point cloud, one fixed view", size=7, ha="center")
        top = head
        for number, (block, tall) in enumerate(zip(blocks, heights, strict=True)):
            inputs = [frame in found.given for frame in shown] if number == 0 else [False] * len(shown)
            _draw_block(page, block, top, cell, inputs, cloud)
            top += tall + _BLOCK_GAP
            if number < len(blocks) - 1:
                page.rule(top - _BLOCK_GAP / 2)
        _draw_scales(page, total_height - foot + 0.12, bounds, found)
        return png_bytes(figure, _DPI)


class _Page:
    """A figure addressed in inches from its upper left corner."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure = figure
        self.width = width
        self.height = height

    def text(self, left: float, top: float, text: str, *, size: float, colour: str = INK, **how: Any) -> None:
        at = (left / self.width, 1 - top / self.height)
        self.figure.text(*at, text, fontsize=size, color=colour, va=how.pop("va", "top"), **how)

    def rule(self, top: float) -> None:
        from matplotlib.lines import Line2D

        y = 1 - top / self.height
        ends = [_MARGIN / self.width, 1 - _MARGIN / self.width]
        self.figure.add_artist(Line2D(ends, [y, y], color="#d8d8dc", lw=0.6))

    def picture(
        self,
        pixels: NDArray[np.uint8] | str,
        left: float,
        top: float,
        size: tuple[float, float],
        *,
        outline: str | None = None,
        smooth: bool = True,
    ) -> None:
        height, width = size
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(outline is not None)
            spine.set_color(outline or "none")
            spine.set_linewidth(1.8)
        if isinstance(pixels, str):
            axes.set_facecolor("#f4f4f5")
            said = "\n".join(textwrap.wrap(pixels, 16))
            axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", fontsize=6, color=GREY)
            return
        target = (max(1, round(_DPI * width)), max(1, round(_DPI * height)))
        axes.imshow(_resized(pixels, target, smooth=smooth), aspect="auto", interpolation="nearest")


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int], *, smooth: bool) -> NDArray[np.uint8]:
    from PIL import Image

    larger = size[0] > pixels.shape[1]
    how = Image.Resampling.LANCZOS if smooth and not larger else Image.Resampling.NEAREST
    if smooth and larger:
        how = Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def _block_height(block: _Block, cell: float, cloud: float) -> float:
    pictures = len(block.strips) * (cell + _GAP) - _GAP
    text = 0.15 * len(_name_lines(block)) + 0.05 + _LINE * len(block.lines)
    return max(pictures, text, 0.0 if isinstance(block.cloud, str) else cloud)


def _name_lines(block: _Block) -> list[str]:
    return textwrap.wrap(drawable(block.name, 60), 20, break_long_words=True) or [""]


def _draw_block(
    page: _Page, block: _Block, top: float, cell: tuple[float, float], inputs: Sequence[bool], cloud: float
) -> None:
    line = top
    for part in _name_lines(block):
        page.text(_MARGIN, line, part, size=8, weight="bold", colour=GREY if block.grey else INK)
        line += 0.15
    line += 0.03
    for title, value in block.lines:
        page.text(_MARGIN, line, drawable(title, 22), size=6.5, colour=GREY)
        page.text(_MARGIN + _TEXT - 0.1, line, value, size=6.5, ha="right")
        line += _LINE
    for number, strip in enumerate(block.strips):
        strip_top = top + number * (cell[0] + _GAP)
        left = _MARGIN + _TEXT
        page.text(
            left + _SIDE / 2, strip_top + cell[0] / 2, strip.title, size=6.5, colour=GREY, rotation=90, ha="center",
            va="center",
        )  # fmt: skip
        for column, pixels in enumerate(strip.pictures):
            outlined = COLOURS[1] if number == 0 and inputs[column] else None
            at = left + _SIDE + column * (cell[1] + _GAP)
            page.picture(pixels, at, strip_top, cell, outline=outlined, smooth=strip.title == "frames")
    left = _MARGIN + _TEXT + _SIDE + len(inputs) * (cell[1] + _GAP) + 0.08
    tall = cloud if not isinstance(block.cloud, str) else len(block.strips) * (cell[0] + _GAP) - _GAP
    page.picture(block.cloud, left, top, (tall, cloud), smooth=False)


def _conditioning(name: str) -> str:
    setting, _, cameras = name.partition("-cameras-")
    return f"{_SETTINGS.get(setting, setting)}, cameras {'given' if cameras == 'given' else 'not given'}"


def depth_map(depth: NDArray[Any], valid: NDArray[np.bool_], bounds: tuple[float, float]) -> NDArray[np.uint8]:
    """[H, W, 3] colours of a [H, W] depth, in steps of the logarithm: bright is near, grey is unknown."""
    from matplotlib import colormaps

    low, high = bounds
    known = valid & np.isfinite(depth) & (depth > 0)
    share = np.log(np.clip(np.where(known, depth, low), low, high) / low) / np.log(high / low)
    coloured = np.asarray(colormaps[_DEPTH_COLOURS](share, bytes=True))[..., :3]
    found: NDArray[np.uint8] = np.where(known[..., None], coloured, np.array(_NONE)).astype(np.uint8)
    return found


def _depth_bounds(found: SceneAnswers) -> tuple[float, float]:
    """Depths at the ends of the colours: the truth's, or where there is none those of all answers together."""
    scene = found.scene
    if scene.depth is not None and scene.valid.any():
        known: NDArray[Any] = scene.depth[:, ::2, ::2][scene.valid[:, ::2, ::2]]
    else:
        parts = [answer.depth[:, ::2, ::2].ravel() for answer in found.answers if answer.depth is not None]
        known = np.concatenate(parts) if parts else np.array([1.0, 2.0])
        known = known[np.isfinite(known) & (known > 0)]
    if len(known) == 0:
        return 1.0, 2.0
    low, high = (float(value) for value in np.percentile(known, [1, 99]))
    return low, max(high, 1.05 * low)


def _truth_block(found: SceneAnswers, shown: Sequence[int], bounds: tuple[float, float], pixels: int) -> _Block:
    scene = found.scene
    strips = [_Strip("frames", [scene.rgb[frame] for frame in shown])]
    if len(found.given) < scene.num_frames:
        # what repeating the nearest input would have scored: an error map means little without it
        nearest = [min(found.given, key=lambda given, frame=frame: abs(given - frame)) for frame in shown]  # type: ignore[misc]
        pairs = zip(shown, nearest, strict=True)
        strips.append(
            _Strip("error of input", [error_map(scene.rgb[given], scene.rgb[frame]) for frame, given in pairs])
        )
    cloud: NDArray[np.uint8] | str = "no depth in this dataset"
    if scene.depth is not None:
        maps = [depth_map(scene.depth[frame], scene.valid[frame], bounds) for frame in shown]
        strips.append(_Strip("depth", maps))
    if found.true_points is not None:
        cloud = draw_points(
            found.true_points[scene.valid], scene.rgb[scene.valid], _view(found), pixels, scene.image_size[1]
        )
    height, width = scene.image_size
    facts = [("frames", str(scene.num_frames)), ("size", f"{height}×{width}")]
    facts += [("unit", {"metric": "metre", "sfm": "arbitrary", "unit": "scene"}[scene.scale])]
    return _Block("Ground truth", facts, strips, cloud)


def _view(found: SceneAnswers) -> View:
    if found.true_points is not None:
        return fixed_view(found.true_points[0][found.scene.valid[0]])
    points = next((answer.points[0] for answer in found.answers if answer.points is not None), np.zeros((0, 3)))
    return fixed_view(points.reshape(-1, 3))


def _answer_block(
    found: SceneAnswers, answer: Answer, shown: Sequence[int], bounds: tuple[float, float], pixels: int
) -> _Block:
    scene, prediction = found.scene, answer.prediction
    position = {frame: number for number, frame in enumerate(prediction.frame_indices)}
    frames: list[NDArray[np.uint8] | str] = []
    errors: list[NDArray[np.uint8] | str] = []
    depths: list[NDArray[np.uint8] | str] = []
    for frame in shown:
        at = position.get(frame)
        if at is None:
            for strip in (frames, errors, depths):
                strip.append("not predicted")
            continue
        if prediction.rgb is not None:
            frames.append(prediction.rgb[at])
            errors.append(error_map(prediction.rgb[at], scene.rgb[frame]))
        if answer.depth is not None:
            everywhere = np.ones(answer.depth.shape[1:], dtype=np.bool_)
            depths.append(depth_map(answer.depth[at], everywhere, bounds))
    strips = []
    if prediction.rgb is not None:
        strips += [_Strip("frames", frames), _Strip("error", errors)]
    if answer.depth is not None:
        strips.append(_Strip("depth", depths))
    if not strips:
        strips.append(_Strip("", ["cameras only"] * len(shown)))
    cloud: NDArray[np.uint8] | str = "no geometry predicted"
    if answer.points is not None:
        drawn = _usable(answer, scene.valid if found.true_points is not None else None)
        colours = prediction.rgb if prediction.rgb is not None else scene.rgb[list(prediction.frame_indices)]
        # an answer that could not be aligned, or has no truth to be aligned to, is seen from its own first camera
        view = _view(found) if answer.aligned else fixed_view(answer.points[0].reshape(-1, 3))
        cloud = draw_points(answer.points[drawn], colours[drawn], view, pixels, scene.image_size[1])
    lines = list(answer.scores)
    if answer.depth is not None and not answer.aligned:
        lines.append(("depth and cloud", "own scale"))
    return _Block(answer.row.label, lines, strips, cloud, grey=answer.row.kind != "method")


def _usable(answer: Answer, valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which points are drawn: those that are scored, where the truth is known."""
    assert answer.points is not None
    frames = list(answer.prediction.frame_indices)
    return np.ones(answer.points.shape[:3], dtype=np.bool_) if valid is None else valid[frames]


def _draw_scales(page: _Page, top: float, bounds: tuple[float, float], found: SceneAnswers) -> None:
    """The two colour bars at the foot: error, and depth in the scene's unit."""
    from matplotlib import colormaps

    ramp = np.linspace(0, 1, 256)[None]
    left = _MARGIN + _TEXT + _SIDE
    bar = 2.2
    unit = {"metric": " m", "sfm": "", "unit": ""}[found.scene.scale]
    scales: list[tuple[str, str, list[str]]] = []
    if any(answer.prediction.rgb is not None for answer in found.answers):
        ends = ["0", f"{ERROR_RANGE / 2:g}", f"≥ {ERROR_RANGE:g}"]
        scales.append((ERROR_COLOURS, "error: mean |difference| of R, G, B (range 1)", ends))
    if found.scene.depth is not None or any(answer.depth is not None for answer in found.answers):
        low, high = bounds
        ends = [f"{value:.3g}{unit}" for value in (low, (low * high) ** 0.5, high)]
        scales.append((_DEPTH_COLOURS, "depth after alignment (logarithmic)", ends))
    for number, (name, title, ends) in enumerate(scales):
        at = left + number * (bar + 0.9)
        coloured = np.asarray(colormaps[name](ramp, bytes=True))[..., :3]
        page.picture(np.repeat(coloured, 8, axis=0), at, top, (0.09, bar), smooth=False)
        for share, text, align in zip((0, 0.5, 1), ends, ("left", "center", "right"), strict=True):
            page.text(at + share * bar, top + 0.11, text, size=6, ha=align)
        page.text(at, top - 0.11, title, size=6.5, colour=GREY)
