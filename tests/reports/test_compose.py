from __future__ import annotations

import dataclasses
import os
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.synthetic import ENOUGH, FREEZE, GEN3R, ORACLE, WVD, flat, row

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.cameras import CAMERA_1VIEW, CAMERA_2VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW, GEOM_2VIEW
from gen3r_bench.protocols.reconstruction import GEOM_RECON
from gen3r_bench.reports.compose import comparison_table, run_table
from gen3r_bench.reports.notes import counted, run_name
from gen3r_bench.reports.paper import paper_table
from gen3r_bench.reports.tables import MISSING, Cell, Row, Table, rank_marks
from gen3r_bench.runs.record import provenance_id

VALUES = st.lists(st.none() | st.decimals(-2, 2, places=1).map(str), max_size=8)


def row_of(table: Table, label: str, group: int = 0) -> Row:
    return next(row for row in table.row_groups[group].rows if row.label == label)


def shown(table: Table, label: str, group: int = 0) -> list[Cell]:
    """Cells of the measured columns of a row."""
    first = len(table.columns) - sum(len(g.columns) for g in table.column_groups if "(measured)" in g.title)
    return list(row_of(table, label, group).cells[first:])


def by_row(values: dict[str, float]):
    return lambda protocol, label, scene, seed: flat(values[label.partition("@")[0]])


@given(VALUES, st.booleans())
def test_marks_follow_the_definition(values, higher) -> None:
    marks = rank_marks(values, higher_is_better=higher)
    present = [Decimal(value) for value in values if value is not None]
    assert len(marks) == len(values)
    for value, mark in zip(values, marks, strict=True):
        if value is None or len(present) < 2:
            assert mark is None
            continue
        better = [other for other in present if (other > Decimal(value) if higher else other < Decimal(value))]
        assert mark == {0: "best", 1: "second", 2: "third"}.get(len(better))


@given(VALUES, st.booleans())
def test_equal_values_share_a_mark_and_negation_swaps_direction(values, higher) -> None:
    marks = rank_marks(values, higher_is_better=higher)
    for value, mark in zip(values, marks, strict=True):
        same = [
            m
            for v, m in zip(values, marks, strict=True)
            if v is not None and value is not None and Decimal(v) == Decimal(value)
        ]
        assert all(m == mark for m in same)
    negated = [None if value is None else str(-Decimal(value)) for value in values]
    assert rank_marks(negated, higher_is_better=not higher) == marks


def test_a_run_stands_beside_the_paper_in_columns_of_its_own(make_run, metrics) -> None:
    run = make_run(
        by_row({"gen3r": 0.12344, "wvd": 0.5, "freeze": 0.0, "oracle": 0.0}),
        rows=(FREEZE, ORACLE, GEN3R, WVD),
        scenes=ENOUGH,
    )
    table = comparison_table(2, [run], metrics)
    assert [group.title for group in table.column_groups][3:] == ["mini (measured) · 13×112×112"]
    assert [column.title for column in table.columns] == ["Acc.", "Comp.", "CD"] * 4
    assert [column.arrow for column in table.columns] == ["↓"] * 12
    first = table.row_groups[0]
    assert [row.label for row in first.rows][4:] == ["gen3r@reference", "wvd@reference", "freeze", "oracle"]
    for line in first.rows:
        paper, measured = line.cells[:9], line.cells[9:]
        assert all((cell.text == MISSING) == (line.kind != "paper") for cell in paper)
        assert all((cell.text == MISSING) == (line.kind == "paper") for cell in measured)
    assert [cell.text for cell in shown(table, "gen3r@reference")] == ["0.1234", "2.1234", "1.1234"]
    assert [cell.mark for cell in shown(table, "gen3r@reference")] == ["best"] * 3
    assert [cell.mark for cell in shown(table, "wvd@reference")] == ["second"] * 3
    for label in ("freeze", "oracle"):
        assert [cell.mark for cell in shown(table, label)] == [None] * 3
    assert len(table.row_groups[1].rows) == 4
    assert [row.cells[:9] for row in first.rows[:4]] == [
        row.cells for row in comparison_table(2, [], {}).row_groups[0].rows
    ]


