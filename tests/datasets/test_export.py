from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from layouts import opened
from tiny import SIZE, tiny_card, tiny_scene

from gen3r_bench.datasets.base import ClipProfile, Dataset, OpenedDataset
from gen3r_bench.datasets.co3dv2 import Co3dv2Dataset
from gen3r_bench.datasets.export import MARKER, export_scenes, shared_intrinsics
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.datasets.tartanair import TartanAirDataset, TartanAirWriter
from gen3r_bench.datasets.wildrgbd import WildRgbdDataset
from gen3r_bench.errors import BenchError, InputError, UnknownNameError
from gen3r_bench.protocols.card import ClipPlan
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Cameras, Scene

READERS: dict[str, type[Dataset]] = {
    "co3dv2": Co3dv2Dataset,
    "tartanair": TartanAirDataset,
    "wildrgbd": WildRgbdDataset,
}
FORMATS = tuple(READERS)
PROFILE = ClipProfile(5, (64, 80))
JPEG_LEVELS = 6
"""How far a pixel may move in a JPEG of quality 100 with 4:4:4: rounding of the transform and of two colour changes."""


def reader(format_: str, root: Path) -> Dataset:
    options = {"max_depth": "65"} if format_ == "wildrgbd" else {}
    dataset = opened(READERS[format_], root, **options)
    assert isinstance(dataset, Dataset)
    return dataset


def mini_scenes(count: int = 3) -> list[Scene]:
    mini = MiniDataset.open(None, {})
    return [mini.load(scene, PROFILE) for scene in mini.scene_ids()[:count]]


def changed(scene: Scene, **fields: object) -> Scene:
    names = ("dataset", "scene_id", "rgb", "cameras", "depth", "valid", "prompt", "scale")
    return Scene(**{**{name: getattr(scene, name) for name in names}, **fields})


@pytest.mark.parametrize("format_", FORMATS)
def test_mini_comes_back_the_same(format_: str, tmp_path: Path) -> None:
    scenes = mini_scenes()
    places = export_scenes(iter(scenes), format_, tmp_path)
    dataset = reader(format_, tmp_path)
    ids = dataset.all_scene_ids()  # type: ignore[attr-defined]
    assert sorted(ids) == sorted(dataset.scene_ids())  # a small root is drawn whole
    for scene, scene_id, place in zip(scenes, ids, places, strict=True):
        back = dataset.load(scene_id, PROFILE)
        assert place.is_dir()
        assert back.prompt == scene.prompt
        assert back.scale == ("sfm" if format_ == "co3dv2" else "metric")
        assert np.abs(back.cameras.world_from_cam - scene.cameras.world_from_cam).max() < 1e-6
        assert np.abs(back.cameras.intrinsics - scene.cameras.intrinsics).max() < 1e-6
        assert np.array_equal(back.valid, scene.valid)
        assert back.depth is not None
        assert scene.depth is not None
        error = np.abs(back.depth - scene.depth)[scene.valid]
        if format_ == "tartanair":
            assert error.max() == 0
        elif format_ == "wildrgbd":
            assert error.max() < 0.000501  # half a millimetre
        else:
            assert (error / scene.depth[scene.valid]).max() <= 2.0**-11  # float16 has 11 bits
        levels = np.abs(back.rgb.astype(int) - scene.rgb).max()
        assert levels <= (JPEG_LEVELS if format_ == "co3dv2" else 0)


