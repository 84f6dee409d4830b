"""The table of dialects, and that each gives what it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from tiny import tiny_card, tiny_scene

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import true_prediction, wobbled_prediction
from gen3r_bench.metrics import pose_auc, relative_pose_errors, score_points
from gen3r_bench.metrics.base import RANDOM_WEIGHTS
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.dialects import (
    DEFAULT,
    DIALECTS,
    Rescored,
    cell_value,
    dialects_of,
    headline_key,
    rescore,
    variation,
)
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.protocols.scoring import score
from gen3r_bench.scene import Prediction, Scene

METRICS = registry.metrics()
CARDS = [registry.protocols().load(name) for name in registry.protocols().names()]
EVERYTHING = (
    "accuracy@fps20k", "completeness@fps20k", "chamfer@fps20k", "auc30@hist1deg", "psnr@8bit", "ssim@skimage-gauss",
)  # fmt: skip
BY_KEY = {dialect.key: dialect for dialect in DIALECTS}


def rescored(prediction: Prediction, scene: Scene | None = None, *, card: Card | None = None, **how) -> Rescored:
    card = card or tiny_card(metrics=EVERYTHING)
    return rescore(card, SceneTruth(scene or tiny_scene()), prediction, METRICS, dialects_of(card, METRICS), **how)


def noisy(scene: Scene, noise: float, scale: float = 1.0) -> Prediction:
    """The true points with noise on each coordinate, in another unit."""
    random = np.random.default_rng(7)
    points = scene.points_world()
    points = scale * (points + noise * random.standard_normal(points.shape))
    return Prediction(frame_indices=range(scene.num_frames), points_world=points.astype(np.float32))


def test_every_dialect_is_documented_once_and_concerns_a_registered_metric() -> None:
    assert len(BY_KEY) == len(DIALECTS)
    names = {metric.name for metric in METRICS.values()}
    for dialect in DIALECTS:
        assert set(dialect.metrics) <= names
        assert dialect.summary
        assert dialect.used_by
        assert dialect.source
        choice, equals, value = dialect.key.partition("=")
        assert choice
        assert equals
        assert value


def test_each_dialect_changes_something_for_some_card_or_is_what_a_card_says() -> None:
    """No entry is dead: it moves a protocol of the suite, or it is the suite's own choice."""
    moving = {d.key for card in CARDS for others in dialects_of(card, METRICS).values() for d in others}
    own = {
        "scale=variance-ratio", "voxel=0.005", "start=first", "mask=ground-truth-valid", "frames=all",
        "ssim=skimage-gauss", "lpips=vgg", "area=hist1deg",
    }  # fmt: skip
    assert moving | own == set(BY_KEY)
    assert not moving & own


def test_a_card_with_another_choice_gets_the_suites_as_its_alternative() -> None:
    card = tiny_card(geometry={"alignment_scale": "umeyama", "voxel_size": None, "num_points": 300})
    keys = {dialect.key for dialect in dialects_of(card, METRICS)["chamfer@fps20k"]}
    assert {"scale=variance-ratio", "voxel=0.005"} <= keys
    # without voxels there is no order of voxels to start from; and the recipe is the card itself
    assert not {"scale=umeyama", "start=open3d", "recipe=paper-text"} & keys


def test_nothing_is_novel_where_every_frame_was_shown() -> None:
    card = tiny_card(setting="allview", frames_scored=("all",))
    assert "frames=novel" not in {d.key for d in dialects_of(card, METRICS)["psnr@8bit"]}
    first_novel = tiny_card(frames_scored=("novel", "all"))
    assert headline_key(first_novel, METRICS["psnr@8bit"]) == "psnr@8bit/novel"
    found = variation(BY_KEY["frames=all"], first_novel, METRICS["psnr@8bit"], METRICS)
    assert found is not None
    assert found.score_key == "psnr@8bit"


def test_the_cards_own_way_is_what_a_run_records() -> None:
    scene, card = tiny_scene(), tiny_card(metrics=EVERYTHING)
    prediction = wobbled_prediction(scene, 3)
    recorded = score(card, SceneTruth(scene), prediction, METRICS)
    again = rescored(prediction, scene)
    for key in EVERYTHING:
        assert again.values[key, DEFAULT].value == recorded.values[headline_key(card, METRICS[key])]
    assert again.values["psnr@8bit", "frames=novel"].value == recorded.values["psnr@8bit/novel"]


def test_the_oracle_is_moved_by_nothing() -> None:
    found = rescored(true_prediction(tiny_scene(), 0))
    assert not found.missing
    for (metric, dialect), evidence in found.values.items():
        if dialect == "mask=unmasked-prediction":
            continue  # pixels without a true depth then count
        own = found.values[metric, DEFAULT].value
        # a scale of 1 is found up to rounding, which may move a point across a voxel's border
        assert evidence.value == pytest.approx(own, abs=1e-3), (metric, dialect)


