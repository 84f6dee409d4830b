from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.synthetic import ENOUGH, FREEZE, GEN3R, ORACLE, WVD, flat, row
from rich.console import Console

from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.reports.compose import run_table
from gen3r_bench.reports.tables import Cell, Column, ColumnGroup, Row, RowGroup, Table
from gen3r_bench.reports.terminal import print_run, print_table


def printed(run, metrics, *, width: int = 200, colours: bool = False) -> str:
    file = io.StringIO()
    print_run(
        Console(file=file, width=width, force_terminal=colours, color_system="standard" if colours else None),
        run,
        metrics,
    )
    return file.getvalue()


def scores(protocol, *_):
    return flat(1.0) if protocol.startswith("geom") else {"psnr@8bit": 20.0, "psnr@8bit/novel": 19.0}


def test_one_table_a_protocol_with_units_counts_and_cards(make_run, metrics) -> None:
    text = printed(make_run(scores, cards=(GEOM_1VIEW, APPEARANCE_1VIEW), rows=(ORACLE, FREEZE, GEN3R)), metrics)
    assert text.index("Geometry from one view (geom-1view)") < text.index("Appearance from one view (appearance-1view)")
    assert text.index("gen3r@reference") < text.index("freeze (floor)") < text.index("oracle (diagnostic)")
    for part in ("Accuracy ↓", "scene unit", "PSNR novel ↑", "dB", "n/N", "3/3", "mini · 13×112×112"):
        assert part in text
    assert f"Cards: geom-1view {GEOM_1VIEW.hash}." in text
    assert f"Cards: appearance-1view {APPEARANCE_1VIEW.hash}." in text


@pytest.mark.parametrize("width", [60, 100, 250])
def test_it_fits_and_no_number_is_cut(make_run, metrics, width) -> None:
    long = row("a-method-with-a-rather-long-name@/home/someone/checkpoints/of/a/long/path/model.safetensors")
    text = printed(make_run(scores, cards=(APPEARANCE_1VIEW,), rows=(GEN3R, long)), metrics, width=width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "…" not in text
    for head in ("PSNR ↑", "SSIM ↑", "LPIPS ↓", "I2V Subj. ↑", "I2V BG ↑", "I.Q. ↑"):
        assert text.count(head) == 1
    assert "".join(text.split()).count("model.safetensors") == len(
        [line for line in text.splitlines() if "n/N" in line]
    )


def test_failures_are_counted_and_explained(make_run, metrics) -> None:
    run = make_run(
        lambda p, r, scene, s: (
            "CUDA [red]out[/red] of memory" if (r, scene) == ("gen3r@reference", "s1") else flat(1.0)
        ),
        scenes_in_full=40,
    )
    text = printed(run, metrics)
    assert "2/3" in text
    assert "a  n = 2 of 3 scenes: 1 × failed: CUDA [red]out[/red] of memory" in text
    assert "Partial run: geom-1view scored 3 of the card's 40 scenes of mini" in text


def test_control_characters_do_not_reach_the_terminal(make_run, metrics) -> None:
    text = printed(make_run(lambda *_: "\x1b[2J\x1b]0;x\x07", rows=(row("a\x1b[31m"),), title="\x9b1m"), metrics)
    assert not set(text) & set("\x1b\x07\x9b")
    assert "U+001B[2JU+001B]0;xU+0007" in text


def test_a_run_without_records_prints(make_run, metrics) -> None:
    text = printed(make_run(lambda *_: None), metrics)
    assert "0/3" in text
    assert "3 × not run yet" in text


def test_marks_and_grey(make_run, metrics) -> None:
    run = make_run(
        lambda p, r, *_: flat(1.0 if r.startswith("gen3r") else 2.0), rows=(GEN3R, WVD, FREEZE), scenes=ENOUGH
    )
    text = printed(run, metrics, colours=True)
    assert "\x1b[1m1.0000\x1b[0m" in text
    assert "\x1b[4m2.0000\x1b[0m" in text
    assert any("\x1b[90m" in line and "freeze" in line for line in text.splitlines())


@given(st.text(min_size=1, max_size=60), st.integers(40, 120))
def test_any_label_and_title_print(text, width) -> None:
    cells = (Cell("0.1000", "best", (0,)),) * 3
    columns = (Column("PSNR", True, "dB"),) * 3
    table = Table(
        "t", text, "kind", (ColumnGroup(text, columns),), (RowGroup(text, (Row(text, "m", "method", cells),)),), (text,)
    )
    print_table(Console(file=io.StringIO(), width=width), table)


def test_intervals_stand_behind_their_means(make_run, metrics) -> None:
    run = make_run(lambda p, r, scene, s: flat(float(scene[1:])), rows=(GEN3R,), scenes=ENOUGH)
    file = io.StringIO()
    print_table(Console(file=file, width=100), run_table(run, "geom-1view", metrics, spread="low-high"))
    assert re.search(r"3\.5000 \[\d\.\d{4}, \d\.\d{4}\]", file.getvalue())
