"""What a metric is: one function with its metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

RANDOM_WEIGHTS: Final = "random-weights"
"""The fact ``weights`` in the provenance of a score that was computed with random weights: no table shows it."""
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
        function: the computation; None where this version cannot compute it yet, or computes it of many predictions
            in one go, over a run's kept ones.
        unsupported_reason: why ``function`` is None.
        takes_device: whether ``function`` takes a keyword ``device``, on which its network runs.
        unavailable: says why the metric cannot be computed on this machine as it is now (a package or a file of
            weights is missing) and what mends that; None where it can. Asked before every prediction, so it is quick.
        provenance: facts that decide a score besides the suite: versions of packages, hashes of weights, choices of an
            input. Scores that differ in ``antialias`` or ``reference_image`` never share a column, and ``weights:
            random-weights`` is no score at all.
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
    takes_device: bool = False
    unavailable: Callable[[], str | None] | None = None
    provenance: Callable[[], Mapping[str, str]] | None = None

    @property
    def key(self) -> str:
        """``name@dialect``, the name of the metric in records."""
        return f"{self.name}@{self.dialect}"

    def obstacle(self) -> str | None:
        """Why it cannot be computed here and now, or None where it can."""
        if self.unavailable is not None:
            return self.unavailable()
        return self.unsupported_reason if self.function is None else None

    def facts(self, device: str) -> dict[str, str]:
        """What a score on ``device`` is made with; empty for a metric that needs nothing but this suite."""
        if self.provenance is None or self.obstacle() is not None:
            return {}
        facts = dict(self.provenance())
        return {**facts, "device": device.partition(":")[0]} if facts and self.takes_device else facts
