from __future__ import annotations

import dataclasses
import random

import pandas as pd
import pytest
from reports.synthetic import FREEZE, GEN3R, WVD, flat

from gen3r_bench.errors import StoreError
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.reports.summary import NOT_RUN, RANDOM, row_facts, summarise
from gen3r_bench.runs.record import provenance_id

CHAMFER = "chamfer@fps20k"


def cell(run, row: str, metric: str = CHAMFER):
    return next(found for found in summarise(run) if (found.row, found.metric) == (row, metric))


def test_means_equal_a_naive_computation_with_pandas(make_run) -> None:
    draw = random.Random(0)

    def outcome(protocol, row, scene, seed):
        kind = draw.random()
        return None if kind < 0.2 else "out of memory" if kind < 0.4 else flat(draw.uniform(0, 3))

    run = make_run(outcome, rows=(GEN3R, WVD, FREEZE), scenes=[f"s{n}" for n in range(20)], seeds=(1, 2, 3))
    frame = pd.DataFrame(
        [
            {"row": r.row, "scene": r.scene_id, "metric": metric, "score": score}
            for r in run.records
            for metric, score in r.scores.items()
        ]
    )
    expected = (
        frame.groupby(["row", "metric", "scene"])["score"].mean().groupby(["row", "metric"]).agg(["mean", "count"])
    )
    found = {(c.row, c.metric): c for c in summarise(run)}
    assert set(found) == set(expected.index)
    for place, line in expected.iterrows():
        assert found[place].mean == pytest.approx(line["mean"], rel=1e-12)
        assert (found[place].n, found[place].planned) == (line["count"], 20)
        assert sum(found[place].reasons.values()) == 60 - len(frame.query("row == @place[0] and metric == @place[1]"))


def test_seeds_are_averaged_within_a_scene_first(make_run) -> None:
    values = {("s0", 1): 0.0, ("s0", 2): 4.0, ("s1", 1): 10.0}

    def outcome(protocol, row, scene, seed):
        return {CHAMFER: values[scene, seed]} if (scene, seed) in values else "no luck"

    stats = cell(make_run(outcome, rows=(GEN3R,), scenes=("s0", "s1"), seeds=(1, 2)), "gen3r@reference")
    assert stats.mean == 6.0
    assert stats.n == 2
    assert stats.reasons == {"failed: no luck": 1}


def test_a_missing_score_is_neither_zero_nor_dropped(make_run) -> None:
    outcomes = {"s0": flat(1.0), "s1": "CUDA out of memory", "s2": None, "s3": "CUDA out of memory"}
    run = make_run(lambda protocol, row, scene, seed: outcomes[scene], rows=(GEN3R,), scenes=tuple(outcomes))
    stats = cell(run, "gen3r@reference")
    assert stats.mean == 2.0
    assert (stats.n, stats.planned) == (1, 4)
    assert stats.reasons == {"failed: CUDA out of memory": 2, NOT_RUN: 1}


def test_a_run_without_records_has_every_cell(make_run) -> None:
    found = summarise(make_run(lambda *_: None))
    assert len(found) == 2 * 3
    assert all(c.mean is None and c.n == 0 and c.planned == 3 and c.reasons == {NOT_RUN: 3} for c in found)


def test_unsupported_metrics_keep_their_reason(make_run) -> None:
    run = make_run(
        lambda *_: {"psnr@8bit": 20.0, "psnr@8bit/novel": 19.0},
        cards=(APPEARANCE_1VIEW,),
        rows=(GEN3R,),
        unsupported={"lpips@vgg": "no weights"},
    )
    found = {c.metric: c for c in summarise(run)}
    assert list(found)[:4] == ["psnr@8bit", "psnr@8bit/novel", "ssim@skimage-gauss", "lpips@vgg"]
    assert found["psnr@8bit/novel"].mean == 19.0
    assert found["lpips@vgg"].reasons == {"unsupported: no weights": 3}
    assert found["ssim@skimage-gauss"].reasons == {"scored without this metric": 3}


def test_the_order_of_records_does_not_show(make_run) -> None:
    draw = random.Random(1)
    run = make_run(lambda *_: flat(draw.uniform(0, 1e6)), scenes=[f"s{n}" for n in range(50)])
    shuffled = list(run.records)
    draw.shuffle(shuffled)
    assert summarise(dataclasses.replace(run, records=tuple(shuffled))) == summarise(run)