@given(st.floats(0.2, 5.0))
@settings(max_examples=8, deadline=None)
def test_an_exact_similarity_moves_only_where_scale_is_judged(scale: float) -> None:
    scene = tiny_scene()
    found = rescored(noisy(scene, 0.0, scale), card=tiny_card(metrics=("chamfer@fps20k",)))
    value = {dialect: evidence.value for (_, dialect), evidence in found.values.items()}
    assert value["scale=umeyama"] == pytest.approx(value[DEFAULT], abs=1e-3)
    assert value[DEFAULT] < 1e-3
    if abs(scale - 1) > 0.1:
        assert value["scale=none"] > 0.02


def test_noise_makes_umeyamas_scale_the_smaller_and_its_accuracy_the_better() -> None:
    scene = tiny_scene()
    prediction = noisy(scene, 0.5, 3.0)
    points, truth = prediction.world_points(), scene.points_world()
    by_scale = {
        scale: score_points(points, truth, scene.valid, scale=scale, num_points=500)
        for scale in ("variance-ratio", "umeyama", "none")
    }
    assert by_scale["umeyama"].alignment.scale < by_scale["variance-ratio"].alignment.scale
    found = rescored(prediction, scene)
    for metric in ("accuracy", "completeness", "chamfer"):
        for scale, dialect in (("variance-ratio", DEFAULT), ("umeyama", "scale=umeyama"), ("none", "scale=none")):
            assert found.values[f"{metric}@fps20k", dialect].value == getattr(by_scale[scale], metric)
    accuracy = {dialect: found.values["accuracy@fps20k", dialect].value for dialect in (DEFAULT, "scale=umeyama")}
    assert accuracy["scale=umeyama"] < accuracy[DEFAULT]


def test_recipe_start_and_voxels_are_the_metrics_own_options() -> None:
    scene = tiny_scene()
    prediction = noisy(scene, 0.2)
    points, truth = prediction.world_points(), scene.points_world()
    found = rescored(prediction, scene)
    for dialect, options in (
        ("voxel=none", {"voxel_size": None}),
        ("start=open3d", {"start": "open3d"}),
        ("start=middle", {"start": "middle"}),
        ("recipe=paper-text", {"scale": "umeyama", "voxel_size": None}),
        ("mask=unmasked-prediction", {"masked_prediction": False}),
    ):
        expected = score_points(points, truth, scene.valid, num_points=500, **options)
        assert found.values["chamfer@fps20k", dialect].value == expected.chamfer, dialect


def test_floaters_where_the_truth_is_unknown_count_only_without_the_mask() -> None:
    scene = tiny_scene()
    points = scene.points_world()
    points[~scene.valid] = [0, 0, 50]
    found = rescored(Prediction(frame_indices=range(4), points_world=points), scene)
    assert found.values["accuracy@fps20k", DEFAULT].value < 1e-6
    assert found.values["accuracy@fps20k", "mask=unmasked-prediction"].value > 0.05


def test_a_dialect_that_cannot_be_computed_leaves_the_others() -> None:
    scene = tiny_scene()
    points = scene.points_world()
    points[~scene.valid] = [0, 0, 1e9]
    found = rescored(Prediction(frame_indices=range(4), points_world=points), scene)
    assert "voxels along each axis" in found.missing["chamfer@fps20k", "mask=unmasked-prediction"]
    assert found.values["chamfer@fps20k", "scale=umeyama"].value < 1e-3
    assert "no frames" in found.missing["psnr@8bit", DEFAULT]
    assert "no cameras" in found.missing["auc30@hist1deg", "recipe=vggt"]


def test_a_row_with_its_own_start_never_starts_where_the_truth_does() -> None:
    scene = tiny_scene(frames=4, size=(40, 60))
    here = rescored(true_prediction(scene, 0), scene)
    elsewhere = rescored(true_prediction(scene, 0), scene, samples_elsewhere=True)
    for dialect in (DEFAULT, "start=middle"):
        assert here.values["chamfer@fps20k", dialect].value < 1e-6
        assert elsewhere.values["chamfer@fps20k", dialect].value > 1e-3


def test_pooled_psnr_is_the_psnr_of_the_clip_and_of_all_clips() -> None:
    card = tiny_card(metrics=("psnr@8bit",))
    scenes = [tiny_scene("a"), tiny_scene("b", frames=7)]
    rng = np.random.default_rng(0)
    parts, pairs = [], []
    for scene, noise in zip(scenes, (3, 40), strict=True):
        rgb = np.clip(scene.rgb + rng.normal(0, noise, scene.rgb.shape), 0, 255).astype(np.uint8)
        pairs.append((rgb, scene.rgb))
        parts.append(rescored(Prediction(frame_indices=range(len(rgb)), rgb=rgb), scene, card=card))
    for part, (rgb, true) in zip(parts, pairs, strict=True):
        expected = peak_signal_noise_ratio(true, rgb, data_range=255)
        assert part.values["psnr@8bit", "pool=clip"].value == pytest.approx(expected, abs=1e-9)
    pooled = variation(BY_KEY["pool=clips"], card, METRICS["psnr@8bit"], METRICS)
    assert pooled is not None
    value = cell_value(pooled, [[part.values["psnr@8bit", "pool=clips"]] for part in parts], METRICS)
    everything = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    assert value == pytest.approx(peak_signal_noise_ratio(everything[1], everything[0], data_range=255), abs=1e-9)
    own = cell_value(
        variation(None, card, METRICS["psnr@8bit"], METRICS),
        [[part.values["psnr@8bit", DEFAULT]] for part in parts],
        METRICS,
    )
    assert value < own  # the bad clip has more frames, and counts before the logarithm


