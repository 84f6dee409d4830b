"""Under which code, and on which machine, the steps of a training ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FROM_STEP: Final = "from_step"
Origins = tuple[Mapping[str, Any], ...]
"""Facts about code and machine, each with the first step that ran there; empty before the first step."""


def continued(origins: Origins, done: int, origin: Mapping[str, Any]) -> Origins:
    """The origins of a training that goes on under ``origin`` after ``done`` steps; a new one where it is another."""
    if done and not origins:  # begun by a version of this suite that did not write them down
        origins = ({FROM_STEP: 1},)
    if origins and _facts(origins[-1]) == origin:
        return origins
    return (*origins, {FROM_STEP: done + 1, **origin})


def for_card(origins: Origins) -> dict[str, Any] | list[dict[str, Any]]:
    """The facts alone where all steps have them in common; else a list that says from which step on each holds."""
    if len(origins) > 1:
        return [dict(origin) for origin in origins]
    return _facts(origins[0]) if origins else {}


def _facts(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in origin.items() if key != FROM_STEP}