def test_a_dataset_read_in_two_ways_has_two_groups_of_columns(make_run, metrics) -> None:
    runs = [
        make_run(lambda *_: flat(1.0), rows=(GEN3R,), options={"depth_cap": "80"}),
        make_run(lambda *_: flat(2.0), name="b", rows=(WVD,), options={"depth_cap": "100"}),
    ]
    table = comparison_table(2, runs, metrics)
    assert len(table.column_groups) == len(comparison_table(2, [], {}).column_groups) + 2
    assert not [cell for row in table.rows if row.kind == "method" for cell in row.cells if cell.mark]


def test_a_folders_name_that_is_no_text_is_shown_as_it_is_written(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0))
    odd = dataclasses.replace(run, path=run.path.with_name(os.fsdecode(b"run-\xff")))
    assert run_name(odd) == r"run-\xff"


def test_ties_are_judged_as_printed(make_run, metrics) -> None:
    table = comparison_table(2, [make_run(by_row({"gen3r": 0.12341, "wvd": 0.12344}))], metrics)
    assert {cell.mark for label in ("gen3r@reference", "wvd@reference") for cell in shown(table, label)} == {"best"}


def test_notes_name_cards_counts_and_environment(make_run, metrics) -> None:
    table = comparison_table(2, [make_run(lambda *_: flat(1.0), name="my-run", seeds=(1, 2))], metrics)
    below = "\n".join((*table.notes, *table.environments))
    assert f"Cards: geom-1view {GEOM_1VIEW.hash}." in below
    assert "geom-1view on mini: n = 3 of 3 scenes" in below
    assert "Environment of my-run: gen3r-bench 0.1.0, python 3.11.7, numpy 2.0." in below
    assert "my-run: mean over seeds 1, 2 within each scene." in below
    assert "Measured as accuracy@fps20k, completeness@fps20k, chamfer@fps20k." in below
    assert "Partial" not in below
    assert not table.footnotes


def test_failures_show_n_of_n_and_keep_a_row_out_of_the_ranking(make_run, metrics) -> None:
    def outcome(protocol, label, scene, seed):
        return "out of memory" if label.startswith("gen3r") and scene == "s1" else flat(1.0)

    table = comparison_table(2, [make_run(outcome, rows=(GEN3R, WVD, row("aether@official")))], metrics)
    assert table.footnotes == ("n = 2 of 3 scenes: 1 × failed: out of memory",)
    assert all(
        cell.notes == (0,) and cell.mark is None and cell.text != MISSING for cell in shown(table, "gen3r@reference")
    )
    assert all(cell.notes == () and cell.mark == "best" for cell in shown(table, "wvd@reference"))


def test_rows_over_different_scenes_are_not_ranked(make_run, metrics) -> None:
    def outcome(protocol, label, scene, seed):
        return "no" if (label[0], scene) in {("g", "s0"), ("w", "s1")} else flat(1.0)

    table = run_table(make_run(outcome), "geom-1view", metrics)
    assert not table.has_marks


def test_rows_that_miss_the_same_scene_are_ranked(make_run, metrics) -> None:
    table = run_table(
        make_run(lambda p, r, scene, s: "unreadable" if scene == "s0" else flat(1.0)), "geom-1view", metrics
    )
    assert {cell.mark for row in table.rows for cell in row.cells} == {"best"}


def test_long_and_many_reasons_stay_readable(make_run, metrics) -> None:
    run = make_run(lambda p, r, scene, s: f"{scene} " + "x\n" * 500, rows=(GEN3R,), scenes=[f"s{n}" for n in range(6)])
    table = run_table(run, "geom-1view", metrics)
    assert len(table.footnotes) == 1
    assert table.footnotes[0].endswith("3 more reasons (in the CSV)")
    assert len(table.footnotes[0]) < 700
    assert all(cell.text == MISSING and cell.mark is None for row in table.rows for cell in row.cells)


def test_a_partial_run_says_so_in_head_and_below(make_run, metrics) -> None:
    table = comparison_table(2, [make_run(lambda *_: flat(1.0), scenes_in_full=40)], metrics)
    assert table.column_groups[-1].title == "mini (measured) · 13×112×112 · 3 of 40 scenes"
    assert any(
        note.startswith("Partial run: geom-1view scored 3 of the card's 40 scenes of mini") for note in table.notes
    )


