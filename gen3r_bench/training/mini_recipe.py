"""What every recipe on ``mini`` has: a schedule, and clips of one size."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MINI_VERSION, MiniDataset
from gen3r_bench.training.schedule import Schedule


class MiniRecipe(BaseModel):
    """The part of a ``Recipe`` that does not depend on the network.

    Attributes:
        schedule: how long, how fast.
        side: of the square frames, pixels.
        frames: of a clip.
        clips: how many of ``mini``'s training scenes take part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule
    side: int = Field(ge=8)
    frames: int = Field(ge=1)
    clips: int = Field(ge=1)

    def with_steps(self, steps: int) -> Self:
        """The recipe at another length."""
        return self.model_copy(update={"schedule": self.schedule.with_steps(steps)})

    def _facts(self, recipe: str, *, exclude: Collection[str] = (), **more: Any) -> dict[str, Any]:
        """Every field but those of ``exclude``, which decide nothing, and what else decides the result."""
        fields = self.model_dump(mode="json", exclude=set(exclude))
        return {"recipe": recipe, **fields, **more, "data": f"mini {MINI_VERSION}, training scenes"}

    @cached_property
    def _dataset(self) -> MiniDataset:
        return MiniDataset()

    @property
    def _profile(self) -> ClipProfile:
        return ClipProfile(frames=self.frames, image_size=(self.side, self.side))
