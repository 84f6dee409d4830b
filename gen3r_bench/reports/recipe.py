"""What a table was made of, on one line: it stands in the table's file, so that the table can be made again."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gen3r_bench.errors import InputError

Spread = Literal["half-width", "low-high"]
"""How a confidence interval is printed: ``± 0.01``, or ``[0.12, 0.15]``."""
View = Literal["paper", "protocol", "claims"]
RECIPE_MARK = "gen3r-bench table:"
"""What stands before a recipe in a comment."""


class Recipe(BaseModel):
    """The options of a table.

    Attributes:
        view: a table of the paper with runs beside it, a protocol of one run, or claimed against measured values.
        number: of the paper's table, for "paper" and "claims".
        protocol: for "protocol".
        runs: names of the run folders, in the order of the columns.
        spread: how intervals are printed; None where they are not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: View
    number: int | None = None
    protocol: str | None = None
    runs: tuple[str, ...] = ()
    spread: Spread | None = None

    def line(self) -> str:
        """The recipe in ASCII, with nothing in it that could end a comment of LaTeX or HTML."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")


def read_recipe(line: str) -> Recipe:
    """The recipe of a line, after ``RECIPE_MARK``.

    Raises:
        InputError: where it is not one that this suite reads.
    """
    try:
        return Recipe.model_validate_json(line)
    except ValidationError as error:
        raise InputError(
            f"the line {line[:80]!r}", expected="what gen3r-bench table wrote there", fix="make the table again"
        ) from error
