from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny import tiny_card, tiny_scene

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import true_prediction, wobbled_prediction
from gen3r_bench.errors import InputError
from gen3r_bench.metrics import score_points
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.protocols.scoring import Scores, score
from gen3r_bench.scene import Prediction


def scored(prediction: Prediction, *, depth: bool = True, **changes) -> Scores:
    return score(tiny_card(**changes), SceneTruth(tiny_scene(depth=depth)), prediction, registry.metrics())


def part_of(prediction: Prediction, frames: tuple[int, ...]) -> Prediction:
    arrays = {}
    for name in ("rgb", "depth", "world_from_cam", "intrinsics", "valid"):
        value = getattr(prediction, name)
        arrays[name] = None if value is None else value[list(frames)]
    return Prediction(frame_indices=frames, **arrays)


def wobbled() -> Prediction:
    return wobbled_prediction(tiny_scene(), 3)


def test_points_equal_the_metric_called_by_hand() -> None:
    scene, prediction = tiny_scene(), wobbled()
    result = scored(prediction)
    expected = score_points(prediction.world_points(), scene.points_world(), scene.valid, num_points=500)
    assert result.values["chamfer@fps20k"] == expected.chamfer
    assert result.geometry.alignment.scale == expected.alignment.scale
    assert result.coverage == "all"


def test_given_views_only_are_scored_against_every_frame() -> None:
    scene, prediction = tiny_scene(), part_of(wobbled(), (0,))
    result = scored(prediction)
    expected = score_points(
        prediction.world_points(), scene.points_world(), scene.valid, input_indices=[0], num_points=500
    )
    assert result.coverage == "given-views"
    assert result.values["chamfer@fps20k"] == expected.chamfer
    whole = scored(wobbled())
    assert result.geometry.completeness > whole.geometry.completeness


def test_a_shorter_clip_is_scored_on_its_own_frames() -> None:
    scene, prediction = tiny_scene(), part_of(wobbled(), (0, 2))
    result = scored(prediction)
    expected = score_points(
        prediction.world_points(), scene.points_world()[[0, 2]], scene.valid[[0, 2]], num_points=500
    )
    assert (result.coverage, result.n_frames) == ("subset", 2)
    assert result.values["chamfer@fps20k"] == expected.chamfer


def test_both_given_views_count_as_given_in_2view() -> None:
    assert scored(part_of(wobbled(), (0, 3)), setting="2view").coverage == "given-views"
    assert scored(part_of(wobbled(), (0, 3))).coverage == "subset"


def test_points_take_precedence_over_depth() -> None:
    scene = tiny_scene()
    points = np.random.default_rng(0).standard_normal((4, 24, 32, 3)).astype(np.float32)
    both = dataclasses.replace(true_prediction(scene, 0), points_world=points)
    assert scored(both).values["chamfer@fps20k"] > 0.1


def test_novel_frames_leave_the_given_ones_out() -> None:
    scene = tiny_scene()
    rgb = np.array(scene.rgb)
    rgb[1:] = 255 - rgb[1:]
    values = scored(Prediction(frame_indices=range(4), rgb=rgb)).values
    assert values["psnr@8bit"] == pytest.approx((60 + 3 * values["psnr@8bit/novel"]) / 4)


def test_no_novel_score_where_nothing_novel_is_predicted() -> None:
    values = scored(part_of(true_prediction(tiny_scene(), 0), (0,))).values
    assert values["psnr@8bit"] == 60
    assert "psnr@8bit/novel" not in values


def test_psnr_is_capped_before_the_mean() -> None:
    values = scored(true_prediction(tiny_scene(), 0), psnr_cap_db=45.0).values
    assert values["psnr@8bit"] == 45


def test_reasons_for_what_is_missing() -> None:
    prediction = Prediction(frame_indices=(0,), world_from_cam=np.eye(4)[None])
    result = scored(prediction)
    assert not result.values
    assert "no points" in result.unsupported["chamfer@fps20k"]
    assert "two frames" in result.unsupported["auc30@hist1deg"]
    assert "no frames" in result.unsupported["psnr@8bit"]
    assert "lpips" in result.unsupported["lpips@vgg"].lower()
    flat = scored(true_prediction(tiny_scene(depth=False), 0), depth=False)
    assert "no valid depth" in flat.unsupported["chamfer@fps20k"]
    assert flat.values["auc30@hist1deg"] == 1


