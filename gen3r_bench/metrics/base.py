"""What a metric is: one function with its metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["points", "poses", "frames", "video"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of a table, in one exact definition.

    Attributes:
        name: such as ``psnr``.
        dialect: the exact way it is computed, where the name alone is ambiguous: ``ssim@skimage-gauss``.
        title: column head.
        unit: ``dB``, ``deg``, ``scene unit``, or "" for a pure number.
        higher_is_better: direction of the arrow.
        bounds: closed range of legal values; infinities where open.
        reference: the paper equation or implementation that defines it.
        kind: what it is computed from, which decides what ``function`` receives:
            ``points``: a GeometryScore; ``poses``: a RelativePoseErrors; ``frames``: (predicted, true) [n, H, W, 3]
            uint8 frames, giving one value a frame; ``video``: the same, giving one value.
        function: the computation; None where this version cannot compute it yet.
        unsupported_reason: why ``function`` is None.
    """

    name: str
    dialect: str
    title: str
    unit: str
    higher_is_better: bool
    bounds: tuple[float, float]
    reference: str
    kind: Kind
    function: Callable[..., Any] | None
    unsupported_reason: str = ""

    @property
    def key(self) -> str:
        """``name@dialect``, the name of the metric in records."""
        return f"{self.name}@{self.dialect}"
