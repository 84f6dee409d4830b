from __future__ import annotations

import doctest
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports.synthetic import ENOUGH, GEN3R, WVD, flat, row

from gen3r_bench.reports import marks
from gen3r_bench.reports.compose import comparison_table, run_table
from gen3r_bench.reports.marks import Contender, separated_marks
from gen3r_bench.reports.tables import rank_marks
from gen3r_bench.stats import compare_paired, holm

SCORES = st.lists(st.lists(st.integers(0, 6), min_size=7, max_size=7), min_size=1, max_size=4)


def contender(values, decimals: int = 4) -> Contender:
    return Contender(f"{np.mean(values):.{decimals}f}", {f"s{n}": float(value) for n, value in enumerate(values)})


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(marks)
    assert result.attempted
    assert not result.failed


@given(SCORES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_marks_follow_the_rule(scores, higher) -> None:
    """The rule once more, from its words and with the comparison that `compare` prints."""
    contenders = [contender(values) for values in scores]
    found = separated_marks(contenders, higher_is_better=higher)
    if len(scores) == 1:
        assert found == [None]
        return
    pairs = list(itertools.combinations(contenders, 2))
    tests = [compare_paired(a.values, b.values, higher_is_better=higher, resamples=10) for a, b in pairs]
    adjusted = holm([test.p_value for test in tests])
    better: dict[int, set[int]] = {id(one): set() for one in contenders}
    for (a, b), test, p in zip(pairs, tests, adjusted, strict=True):
        if p <= 0.05 and a.printed != b.printed:
            a_wins = (test.difference > 0) == higher
            better[id(b if a_wins else a)].add(id(a if a_wins else b))
    sign = 1 if higher else -1
    for one, mark in zip(contenders, found, strict=True):
        place = {"best": 0, "second": 1, "third": 2, None: 3}[mark]
        before = [other for other in contenders if sign * float(other.printed) >= sign * float(one.printed)]
        own = min(len(better[id(other)]) for other in before if other.printed == one.printed)
        places = [
            min(len(better[id(x)]) for x in contenders if x.printed == other.printed)
            for other in before
            if other.printed != one.printed
        ]
        assert place == min(3, max([own, *places]))


@given(SCORES, st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_marks_do_not_depend_on_the_order_of_rows_and_scenes(scores, higher, shuffle) -> None:
    contenders = [contender(values) for values in scores]
    found = separated_marks(contenders, higher_is_better=higher)
    order = list(range(len(scores)))
    shuffle.shuffle(order)
    reordered = [Contender(contenders[i].printed, dict(reversed(contenders[i].values.items()))) for i in order]
    assert separated_marks(reordered, higher_is_better=higher) == [found[i] for i in order]


@given(SCORES)
@settings(max_examples=40, deadline=None)
def test_the_best_printed_mean_is_marked_and_no_mark_goes_against_the_means(scores) -> None:
    contenders = [contender(values) for values in scores]
    found = separated_marks(contenders, higher_is_better=True)
    if len(scores) > 1:
        ranked = sorted(zip(contenders, found, strict=True), key=lambda pair: -float(pair[0].printed))
        places = [["best", "second", "third", None].index(mark) for _, mark in ranked]
        assert places[0] == 0
        assert places == sorted(places)


def test_where_all_are_separated_they_are_the_marks_of_the_printed_values() -> None:
    draw = np.random.default_rng(0)
    base = draw.normal(size=40)
    contenders = [contender(base + shift + 0.01 * draw.normal(size=40)) for shift in (3, 1, 2, 0)]
    printed = [one.printed for one in contenders]
    assert separated_marks(contenders, higher_is_better=True) == rank_marks(printed, higher_is_better=True)
    assert separated_marks(contenders, higher_is_better=False) == rank_marks(printed, higher_is_better=False)


def test_what_no_test_separates_shares_the_best_mark() -> None:
    draw = np.random.default_rng(1)
    contenders = [contender(draw.normal(size=30)) for _ in range(4)]
    assert len({one.printed for one in contenders}) == 4
    assert set(separated_marks(contenders, higher_is_better=True)) == {"best"}


def test_a_noisy_method_does_not_overtake_a_steady_one() -> None:
    """Steady is separated from the leader, noisy is not: noisy has the worse mean and may not stand before it."""
    leader = [10.0] * 12
    steady = [9.0] * 12
    noisy = [8.8 + (8 if n % 2 else -8) for n in range(12)]
    assert separated_marks(list(map(contender, (leader, steady, noisy))), higher_is_better=True) == [
        "best",
        "second",
        "second",
    ]


def test_equal_as_printed_shares_even_where_a_test_separates() -> None:
    a, b = contender([1.00001] * 10), contender([1.00002] * 10)
    assert a.printed == b.printed
    assert separated_marks([a, b], higher_is_better=True) == ["best", "best"]


def test_more_methods_need_more_scenes() -> None:
    two = [contender([float(k)] * 6) for k in range(2)]
    three = [contender([float(k)] * 6) for k in range(3)]
    assert separated_marks(two, higher_is_better=True) == ["second", "best"]
    assert set(separated_marks(three, higher_is_better=True)) == {"best"}


def test_a_table_says_the_rule_and_where_scenes_are_too_few(make_run, metrics) -> None:
    rows = (GEN3R, WVD, row("aether@official"))
    few = make_run(lambda p, r, *_: flat(float(len(r))), rows=rows, scenes=ENOUGH[:6])
    table = run_table(few, "geom-1view", metrics)
    assert {cell.mark for line in table.rows for cell in line.cells} == {"best"}
    assert (
        "3 methods on 6 scenes: too few for a test to separate any two, so all share a mark; "
        "it takes at least 7 scenes." in table.notes
    )
    assert "Holm-corrected within the column" in table.mark_rule
    enough = run_table(make_run(lambda p, r, *_: flat(1.0), name="b", rows=rows, scenes=ENOUGH), "geom-1view", metrics)
    assert not any("too few" in note for note in enough.notes)
    beside = comparison_table(2, [few], metrics)
    assert any("too few" in note for note in beside.notes)
    assert beside.mark_rule.startswith("in the paper's columns equal values share a mark; in measured columns")
    assert comparison_table(2, [], {}).mark_rule == "equal values share a mark"


def test_a_random_ranking_of_equals_is_rarely_marked(make_run, metrics) -> None:
    """Four equal methods: a claim that one is behind is made in at most one column of twenty."""
    draw = np.random.default_rng(3)
    false_claims = 0
    for _ in range(200):
        contenders = [contender(draw.normal(size=12)) for _ in range(4)]
        false_claims += set(separated_marks(contenders, higher_is_better=True)) != {"best"}
    assert false_claims <= 0.09 * 200


@pytest.mark.parametrize("spread", ["half-width", "low-high"])
def test_intervals_on_request(make_run, metrics, spread) -> None:
    from gen3r_bench.stats import mean_interval

    draw = random.Random(0)
    values = {scene: draw.random() for scene in ENOUGH}
    run = make_run(lambda p, r, scene, s: flat(values[scene]), scenes=ENOUGH)
    interval = mean_interval({scene: [value] for scene, value in values.items()})
    cell = run_table(run, "geom-1view", metrics, spread=spread).rows[0].cells[0]
    assert cell.source.interval == interval
    expected = {
        "half-width": f"± {(interval.high - interval.low) / 2:.4f}",
        "low-high": f"[{interval.low:.4f}, {interval.high:.4f}]",
    }
    assert cell.spread == expected[spread]
    table = comparison_table(2, [run], metrics, spread=spread)
    assert any("BCa bootstrap clustered by scene" in note for note in table.notes)
    paper = [cell for line in table.rows for cell in line.cells if cell.source and cell.source.kind == "paper"]
    assert all(cell.spread == "" for cell in paper)
    assert run_table(run, "geom-1view", metrics).rows[0].cells[0].spread == ""


def test_one_scene_has_no_interval(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0), scenes=("s0",))
    assert run_table(run, "geom-1view", metrics, spread="half-width").rows[0].cells[0].spread == ""
