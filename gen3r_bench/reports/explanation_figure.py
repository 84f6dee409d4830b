"""An explanation as a figure: one panel a metric, dialects below each other, and how far each row moves in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gen3r_bench.errors import InputError
from gen3r_bench.reports.explanation import Explanation, Line, Panel, verdicts
from gen3r_bench.reports.explanation_text import default_key, title
from gen3r_bench.reports.figure_style import BAND, COLOURS, GREY, INK, MARKERS, drawable, figure_style, png_bytes
from gen3r_bench.runs.record import RowEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI: Final = 150
_WIDTH: Final = 7.2  # inches of one column of panels: the text width of a paper
_LINE: Final = 0.2  # inches of a dialect's line, at least
_DOT: Final = 0.065  # and for each row on it
_LEFT: Final = 1.6
_RIGHT: Final = 1.7
_RANKS_SHOWN: Final = 3
_RANKS_AT: Final = 1.025  # in widths of a panel
_PAIRS_AT: Final = 1.41


def explanation_figure(found: Explanation) -> bytes:
    """Draw every panel of an explanation; returns a PNG.

    Ranked rows are drawn where there are any, else floors and diagnostics. A band and coloured ``2→1`` beside it mark a
    dialect that changes ranks; ``pairs`` counts those that the paired test tells apart.

    Raises:
        InputError: where there is nothing to draw.
    """
    from matplotlib.figure import Figure

    if not found.panels:
        raise InputError("an explanation without any number", expected="at least one score to draw")
    rows = _drawn_rows(found.panels)
    columns = 1 if len(found.panels) <= 4 else 2
    lines = [found.panels[start : start + columns] for start in range(0, len(found.panels), columns)]
    tall_line = max(_LINE, _DOT * (len(rows) + 1))
    heights = [0.8 + tall_line * max(len(panel.lines) for panel in line) for line in lines]
    legend_lines = -(-len(rows) // (4 * columns))
    head = 0.35 + 0.2 * legend_lines
    width, height = _WIDTH * columns, head + sum(heights) + 0.15
    with figure_style():
        figure = Figure(figsize=(width, height), facecolor="white")
        top = height - head
        for line, tall in zip(lines, heights, strict=True):
            for column, panel in enumerate(line):
                inner = tall_line * len(panel.lines)
                box = (
                    (column * _WIDTH + _LEFT) / width,
                    (top - 0.4 - inner) / height,
                    (_WIDTH - _LEFT - _RIGHT) / width,
                    inner / height,
                )
                _draw(figure.add_axes(box), panel, rows)
            top -= tall
        handles = _handles(rows)
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.1 / width, 1 - 0.27 / height),
            ncols=4 * columns,
            frameon=False,
            borderaxespad=0,
            handletextpad=0.3,
            columnspacing=1.2,
        )
        heading = f"{drawable(found.run, 70)}: the same predictions in every dialect"
        figure.text(0.1 / width, 1 - 0.2 / height, heading, weight="bold", color=INK)
        return png_bytes(figure, _DPI)


def _drawn_rows(panels: Sequence[Panel]) -> list[RowEntry]:
    rows = {row.label: row for panel in panels for row in panel.rows}
    ranked = [row for row in rows.values() if row.kind == "method"]
    return ranked or list(rows.values())


def _style_of(number_: int) -> tuple[str, str]:
    """Colour and marker: every pair of the two differs among the first 49 rows."""
    return COLOURS[number_ % len(COLOURS)], MARKERS[(number_ + number_ // len(COLOURS)) % len(MARKERS)]


def _handles(rows: Sequence[RowEntry]) -> list[object]:
    from matplotlib.lines import Line2D

    handles: list[object] = []
    for place, row in enumerate(rows):
        colour, marker = _style_of(place)
        handles.append(Line2D([], [], color=colour, marker=marker, ms=5, lw=1, label=drawable(row.label, 26)))
    return handles


def _draw(axes: Axes, panel: Panel, rows: Sequence[RowEntry]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(drawable(title(panel), 110), loc="left", fontsize=8, color=INK, pad=14)
    axes.set_ylim(len(panel.lines) - 0.5, -0.5)
    keys = [default_key(panel) if line.dialect is None else line.key for line in panel.lines]
    axes.set_yticks(range(len(keys)), keys, fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7, color=GREY)
    axes.grid(axis="x", color="#e4e4e8", lw=0.6)
    axes.axhline(0.5, color=GREY, lw=0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    changed = [place for place, line in enumerate(panel.lines) if line.rank_changes]
    for place in changed:
        axes.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0, lw=0)
    for number_, row in enumerate(rows):
        colour, marker = _style_of(number_)
        points = [
            (shown.value, place)
            for place, line in enumerate(panel.lines)
            if (shown := line.rows.get(row.label)) is not None and shown.value is not None
        ]
        if not points:
            continue
        # rows stand below each other within a dialect's line, so that equal numbers do not hide each other
        shift = (number_ + 1) / (len(rows) + 1) - 0.5
        x, y = zip(*((value, place + shift) for value, place in points), strict=True)
        own = panel.lines[0].rows[row.label].value
        if own is not None:
            axes.plot([own, own], [shift, y[-1]], color=colour, lw=0.6, ls=":", zorder=1)
            axes.hlines(y, own, x, color=colour, lw=1.2, zorder=2)
        axes.plot(x, y, color=colour, marker=marker, ms=4, lw=0, zorder=3, mec="white", mew=0.4)
    axes.margins(x=0.04)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", useOffset=False)
    _pad_flat(axes, panel)
    if any(line.rank_changes for line in panel.lines):
        _note(axes, _RANKS_AT, -0.6, "ranks", GREY, va="bottom")
    if any(verdicts(line) for line in panel.lines):
        _note(axes, _PAIRS_AT, -0.6, "told apart", GREY, va="bottom", ha="right")
    for place, line in enumerate(panel.lines):
        _beside(axes, panel, line, place, [row.label for row in rows])


def _pad_flat(axes: Axes, panel: Panel) -> None:
    """Leave room where nothing moves by more than a printed digit: noise must not look like a movement."""
    low, high = axes.get_xlim()
    least = 20 * 10.0**-panel.decimals
    if high - low < least:
        middle = (low + high) / 2
        axes.set_xlim(middle - least / 2, middle + least / 2)


def _note(axes: Axes, across: float, down: float, text: str, colour: str, **how: Any) -> None:
    axes.text(across, down, text, transform=axes.get_yaxis_transform(), fontsize=6.5, color=colour, **how)


def _beside(axes: Axes, panel: Panel, line: Line, place: int, labels: Sequence[str]) -> None:
    """Right of a line: which ranks change, in the rows' colours and markers, and how many pairs are told apart."""
    changes = [(label, ranks) for label, ranks in line.rank_changes.items() if label in labels]
    for slot, (label, (before, after)) in enumerate(changes[:_RANKS_SHOWN]):
        colour, marker = _style_of(labels.index(label))
        left = _RANKS_AT + 0.09 * slot
        transform = axes.get_yaxis_transform()
        axes.plot([left], [place], color=colour, marker=marker, ms=3.5, transform=transform, clip_on=False, lw=0)
        _note(axes, left + 0.014, place, f"{before}→{after}", colour, va="center")
    if len(changes) > _RANKS_SHOWN:
        more = f"+{len(changes) - _RANKS_SHOWN}"
        _note(axes, _RANKS_AT + 0.09 * _RANKS_SHOWN - 0.015, place, more, GREY, va="center")
    found = verdicts(line)
    if found is not None:
        weight = "bold" if panel.verdict_changes(line) else "normal"
        _note(axes, _PAIRS_AT, place, f"{found[0]} of {found[1]}", INK, weight=weight, va="center", ha="right")
