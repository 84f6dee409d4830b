"""Errors that are written for the person who reads them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """An error that the command line prints as one line; every error this suite raises on purpose derives from it."""


class InputError(BenchError):
    """A value that cannot be used: says what was given, what is legal and, where known, the nearest fix."""

    def __init__(self, given: str, *, expected: str, fix: str | None = None) -> None:
        self.given = given
        self.expected = expected
        self.fix = fix
        super().__init__(f"{given}; expected {expected}" + (f" (fix: {fix})" if fix else ""))


class UnknownNameError(BenchError):
    """A name that nothing is registered under; the message lists the nearest legal names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(n) for n in nearest)}?" if nearest else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class SceneError(BenchError):
    """A scene that cannot be read; becomes a failure record with this text as its reason."""


class StoreError(BenchError):
    """A run folder, bundle or record that cannot be read or written as it stands."""
