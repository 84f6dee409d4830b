from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from gen3r_bench.errors import InputError
from gen3r_bench.stats import compare_paired, holm, mean_interval, minimum_detectable_difference, paired, sign_flip

VALUES = st.dictionaries(st.text(max_size=3), st.integers(-50, 50).map(lambda n: n / 8), max_size=18)
DIFFERENCES = st.lists(st.integers(-20, 20).map(lambda n: n / 8), max_size=12)


def scenes(values) -> dict[str, float]:
    return {f"s{n:03}": float(value) for n, value in enumerate(values)}


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(paired)
    assert result.attempted
    assert not result.failed


def test_the_fields_by_hand() -> None:
    a = {"x": 3.0, "y": 1.0, "z": 5.0, "only-a": 100.0}
    b = {"x": 1.0, "y": 2.0, "z": 5.0, "only-b": -100.0}
    found = compare_paired(a, b, higher_is_better=True)
    assert (found.n, found.mean_a, found.mean_b) == (3, 3.0, pytest.approx(8 / 3))
    assert found.difference == pytest.approx(1 / 3)
    assert (found.wins, found.losses, found.ties) == (1, 1, 1)
    assert (found.p_value, found.test) == (1.0, "exact sign-flip")
    lower = compare_paired(a, b, higher_is_better=False)
    assert (lower.wins, lower.losses, lower.ties, lower.difference) == (1, 1, 1, found.difference)


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_exact_p_values_are_scipys(n) -> None:
    draw = np.random.default_rng(n)
    a, b = draw.normal(0.5, 1, n), draw.normal(0, 1, n)
    expected = oracle.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    found = compare_paired(scenes(a), scenes(b), higher_is_better=True)
    assert found.test == "exact sign-flip"
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", range(1, 15))
def test_with_equal_sizes_it_is_the_binomial_test_of_the_signs(n) -> None:
    for positive in range(n + 1):
        expected = oracle.binomtest(positive, n, 0.5).pvalue
        assert sign_flip([0.1] * positive + [-0.1] * (n - positive)).p_value == pytest.approx(expected, rel=1e-12)


def test_drawn_p_values_are_near_the_exact_ones(monkeypatch) -> None:
    draw = np.random.default_rng(4)
    for shift in (0.0, 0.4, 0.8):
        differences = draw.normal(shift, 1, 13)
        exact = sign_flip(differences)
        with monkeypatch.context() as patch:
            patch.setattr(paired, "EXACT_UP_TO", 5)
            drawn = sign_flip(differences, resamples=20_000)
        assert (exact.test, drawn.test) == ("exact sign-flip", "Monte-Carlo sign-flip")
        assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * math.sqrt(exact.p_value / 20_000) + 1e-4)


@pytest.mark.parametrize("n", [10, 40])
def test_p_values_are_uniform_where_nothing_differs(n) -> None:
    draw = np.random.default_rng(n)
    p_values = [sign_flip(draw.normal(0, 1, n), resamples=2_000).p_value for _ in range(400)]
    assert oracle.kstest(p_values, "uniform").pvalue > 0.001
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08


def test_a_drawn_p_value_is_never_zero() -> None:
    assert sign_flip([1.0] * 50, resamples=999).p_value == 1 / 1000


