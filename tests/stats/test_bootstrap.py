from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from gen3r_bench.errors import InputError
from gen3r_bench.stats import Interval, bootstrap, mean_interval, scene_means

FINITE = st.floats(-1e6, 1e6)
SCENES = st.dictionaries(st.text(max_size=4), st.lists(FINITE, min_size=1, max_size=3), min_size=2, max_size=12)


def one_seed(values) -> dict[str, list[float]]:
    return {f"s{n:03}": [float(value)] for n, value in enumerate(values)}


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(bootstrap)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("n", [12, 40, 300])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_it_is_scipys_bca_at_the_expanded_level(n, shape) -> None:
    draw = np.random.default_rng(n)
    values = draw.normal(5, 2, n) if shape == "normal" else draw.lognormal(0, 1, n)
    found = mean_interval(one_seed(values), resamples=40_000)
    tail = math.sqrt(n / (n - 1)) * oracle.t.ppf(0.975, n - 1)
    expected = oracle.bootstrap(
        (values,),
        np.mean,
        confidence_level=1 - 2 * oracle.norm.sf(tail),
        n_resamples=40_000,
        method="BCa",
        random_state=np.random.default_rng(1),
        vectorized=True,
        batch=2_000,
    ).confidence_interval
    # both are draws: their ends agree to a fraction of the interval's width
    width = expected.high - expected.low
    assert found is not None
    assert found.low == pytest.approx(expected.low, abs=0.04 * width)
    assert found.high == pytest.approx(expected.high, abs=0.04 * width)


@pytest.mark.parametrize(("n", "shape", "least"), [(8, "normal", 0.90), (30, "normal", 0.92), (30, "skewed", 0.87)])
def test_it_covers_the_truth_about_as_often_as_it_says(n, shape, least) -> None:
    draw = np.random.default_rng(7)
    trials = 400
    samples = draw.normal(3, 1, (trials, n)) if shape == "normal" else draw.lognormal(0, 1, (trials, n))
    truth = 3.0 if shape == "normal" else math.exp(0.5)
    covered = sum(truth in interval for sample in samples if (interval := mean_interval(one_seed(sample))) is not None)
    assert least <= covered / trials <= 0.98


@given(SCENES, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_scenes_and_seeds_does_not_show(values, random) -> None:
    names = list(values)
    random.shuffle(names)
    shuffled = {name: random.sample(values[name], len(values[name])) for name in names}
    assert mean_interval(values, resamples=200) == mean_interval(shuffled, resamples=200)


@given(SCENES)
@example({"": [2.11053137357057e-299], "0": [0.0]})
@example({"": [5e-324], "0": [0.0]})
@settings(max_examples=40, deadline=None)
def test_it_lies_within_the_scenes_and_holds_their_mean_in_the_middle_of_the_draws(values) -> None:
    means = scene_means(values)
    found = mean_interval(values, resamples=200)
    assert found is not None
    slack = 1e-9 * (1 + max(abs(value) for value in means.values()))
    assert min(means.values()) - slack <= found.low <= found.high <= max(means.values()) + slack


@given(st.lists(st.integers(-100, 100), min_size=3, max_size=12), st.sampled_from([0.25, 4.0]), st.integers(-8, 8))
@settings(max_examples=40, deadline=None)
def test_it_moves_and_grows_with_its_values(values, scale, shift) -> None:
    found = mean_interval(one_seed(values), resamples=200)
    moved = mean_interval(one_seed(scale * value + shift for value in values), resamples=200)
    assert found is not None
    assert moved is not None
    assert (moved.low, moved.high) == pytest.approx(
        (scale * found.low + shift, scale * found.high + shift), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("power", [-990, -400, 400, 900])
def test_numbers_whose_cubes_are_none_have_an_interval_too(power) -> None:
    values = [1.0, 2.0, 5.0, 9.0]
    found = mean_interval(one_seed(values), resamples=200)
    scaled = mean_interval(one_seed(math.ldexp(value, power) for value in values), resamples=200)
    assert found is not None
    assert scaled is not None
    assert (scaled.low, scaled.high) == pytest.approx((math.ldexp(found.low, power), math.ldexp(found.high, power)))


def test_seeds_of_a_scene_are_no_new_evidence() -> None:
    once = one_seed(range(10))
    thrice = {scene: values * 3 for scene, values in once.items()}
    assert mean_interval(thrice) == mean_interval(once)


def test_it_is_repeatable_and_narrows_with_the_level() -> None:
    values = one_seed(np.random.default_rng(0).normal(size=20))
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values, seed=1) != mean_interval(values)
    widths = [interval.half_width for level in (0.5, 0.9, 0.99) if (interval := mean_interval(values, level=level))]
    assert widths == sorted(widths)
    assert len(widths) == 3


@pytest.mark.parametrize("level", [0.99, 0.999, 0.99999])
@pytest.mark.parametrize("values", [[0, 0, 1], [0, 0, 0, 1], [0, 1, 1, 1], [1, 2, 9]])
def test_a_far_tail_of_few_skewed_scenes_ends_at_the_outermost_draw(values, level) -> None:
    assert mean_interval(one_seed(values), level=level) == Interval(float(min(values)), float(max(values)), level)


def test_no_rounding_leaves_the_range_of_the_scenes() -> None:
    found = mean_interval(one_seed([0.0] * 9 + [1.0]))
    assert found is not None
    assert found.low == 0.0


def test_too_few_and_equal_scenes() -> None:
    assert mean_interval({}) is None
    assert mean_interval({"a": [1.0, 3.0]}) is None
    assert mean_interval({"a": [1.0], "b": [3.0]}) == Interval(1.0, 3.0, 0.95)
    assert mean_interval({"a": [0.1], "b": [0.1], "c": [0.1]}) == Interval(0.1, 0.1, 0.95)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"a": [1.0], "b": [math.nan]}, {}, "value nan of scene 'b'; expected a finite number"),
        ({"a": [1.0], "b": [math.inf]}, {}, "value inf of scene 'b'"),
        ({"a": [1.0], "b": []}, {}, "scene 'b' without a value"),
        ({"a": [1.0], "b": [2.0]}, {"level": 95}, "level 95; expected a coverage between 0 and 1"),
        ({"a": [1.0], "b": [2.0]}, {"resamples": 0}, "0 resamples"),
    ],
)
def test_what_cannot_be_used_is_refused(values, options, message) -> None:
    with pytest.raises(InputError, match=message):
        mean_interval(values, **options)
