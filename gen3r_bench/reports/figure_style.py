"""What the figures share: colours, letters that can be drawn, and PNG bytes that are the same on every run."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from gen3r_bench.reports.render import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people with any colour vision tell apart; yellow is left out, which print loses."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""One for each colour, so that a figure reads without colour; lists of more rows go round at another pace."""
INK: Final = "#1e1e22"
GREY: Final = "#8c8c92"
BAND: Final = "#fdf1d0"


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's own defaults, whatever the user's settings are, and no reading of ``$`` as mathematics."""
    import matplotlib.style
    from matplotlib import rc_context

    # the first figure on a machine builds a font cache, which is nobody's news
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with matplotlib.style.context("default"), rc_context({"text.parse_math": False, "font.size": 8}):
        yield


def png_bytes(figure: Figure, dpi: int) -> bytes:
    """A figure as PNG; equal figures give equal bytes on one machine."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def drawable(text: str, most: int | None = None) -> str:
    r"""Text on one line of at most ``most`` characters; what matplotlib's font has no glyph for is shown as a box.

    >>> drawable("a\nkitchen", 5)
    'a ki…'
    """
    line = printable(text)
    shown = "".join(character if ord(character) in _glyphs() else "□" for character in line)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