def test_other_scenes_get_other_columns(make_run, metrics) -> None:
    runs = [
        make_run(lambda *_: flat(1.0), name="a", rows=(GEN3R,)),
        make_run(lambda *_: flat(1.0), name="b", rows=(GEN3R,), scenes=("t0", "t1", "t2")),
        make_run(lambda *_: flat(1.0), name="c", rows=(WVD,), dataset="tartanair", title="TartanAir"),
        make_run(lambda *_: flat(1.0), name="d", rows=(WVD,), backend="released"),
    ]
    table = comparison_table(2, runs, metrics)
    assert [group.title for group in table.column_groups][3:] == [
        "mini (measured) · 13×112×112 · a",
        "mini (measured) · 13×112×112 · b",
        "TartanAir (measured) · 13×112×112",
        "mini (measured) · 13×112×112 · released backend",
    ]
    assert [row.label for row in table.row_groups[0].rows][4:] == ["gen3r@reference", "wvd@reference"]
    assert [cell.text for cell in shown(table, "gen3r@reference")] == ["1.0000", "3.0000", "2.0000"] * 2 + [MISSING] * 6


def test_two_runs_share_a_column_where_their_data_agree(make_run, metrics) -> None:
    runs = [
        make_run(lambda *_: flat(1.0), name="a", rows=(GEN3R,), scenes=ENOUGH),
        make_run(lambda *_: flat(2.0), name="b", rows=(WVD,), scenes=ENOUGH),
    ]
    table = comparison_table(2, runs, metrics)
    assert len(table.column_groups) == 4
    assert [cell.mark for cell in shown(table, "wvd@reference")] == ["second"] * 3


def test_settings_across_give_measured_columns_by_setting(make_run, metrics) -> None:
    run = make_run(lambda *_: {"auc30@hist1deg": 0.5}, cards=(CAMERA_2VIEW, CAMERA_1VIEW), rows=(GEN3R,))
    table = comparison_table(5, [run], metrics)
    assert [group.full_title for group in table.column_groups][4:] == [
        "1-view · mini (measured) · 13×112×112",
        "2-view · mini (measured) · 13×112×112",
    ]
    assert [row.label for row in table.rows][-1] == "gen3r@reference"
    assert [cell.text for cell in shown(table, "gen3r@reference")] == ["0.5000", "0.5000"]


def test_table_4_joins_appearance_and_geometry(make_run, metrics) -> None:
    def outcome(protocol, *_):
        return flat(1.0) if protocol.startswith("geom") else {"psnr@8bit": 20.123, "psnr@8bit/novel": 1.0}

    table = comparison_table(4, [make_run(outcome, cards=(GEOM_1VIEW, APPEARANCE_1VIEW), rows=(GEN3R,))], metrics)
    assert [column.title for column in table.column_groups[-1].columns] == ["PSNR", "SSIM", "LPIPS", "CD"]
    assert [cell.text for cell in shown(table, "gen3r@reference")] == ["20.12", MISSING, MISSING, "2.0000"]
    assert "PSNR of a frame is capped at 60 dB, since identical frames give infinity." in table.notes


def test_table_9_prints_psnr_with_four_decimals(make_run, metrics) -> None:
    from gen3r_bench.protocols.reconstruction import RGB_RECON

    run = make_run(lambda *_: {"psnr@8bit": 37.57704}, cards=(RGB_RECON,), rows=(GEN3R,))
    assert shown(comparison_table(9, [run], metrics), "gen3r@reference")[0].text == "37.5770"


def test_cards_of_two_hashes_may_not_meet(make_run, metrics) -> None:
    runs = [
        make_run(lambda *_: flat(1.0), name=n, hashes={"geom-1view": n * 12}, rows=(r,))
        for n, r in (("a", GEN3R), ("b", WVD))
    ]
    with pytest.raises(InputError, match=r"card a{12} of geom-1view in .*/a and card b{12} in .*/b"):
        comparison_table(2, runs, metrics)


def test_one_row_may_not_have_two_values(make_run, metrics) -> None:
    runs = [make_run(lambda *_, value=value: flat(value), name=n) for n, value in (("a", 1.0), ("b", 1.5))]
    with pytest.raises(
        InputError, match=r"row 'gen3r@reference' has two values of accuracy@fps20k on mini: from .*/a and from .*/b"
    ):
        comparison_table(2, runs, metrics)


