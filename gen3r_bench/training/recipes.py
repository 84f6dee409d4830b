"""Every recipe by name, as data."""

from __future__ import annotations

from typing import Any, Final

from gen3r_bench.errors import UnknownNameError
from gen3r_bench.training.loop import Recipe

CONFIGS: Final = {"lvsm": ("reference", "official"), "vggt": ("reference", "official")}
"""Methods that can be trained, and their named configurations."""


def named_recipe(method: str, config: str) -> Recipe[Any]:
    """The recipe of a method under one of its configurations.

    Raises:
        UnknownNameError: where there is none.
    """
    if method not in CONFIGS:
        raise UnknownNameError("method with a recipe", method, CONFIGS)
    if config not in CONFIGS[method]:
        raise UnknownNameError(f"configuration of {method}", config, CONFIGS[method])
    from importlib import import_module

    recipe: Recipe[Any] = getattr(import_module(f"gen3r_bench.training.{method}"), config.upper())
    return recipe
