"""Does a committed table still say what its runs say? Made again from its own recipe, and compared cell by cell."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from typing import Final

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card
from gen3r_bench.reports.claims_render import CLAIM_COLUMNS
from gen3r_bench.reports.make import Format, make_table, tables_text
from gen3r_bench.reports.notes import run_name
from gen3r_bench.reports.recipe import RECIPE_MARK, Recipe, read_recipe
from gen3r_bench.reports.render import CSV_COLUMNS, csv_name
from gen3r_bench.runs.store import Run

_RECIPE_LINES: Final[Mapping[Format, re.Pattern[str]]] = {
    "latex": re.compile(rf"^% {RECIPE_MARK} (.*)$", re.M),
    "markdown": re.compile(rf"^<!-- {RECIPE_MARK} (.*) -->$", re.M),
}
_LATEX_RULES: Final = re.compile(r"(\\(midrule|cmidrule|addlinespace|hline)(\([a-z]+\))?([\[{][^\]}]*[\]}])?\s*)*")
"""A line of a tabular that sets no text."""
_LATEX_COMMENT: Final = re.compile(r"(?<!\\)%.*")
_LATEX_ROW_END: Final = re.compile(r"(\\\\\*?|\\tabularnewline)\s*(\[[^\]]*\])?$")
_CSV_HEADS: Final = (list(CSV_COLUMNS), list(CLAIM_COLUMNS))
_CSV_NUMBERS: Final = ("value", "measured", "low", "high")
_CSV_PLACE: Final = ("table", "source", "setting", "paper_row", "row", "dataset", "measured_dataset", "metric", "run")
NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Wrong:
    """One place of a table that differs: what the file says, and what the runs say."""

    table: str
    place: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.table}: {self.place}: was {self.was}, is {self.now}"


@dataclass(frozen=True, slots=True)
class _Grid:
    """A written table: its head lines, its lines of cells by (group, label), and the lines below."""

    heads: list[list[str]]
    lines: dict[tuple[str, ...], list[str]]
    below: list[str]


def check_table(
    text: str, runs: Sequence[Run], metrics: Mapping[str, Metric], cards: Mapping[str, Card]
) -> tuple[int, list[Wrong]]:
    """Compare a file that ``gen3r-bench table`` wrote with what it would write now.

    Every head, label, number, mark, interval and footnote is compared, and every line below a table has to be there but
    those on the environment; white space, captions and what stands around the tables are the file's own business. In a
    CSV numbers are compared to nine digits, since the last ones of an interval depend on the machine.

    Args:
        text: the file's content.
        runs: all that the file was made of; their folders' names are how it refers to them.
        metrics: registered metrics by key.
        cards: this suite's protocols by name.

    Returns:
        How many tables there are, and the differences.

    Raises:
        InputError: where the file is not a table of ours, or was made of other runs.
        BenchError: where these runs cannot make such a table.
    """
    if _csv_head(text) in _CSV_HEADS:
        recipes = _csv_recipes(text)
        made = [make_table(recipe, _its_runs(recipe, runs), metrics, cards) for recipe in recipes]
        return len(recipes), _compare_csv(text, tables_text(made, "csv"))
    for format_, pattern in _RECIPE_LINES.items():
        found = list(pattern.finditer(text))
        if not found:
            continue
        ends = [*(match.start() for match in found[1:]), len(text)]
        wrong = []
        for match, end in zip(found, ends, strict=True):
            recipe = read_recipe(match[1])
            table = make_table(recipe, _its_runs(recipe, runs), metrics, cards)
            parse = _latex_grid if format_ == "latex" else _markdown_grid
            again = parse(tables_text([table], format_))
            lines = again.below[: len(again.below) - len(table.environments)]
            wrong += _compare(table.name, parse(text[match.start() : end]), _Grid(again.heads, again.lines, lines))
        return len(found), wrong
    raise InputError(
        "a file without a recipe",
        expected=f"a table that gen3r-bench wrote: a comment with {RECIPE_MARK!r} in LaTeX and markdown, or its CSV",
        fix="make the table again with gen3r-bench table … --out FILE",
    )


def _its_runs(recipe: Recipe, runs: Sequence[Run]) -> list[Run]:
    """The runs that a recipe names, in its order, by the names of their folders."""
    left = list(runs)
    chosen = []
    for name in recipe.runs:
        run = next((run for run in left if run_name(run) == name), None)
        if run is None:
            raise InputError(
                f"the runs {', '.join(map(run_name, runs)) or NOTHING}",
                expected=f"those that the table was made of: {', '.join(recipe.runs)}",
                fix="name their folders behind the file",
            )
        left.remove(run)
        chosen.append(run)
    return chosen


# --- LaTeX and markdown -----------------------------------------------------------------------------------------------


def _latex_grid(text: str) -> _Grid:
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    below = text.partition(r"\footnotesize\raggedright")[2].partition(r"\end{minipage}")[0]
    head, _, rest = body.partition(r"\midrule")
    lines = [_plain(line.removesuffix(r"\par")) for line in below.splitlines()]
    return _grid(_latex_rows(head), _latex_rows(rest), lines)


def _latex_rows(text: str) -> list[list[str]]:
    """The cells of every line that LaTeX sets, however it ends: a row that someone added counts too."""
    lines = (_LATEX_COMMENT.sub("", line).strip() for line in text.splitlines())
    return [
        [" ".join(cell.split()) for cell in re.split(r"(?<!\\)&", _LATEX_ROW_END.sub("", line))]
        for line in lines
        if not _LATEX_RULES.fullmatch(line)
    ]


def _markdown_grid(text: str) -> _Grid:
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.lstrip().startswith("|")), len(lines))
    # GitHub reads every line up to an empty one as a row, also without its outer bars; the second one is the rule
    rows = [
        [" ".join(cell.split()) for cell in line.strip().strip("|").split("|")]
        for line in takewhile(str.strip, lines[first:])
    ]
    return _grid(rows[:1], rows[2:], [_plain(line[2:]) for line in lines if line.startswith("- ")])


def _plain(line: str) -> str:
    return " ".join(line.split())


def _grid(heads: list[list[str]], rows: list[list[str]], below: list[str]) -> _Grid:
    """Rows keyed by their group and label; a group's title stands on its first row alone."""
    grouped = bool(heads) and any("method" in head[1:2] for head in heads)
    lines: dict[tuple[str, ...], list[str]] = {}
    group = ""
    for row in rows:
        group = row[0] or group if grouped else ""
        label = row[1] if grouped and len(row) > 1 else row[0]
        # Claims have a line for each metric of a row, so that a key may come again.
        count = sum(key[:2] == (group, label) for key in lines)
        lines[(group, label, str(count))] = row[1 + grouped :]
    return _Grid(heads, lines, [line for line in below if line])


