from __future__ import annotations

import dataclasses
import doctest
import io
import json

import numpy as np
import pytest
from reports.synthetic import ENOUGH, FREEZE, GEN3R, ORACLE, WVD, flat, row
from rich.console import Console

from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW, GEOM_2VIEW
from gen3r_bench.reports import differences
from gen3r_bench.reports.comparison import as_json, choose_sides, compare_sides
from gen3r_bench.reports.comparison_text import print_comparisons
from gen3r_bench.stats import compare_paired, holm

CHAMFER = "chamfer@fps20k"


def compared(runs, metrics, *methods):
    return compare_sides(choose_sides(runs, methods), metrics)


def labels(pairs) -> list[tuple[str, str]]:
    return [(a.row.label, b.row.label) for a, b in pairs]


def text_of(comparisons, width: int = 100) -> str:
    file = io.StringIO()
    print_comparisons(Console(file=file, width=width), comparisons)
    return file.getvalue()


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(differences)
    assert result.attempted
    assert not result.failed


def test_numbers_are_those_of_the_records(make_run, metrics) -> None:
    draw = np.random.default_rng(0)
    values = {(r, s, seed): float(draw.normal()) for r in ("g", "w") for s in ENOUGH for seed in (1, 2)}
    run = make_run(lambda p, r, s, seed: {CHAMFER: values[r[0], s, seed]}, scenes=ENOUGH, seeds=(1, 2))
    (one,) = compared([run], metrics)
    (line,) = one.lines
    a, b = ({s: (values[r, s, 1] + values[r, s, 2]) / 2 for s in ENOUGH} for r in ("g", "w"))
    assert line.result == compare_paired(a, b, higher_is_better=False)
    assert (line.a, line.b) == (a, b)
    assert line.p_holm == line.result.p_value


def test_p_values_are_corrected_over_all_lines(make_run, metrics) -> None:
    draw = np.random.default_rng(1)
    run = make_run(
        lambda p, r, s, seed: flat(float(draw.normal())) | {"accuracy@fps20k": float(r[0] == "g")},
        cards=(GEOM_1VIEW, GEOM_2VIEW),
        scenes=ENOUGH,
    )
    (one,) = compared([run], metrics)
    assert len(one.lines) == 6
    assert [line.p_holm for line in one.lines] == holm([line.result.p_value for line in one.lines])
    assert {line.key for line in one.lines if line.better} == {"accuracy@fps20k"}
    assert {line.better for line in one.lines if line.key == "accuracy@fps20k"} == {"b"}


def test_higher_is_better_turns_wins_around(make_run, metrics) -> None:
    run = make_run(
        lambda p, r, s, seed: {"psnr@8bit": 30.0 if r[0] == "g" else 20.0}, cards=(APPEARANCE_1VIEW,), scenes=ENOUGH
    )
    (line,) = compared([run], metrics)[0].lines
    assert (line.result.wins, line.better, line.result.difference) == (8, "a", 10.0)


def test_scenes_that_one_side_lacks_are_counted_and_left_out(make_run, metrics) -> None:
    def outcome(p, r, s, seed):
        return "broken" if (r[0], s) in {("g", "s0"), ("w", "s1"), ("w", "s2")} else flat(1.0)

    (one,) = compared([make_run(outcome, scenes=ENOUGH)], metrics)
    assert {(line.result.n, line.only_a, line.only_b) for line in one.lines} == {(5, 2, 1)}
    assert "5 common scenes; only A has 2 more, only B 1" in text_of([one])


def test_movers_come_largest_first_and_ties_do_not(make_run, metrics) -> None:
    moved = {"s1": 0.5, "s3": -2.0, "s4": 1.0, "s6": 0.1}
    run = make_run(lambda p, r, s, seed: {CHAMFER: 3.0 + moved.get(s, 0.0) * (r[0] == "w")}, scenes=ENOUGH)
    (line,) = compared([run], metrics)[0].lines
    assert [scene for scene, _, _ in line.movers(3)] == ["s3", "s4", "s1"]
    assert line.movers(9)[-1] == ("s6", 3.0, 3.1)
    assert len(line.movers(9)) == 4


def test_what_two_runs_mean(make_run) -> None:
    a = make_run(lambda *_: flat(1.0), name="a", rows=(GEN3R, WVD, FREEZE))
    b = make_run(lambda *_: flat(1.0), name="b", rows=(WVD, GEN3R, ORACLE))
    both = [("gen3r@reference",) * 2, ("wvd@reference",) * 2]
    assert labels(choose_sides([a, b], [])) == both
    assert labels(choose_sides([a, b], ["wvd"])) == [both[1]]
    assert labels(choose_sides([a, b], ["gen3r@reference", "wvd"])) == [("gen3r@reference", "wvd@reference")]
    assert labels(choose_sides([a], [])) == [("gen3r@reference", "wvd@reference")]
    assert labels(choose_sides([a], ["freeze", "gen3r"])) == [("freeze", "gen3r@reference")]
    c, d = (make_run(lambda *_: flat(1.0), name=n, rows=(r,)) for n, r in (("c", GEN3R), ("d", WVD)))
    assert labels(choose_sides([c, d], [])) == [("gen3r@reference", "wvd@reference")]


