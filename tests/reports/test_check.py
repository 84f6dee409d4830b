from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.synthetic import ENOUGH, FREEZE, GEN3R, ORACLE, WVD, flat, row
from reports.test_render import NASTY

from gen3r_bench.errors import InputError
from gen3r_bench.protocols.geometry import GEOM_1VIEW, GEOM_2VIEW
from gen3r_bench.reports.check import check_table
from gen3r_bench.reports.make import make_table, recipes_for, tables_text
from gen3r_bench.reports.recipe import Recipe, read_recipe

CARDS = {card.name: card for card in (GEOM_1VIEW, GEOM_2VIEW)}
FORMATS = ("markdown", "latex", "csv")


def write(runs, metrics, format_="latex", number=None, *, claims=False, spread=None) -> str:
    recipes = recipes_for(number, runs, claims=claims, spread=spread)
    return tables_text([make_table(recipe, its, metrics, CARDS) for recipe, its in recipes], format_)


@pytest.fixture
def run(make_run):
    values = {"gen3r@reference": 1.0, "wvd@reference": 2.0, "freeze": 3.0, "oracle": 0.0, NASTY: 4.0}

    def outcome(protocol, label, scene, seed):
        failed = label == "wvd@reference" and scene == "s1" and protocol == "geom-2view"
        return NASTY if failed else flat(values[label] + int(scene[1:]) / 100)

    nasty = row("nasty").model_copy(update={"label": NASTY})
    return make_run(
        outcome, cards=(GEOM_1VIEW, GEOM_2VIEW), rows=(GEN3R, WVD, nasty, FREEZE, ORACLE), scenes=ENOUGH, title=NASTY
    )


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("number", "options"),
    [
        (2, {}),
        (2, {"spread": "half-width"}),
        (2, {"spread": "low-high"}),
        (2, {"claims": True}),
        (None, {}),
        (None, {"spread": "low-high"}),
    ],
)
def test_what_was_written_is_found_right(run, metrics, format_, number, options) -> None:
    text = write([run], metrics, format_, number, **options)
    tables = 1 if number else 2
    assert check_table(text, [run], metrics, CARDS) == (tables, [])


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("number", range(1, 10))
def test_the_papers_tables_need_no_run(format_, number) -> None:
    assert check_table(write([], {}, format_, number), [], {}, {}) == (1, [])


@pytest.mark.parametrize(
    ("old", "new", "place", "was", "now"),
    [
        (r"\benchbest{1.0350}", r"\benchbest{0.9350}", "gen3r@reference, column", "0.9350", "1.0350"),
        (r"\benchsecond{2.0350}", r"\benchbest{2.0350}", "wvd@reference, column", r"\benchbest", r"\benchsecond"),
        (r"\benchsecond{2.0350}", r"2.0350", "wvd@reference, column", "2.0350", r"\benchsecond"),
        ("gen3r@reference & ", "mine & ", "mine", "a row", "nothing"),
        (r"Chamfer\,$\downarrow$", r"Chamfer\,$\uparrow$", "head line 2", r"$\uparrow$", r"$\downarrow$"),
        ("n = 8 of 8 scenes", "n = 300 of 300 scenes", "below the table", "nothing", "n = 8 of 8 scenes"),
    ],
)
def test_an_edit_of_latex_is_named(run, metrics, old, new, place, was, now) -> None:
    text = write([run], metrics, "latex")
    assert old in text
    _, wrong = check_table(text.replace(old, new, 1), [run], metrics, CARDS)
    assert any(place in one.place and was in one.was and now in one.now for one in wrong), wrong
    assert all(one.table == "geom-1view" for one in wrong)


@pytest.mark.parametrize(
    ("old", "new", "was", "now"),
    [
        ("**1.0350**", "**1.0351**", "**1.0351**", "**1.0350**"),
        ("<u>2.0350</u>", "**2.0350**", "**2.0350**", "<u>2.0350</u>"),
        ("<sup>a</sup> |", " |", "2.0386", "<sup>a</sup>"),
    ],
)
def test_an_edit_of_markdown_is_named(run, metrics, old, new, was, now) -> None:
    text = write([run], metrics, "markdown")
    assert old in text
    _, wrong = check_table(text.replace(old, new, 1), [run], metrics, CARDS)
    (one,) = wrong
    assert was in one.was
    assert now in one.now
    assert str(one).startswith(f"{one.table}: ")


@pytest.mark.parametrize(
    ("format_", "end", "added"),
    [
        ("latex", "\\bottomrule", "fake & 0.1 & 0.1 & 0.1 \\\\ % more\n"),
        ("latex", "\\bottomrule", "fake & 0.1 & 0.1 & 0.1 \\\\[2pt]\n"),
        ("latex", "\\bottomrule", "fake & 0.1 & 0.1 & 0.1 \\tabularnewline\n"),
        ("latex", "\\bottomrule", "\\multicolumn{4}{c}{fake is best} \\\\\n"),
        ("markdown", "\n\n- ", "\n  | fake | fake | 0.1 | 0.1 | 0.1 |"),
        ("markdown", "\n\n- ", "\nfake | fake | 0.1 | 0.1 | 0.1"),
        ("markdown", "\n\n- ", "\n| --- | --- | --- | --- | --- |"),
    ],
)
def test_a_row_that_was_added_is_named_however_it_is_set(run, metrics, format_, end, added) -> None:
    text = write([run], metrics, format_)
    assert end in text
    _, wrong = check_table(text.replace(end, added + end, 1), [run], metrics, CARDS)
    assert [(one.was, one.now) for one in wrong] == [("a row", "nothing")]