def _compare(table: str, was: _Grid, now: _Grid) -> list[Wrong]:
    wrong = []
    for number in range(max(len(was.heads), len(now.heads))):
        old, new = (grid.heads[number] if number < len(grid.heads) else [] for grid in (was, now))
        if old != new:
            wrong += _cells(table, f"head line {number + 1}", old, new, [])
    titles = now.heads[-1][1 + any("method" in head[1:2] for head in now.heads) :] if now.heads else []
    for key in dict.fromkeys([*now.lines, *was.lines]):
        place = " · ".join(filter(None, key[:2]))
        if key not in was.lines or key not in now.lines:
            there, absent = ("a row", NOTHING) if key in was.lines else (NOTHING, "a row")
            wrong.append(Wrong(table, place, there, absent))
        elif was.lines[key] != now.lines[key]:
            wrong += _cells(table, place, was.lines[key], now.lines[key], titles)
    missing = Counter(now.below) - Counter(was.below)
    wrong += [Wrong(table, "below the table", NOTHING, line) for line in missing]
    return wrong


def _cells(table: str, place: str, was: Sequence[str], now: Sequence[str], titles: Sequence[str]) -> list[Wrong]:
    return [
        Wrong(table, f"{place}, column {number + 1}{_titled(titles, number)}", old or NOTHING, new or NOTHING)
        for number, (old, new) in enumerate(zip_longest(was, now, fillvalue=""))
        if old != new
    ]


def _titled(titles: Sequence[str], number: int) -> str:
    return f" ({titles[number]})" if number < len(titles) else ""


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv_head(text: str) -> list[str] | None:
    try:
        return next(csv.reader(io.StringIO(text)), None)
    except csv.Error:
        return None


def _csv_rows(text: str) -> list[dict[str, str]]:
    """The lines of a CSV by column; what a short line lacks is empty.

    Raises:
        InputError: where it is no CSV.
    """
    try:
        return list(csv.DictReader(io.StringIO(text), restval=""))
    except csv.Error as error:
        raise InputError(f"a damaged CSV ({error})", expected="one that gen3r-bench table wrote") from error


def _csv_recipes(text: str) -> list[Recipe]:
    """What made a CSV, from its columns: it has no comment, since readers would take it for the head."""
    tables: dict[tuple[str, str], dict[str, None]] = {}
    spreads: dict[tuple[str, str], bool] = {}
    for line in _csv_rows(text):
        name, run = csv_name(line["table"]), csv_name(line["run"])
        key = (name, "" if name.startswith("paper-table-") else run)
        runs = tables.setdefault(key, {})
        if run:
            runs[run] = None
        spreads[key] = spreads.get(key, False) or bool(line["level"])
    recipes = []
    for (name, _), names in tables.items():
        found = re.fullmatch(r"paper-table-(\d+)(-claims)?", name)
        spread = "low-high" if spreads[name, _] and not (found and found[2]) else None
        fields: dict[str, object] = {"runs": tuple(names), "spread": spread}
        if found:
            fields |= {"view": "claims" if found[2] else "paper", "number": int(found[1])}
        else:
            fields |= {"view": "protocol", "protocol": name}
        recipes.append(Recipe.model_validate(fields))
    return recipes


def _compare_csv(was: str, now: str) -> list[Wrong]:
    lines = [_csv_lines(text) for text in (was, now)]
    wrong = []
    for key in dict.fromkeys([*lines[1], *lines[0]]):
        old, new = (found.get(key) for found in lines)
        place = " · ".join(part for part in key[1:-1] if part)
        if old is None or new is None:
            there, absent = (NOTHING, "a line") if old is None else ("a line", NOTHING)
            wrong.append(Wrong(key[0], place, there, absent))
            continue
        for column in new:
            if not _same(column, old.get(column, ""), new[column]):
                wrong.append(Wrong(key[0], f"{place}, {column}", old.get(column) or NOTHING, new[column] or NOTHING))
    return wrong


def _csv_lines(text: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Lines by what they are about; a place that comes again is counted."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for line in _csv_rows(text):
        place = tuple(line.get(name, "") for name in _CSV_PLACE)
        counts[place] += 1
        found[*place, str(counts[place])] = line
    return found


def _same(column: str, was: str, now: str) -> bool:
    if was == now or column not in _CSV_NUMBERS:
        return was == now
    try:
        return math.isclose(float(was), float(now), rel_tol=1e-9)
    except ValueError:
        return False