def test_what_is_not_clear_is_refused(make_run, metrics) -> None:
    a = make_run(lambda *_: flat(1.0), name="a", rows=(GEN3R, WVD, row("gen3r@official")))
    b = make_run(lambda *_: flat(1.0), name="b", rows=(row("x"), row("y")), cards=(GEOM_2VIEW,))
    with pytest.raises(InputError, match=r"0 runs and 0 methods; expected two runs"):
        choose_sides([], [])
    with pytest.raises(InputError, match="one run with the rows gen3r@reference, wvd@reference, gen3r@official"):
        choose_sides([a], [])
    with pytest.raises(InputError, match="--method gen3r is 2 rows of a; expected one of gen3r@reference, gen3r@off"):
        choose_sides([a], ["gen3r", "wvd"])
    with pytest.raises(InputError, match="wvd@reference of a twice"):
        choose_sides([a], ["wvd", "wvd@reference"])
    with pytest.raises(UnknownNameError, match="unknown row of a 'wdv'"):
        choose_sides([a], ["wdv", "wvd"])
    with pytest.raises(InputError, match=r"no method that both runs have: gen3r@reference, wvd@reference, .* and x, y"):
        choose_sides([a, b], [])
    with pytest.raises(InputError, match="wvd@reference of a and x of b have no score in common"):
        compared([a, b], metrics, "wvd", "x")


def test_hints_name_every_field_that_differs(make_run, metrics) -> None:
    geometry = GEOM_1VIEW.geometry.model_copy(update={"voxel_size": None})
    card = GEOM_1VIEW.model_copy(update={"geometry": geometry})
    one = make_run(lambda *_: flat(1.0), name="a", rows=(row("gen3r@x", checkpoint_sha256="a" * 64),))
    other = make_run(
        lambda *_: flat(2.0),
        name="b",
        cards=(card,),
        rows=(row("gen3r@x", checkpoint_sha256="b" * 64),),
        scenes=("s1", "s2", "s3", "s4"),
        scenes_in_full=40,
        seeds=(42, 43),
        backend="released",
        environment={"python": "3.12.0", "numpy": "2.0", "torch": "2.6"},
        frames=49,
        extra={"device": "cuda", "adaptations": ("resized",), "n_frames": 7},
    )
    header = other.header
    plan = tuple(
        entry.model_copy(update={"manifest_sha256": "c" * 64, "dataset_options": {"depth_cap": "80"}})
        for entry in header.plan
    )
    other = dataclasses.replace(other, header=header.model_copy(update={"plan": plan}))
    (found,) = compared([one, other], metrics)
    by_field = {hint.field: (hint.a, hint.b) for hint in found.hints}
    assert by_field["card geom-1view"] == (GEOM_1VIEW.hash, card.hash)
    assert by_field["card geom-1view: geometry.voxel_size"] == ("0.005", "none")
    assert by_field["geom-1view on mini: frames"] == ("13", "49")
    assert by_field["geom-1view on mini: scenes_in_full"] == ("3", "40")
    assert by_field["geom-1view on mini: manifest_sha256"] == ("none", "c" * 64)
    assert by_field["geom-1view on mini: dataset_options.depth_cap"] == ("–", "80")
    assert by_field["geom-1view on mini: scenes"] == ("3", "4, 2 in common")
    assert by_field["run seeds"] == ("42", "42, 43")
    assert by_field["run geometry backend"] == ("exact", "released")
    assert by_field["row checkpoint_sha256"] == ("a" * 64, "b" * 64)
    assert by_field["records device"] == ("cpu", "cuda")
    assert by_field["records adaptations"] == ("–", "resized")
    assert by_field["records n_frames"] == ("0", "7")
    assert by_field["environment python"] == ("3.11.7", "3.12.0")
    assert by_field["environment torch"] == ("–", "2.6")
    assert "environment numpy" not in by_field
    assert next(iter(by_field)) == "card geom-1view"
    assert {line.result.n for line in found.lines} == {2}


def test_hints_tell_what_a_metric_was_computed_with(make_run, metrics) -> None:
    runs = []
    for name, lpips in (("a", "0.1.4"), ("b", "0.1.5")):
        run = make_run(lambda *_: {"lpips@vgg": 0.5}, name=name, cards=(APPEARANCE_1VIEW,), rows=(GEN3R,))
        records = tuple(r.model_copy(update={"made_with": {"lpips@vgg": "p"}}) for r in run.records)
        header = run.header.model_copy(update={"provenances": {"p": {"lpips": lpips, "weights": "w"}}})
        runs.append(dataclasses.replace(run, header=header, records=records))
    (found,) = compared(runs, metrics)
    assert [(h.field, h.a, h.b) for h in found.hints] == [("lpips@vgg computed with lpips", "0.1.4", "0.1.5")]


