"""From recipes and runs to the text of tables: what ``gen3r-bench table`` prints and ``--check`` prints again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card
from gen3r_bench.reports.claims import ClaimTable, claim_table
from gen3r_bench.reports.claims_render import claims_csv, claims_latex, claims_markdown
from gen3r_bench.reports.compose import comparison_table, run_table
from gen3r_bench.reports.notes import run_name
from gen3r_bench.reports.recipe import Recipe
from gen3r_bench.reports.render import render_csv, render_latex, render_markdown
from gen3r_bench.reports.tables import Table
from gen3r_bench.runs.store import Run

Format = Literal["markdown", "latex", "csv"]


def make_table(
    recipe: Recipe, runs: Sequence[Run], metrics: Mapping[str, Metric], cards: Mapping[str, Card]
) -> Table | ClaimTable:
    """The table of a recipe.

    Args:
        recipe: what to make.
        runs: those that it names, in its order.
        metrics: registered metrics by key.
        cards: this suite's protocols by name.

    Raises:
        BenchError: where the runs cannot make it.
    """
    if recipe.view == "protocol" and recipe.protocol is not None and len(runs) == 1:
        return run_table(runs[0], recipe.protocol, metrics, spread=recipe.spread)
    if recipe.view == "paper" and recipe.number is not None:
        return comparison_table(recipe.number, runs, metrics, spread=recipe.spread)
    if recipe.view == "claims" and recipe.number is not None:
        return claim_table(recipe.number, runs, metrics, cards)
    raise InputError(f"the recipe {recipe.line()}", expected="one that gen3r-bench table wrote")


def tables_text(tables: Sequence[Table | ClaimTable], format_: Format) -> str:
    """Tables in one text; they are all views of the same kind."""
    claims = [table for table in tables if isinstance(table, ClaimTable)]
    others = [table for table in tables if isinstance(table, Table)]
    match format_:
        case "csv":
            return claims_csv(claims) if claims else render_csv(others)
        case "latex":
            return "\n".join([*map(render_latex, others), *map(claims_latex, claims)])
        case "markdown":
            return "\n".join([*map(render_markdown, others), *map(claims_markdown, claims)])


def recipes_for(
    number: int | None, runs: Sequence[Run], *, claims: bool, spread: Literal["half-width", "low-high"] | None
) -> list[tuple[Recipe, list[Run]]]:
    """What a command line asks for: a table of the paper, or a table for each protocol of each run."""
    names = tuple(map(run_name, runs))
    if number is not None:
        view: Literal["claims", "paper"] = "claims" if claims else "paper"
        return [(Recipe(view=view, number=number, runs=names, spread=None if claims else spread), list(runs))]
    if claims:
        raise InputError("claimed values without a table", expected="a table of the paper", fix="--table 1 … 9")
    if not runs:
        raise InputError("neither a table nor a run", expected="--table 1 to 9, a run folder, or both")
    return [
        (Recipe(view="protocol", protocol=card.name, runs=(name,), spread=spread), [run])
        for run, name in zip(runs, names, strict=True)
        for card in run.header.protocols
    ]