def test_flags_are_sentences_without_counts() -> None:
    prediction = wobbled()
    depth = np.array(prediction.depth)
    depth[0, 10, :5] = np.nan
    result = scored(dataclasses.replace(prediction, depth=depth), geometry={"num_points": 5000})
    assert any("predicted cloud has fewer than 5000" in flag for flag in result.flags)
    assert "pixels with non-finite points dropped" in result.flags
    assert result.geometry.n_dropped == 5


def test_a_metric_that_nobody_registered() -> None:
    with pytest.raises(InputError, match="asks for metric 'speed@mine'"):
        scored(wobbled(), metrics=("speed@mine",))


def test_a_third_partys_metrics_of_every_kind_are_fed() -> None:
    def metric(name: str, kind: str, function) -> Metric:
        return Metric(
            name=name, dialect="mine", title=name, unit="", higher_is_better=True, bounds=(0, 1e9),
            reference="tests", kind=kind, function=function,
        )  # fmt: skip

    mine = [
        metric("kept", "points", lambda geometry: geometry.pred_sampled),
        metric("turns", "poses", lambda errors: errors.rotation_deg.max()),
        metric("red", "frames", lambda pred, true: pred[..., 0].mean(axis=(1, 2))),
        metric("length", "video", lambda pred, true: len(pred)),
    ]
    values = score(
        tiny_card(metrics=tuple(item.key for item in mine), frames_scored=("all",)),
        SceneTruth(tiny_scene()),
        true_prediction(tiny_scene(), 0),
        {item.key: item for item in mine},
    )
    assert values.values["kept@mine"] == 500
    assert values.values["turns@mine"] == pytest.approx(0, abs=1e-4)
    assert values.values["red@mine"] == pytest.approx(tiny_scene().rgb[..., 0].mean())
    assert values.values["length@mine"] == 4


def test_the_truth_is_prepared_once_and_not_changed() -> None:
    truth = SceneTruth(tiny_scene())
    card = tiny_card()
    assert truth.points() is truth.points()
    assert truth.cloud(card.geometry) is truth.cloud(card.geometry)
    before = truth.points().copy()
    score(card, truth, wobbled(), registry.metrics())
    np.testing.assert_array_equal(truth.points(), before)


def frames_metric(name: str, function=lambda pred, true: np.ones(len(pred)), **fields) -> Metric:
    return Metric(
        name=name, dialect="mine", title=name, unit="", higher_is_better=True, bounds=(0, 1e9),
        reference="tests", kind="frames", function=function, **fields,
    )  # fmt: skip


def test_what_is_missing_on_this_machine_does_not_stop_the_other_metrics() -> None:
    absent = frames_metric("absent", unavailable=lambda: "weights missing, run x")
    there = frames_metric("there", unavailable=lambda: None)
    declared = dataclasses.replace(
        absent, name="declared", function=None, unavailable=None, unsupported_reason="not in this version"
    )
    later = dataclasses.replace(declared, name="later", unavailable=lambda: None, unsupported_reason="in one go")
    mine = {item.key: item for item in (absent, there, declared, later)}
    result = score(tiny_card(metrics=tuple(mine)), SceneTruth(tiny_scene()), wobbled(), mine)
    assert result.values == {"there@mine": 1, "there@mine/novel": 1}
    assert result.unsupported == {
        "absent@mine": "weights missing, run x",
        "declared@mine": "not in this version",
        "later@mine": "in one go",
    }


def test_a_score_says_what_it_was_made_with_and_a_network_is_told_its_device() -> None:
    devices = []

    def on_device(pred, true, *, device):
        devices.append(device)
        return np.zeros(len(pred))

    mine = [
        frames_metric("network", on_device, takes_device=True, provenance=lambda: {"weights": "w"}),
        frames_metric("library", provenance=lambda: {"library": "1.0"}),
        frames_metric("plain"),
        frames_metric("absent", unavailable=lambda: "no", provenance=lambda: {"library": "1.0"}),
    ]
    card = tiny_card(metrics=tuple(item.key for item in mine))
    result = score(card, SceneTruth(tiny_scene()), wobbled(), {item.key: item for item in mine}, device="cuda:1")
    assert devices == ["cuda:1"]
    assert result.facts == {
        "network@mine": {"weights": "w", "device": "cuda"},
        "library@mine": {"library": "1.0"},
    }
