"""Figures of scenes: what is in which place, and that any prediction can be drawn."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reports.synthetic import row
from tiny import tiny_card, tiny_scene

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import true_prediction, wobbled_prediction
from gen3r_bench.datasets.base import ClipProfile, OpenedDataset
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.protocols.card import ClipPlan
from gen3r_bench.reports.error_map import error_map
from gen3r_bench.reports.scene_answers import Answer, SceneAnswers, scene_answers
from gen3r_bench.reports.scene_figure import depth_map, scene_figure
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.rows import make_row
from gen3r_bench.runs.store import Run, read_run
from gen3r_bench.scene import Prediction, Scene

METRICS = registry.metrics()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    clip = {"mini": ClipPlan(scenes=3, frames=4, image_size=(32, 32))}
    cards = (
        tiny_card("tiny-geom", datasets=clip, metrics=("chamfer@fps20k",)),
        tiny_card("tiny-frames", datasets=clip, metrics=("psnr@8bit",)),
        tiny_card("tiny-recon", datasets=clip, metrics=("psnr@8bit",), setting="allview", frames_scored=("all",)),
    )
    plan = make_plan(
        cards,
        {"mini": OpenedDataset(MiniDataset.open(None, {}))},
        [make_row(spec, device="cpu") for spec in ("freeze", "oracle", "wobble")],
        limit=1,
    )
    return execute(plan, tmp_path_factory.mktemp("show") / "run", command="gen3r-bench run x", keep_predictions=True)


def test_numbers_of_random_weights_are_no_scores(run: Run) -> None:
    scene = run.records[0].scene_id
    before = {answer.row.label: dict(answer.scores) for answer in scene_answers(run, scene, METRICS).answers}
    facts = {"t": {"weights": "random-weights"}, "r": {"weights": "real"}}
    made_with = {"freeze": {"chamfer@fps20k": "t"}, "oracle": {"chamfer@fps20k": "r"}}
    records = tuple(r.model_copy(update={"made_with": made_with.get(r.row, {})}) for r in run.records)
    header = run.header.model_copy(update={"provenances": facts})
    stamped = dataclasses.replace(run, header=header, records=records)
    after = {answer.row.label: dict(answer.scores) for answer in scene_answers(stamped, scene, METRICS).answers}
    gone = {row: set(before[row]) - set(after[row]) for row in before}
    assert gone == {"freeze": {METRICS["chamfer@fps20k"].title}, "oracle": set(), "wobble": set()}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def answered(prediction: Prediction, label: str = "mine", *, aligned: bool = True) -> Answer:
    points, depth = prediction.world_points(), prediction.depth
    return Answer(row(label), prediction, (("PSNR", "20.00 dB"),), points, depth, aligned)


def shown(scene: Scene, *answers: Answer, given: tuple[int, ...] = (0,)) -> SceneAnswers:
    true_points = scene.points_world() if scene.depth is not None else None
    return SceneAnswers("r", "Tiny", scene, "1view-cameras-given", given, true_points, answers)


def test_one_prediction_serves_protocols_that_show_the_same(run: Run) -> None:
    found = scene_answers(run, "test/000", METRICS)
    assert [answer.row.label for answer in found.answers] == ["freeze", "oracle", "wobble"]
    assert [title for title, _ in found.answers[1].scores] == ["Chamfer", "PSNR", "PSNR (novel)"]
    assert dict(found.answers[1].scores)["PSNR"] == "60.00 dB"
    assert found.given == (0,)
    recon = scene_answers(run, "test/000", METRICS, protocol="tiny-recon", rows=("wobble",))
    assert (len(recon.answers), recon.given) == (1, (0, 1, 2, 3))


def test_geometry_is_brought_into_the_scenes_own_world(run: Run) -> None:
    found = scene_answers(run, "test/000", METRICS, rows=("oracle",))
    (oracle,) = found.answers
    valid = found.scene.valid
    assert oracle.aligned
    np.testing.assert_allclose(oracle.points[valid], found.true_points[valid], atol=1e-4)
    np.testing.assert_allclose(oracle.depth[valid], found.scene.depth[valid], rtol=1e-4)


def test_points_without_depth_are_seen_along_the_true_cameras(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = MiniDataset.open(None, {}).load("test/000", ClipProfile(4, (32, 32)))
    other = 3.0 * scene.points_world() + 1.0
    prediction = Prediction(frame_indices=range(4), points_world=other.astype(np.float32))
    monkeypatch.setattr("gen3r_bench.runs.kept.read_bundle", lambda folder: prediction)
    (answer,) = scene_answers(run, "test/000", METRICS, rows=("freeze",)).answers
    np.testing.assert_allclose(answer.depth[scene.valid], scene.depth[scene.valid], rtol=1e-3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"scene_id": "test/00"}, "unknown scene of the run 'test/00'; did you mean 'test/000'"),
        ({"rows": ("orcle",)}, "did you mean 'oracle'"),
        ({"protocol": "tiny-gem"}, "did you mean 'tiny-geom'"),
        ({"dataset": "minni"}, "did you mean 'mini'"),
    ],
)
def test_names_that_the_run_does_not_have(run: Run, how: dict, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        scene_answers(run, how.pop("scene_id", "test/000"), METRICS, **how)


def test_a_run_that_kept_nothing_says_how_to_get_it(run: Run, tmp_path: Path) -> None:
    bare = dataclasses.replace(read_run(run.path), path=tmp_path)
    with pytest.raises(InputError, match="run x --keep-predictions --fresh"):
        scene_answers(bare, "test/000", METRICS)
    with pytest.raises(InputError, match=r"seed 7; expected one of the run's: 42"):
        scene_answers(run, "test/000", METRICS, seed=7)


def test_near_is_bright_far_is_dark_and_unknown_is_grey() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 100.0, np.nan, -1.0, 2.0]])
    known = np.array([[True] * 6 + [False]])
    light = depth_map(depth, known, (1.0, 4.0))[0].astype(int)
    assert light[0].sum() > light[1].sum() > light[2].sum()
    assert light[3].tolist() == light[2].tolist()
    assert light[4].tolist() == light[5].tolist() == light[6].tolist() == [232, 232, 234]


def test_the_oracles_errors_are_blue_all_over_and_a_wobble_is_not() -> None:
    scene = tiny_scene()
    blue = error_map(scene.rgb[0], scene.rgb[0])[0, 0].astype(int)

    def share(prediction: Prediction) -> float:
        picture = pixels(scene_figure(shown(scene, answered(prediction), given=(0, 1, 2, 3))))
        return float((np.abs(picture - blue).sum(axis=-1) <= 2).mean())

    # four error maps of the oracle against none: the colour bar alone has some of this blue
    noise = np.random.default_rng(0).integers(0, 256, scene.rgb.shape, dtype=np.uint8)
    assert share(true_prediction(scene, 0)) > share(dataclasses.replace(true_prediction(scene, 0), rgb=noise)) + 0.05


def test_rows_below_each_other_make_it_taller_and_look_different() -> None:
    scene = tiny_scene()
    true, noisy = answered(true_prediction(scene, 0), "one"), answered(wobbled_prediction(scene, 0), "two")
    one = pixels(scene_figure(shown(scene, true)))
    both = pixels(scene_figure(shown(scene, true, noisy)))
    assert both.shape[1] == one.shape[1]
    added = both.shape[0] - one.shape[0]
    assert added > 300
    foot = 80
    upper = both[-foot - 2 * added + 40 : -foot - added]
    lower = both[-foot - added + 40 : -foot]
    assert np.abs(upper - lower[: len(upper)]).mean() > 1


def test_the_input_is_outlined_and_only_it() -> None:
    from gen3r_bench.reports.figure_style import COLOURS

    outline = [int(COLOURS[1][i : i + 2], 16) for i in (1, 3, 5)]
    scene = dataclasses.replace(tiny_scene(), rgb=np.zeros_like(tiny_scene().rgb))
    answer = answered(Prediction(frame_indices=range(4), rgb=scene.rgb))
    counts = [
        (pixels(scene_figure(shown(scene, answer, given=given))) == outline).all(axis=-1).sum()
        for given in ((0,), (0, 3))
    ]
    assert counts[0] > 500
    assert 1.7 < counts[1] / counts[0] < 2.3


def test_the_same_scene_gives_the_same_bytes() -> None:
    found = shown(tiny_scene(), answered(wobbled_prediction(tiny_scene(), 0)))
    assert scene_figure(found) == scene_figure(found)


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(frame_indices=(0,), rgb=tiny_scene().rgb[:1]),
        Prediction(frame_indices=(0, 2), points_world=tiny_scene().points_world()[[0, 2]]),
        Prediction(frame_indices=range(4), world_from_cam=tiny_scene().cameras.world_from_cam),
        dataclasses.replace(
            true_prediction(tiny_scene(), 0), depth=np.full((4, 24, 32), np.nan, np.float32), valid=None
        ),
    ],
    ids=["one frame", "points of two frames", "cameras only", "no finite depth"],
)
@pytest.mark.parametrize("depth", [True, False], ids=["depth", "no depth"])
def test_any_prediction_can_be_drawn(prediction: Prediction, depth: bool) -> None:
    scene = tiny_scene(depth=depth)
    picture = pixels(scene_figure(shown(scene, answered(prediction, aligned=depth)), columns=2))
    assert picture.shape[0] > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("size", [(24, 60), (60, 24), (24, 24)])
def test_hostile_names_long_prompts_and_any_shape(size: tuple[int, int]) -> None:
    scene = dataclasses.replace(
        tiny_scene("a", size=size), prompt="<script>$x_{1$ \\frac 厨房 \x1b[31m " + "a very long prompt " * 60
    )
    answer = answered(true_prediction(scene, 0), "名前_" + "x" * 90)
    picture = pixels(scene_figure(shown(scene, answer), columns=3))
    assert picture.shape[0] < 3000
    assert picture.shape[1] < 3000
