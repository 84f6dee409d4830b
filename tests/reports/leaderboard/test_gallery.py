"""Pictures of scenes: what is drawn, what is left out, and how large it may become."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_runs import APPEARANCE, GEOMETRY, small_run

from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.geometry import SceneTruth
from gen3r_bench.reports.error_map import error_map
from gen3r_bench.reports.leaderboard import gallery, pictures
from gen3r_bench.reports.leaderboard.clouds import box_of, shown_alignment, small_cloud
from gen3r_bench.reports.leaderboard.export import Exported, export
from gen3r_bench.runs.kept import Kept, SceneSource
from gen3r_bench.runs.store import Run

Metrics = dict[str, Metric]
SCENES = ["test/000", "test/001"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory, metrics: Metrics) -> tuple[Exported, Path]:
    out = tmp_path_factory.mktemp("export") / "out"
    return export([run.path], out, metrics), out / "assets"


def picture(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def scene(assets: Path, name: str) -> dict[str, object]:
    text = (assets / name).read_text("ascii")
    found: list[object] = json.loads(f"[{text.removeprefix('gen3rBenchScene(').removesuffix(');' + chr(10))}]")
    assert isinstance(found[1], dict)
    return found[1]


def test_boards_of_one_conditioning_share_their_pictures(exported: tuple[Exported, Path]) -> None:
    done, assets = exported
    assert [board.protocol for board in done.leaderboard.boards] == [GEOMETRY.name, APPEARANCE.name]
    assert done.gallery["b0"] is done.gallery["b1"]
    assert list(done.gallery["b0"].scripts) == SCENES
    assert done.gallery["b0"].why == ""
    assert {path.suffix for path in assets.iterdir()} == {".js", ".webp"}


def test_a_scene_shows_every_row_and_equal_pictures_are_one_file(exported: tuple[Exported, Path]) -> None:
    done, assets = exported
    content = scene(assets, done.gallery["b0"].scripts["test/000"])
    rows = {row["row"]: row for row in content["rows"]}  # type: ignore[attr-defined]
    assert list(rows) == ["near", "far", "freeze", "oracle"]
    truth = content["truth"]
    assert rows["oracle"]["rgb"] == truth["rgb"]  # type: ignore[index]
    assert rows["oracle"]["cloud"] == truth["cloud"]  # type: ignore[index]
    assert rows["near"]["rgb"] != rows["far"]["rgb"]
    assert content["frames"] == [0, 1, 2, 3, 4]
    for row in rows.values():
        for kind in ("rgb", "error", "depth"):
            assert picture(assets / row[kind]).size == (5 * 48, 48)
    oracle_error = np.asarray(picture(assets / rows["oracle"]["error"]))
    assert np.abs(oracle_error.astype(int) - error_map(*[np.zeros((1, 1, 3), np.uint8)] * 2)[0, 0]).max() < 12


def test_a_cloud_can_be_decoded(exported: tuple[Exported, Path]) -> None:
    done, assets = exported
    content = scene(assets, done.gallery["b0"].scripts["test/001"])
    cloud = content["clouds"][content["truth"]["cloud"]]  # type: ignore[index]
    positions = np.frombuffer(base64.b64decode(cloud["xyz"]), "<i2").reshape(-1, 3)
    colours = np.frombuffer(base64.b64decode(cloud["rgb"]), np.uint8).reshape(-1, 3)
    assert len(positions) == len(colours) == cloud["n"] > 1000
    assert 0.3 < np.abs(positions / 32767).max() <= 1


def test_pictures_of_other_datasets_need_permission(
    run: Run, tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "OWN_DATASETS", frozenset())
    done = export([run.path], tmp_path / "without", metrics)
    assert "licence" in done.gallery["b0"].why
    content = scene(tmp_path / "without/assets", done.gallery["b0"].scripts["test/000"])
    rows = {row["row"]: row for row in content["rows"]}  # type: ignore[attr-defined]
    assert (content["truth"], content["prompt"]) == (None, "")
    assert rows["near"]["rgb"]
    assert rows["near"]["error"] is None
    for row in ("freeze", "oracle"):
        assert rows[row]["rgb"] is None
        assert "repeats frames" in rows[row]["why"]
    used = {rows["near"][kind] for kind in ("rgb", "depth")} | {rows["far"][kind] for kind in ("rgb", "depth")}
    others = scene(tmp_path / "without/assets", done.gallery["b0"].scripts["test/001"])
    used |= {row[kind] for row in others["rows"] for kind in ("rgb", "depth") if row[kind]}  # type: ignore[attr-defined]
    assert {path.name for path in (tmp_path / "without/assets").glob("*.webp")} == used
    with_frames = export([run.path], tmp_path / "with", metrics, with_ground_truth=True)
    assert with_frames.gallery["b0"].why == ""


def test_runs_without_predictions_say_so(tmp_path: Path, metrics: Metrics) -> None:
    bare = small_run(tmp_path / "bare", cards=(APPEARANCE,), keep_predictions=False)
    done = export([bare.path], tmp_path / "out", metrics)
    assert done.gallery["b0"].why == gallery.NO_PREDICTIONS
    assert not (tmp_path / "out/assets").exists()


def test_the_folder_stays_below_what_is_asked(
    run: Run, exported: tuple[Exported, Path], tmp_path: Path, metrics: Metrics
) -> None:
    whole = sum(path.stat().st_size for path in exported[1].iterdir())
    most = whole * 6 // 10
    done = export([run.path], tmp_path / "out", metrics, most_bytes=most)
    assert sum(path.stat().st_size for path in (tmp_path / "out/assets").iterdir()) <= most
    assert list(done.gallery["b0"].scripts) == SCENES[:1]
    assert "1 of 2 scenes have pictures" in done.gallery["b0"].why
    nothing = export([run.path], tmp_path / "none", metrics, most_bytes=0)
    assert not nothing.gallery["b0"].scripts


def test_a_damaged_bundle_is_named_and_the_rest_is_shown(tmp_path: Path, metrics: Metrics) -> None:
    run = small_run(tmp_path / "run", cards=(GEOMETRY,))
    (run.path / "predictions/near/1view-cameras-given/seed-42/mini/test/000/rgb/00001.png").write_bytes(b"")
    done = export([run.path], tmp_path / "out", metrics)
    rows = {
        row["row"]: row
        for row in scene(tmp_path / "out/assets", done.gallery["b0"].scripts["test/000"])["rows"]  # type: ignore[attr-defined]
    }
    assert "does not match its checksum" in rows["near"]["why"]
    assert rows["far"]["rgb"]


def test_a_prompt_cannot_leave_its_script(
    run: Run, tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = "</script><script>alert(1)</script>\u2028'\"&é"
    real = SceneSource.truth

    def with_prompt(source: SceneSource, kept: Kept) -> SceneTruth:
        return SceneTruth(replace(real(source, kept).scene, prompt=prompt))

    monkeypatch.setattr(SceneSource, "truth", with_prompt)
    done = export([run.path], tmp_path / "out", metrics)
    name = done.gallery["b0"].scripts["test/000"]
    text = (tmp_path / "out/assets" / name).read_text("ascii")
    assert not set("<>&\u2028") & set(text)
    assert scene(tmp_path / "out/assets", name)["prompt"] == prompt


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6000), st.floats(1e-3, 1e4), st.integers(0, 99))
def test_small_clouds_keep_places(count: int, size: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = (random.normal(size=(count, 3)) * size + 5 * size).astype(np.float32)
    box = box_of(points)
    cloud = small_cloud(points, np.zeros((count, 3), np.uint8), box)
    assert cloud.count <= 3000
    found = np.frombuffer(base64.b64decode(cloud.positions), "<i2").reshape(-1, 3) / 32767 * box.reach + box.middle
    nearest = np.abs(found[:20, None] - points[None]).max(-1).min(-1)
    assert (nearest <= box.reach / 32767).all()


def test_points_that_are_no_numbers_or_far_away_are_left_out() -> None:
    points = np.array([[0, 0, 0], [1, 1, 1], [np.nan, 0, 0], [np.inf, 0, 0], [1e9, 0, 0]], np.float32)
    cloud = small_cloud(points, np.arange(15, dtype=np.uint8).reshape(5, 3), box_of(points[:2]))
    assert cloud.count == 2
    assert base64.b64decode(cloud.colours) == bytes(range(6))


def test_the_shown_alignment_undoes_a_similarity() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(2, 9, 9, 3)).astype(np.float32)
    found = shown_alignment(3 * true + 1, true, np.ones((2, 9, 9), bool), "variance-ratio")
    assert found is not None
    assert np.allclose(found.apply(3 * true + 1), true, atol=1e-4)
    assert shown_alignment(np.zeros_like(true), true, np.ones((2, 9, 9), bool), "umeyama") is None


def test_a_strip_puts_frames_in_order_and_shrinks_large_ones() -> None:
    frames = [np.full((300, 600, 3), value, np.uint8) for value in (0, 255)]
    picture = Image.open(io.BytesIO(pictures.strip([*frames, None], (300, 600))))
    assert picture.size == (3 * 144, 72)
    columns = np.asarray(picture.convert("L"))[36, [70, 210, 360]]
    assert np.abs(columns.astype(int) - [0, 255, 128]).max() < 6


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (0,)), (2, (0, 1)), (7, tuple(range(7))), (49, (0, 8, 16, 24, 32, 40, 48))]
)
def test_shown_frames(count: int, expected: tuple[int, ...]) -> None:
    assert pictures.shown_frames(count) == expected