def test_equal_floors_that_two_runs_bring_along_count_once(make_run, metrics) -> None:
    runs = [make_run(lambda *_: flat(1.0), name=n, rows=(r, FREEZE)) for n, r in (("a", GEN3R), ("b", WVD))]
    table = comparison_table(2, runs, metrics)
    measured = [line.label for line in table.rows if line.kind != "paper"]
    assert measured == ["gen3r@reference", "wvd@reference", "freeze"]
    assert [cell.text for cell in shown(table, "freeze")] == ["1.0000", "3.0000", "2.0000"]


def test_one_label_may_not_mean_two_weights(make_run, metrics) -> None:
    runs = [
        make_run(lambda *_: flat(1.0), name=n, rows=(row("gen3r@reference", checkpoint_sha256=n * 64),), dataset=n)
        for n in "ab"
    ]
    with pytest.raises(InputError, match=r"weights a{12} in .* with weights b{12} in"):
        comparison_table(2, runs, metrics)


def test_a_run_that_feeds_another_table_is_told_which(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0))
    with pytest.raises(
        InputError, match=r"no numbers for table 3: its protocols \(geom-1view\) feed tables 2, 4;.*--table 2"
    ):
        comparison_table(3, [run], metrics)
    nowhere = make_run(lambda *_: flat(1.0), name="b", cards=(GEOM_1VIEW.model_copy(update={"paper_tables": ()}),))
    with pytest.raises(InputError, match=r"feed no table of the paper.*leave out --table"):
        comparison_table(2, [nowhere], metrics)


def test_a_card_that_claims_a_table_without_its_setting_is_an_error(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0), cards=(GEOM_1VIEW.model_copy(update={"paper_tables": (3,)}),))
    with pytest.raises(
        InputError, match="feeds table 3, in the setting 1view; expected a setting of that table: allview"
    ):
        comparison_table(3, [run], metrics)


def test_run_table_has_every_metric_and_choice_of_frames(make_run, metrics) -> None:
    scores = {"psnr@8bit": 20.0, "psnr@8bit/novel": 19.0, "ssim@skimage-gauss": 0.5, "ssim@skimage-gauss/novel": 0.4}
    run = make_run(lambda *_: scores, cards=(APPEARANCE_1VIEW,), unsupported={"lpips@vgg": "no weights"})
    table = run_table(run, "appearance-1view", metrics)
    heads = [column.title for column in table.columns]
    assert heads[:5] == ["PSNR", "PSNR novel", "SSIM", "SSIM novel", "LPIPS"]
    assert table.columns[0].unit == "dB"
    assert [cell.text for cell in table.rows[0].cells[:5]] == ["20.00", "19.00", "0.5000", "0.4000", MISSING]
    assert table.footnotes[table.rows[0].cells[4].notes[0]] == "n = 0 of 3 scenes: 3 × unsupported: no weights"


def test_dialects_of_one_metric_are_told_apart(make_run, metrics) -> None:
    card = APPEARANCE_1VIEW.model_copy(update={"metrics": ("ssim@skimage-gauss", "ssim@torchmetrics")})
    run = make_run(lambda *_: {"ssim@skimage-gauss": 0.5, "ssim@torchmetrics": 0.6}, cards=(card,))
    assert [c.title for c in run_table(run, card.name, metrics).columns] == [
        "SSIM (skimage-gauss)",
        "SSIM (torchmetrics)",
    ]


def test_run_table_groups_rows_by_kind(make_run, metrics) -> None:
    table = run_table(make_run(lambda *_: flat(1.0), rows=(ORACLE, FREEZE, GEN3R)), "geom-1view", metrics)
    assert [(g.title, [r.label for r in g.rows]) for g in table.row_groups] == [
        ("method", ["gen3r@reference"]),
        ("floor", ["freeze"]),
        ("diagnostic", ["oracle"]),
    ]


def test_remarks_are_merged_and_training_sets_named(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0), rows=(row("gen3r@reference", training_sets=("mini", "acid")),))
    records = [
        r.model_copy(update={"flags": (f"sampled {10 + n} of {{20}} points",), "coverage": "given-views"})
        for n, r in enumerate(run.records)
    ]
    notes = run_table(dataclasses.replace(run, records=tuple(records)), "geom-1view", metrics).notes
    assert "gen3r@reference, geom-1view: sampled 10–12 of {20} points (3 records)." in notes
    assert "gen3r@reference, geom-1view: covers only the given views (3 records)." in notes
    assert "gen3r@reference was trained on scenes of mini." in notes


