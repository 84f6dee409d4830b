"""Prompts of `mini`: one sentence or two, made from what stands in the scene and how the camera moves."""

from __future__ import annotations

from collections import Counter
from typing import Final

from gen3r_bench.datasets.mini.world import World

_PLACES: Final = {
    "lounge": "a living room",
    "dining": "a dining room",
    "store": "a store room",
    "study": "a study",
    "bedroom": "a bedroom",
    "gallery": "a gallery",
    "ring": "a table with objects set out in a ring",
    "rows": "a table with objects set out in rows",
    "arc": "a table with objects set out in an arc",
    "towers": "a table with towers of piled-up objects",
    "garden": "a walled garden under an open sky",
    "market": "a market square under an open sky",
    "plaza": "a plaza with columns under an open sky",
    "yard": "a walled yard under an open sky",
}
_MOVES: Final = {
    "orbit": "The camera orbits around the scene.",
    "dolly": "The camera dollies smoothly through the scene.",
    "walk": "The camera is carried by hand and walks on.",
    "pan": "The camera pans across the scene.",
}


def describe(world: World, path: str) -> str:
    """Text for a world seen along a path: the place, up to six things in it, the camera's move."""
    things = list(Counter(world.things))[:6]
    listed = ", ".join(things[:-1]) + " and " + things[-1] if len(things) > 1 else "".join(things)
    place = _PLACES[world.plan]
    return f"{place[0].upper()}{place[1:]}, with {listed}. {_MOVES[path]}"
