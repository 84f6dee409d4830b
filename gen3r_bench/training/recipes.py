"""Every recipe by name, as data."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from gen3r_bench.errors import UnknownNameError
from gen3r_bench.training.loop import Recipe

CONFIGS: Final = {
    "gen3r": ("reference", "official"),
    "gen3r-two-stage": ("reference", "official"),
    "gen3r-without-kl": ("reference",),
    "geometry-adapter": ("reference", "without-kl", "official"),
    "lvsm": ("reference", "official"),
    "vggt": ("reference", "official"),
    "vggt-rgb-head": ("reference", "official"),
    "wan-vae": ("reference", "official"),
    "wvd": ("reference", "official"),
}
"""Networks that can be trained, and their named configurations; most are methods' own."""

PROTOCOLS: Final = {
    "gen3r": "geom-1view",
    "gen3r-two-stage": "geom-1view",
    "gen3r-without-kl": "geom-1view",
    "lvsm": "appearance-2view",
    "vggt": "geom-recon",
    "vggt-rgb-head": "rgb-recon",
    "wan-vae": "rgb-recon",
    "wvd": "geom-1view",
}
"""Which protocol shows what a trained method does."""


def named_recipe(method: str, config: str) -> Recipe[Any]:
    """The recipe of a method under one of its configurations.

    Raises:
        UnknownNameError: where there is none.
    """
    if method not in CONFIGS:
        raise UnknownNameError("method with a recipe", method, CONFIGS)
    if config not in CONFIGS[method]:
        raise UnknownNameError(f"configuration of {method}", config, CONFIGS[method])
    module = import_module(f"gen3r_bench.training.{method.replace('-', '_')}")
    recipe: Recipe[Any] = getattr(module, config.upper().replace("-", "_"))
    return recipe