def test_negative_zero_is_printed_as_zero(make_run, metrics) -> None:
    table = run_table(make_run(lambda *_: {"chamfer@fps20k": -1e-9}), "geom-1view", metrics)
    assert table.rows[0].cells[2].text == "0.0000"


def test_unknown_protocols_and_metrics_are_errors(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0), cards=(GEOM_1VIEW, GEOM_2VIEW))
    with pytest.raises(UnknownNameError, match="unknown protocol of this run 'geom-3view'; did you mean"):
        run_table(run, "geom-3view", metrics)
    with pytest.raises(UnknownNameError, match="unknown metric 'accuracy@fps20k'"):
        run_table(run, "geom-1view", {"psnr@8bit": metrics["psnr@8bit"]})


def test_reconstruction_has_one_row_group(make_run, metrics) -> None:
    table = comparison_table(3, [make_run(lambda *_: flat(1.0), cards=(GEOM_RECON,))], metrics)
    assert [len(group.rows) for group in table.row_groups] == [len(paper_table(3).rows["allview"]) + 2]


def test_scenes_that_were_never_drawn_are_counted_by_reason() -> None:
    assert counted({"too short": 3}) == "3 × too short"
    many = {"a": 9, "b": 4, "c": 3, "d": 2, "e": 1}
    assert counted(many) == "9 × a; 4 × b; 3 × c; 3 × other reasons (see run.json)"


def with_lpips_facts(run, facts):
    identifier = provenance_id(facts)
    records = tuple(record.model_copy(update={"made_with": {"lpips@vgg": identifier}}) for record in run.records)
    header = run.header.model_copy(update={"provenances": {identifier: facts}})
    return dataclasses.replace(run, header=header, records=records)


def lpips_run(make_run, name: str, row, facts):
    run = make_run(lambda *_: {"lpips@vgg": 0.25, "psnr@8bit": 20.0}, name, cards=(APPEARANCE_1VIEW,), rows=(row,))
    return with_lpips_facts(run, facts)


def test_other_conditions_get_other_columns(make_run, metrics) -> None:
    one = lpips_run(make_run, "a", GEN3R, {"antialias": "yes"})
    two = lpips_run(make_run, "b", WVD, {"antialias": "no"})
    table = comparison_table(1, [one, two], metrics)
    measured = [group for group in table.column_groups if "(measured)" in group.title]
    divided = [group.title for group in measured if group.title.endswith(("antialias yes", "antialias no"))]
    assert len(divided) == 2
    assert all([c.title for c in g.columns] == ["LPIPS"] for g in measured if g.title in divided)
    # what was computed alike stays in one group
    (shared,) = (group for group in measured if group.title not in divided)
    assert "PSNR" in [column.title for column in shared.columns]
    alone = comparison_table(1, [one], metrics)
    assert not any("antialias" in group.title for group in alone.column_groups)
    assert any("lpips@vgg computed with antialias yes." in note for note in alone.notes)


def test_one_run_under_two_conditions_has_two_groups(make_run, metrics) -> None:
    run = lpips_run(make_run, "a", GEN3R, {"antialias": "yes"})
    other = provenance_id({"antialias": "no"})
    records = (run.records[0].model_copy(update={"made_with": {"lpips@vgg": other}}), *run.records[1:])
    header = run.header.model_copy(update={"provenances": {**run.header.provenances, other: {"antialias": "no"}}})
    table = run_table(dataclasses.replace(run, header=header, records=records), "appearance-1view", metrics)
    titles = [group.title for group in table.column_groups]
    assert [title.rpartition(" · ")[2] for title in titles[1:]] == ["antialias no", "antialias yes"]
    (row,) = table.rows
    assert [c.source.n for c in row.cells if c.source and c.source.metric == "lpips@vgg"] == [1, 2]


def test_metrics_that_no_card_asks_for_stay_out_of_the_papers_tables(make_run, metrics) -> None:
    run = make_run(lambda *_: {"psnr@8bit": 20.0, "lpips@alex": 0.25}, cards=(APPEARANCE_1VIEW,), rows=(GEN3R,))
    (group,) = run_table(run, "appearance-1view", metrics).column_groups
    assert group.columns[-1].title == "LPIPS (alex)"
    shown = [
        cell.source.metric for row in comparison_table(1, [run], metrics).rows for cell in row.cells if cell.source
    ]
    assert "lpips@vgg" in shown
    assert "lpips@alex" not in shown