def test_identical_frames_stay_under_the_cap_when_pooled() -> None:
    found = rescored(true_prediction(tiny_scene(), 0))
    assert found.values["psnr@8bit", "pool=clip"].value == 60


def test_drawn_frames_are_ten_and_the_same_for_every_row() -> None:
    scene = tiny_scene(frames=15)
    card = tiny_card(metrics=("auc30@hist1deg",))
    keys = ("frames=10-drawn", "recipe=vggt")
    one, other = (rescored(wobbled_prediction(scene, seed), scene, card=card) for seed in (1, 1))
    for key in keys:
        assert one.values["auc30@hist1deg", key].value == other.values["auc30@hist1deg", key].value
    errors = one.values["auc30@hist1deg", "recipe=vggt"].poolable
    assert len(errors) == 45
    # a prediction that covers the drawn frames alone is no different
    all_pairs = relative_pose_errors(wobbled_prediction(scene, 1).world_from_cam, scene.cameras.world_from_cam)
    drawn = {tuple(np.round([r, t], 9)) for r, t in zip(errors.rotation_deg, errors.translation_deg, strict=True)}
    assert drawn <= {
        tuple(np.round([r, t], 9)) for r, t in zip(all_pairs.rotation_deg, all_pairs.translation_deg, strict=True)
    }
    short = rescored(wobbled_prediction(tiny_scene(), 1), card=card)
    assert short.values["auc30@hist1deg", keys[0]].value == short.values["auc30@hist1deg", DEFAULT].value


def test_pooled_pairs_weigh_a_clip_by_its_length() -> None:
    card = tiny_card(metrics=("auc30@hist1deg",))
    scenes = [tiny_scene("a"), tiny_scene("b", frames=9)]
    parts = [rescored(wobbled_prediction(scene, 0), scene, card=card) for scene in scenes]
    found = variation(BY_KEY["pool=pairs"], card, METRICS["auc30@hist1deg"], METRICS)
    assert found is not None
    value = cell_value(found, [[part.values["auc30@hist1deg", "pool=pairs"]] for part in parts], METRICS)
    own = [
        pose_auc(relative_pose_errors(wobbled_prediction(s, 0).world_from_cam, s.cameras.world_from_cam))
        for s in scenes
    ]
    assert value == pytest.approx(np.average(own, weights=[6, 36]))


def test_exact_area_and_ssim_dialects_are_the_registered_metrics() -> None:
    scene = tiny_scene()
    prediction = wobbled_prediction(scene, 0)
    found = rescored(prediction, scene)
    errors = relative_pose_errors(prediction.world_from_cam, scene.cameras.world_from_cam)
    assert found.values["auc30@hist1deg", "area=exact"].value == pose_auc(errors, dialect="exact")
    for name in ("skimage-gauss-sample", "torchmetrics"):
        expected = METRICS[f"ssim@{name}"].function(prediction.rgb, scene.rgb).mean()
        assert found.values["ssim@skimage-gauss", f"ssim={name}"].value == pytest.approx(expected, abs=1e-12)


def test_random_weights_give_no_number() -> None:
    card = tiny_card(metrics=("psnr@8bit",))
    random = dataclasses.replace(METRICS["psnr@8bit"], provenance=lambda: {"weights": RANDOM_WEIGHTS})
    metrics = {**METRICS, "psnr@8bit": random}
    found = rescore(
        card, SceneTruth(tiny_scene()), true_prediction(tiny_scene(), 0), metrics, dialects_of(card, metrics)
    )
    assert not found.values
    assert "random weights" in found.missing["psnr@8bit", DEFAULT]


def test_backbones_are_compared_where_they_can_be_computed() -> None:
    def backbone(name: str, factor: float):
        return dataclasses.replace(
            METRICS[f"lpips@{name}"],
            function=lambda pred, true: factor * np.abs(pred / 255 - true / 255).mean(axis=(1, 2, 3)),
            takes_device=False,
            unavailable=None,
            provenance=None,
        )

    missing = dataclasses.replace(METRICS["lpips@squeeze"], unavailable=lambda: "no weights here")
    metrics = {
        **METRICS,
        "lpips@vgg": backbone("vgg", 1),
        "lpips@alex": backbone("alex", 0.5),
        "lpips@squeeze": missing,
    }
    card, scene = tiny_card(metrics=("lpips@vgg",)), tiny_scene()
    found = rescore(card, SceneTruth(scene), wobbled_prediction(scene, 0), metrics, dialects_of(card, metrics))
    own = found.values["lpips@vgg", DEFAULT].value
    assert own > 0
    assert found.values["lpips@vgg", "lpips=alex"].value == pytest.approx(own / 2)
    assert found.missing["lpips@vgg", "lpips=squeeze"] == "no weights here"