def test_scores_under_other_conditions_are_not_compared(make_run, metrics) -> None:
    runs = []
    for name, antialias in (("a", "yes"), ("b", "no")):
        scores = {"lpips@vgg": 0.5, "psnr@8bit": 20.0}
        run = make_run(lambda *_, s=scores: s, name=name, cards=(APPEARANCE_1VIEW,), rows=(GEN3R,))
        records = tuple(r.model_copy(update={"made_with": {"lpips@vgg": "p"}}) for r in run.records)
        header = run.header.model_copy(update={"provenances": {"p": {"antialias": antialias}}})
        runs.append(dataclasses.replace(run, header=header, records=records))
    (found,) = compared(runs, metrics)
    assert [line.key for line in found.lines] == ["psnr@8bit"]
    assert found.not_compared == (
        "only A has lpips@vgg of appearance-1view on mini (antialias yes)",
        "only B has lpips@vgg of appearance-1view on mini (antialias no)",
    )
    assert "Not compared: only A has lpips@vgg" in text_of([found])


def test_dialects_are_never_compared_with_each_other(make_run, metrics) -> None:
    runs = []
    for name, key in (("a", "ssim@skimage-gauss"), ("b", "ssim@torchmetrics")):
        card = APPEARANCE_1VIEW.model_copy(update={"metrics": ("psnr@8bit", key)})
        runs.append(make_run(lambda *_, k=key: {"psnr@8bit": 1.0, k: 0.5}, name=name, cards=(card,), rows=(GEN3R,)))
    (found,) = compared(runs, metrics)
    assert [line.key for line in found.lines] == ["psnr@8bit"]
    assert any("ssim@torchmetrics" in text for text in found.not_compared)
    assert any("ssim" in hint.a and hint.field.endswith(": metrics") for hint in found.hints)


def test_files_that_changed_under_a_scenes_name_are_a_hint(make_run, metrics) -> None:
    runs = [
        make_run(lambda *_: flat(1.0), name=name, rows=(GEN3R,), extra={"clip_fingerprint": name})
        for name in ("a", "b")
    ]
    (found,) = compared(runs, metrics)
    assert [(h.field, h.b) for h in found.hints] == [("files of scenes", "others for 3 of 3 records: s0, s1, s2")]
    (same,) = compared([runs[0], runs[0]], metrics)
    assert not same.hints
    assert "Nothing else differs" in text_of([same])


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_tables_fit_and_nothing_reaches_the_terminal(make_run, metrics, width) -> None:
    bad = row("gen3r@reference").model_copy(update={"label": "a\x1b[31m[red]x[/red]"})
    run = make_run(
        lambda p, r, s, seed: {"psnr@8bit": 20.0 + len(r) / 7, "psnr@8bit/novel": 1e3, "ssim@skimage-gauss": 0.123},
        cards=(APPEARANCE_1VIEW,),
        rows=(bad, WVD),
        scenes=[f"a-very-long-name-of-a-scene-{n}" for n in range(30)],
        title="\x9b1m",
    )
    text = text_of(compared([run], metrics), width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert not set(text) & set("\x1b\x9b")
    assert "[red]x[/red]" in text
    assert "…" not in text
    for part in ("W/L/T", "Holm", "MDD", "PSNR", "novel", "Monte-Carlo sign-flip"):
        assert part in text


def test_no_digit_of_a_large_number_is_cut_off(make_run, metrics) -> None:
    run = make_run(lambda p, r, s, seed: flat((1 + int(s[1:])) * (-7e8 if r[0] == "w" else 99_999)), scenes=ENOUGH)
    text = text_of(compared([run], metrics))
    assert max(map(len, text.splitlines())) <= 100
    assert "0/8/0" in text
    assert "-3.15e+09" in text
    assert "4.50e+05" in text


def test_json_has_every_scene(make_run, metrics) -> None:
    run = make_run(lambda p, r, s, seed: flat(float(s[1:]) + (r[0] == "w")), scenes=ENOUGH)
    comparisons = compared([run], metrics)
    content = json.loads(json.dumps(as_json(comparisons), allow_nan=False))
    (one,) = content["comparisons"]
    assert content["tests"] == 3
    assert one["a"] == {"run": "a", "row": "gen3r@reference"}
    first = one["metrics"][0]
    assert first["scenes"]["s3"] == [3.0, 4.0]
    assert (first["difference"], first["better"], first["test"]) == (-1.0, "a", "exact sign-flip")
    assert first["low"] == first["high"] == -1.0


def test_one_common_scene_has_no_interval_and_no_test(make_run, metrics) -> None:
    run = make_run(lambda p, r, *_: flat(float(r[0] == "w")), scenes=("s0",))
    comparisons = compared([run], metrics)
    line = comparisons[0].lines[0]
    assert (line.result.interval, line.result.detectable, line.result.p_value, line.better) == (None, None, 1.0, None)
    assert "1 common scenes" in text_of(comparisons)
    assert as_json(comparisons)["comparisons"][0]["metrics"][0]["low"] is None