def test_rules_and_room_between_rows_are_the_files_own(run, metrics) -> None:
    text = (
        write([run], metrics, "latex")
        .replace(r" \\", r" \\[2pt] % mine")
        .replace(r"\midrule", r"\midrule\addlinespace[1ex]")
    )
    assert check_table(text, [run], metrics, CARDS) == (2, [])


def test_a_torn_or_endless_csv(run, metrics) -> None:
    text = write([run], metrics, "csv", 2)
    last = text.splitlines()[-1]
    torn = text[: text.rindex(last)] + last[: last.index(",measured") + 9]
    assert check_table(torn, [run], metrics, CARDS)[1]
    value = next(csv.DictReader(io.StringIO(write([run], metrics, "csv"))))["value"]
    assert check_table(write([run], metrics, "csv").replace(value, "inf", 1), [run], metrics, CARDS)[1]
    with pytest.raises(InputError, match="a damaged CSV"):
        check_table(text + "x" * 200_000, [run], metrics, CARDS)
    with pytest.raises(InputError, match="a file without a recipe"):
        check_table("x" * 200_000, [run], metrics, CARDS)


def test_edits_of_csv_are_named_and_last_digits_are_not(run, metrics) -> None:
    text = write([run], metrics, "csv", spread="low-high")
    lines = text.splitlines()
    edited = [line.replace(",best,", ",second,", 1) for line in lines]
    _, wrong = check_table("\n".join(edited) + "\n", [run], metrics, CARDS)
    assert wrong
    assert {(one.was, one.now) for one in wrong} == {("second", "best")}
    _, wrong = check_table("\n".join(lines[:1] + lines[2:]) + "\n", [run], metrics, CARDS)
    assert [(one.was, one.now) for one in wrong] == [("nothing", "a line")]
    shaken = re.sub(r"(\d\.\d{13})\d*", r"\1", text)
    assert shaken != text
    assert check_table(shaken, [run], metrics, CARDS)[1] == []
    wrong = check_table(text.replace("1.035", "1.036"), [run], metrics, CARDS)[1]
    assert {one.place.rpartition(", ")[2] for one in wrong} == {"value"}


def test_white_space_captions_and_lines_around_are_the_files_own(run, metrics) -> None:
    text = write([run], metrics, "latex")
    changed = text.replace(" & ", "   &\t").replace(r"\caption{", r"\caption{Ours. ").replace(r"\centering", "")
    changed = re.sub(r"^Environment of .*$", "", changed, flags=re.M)
    assert check_table("% my paper\n" + changed + "\\clearpage\n", [run], metrics, CARDS) == (2, [])


def test_other_records_are_other_numbers(run, make_run, metrics) -> None:
    text = write([run], metrics, "latex", 2)
    other = make_run(
        lambda *_: flat(1.0), name="elsewhere/a", cards=(GEOM_1VIEW, GEOM_2VIEW), rows=(GEN3R, WVD), scenes=ENOUGH
    )
    _, wrong = check_table(text, [other], metrics, CARDS)
    assert any(one.was == "a row" and "freeze" in one.place for one in wrong)
    assert any("gen3r@reference" in one.place for one in wrong)


def test_runs_are_found_by_name_in_any_order(make_run, metrics) -> None:
    runs = [make_run(lambda *_: flat(1.0), name=n, rows=(r,)) for n, r in (("x", GEN3R), ("y", WVD))]
    text = write(runs, metrics, "markdown", 2)
    assert check_table(text, runs[::-1], metrics, CARDS) == (1, [])
    with pytest.raises(InputError, match="the runs x; expected those that the table was made of: x, y"):
        check_table(text, runs[:1], metrics, CARDS)
    with pytest.raises(InputError, match="the runs nothing; expected"):
        check_table(text, [], metrics, CARDS)


@pytest.mark.parametrize("text", ["", "hello", "a,b\n1,2\n", r"\begin{table}\end{table}", "| a | b |\n|---|---|\n"])
def test_what_is_no_table_of_ours_is_refused(text, metrics) -> None:
    with pytest.raises(InputError, match=r"a file without a recipe; expected a table that gen3r-bench wrote"):
        check_table(text, [], metrics, CARDS)


@pytest.mark.parametrize(
    "line", ["{}", "{", '{"view": "paper", "colour": 1}', '{"view": "other"}', "[1]", '{"view": "paper"}']
)
def test_a_damaged_recipe_is_refused(line, metrics) -> None:
    with pytest.raises(InputError, match="gen3r-bench table wrote"):
        check_table(f"% gen3r-bench table: {line}\n", [], metrics, CARDS)


@given(st.lists(st.text(max_size=20), max_size=3), st.sampled_from([None, "half-width", "low-high"]))
def test_any_recipe_stands_in_a_comment_and_is_read_back(names, spread) -> None:
    recipe = Recipe(view="paper", number=2, runs=tuple(names), spread=spread)
    line = recipe.line()
    assert line.isascii()
    assert line.isprintable()
    assert "--" not in line
    assert not set(line) & set("<>")
    assert read_recipe(line) == recipe
