"""The recipe of the two-stage ablation: Gen3R's over frames alone, whose geometry VGGT then reads from the result."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from gen3r_bench.training import gen3r
from gen3r_bench.training.joint import JointRecipe

_ALONE: Final[dict[str, Any]] = {
    "method": "gen3r-two-stage", "geometry": "none", "axis": "alone", "vggt": None, "adapter": None, "depth_share": 0.0
}  # fmt: skip


def _alone(recipe: JointRecipe) -> JointRecipe:
    model = dataclasses.replace(recipe.model, halves=1)
    return JointRecipe(**{**dict(recipe), **_ALONE, "model": model})


REFERENCE: Final = _alone(gen3r.REFERENCE).model_copy(
    update={
        "schedule": gen3r.REFERENCE.schedule.model_copy(update={"steps": 7000, "decay_steps": 6900}),
        "drop_cameras": 0.1,
        "start": None,
    }
)
"""From nothing, and with cameras nine times in ten: the others begin from it, as the paper's from Wan2.1-Fun."""

OFFICIAL: Final = _alone(gen3r.OFFICIAL)
"""Everything but the geometry is Gen3R's."""
