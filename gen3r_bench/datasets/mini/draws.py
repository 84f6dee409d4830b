"""Seeded choices that stay the same on every Python and NumPy version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Random choices from a seed text; uses only ``random.random``, the one stream that Python promises to keep."""

    def __init__(self, seed: str) -> None:
        self._next = random.Random(seed).random

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def integer(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + int((high - low + 1) * self._next())

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(len(items) * self._next())]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._next() < probability

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order (Fisher-Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.integer(0, i)
            out[i], out[j] = out[j], out[i]
        return out