@given(VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_swapping_the_methods_swaps_the_result(a, b) -> None:
    one = compare_paired(a, b, higher_is_better=True, resamples=200)
    other = compare_paired(b, a, higher_is_better=True, resamples=200)
    assert (one.n, one.mean_a, one.wins, one.ties) == (other.n, other.mean_b, other.losses, other.ties)
    assert (one.p_value, one.detectable) == (other.p_value, other.detectable)
    if one.difference is None:
        assert other.difference is None
        return
    assert one.difference == -other.difference
    if one.interval is not None:
        assert (one.interval.low, one.interval.high) == pytest.approx(
            (-other.interval.high, -other.interval.low), abs=1e-9
        )


@given(VALUES, VALUES, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_scenes_does_not_show(a, b, random) -> None:
    names = list(a)
    random.shuffle(names)
    shuffled = {name: a[name] for name in names}
    assert compare_paired(a, b, higher_is_better=False, resamples=200) == compare_paired(
        shuffled, b, higher_is_better=False, resamples=200
    )


@given(DIFFERENCES)
def test_ties_take_no_part_in_the_p_value(differences) -> None:
    found = sign_flip(differences)
    assert found == sign_flip([*differences, 0.0, 0.0])
    different = sum(value != 0 for value in differences)
    assert 2 / 2 ** max(different, 1) <= found.p_value <= 1


def test_the_interval_is_the_bootstraps_of_the_differences() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=20), draw.normal(size=20)
    found = compare_paired(scenes(a), scenes(b), higher_is_better=True).interval
    assert found == mean_interval({name: [value] for name, value in scenes(a - b).items()})


def test_none_one_and_equal_scenes() -> None:
    nothing = compare_paired({"a": 1.0}, {"b": 1.0}, higher_is_better=True)
    assert (nothing.n, nothing.difference, nothing.interval, nothing.p_value, nothing.test) == (
        0,
        None,
        None,
        1,
        "none",
    )
    assert (nothing.mean_a, nothing.detectable) == (None, None)
    one = compare_paired({"a": 1.0}, {"a": 2.0}, higher_is_better=True)
    assert (one.n, one.difference, one.interval, one.losses, one.p_value) == (1, -1.0, None, 1, 1.0)
    ties = compare_paired(scenes([1, 2, 3]), scenes([1, 2, 3]), higher_is_better=True)
    assert (ties.ties, ties.p_value, ties.test, ties.detectable) == (3, 1.0, "none", 0.0)
    assert (ties.interval.low, ties.interval.high) == (0.0, 0.0)


def test_five_scenes_can_never_show_a_difference() -> None:
    assert sign_flip([1.0] * 5).p_value == 0.0625
    assert sign_flip([1.0] * 6).p_value == 0.03125


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad) -> None:
    with pytest.raises(InputError, match=r"scene 'b'; expected a finite number"):
        compare_paired({"a": 1.0}, {"b": bad}, higher_is_better=True)
    with pytest.raises(InputError, match="not finite"):
        sign_flip([1.0, bad])
    with pytest.raises(InputError, match="not finite"):
        minimum_detectable_difference([1.0, bad])


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, each at least the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    with pytest.raises(InputError, match=r"p-value 1\.5; expected a number from 0 to 1"):
        holm([0.1, 1.5])
    with pytest.raises(InputError, match="p-value nan"):
        holm([math.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_as_its_definition_says(p_values, alpha) -> None:
    adjusted = holm(p_values)
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if min(1.0, p_values[index] * (len(p_values) - rank)) > alpha:
            break
        rejected.add(index)
    assert {index for index, value in enumerate(adjusted) if value <= alpha} == rejected
    bonferroni = [min(1.0, p * len(p_values)) for p in p_values]
    assert all(p <= a <= b for p, a, b in zip(p_values, adjusted, bonferroni, strict=True))


@pytest.mark.parametrize("n", [4, 8, 20, 300])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_the_detectable_difference_has_its_power(n, power) -> None:
    differences = np.random.default_rng(n).normal(0, 3, n)
    found = minimum_detectable_difference(differences, power=power)
    assert found is not None
    offset = found / differences.std(ddof=1) * math.sqrt(n)
    reached = oracle.nct.sf(oracle.t.ppf(0.975, n - 1), n - 1, offset)
    assert reached == pytest.approx(power, abs=0.04)


def test_edges_of_the_detectable_difference() -> None:
    assert minimum_detectable_difference([]) is None
    assert minimum_detectable_difference([1.0]) is None
    assert minimum_detectable_difference([2.0, 2.0]) == 0.0
    with pytest.raises(InputError, match=r"level 0\.95 and power 1"):
        minimum_detectable_difference([1.0, 2.0], power=1.0)
