"""Where two pieces of nested data differ, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ABSENT: Final = "–"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, such as ``card geometry.voxel_size``, and its two values as text; ``–`` where one side lacks it."""

    field: str
    a: str
    b: str


def differences(field: str, a: Mapping[str, object], b: Mapping[str, object]) -> list[Difference]:
    """Fields of two mappings that differ, by dotted path below ``field``, in the order of ``a``.

    >>> differences("card", {"x": {"y": 1, "z": 2}}, {"x": {"y": 3, "z": 2}, "w": None})
    [Difference(field='card x.y', a='1', b='3'), Difference(field='card w', a='–', b='none')]
    """
    flat_a, flat_b = _flat(a), _flat(b)
    return [
        Difference(f"{field} {path}", flat_a.get(path, ABSENT), flat_b.get(path, ABSENT))
        for path in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(path) != flat_b.get(path)
    ]


def _flat(content: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in content.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{path}.")
        else:
            found[path] = as_text(value)
    return found


def as_text(value: object) -> str:
    """A value for a person: lists with commas, None as ``none``."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value)) or "nothing"
    if isinstance(value, Mapping) and not value:
        return "nothing"
    return str(value)