@pytest.mark.parametrize("format_", FORMATS)
def test_exports_are_the_same_bytes_each_time(format_: str, tmp_path: Path) -> None:
    scenes = mini_scenes(2)
    contents = []
    for name in ("one", "two"):
        export_scenes(scenes, format_, tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert not [path for path in contents[0] if ".writing" in str(path) or path.suffix == ".tmp"]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_second_export_adds_and_replaces(format_: str, tmp_path: Path) -> None:
    export_scenes([tiny_scene("a"), tiny_scene("b")], format_, tmp_path)
    dark = changed(tiny_scene("b"), rgb=np.zeros_like(tiny_scene("b").rgb))
    export_scenes([dark, tiny_scene("c")], format_, tmp_path)
    dataset = reader(format_, tmp_path)
    ids = dataset.all_scene_ids()  # type: ignore[attr-defined]
    assert len(ids) == 3
    profile = ClipProfile(4, (24, 32))
    assert dataset.load(ids[0], profile).rgb.max() > 200
    assert dataset.load(ids[1], profile).rgb.max() <= 1
    assert dataset.load(ids[2], profile).num_frames == 4


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty; expected a new or empty folder"):
        export_scenes([tiny_scene()], "tartanair", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    export_scenes([tiny_scene()], "tartanair", tmp_path / "new")
    with pytest.raises(InputError, match="an export in another format; expected a new folder for wildrgbd"):
        export_scenes([tiny_scene()], "wildrgbd", tmp_path / "new")
    assert json.loads((tmp_path / "new" / MARKER).read_text())["format"] == "tartanair"


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    scene = tiny_scene()
    with pytest.raises(UnknownNameError, match=r"export format 'tartan'.*did you mean 'tartanair'"):
        export_scenes([scene], "tartan", tmp_path)
    with pytest.raises(InputError, match="has no depth"):
        export_scenes([tiny_scene(depth=False)], "co3dv2", tmp_path / "a")
    with pytest.raises(InputError, match="scale sfm; expected metres"):
        export_scenes([changed(scene, scale="sfm")], "wildrgbd", tmp_path / "b")
    with pytest.raises(InputError, match="scenes a/b and a_b; expected one scene for"):
        export_scenes([changed(scene, scene_id="a/b"), changed(scene, scene_id="a_b")], "co3dv2", tmp_path / "c")
    assert scene.depth is not None
    with pytest.raises(InputError, match=r"depth of 70.0 m; expected up to 65.534"):
        export_scenes([changed(scene, depth=np.full_like(scene.depth, 70.0))], "wildrgbd", tmp_path / "d")
    with pytest.raises(InputError, match="depth beyond 65504"):
        export_scenes([changed(scene, depth=np.full_like(scene.depth, 7e4))], "co3dv2", tmp_path / "e")
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="cannot write the export in"):
        export_scenes([scene], "co3dv2", tmp_path / "file")


def test_one_camera_a_scene(tmp_path: Path) -> None:
    scene = tiny_scene()
    assert shared_intrinsics(scene) == (30, 30, 16, 12)
    zoom = scene.cameras.intrinsics.copy()
    zoom[2, 0, 0] = 31
    cameras = Cameras(scene.cameras.world_from_cam, zoom, scene.image_size)
    with pytest.raises(InputError, match="intrinsics change between frames"):
        export_scenes([changed(scene, cameras=cameras)], "wildrgbd", tmp_path / "a")
    # Co3D keeps a camera a frame
    export_scenes([changed(scene, cameras=cameras)], "co3dv2", tmp_path / "b")
    back = opened(Co3dv2Dataset, tmp_path / "b").load("tiny/a", ClipProfile(4, (24, 32)))
    assert np.allclose(back.cameras.intrinsics, zoom)


def test_a_broken_export_leaves_whole_scenes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TartanAirWriter.write

    def broken(self: TartanAirWriter, scene: Scene, folder: Path) -> None:
        whole(self, scene, folder)
        if scene.scene_id == "b":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(TartanAirWriter, "write", broken)
    with pytest.raises(BenchError, match="No space left on device"):
        export_scenes([tiny_scene("a"), tiny_scene("b")], "tartanair", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARKER, "tiny_a"]
    assert opened(TartanAirDataset, tmp_path).load("tiny_a/Easy/P000", ClipProfile(4, (24, 32))).num_frames == 4


def test_scenes_are_taken_one_at_a_time(tmp_path: Path) -> None:
    def stream() -> Iterator[Scene]:
        for name in ("a", "b"):
            yield tiny_scene(name)
            assert (tmp_path / f"tiny_{name}").is_dir()  # written before the next is asked for

    assert len(export_scenes(stream(), "tartanair", tmp_path)) == 2


def test_unknown_depth_is_not_written(tmp_path: Path) -> None:
    scene = tiny_scene()
    assert scene.depth is not None
    depth = scene.depth.copy()
    depth[:, :3] = np.nan  # not valid in this scene
    for format_ in FORMATS:
        export_scenes([changed(scene, depth=depth, prompt="two\nlines")], format_, tmp_path / format_)
        dataset = reader(format_, tmp_path / format_)
        back = dataset.load(dataset.scene_ids()[0], ClipProfile(4, (24, 32)))
        assert np.array_equal(back.valid, scene.valid)
        assert back.prompt == "two lines"


@pytest.mark.parametrize("format_", FORMATS)
def test_protocols_run_on_an_export(format_: str, tmp_path: Path) -> None:
    export_scenes([tiny_scene("a"), tiny_scene("b")], format_, tmp_path / "data")
    # one picture is gone: its scene is a failure with a reason, and no other is touched
    next((tmp_path / "data").rglob("*b*/**/*00001*.[jp][pn]g")).unlink()
    card = tiny_card(datasets={format_: ClipPlan(frames=4, image_size=SIZE)})
    rows = [make_row(name, device="cpu") for name in ("oracle", "wobble", "freeze")]
    datasets = {format_: OpenedDataset(reader(format_, tmp_path / "data"))}
    run = execute(make_plan((card,), datasets, rows), tmp_path / "run", command="test")
    records = {(item.row, "b" in item.scene_id.split("tiny")[-1]): item for item in run.records}
    assert len(records) == len(run.records) == 6
    for (_, broken), record in records.items():
        assert record.status == ("failed" if broken else "ok")
        assert ("missing" in record.reason) is broken
    assert records["oracle", False].scores["chamfer@fps20k"] == 0
    assert records["oracle", False].scores["auc30@hist1deg"] == 1
