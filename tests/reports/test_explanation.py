"""Explanations of runs whose outcome in every dialect is known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from reports.synthetic import FREEZE, flat, row
from rich.console import Console

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.dialects import DEFAULT, DIALECTS, Evidence, Rescored, dialects_of
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.reports.explanation import Explanation, as_json, explanation, verdicts
from gen3r_bench.reports.explanation_figure import explanation_figure
from gen3r_bench.reports.explanation_text import (
    findings,
    movement,
    print_explanation,
    rank_text,
    render_csv,
    render_markdown,
)
from gen3r_bench.runs.explain import Difference, RescoredRun
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.store import Run

SCENES = tuple(f"s{number}" for number in range(8))
KEY = "chamfer@fps20k"
A, B = row("a@one"), row("b@two")


@pytest.fixture
def explained(make_run: Callable[..., Run], metrics: Mapping[str, Metric]) -> Callable[..., Explanation]:
    """``explained({row: {dialect: values}})``: the Chamfer distances of each scene, or None where there is none."""

    def make(
        values: Mapping[str, Mapping[str, list[float | None]]],
        *,
        rows: tuple[RowEntry, ...] = (A, B),
        scenes: tuple[str, ...] = SCENES,
        differences: tuple[Difference, ...] = (),
        **options: object,
    ) -> Explanation:
        run = make_run(lambda *_: flat(0.1), rows=rows, scenes=scenes, scenes_in_full=40, **options)
        found = dialects_of(GEOM_1VIEW, metrics)
        named = {key for of_row in values.values() for key in of_row}
        chosen = {KEY: [dialect for dialect in found[KEY] if dialect.key in named]}
        planned = [("geom-1view", "mini", scene, r.label, 42) for scene in scenes for r in rows]
        result = RescoredRun(run, {"geom-1view": GEOM_1VIEW}, {"geom-1view": chosen}, planned)
        for place in planned:
            part = Rescored()
            for key, of_scene in values[place[3]].items():
                value = of_scene[scenes.index(place[2])]
                if value is None:
                    part.missing[KEY, key] = "no luck"
                else:
                    part.values[KEY, key] = Evidence(value)
            result.results[place] = part
        result.compared, result.differences = len(planned), list(differences)
        return explanation(result, metrics)

    return make


def around(mean: float, spread: float = 0.0) -> list[float | None]:
    return [mean + spread * (-1) ** number * (number + 1) for number in range(len(SCENES))]


def line_of(found: Explanation, key: str):
    return next(line for line in found.panels[0].lines if line.key == key)


def test_where_nothing_moves_nothing_is_said_to_move(explained: Callable[..., Explanation]) -> None:
    same = {DEFAULT: around(0.3), "scale=umeyama": around(0.3)}
    found = explained({"a@one": same, "b@two": {key: around(0.4) for key in same}})
    line = line_of(found, "scale=umeyama")
    assert [shown.moved for shown in line.rows.values()] == [0, 0]
    assert not line.rank_changes
    assert rank_text(line) == "="
    assert "no dialect changes a rank" in findings(found.panels[0])


def test_a_flipped_rank_is_found_named_and_drawn(explained: Callable[..., Explanation]) -> None:
    flip = {
        "a@one": {DEFAULT: around(0.3), "scale=none": around(0.5), "voxel=none": around(0.3)},
        "b@two": {DEFAULT: around(0.4), "scale=none": around(0.4), "voxel=none": around(0.4)},
    }
    found = explained(flip)
    assert line_of(found, "scale=none").rank_changes == {"a@one": (1, 2), "b@two": (2, 1)}
    assert not line_of(found, "voxel=none").rank_changes
    assert "ranks under scale=none: a@one 1→2, b@two 2→1" in findings(found.panels[0])
    assert "ranks under scale=none: a@one 1→2, b@two 2→1" in printed(found)
    flip["a@one"]["scale=none"] = around(0.35)
    assert not line_of(explained(flip, name="b"), "scale=none").rank_changes


def test_what_prints_alike_shares_a_rank(explained: Callable[..., Explanation]) -> None:
    found = explained(
        {
            "a@one": {DEFAULT: around(0.3), "scale=none": around(0.300001)},
            "b@two": {DEFAULT: around(0.3), "scale=none": around(0.3)},
        }
    )
    line = line_of(found, "scale=none")
    assert [shown.rank for shown in line.rows.values()] == [1, 1]
    assert not line.rank_changes


def test_floors_are_shown_and_never_ranked(explained: Callable[..., Explanation]) -> None:
    same = {DEFAULT: around(0.3), "scale=none": around(0.5)}
    found = explained({"a@one": same, "freeze": same}, rows=(A, FREEZE))
    assert {shown.rank for line in found.panels[0].lines for shown in line.rows.values()} == {None}
    assert all(verdicts(line) is None for line in found.panels[0].lines)
    assert "ranks" not in printed(found)


def test_the_paired_test_loses_a_pair_that_noise_hides(explained: Callable[..., Explanation]) -> None:
    found = explained(
        {
            "a@one": {DEFAULT: around(0.30), "scale=none": around(0.30, 0.02)},
            "b@two": {DEFAULT: around(0.31), "scale=none": around(0.31, -0.02)},
        }
    )
    panel = found.panels[0]
    assert verdicts(panel.lines[0]) == (1, 1)
    assert verdicts(panel.lines[1]) == (0, 1)
    assert panel.verdict_changes(panel.lines[1]) == {("a@one", "b@two"): (True, False)}
    assert "under scale=none 0 of 1 (no longer a@one/b@two)" in " ".join(printed(found).split())


def test_a_missing_scene_is_counted_and_no_part_of_a_movement(explained: Callable[..., Explanation]) -> None:
    short: list[float | None] = around(0.3)
    short[0] = None
    own = around(0.3)
    own[0] = 9.0  # the scene that the dialect cannot score must not look like a movement
    found = explained({"a@one": {DEFAULT: own, "scale=none": short}, "b@two": {DEFAULT: own, "scale=none": own}})
    shown = line_of(found, "scale=none").rows["a@one"]
    assert (shown.n, shown.planned, shown.reasons) == (7, 8, {"no luck": 1})
    assert shown.moved == pytest.approx(0)
    assert shown.default_rank == shown.rank == 1
    assert "scale=none, a@one: n = 7 of 8 scenes: 1 × no luck" in printed(found)


def test_differences_from_the_record_come_first_to_the_eye(explained: Callable[..., Explanation]) -> None:
    place = ("geom-1view", "mini", "s3", "a@one", 42)
    same = {DEFAULT: around(0.3), "scale=none": around(0.5)}
    found = explained({"a@one": same, "b@two": same}, differences=(Difference(place, KEY, 0.25, 0.3),))
    text = " ".join(printed(found).split())
    assert "NOT REPRODUCED: 1 of 16 recorded scores" in text
    assert "chamfer@fps20k of a@one, geom-1view, scene s3, seed 42: 0.25 recorded, 0.3 now" in text
    assert as_json(found)["differences_from_the_record"][0]["again"] == 0.3


@pytest.mark.parametrize(
    ("moved", "text"), [(None, ""), (0.0, "="), (0.00004, "≈"), (-0.00004, "≈"), (0.5, "+0.5000"), (-2.0, "−2.0000")]
)
def test_movements_in_words(moved: float | None, text: str) -> None:
    assert movement(moved, 4) == text


def test_a_metric_without_any_number_says_why(explained: Callable[..., Explanation]) -> None:
    nothing = {DEFAULT: [None] * len(SCENES), "scale=none": [None] * len(SCENES)}
    found = explained({"a@one": nothing, "b@two": nothing})
    assert not found.panels
    assert found.absent == {KEY: "no luck"}
    assert "No number, not shown: chamfer@fps20k: no luck" in printed(found)
    with pytest.raises(InputError, match="without any number"):
        explanation_figure(found)


def test_a_narrow_terminal_gets_narrow_tables(explained: Callable[..., Explanation]) -> None:
    out = io.StringIO()
    print_explanation(Console(file=out, width=70), many(explained))
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 70


def many(explained: Callable[..., Explanation]) -> Explanation:
    """Nine rows with hostile and long names, and every dialect of geometry."""
    names = (
        "mit_unterstrich@größe",
        "$x^2$@\\frac",
        "<script>@1",
        "名前@1",
        "a" * 60 + "@1",
        "b|c@1",
        "e@1",
        "f@1",
        "g@1",
    )
    keys = [DEFAULT, *(d.key for d in DIALECTS if "chamfer" in d.metrics)]
    values = {
        name: {key: around(0.2 + 0.05 * ((i * 7 + j * 3) % 11), 0.001) for j, key in enumerate(keys)}
        for i, name in enumerate(names)
    }
    return explained(values, rows=tuple(row(name) for name in names))


def printed(found: Explanation) -> str:
    out = io.StringIO()
    print_explanation(Console(file=out, width=100), found)
    return out.getvalue()


def test_the_terminal_is_never_wider_than_100_columns(explained: Callable[..., Explanation]) -> None:
    text = printed(many(explained))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "f@1" in text
    assert "20,000 points are sampled from the" in text


def test_markdown_and_csv_hold_every_number(explained: Callable[..., Explanation]) -> None:
    found = many(explained)
    markdown = render_markdown(found)
    assert "<script>" not in markdown
    assert "b&#124;c@1" in markdown
    lines = list(csv.DictReader(io.StringIO(render_csv(found))))
    assert len(lines) == 9 * len(found.panels[0].lines)
    (line,) = [entry for entry in lines if entry["row"] == "e@1" and entry["dialect"] == "scale=none"]
    shown = line_of(found, "scale=none").rows["e@1"]
    assert float(line["value"]) == shown.value
    assert (line["n"], line["N"]) == ("8", "8")


def test_json_is_whole_and_serialisable(explained: Callable[..., Explanation]) -> None:
    found = many(explained)
    content = json.loads(json.dumps(as_json(found)))
    (panel,) = content["panels"]
    assert [line["dialect"] for line in panel["lines"]] == [line.key for line in found.panels[0].lines]
    assert len(panel["lines"][0]["separated"]) == 36
    assert content["partial"] is True


def pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)


def has_colour(png: bytes, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((pixels(png) == wanted).all(axis=1).sum() > 20)


def test_the_figure_marks_changed_ranks_and_only_them(explained: Callable[..., Explanation]) -> None:
    from gen3r_bench.reports.figure_style import BAND, COLOURS

    calm = {DEFAULT: around(0.3), "scale=none": around(0.35)}
    other = {DEFAULT: around(0.4), "scale=none": around(0.45)}
    png = explanation_figure(explained({"a@one": calm, "b@two": other}))
    assert png.startswith(b"\x89PNG")
    assert all(has_colour(png, colour) for colour in COLOURS[:2])
    assert not has_colour(png, BAND)
    flipped = explanation_figure(explained({"a@one": {**calm, "scale=none": around(0.5)}, "b@two": other}, name="b"))
    assert has_colour(flipped, BAND)


def test_the_figure_bears_any_names_and_is_the_same_twice(explained: Callable[..., Explanation]) -> None:
    found = many(explained)
    assert explanation_figure(found) == explanation_figure(found)