def test_the_header_decides_which_records_count(make_run) -> None:
    run = make_run(lambda protocol, row, scene, seed: flat(float(scene[1])), rows=(GEN3R,))
    header = run.header.model_copy(
        update={"plan": tuple(entry.model_copy(update={"scenes": ("s1",)}) for entry in run.header.plan)}
    )
    narrowed = dataclasses.replace(run, header=header)
    assert cell(narrowed, "gen3r@reference").mean == 2.0
    assert cell(narrowed, "gen3r@reference").planned == 1
    nobody = dataclasses.replace(run, header=header.model_copy(update={"rows": ()}))
    assert summarise(nobody) == []


def test_the_later_of_two_records_of_a_cell_counts(make_run) -> None:
    run = make_run(lambda *_: flat(1.0), rows=(GEN3R,), scenes=("s0",))
    later = run.records[0].model_copy(update={"key": "other", "scores": flat(5.0)})
    assert cell(dataclasses.replace(run, records=(*run.records, later)), "gen3r@reference").mean == 6.0


def test_a_record_of_another_card_is_an_error(make_run) -> None:
    run = make_run(lambda *_: flat(1.0))
    foreign = run.records[0].model_copy(update={"card_hash": "deadbeef0000"})
    with pytest.raises(
        StoreError, match=f"deadbeef0000 of geom-1view, the run's header says {GEOM_1VIEW.hash}.*--fresh"
    ):
        summarise(dataclasses.replace(run, records=(foreign, *run.records[1:])))


def test_facts_about_rows(make_run) -> None:
    run = make_run(
        lambda protocol, row, scene, seed: "broken" if row.startswith("wvd") else flat(1.0),
        extra={
            "coverage": "subset",
            "n_frames": 5,
            "num_frames": 13,
            "flags": ("few points",),
            "adaptations": ("resized",),
        },
    )
    facts = row_facts(run, "geom-1view")
    assert facts["gen3r@reference"] == {"covers 5 of 13 frames": 3, "few points": 3, "resized": 3}
    assert not facts["wvd@reference"]


LPIPS = "lpips@vgg"


def with_facts(run, facts_of):
    """The run with a provenance for the LPIPS of each record: ``facts_of(record)``."""
    facts = {record.key: facts_of(record) for record in run.records}
    records = tuple(
        record.model_copy(update={"made_with": {LPIPS: provenance_id(facts[record.key])}}) for record in run.records
    )
    header = run.header.model_copy(update={"provenances": {provenance_id(item): item for item in facts.values()}})
    return dataclasses.replace(run, header=header, records=records)


def perceptual(make_run, **options):
    return make_run(
        lambda protocol, row, scene, seed: {LPIPS: 0.25, f"{LPIPS}/novel": 0.5, "psnr@8bit": 20.0},
        cards=(APPEARANCE_1VIEW,),
        **options,
    )


def test_a_score_of_random_weights_is_missing_with_its_reason(make_run) -> None:
    def facts(record):
        return {"weights": "random-weights" if record.scene_id == "s1" else "as published"}

    run = with_facts(perceptual(make_run, rows=(GEN3R,)), facts)
    for key in (LPIPS, f"{LPIPS}/novel"):
        stats = cell(run, "gen3r@reference", key)
        assert (stats.n, stats.reasons) == (2, {RANDOM: 1})
    assert cell(run, "gen3r@reference", "psnr@8bit").n == 3
    nothing = with_facts(run, lambda record: {"weights": "random-weights"})
    assert cell(nothing, "gen3r@reference", LPIPS).mean is None


@pytest.mark.parametrize("fact", ["antialias", "reference_image"])
def test_scores_under_different_conditions_are_never_averaged(make_run, fact: str) -> None:
    run = with_facts(perceptual(make_run), lambda record: {"torch": record.row, fact: f"as {record.scene_id == 's0'}"})
    found = [c for c in summarise(run) if (c.row, c.metric) == ("gen3r@reference", LPIPS)]
    assert [(c.conditions, c.n) for c in found] == [(((fact, "as False"),), 2), (((fact, "as True"),), 1)]
    assert found[1].reasons == {f"in another column: computed with {fact.replace('_', ' ')} as False": 2}
    same = with_facts(run, lambda record: {"torch": record.row})
    assert len([c for c in summarise(same) if (c.row, c.metric) == ("gen3r@reference", LPIPS)]) == 1


def test_appended_metrics_that_the_card_does_not_ask_for_come_last(make_run) -> None:
    run = make_run(lambda *_: {"psnr@8bit": 20.0, "lpips@alex": 0.25}, cards=(APPEARANCE_1VIEW,), rows=(GEN3R,))
    found = [c.metric for c in summarise(run)]
    assert found[-1] == "lpips@alex"
    assert found.index("psnr@8bit") == 0
