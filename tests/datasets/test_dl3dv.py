from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import epipolar_errors, opened, rewrite
from PIL import Image
from tiny import tiny_scene

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.dl3dv import MAX_ZOOM, Dl3dvDataset, undistortion
from gen3r_bench.datasets.export import export_scenes
from gen3r_bench.datasets.nerfstudio import read_transforms
from gen3r_bench.datasets.splits import protocol_split
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Cameras, Scene

FOX = "f" * 64
PAIRS = ((0, 2), (4, 6), (8, 10))
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@pytest.fixture
def fox(shared_dir: Path) -> Path:
    return shared_dir / "data" / "nerfstudio_fox"


@pytest.fixture(scope="session")
def quarter(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fox as DL3DV's 960P: ``1K/<hash>`` with pictures of a quarter of the size in images_4, the json untouched."""
    source = shared_dir / "data" / "nerfstudio_fox"
    root = tmp_path_factory.mktemp("dl3dv")
    scene = root / "1K" / FOX
    (scene / "images_4").mkdir(parents=True)
    shutil.copy(source / "transforms.json", scene)
    for path in (source / "images").iterdir():
        with Image.open(path) as image:
            image.resize((270, 480), Image.Resampling.BOX).save(scene / "images_4" / path.name, quality=95)
    return root


@pytest.fixture
def spoilable(tmp_path: Path) -> Path:
    """The folder of a made-up scene with fox's frame numbers, below a root of its own; needs no data."""
    folder = tmp_path / "1K" / FOX
    (folder / "images_4").mkdir(parents=True)
    numbers = (1, 2, 3, 4, 6, 7, 8, 9, 12, 14, 18, 19, 21, 22, 25, 26, 27, 29, 30, 31, 33, 34, 35, 39)
    scene = tiny_scene("fox", frames=24, size=(96, 54))
    frames = []
    for number, rgb, pose in zip(numbers, scene.rgb, scene.cameras.world_from_cam, strict=True):
        Image.fromarray(rgb).save(folder / "images_4" / f"{number:04d}.jpg")
        frames.append({"file_path": f"images/{number:04d}.jpg", "transform_matrix": (pose @ FLIP).tolist()})
    lens = {"fl_x": 275.0, "fl_y": 274.0, "cx": 109.0, "cy": 193.0, "w": 216.0, "h": 384.0, "k1": 0.06, "k2": -0.08}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    return folder


def flipped(scene: Scene) -> Scene:
    """What a reader that took the OpenGL axes for OpenCV's would give."""
    cameras = Cameras(FLIP @ scene.cameras.world_from_cam @ FLIP, scene.cameras.intrinsics, scene.image_size)
    return Scene("x", scene.scene_id, scene.rgb, cameras, None, scene.valid, "", "sfm")


def change_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    def rewritten(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    rewrite(folder / "transforms.json", rewritten)


def test_fox_at_a_quarter(quarter: Path) -> None:
    dataset = opened(Dl3dvDataset, quarter)
    assert dataset.scene_ids() == (FOX,)
    scene = dataset.load(FOX, ClipProfile(24, (270, 270)))
    assert scene.scale == "sfm"
    assert scene.depth is None
    # the json's intrinsics are for 1080x1920; the crop takes 105 of 480 rows off the top
    k = [[1375.52 / 4, 0, 554.558 / 4], [0, 1374.49 / 4, 965.268 / 4 - 105], [0, 0, 1]]
    assert np.allclose(scene.cameras.intrinsics, k)
    errors = [float(np.median(epipolar_errors(scene, *pair))) for pair in PAIRS]
    assert max(errors) < 0.8
    wrong = [float(np.median(epipolar_errors(flipped(scene), *pair))) for pair in PAIRS]
    assert min(w / e for w, e in zip(wrong, errors, strict=True)) > 4


def test_fox_at_full_size(fox: Path, tmp_path: Path) -> None:
    """SOURCE.md: 0.80 px with distortion ignored, 0.62 px without distortion, tens of px with flipped axes."""
    shutil.copytree(fox, tmp_path / FOX)
    profile = ClipProfile(2, (1080, 1080), start=4, stride=2)
    scene = opened(Dl3dvDataset, tmp_path).load(FOX, profile)
    straight = opened(Dl3dvDataset, tmp_path, undistort="yes").load(FOX, profile)
    assert np.median(epipolar_errors(scene, 0, 1)) < 1.6
    assert np.median(epipolar_errors(straight, 0, 1)) < 1.6
    assert np.median(epipolar_errors(flipped(scene), 0, 1)) > 10
    zoom = straight.cameras.intrinsics[0, [0, 1], [0, 1]] / scene.cameras.intrinsics[0, [0, 1], [0, 1]]
    assert np.allclose(zoom, zoom[0])
    assert 1 <= zoom[0] < 1.05
    assert np.allclose(straight.cameras.intrinsics[:, :2, 2], scene.cameras.intrinsics[:, :2, 2])


def test_listed_and_missing_pictures_are_an_error(fox: Path, tmp_path: Path) -> None:
    """The original json lists 67 frames, unsorted; the sample holds 24 of them."""
    (tmp_path / FOX).mkdir()
    shutil.copy(fox / "transforms_full.json", tmp_path / FOX / "transforms.json")
    (tmp_path / FOX / "images").symlink_to(fox / "images")
    dataset = opened(Dl3dvDataset, tmp_path)
    assert dataset.load(FOX, ClipProfile(4, (64, 64))).num_frames == 4
    message = r"images: 0005\.jpg is listed and missing, as are 1 of the clip's 5 frames and 43 of all 67"
    for method in (dataset.load, dataset.fingerprint):
        with pytest.raises(SceneError, match=message):
            method(FOX, ClipProfile(5, (64, 64)))


def test_order_is_by_number(spoilable: Path) -> None:
    dataset = opened(Dl3dvDataset, spoilable.parents[1])
    before = dataset.load(FOX, ClipProfile(24, (32, 32)))
    change_json(spoilable, lambda content: content["frames"].reverse())
    after = dataset.load(FOX, ClipProfile(24, (32, 32)))
    assert np.array_equal(before.rgb, after.rgb)
    assert np.array_equal(before.cameras.world_from_cam, after.cameras.world_from_cam)
    names = [f"frame_{i}.jpg" for i in range(8, 13)]
    pose = np.eye(4).tolist()
    (spoilable / "transforms.json").write_text(
        json.dumps(
            {
                **dict.fromkeys(("w", "h", "fl_x", "fl_y", "cx", "cy"), 8),
                "frames": [{"file_path": name, "transform_matrix": pose} for name in sorted(names)],
            }
        )
    )
    assert [frame.name for frame in read_transforms(spoilable / "transforms.json", axes="opengl")] == names


def test_remarks_tell_pictures_lens_and_jumps(spoilable: Path) -> None:
    root = spoilable.parents[1]
    profile = ClipProfile(24, (32, 32))
    remarks = opened(Dl3dvDataset, root).remarks(FOX, profile)
    assert remarks == (
        "pictures from images_4",
        "lens distortion ignored",
        "9 jumps in the numbers of registered frames, first from 0004.jpg to 0006.jpg",
    )
    straight = opened(Dl3dvDataset, root, undistort="yes").remarks(FOX, ClipProfile(3, (32, 32)))
    assert straight == ("pictures from images_4", "lens distortion taken out")


def test_resolutions(spoilable: Path) -> None:
    root = spoilable.parents[1]
    (spoilable / "images_8").mkdir()
    for path in (spoilable / "images_4").iterdir():
        Image.new("RGB", (27, 48)).save(spoilable / "images_8" / path.name)
    profile = ClipProfile(1, (27, 27))
    k = {
        name: opened(Dl3dvDataset, root, resolution=name).load(FOX, profile)
        for name in ("auto", "images_4", "images_8")
    }
    assert k["auto"].rgb.std() > 10
    assert k["images_8"].rgb.max() == 0
    assert np.allclose(k["images_4"].cameras.intrinsics, k["images_8"].cameras.intrinsics, atol=0.51)
    with pytest.raises(SceneError, match="no pictures; expected a folder images"):
        opened(Dl3dvDataset, root, resolution="images").load(FOX, profile)
    with pytest.raises(InputError, match="resolution=4K"):
        opened(Dl3dvDataset, root, resolution="4K")
    with pytest.raises(InputError, match="undistort=maybe"):
        opened(Dl3dvDataset, root, undistort="maybe")


def test_layouts(spoilable: Path, tmp_path: Path) -> None:
    profile = ClipProfile(2, (32, 32))
    expected = opened(Dl3dvDataset, tmp_path).load(FOX, profile)
    bench = tmp_path / "Benchmark" / FOX
    bench.mkdir(parents=True)
    spoilable.rename(bench / "gaussian_splat")
    for variant in ("gaussian_splat", "nerfstudio"):
        if variant == "nerfstudio":
            shutil.copytree(bench / "gaussian_splat", bench / "nerfstudio")
            (bench / "gaussian_splat" / "transforms.json").write_text("{")  # not read where nerfstudio/ is
        for root in (tmp_path, tmp_path / "Benchmark", bench):
            dataset = opened(Dl3dvDataset, root)
            assert dataset.all_scene_ids() == (FOX,)
            assert np.array_equal(dataset.load(FOX, profile).rgb, expected.rgb)
    shutil.copytree(bench, tmp_path / "2K" / FOX)
    with pytest.raises(InputError, match=r"lies in .* and in .*point --data-root at one"):
        opened(Dl3dvDataset, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DL3DV scene in"):
        opened(Dl3dvDataset, tmp_path / "empty")
    with pytest.raises(InputError, match="existing folder"):
        opened(Dl3dvDataset, tmp_path / "none")


def test_scenes_without_cameras_come_last_with_their_reason(spoilable: Path) -> None:
    for i in range(5):
        (spoilable.parent / f"{i}" / "images_4").mkdir(parents=True)
    dataset = opened(Dl3dvDataset, spoilable.parents[1])
    assert len(dataset.all_scene_ids()) == 6
    ranked = protocol_split("dl3dv", dataset.all_scene_ids())  # none is in the lowest tenth, so all of them
    assert ranked[0] != FOX
    assert dataset.scene_ids() == (FOX, *(scene for scene in ranked if scene != FOX))
    assert set(dataset.excluded()) == {f"{i}" for i in range(5)}
    with pytest.raises(SceneError, match=r"no transforms\.json"):
        dataset.load("3", ClipProfile(1, (32, 32)))
    with pytest.raises(UnknownNameError):
        dataset.load("99", ClipProfile(1, (32, 32)))


def test_scenes_outside_the_test_part_can_be_read(spoilable: Path) -> None:
    (spoilable.parent / "6" / "images_4").mkdir(parents=True)
    dataset = opened(Dl3dvDataset, spoilable.parents[1])
    assert dataset.scene_ids() == ("6",)
    assert dataset.load(FOX, ClipProfile(1, (32, 32))).num_frames == 1


def spoil_first(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["frames"][0].update(fields)


NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("frames"), "no frames; expected nerfstudio's"),
        (lambda content: content.pop("fl_x"), "fl_x = None; expected a number of pixels"),
        (lambda content: content.update(w=0), "w = 0; expected a number of pixels"),
        (lambda content: content.update(k1="x"), "k1 = 'x'"),
        (lambda content: content.update(camera_model="OPENCV_FISHEYE"), "camera model 'OPENCV_FISHEYE'"),
        (lambda content: content.update(w=1920, h=1080), "another shape"),
        (lambda content: content["frames"].append(content["frames"][3]), "0004.jpg is listed twice"),
        (spoil_first(file_path=None), "a frame without file_path"),
        (spoil_first(transform_matrix=[[1, 0], [0, 1]]), "is not a 4x4 matrix"),
        (spoil_first(transform_matrix=[["a"] * 4] * 4), "is not a 4x4 matrix"),
        (spoil_first(transform_matrix=[[NAN] * 4] * 4), "not a finite 4x4 matrix"),
        (spoil_first(transform_matrix=np.diag([2, 2, 2, 1]).tolist()), "is not rigid"),
    ],
)
def test_damaged_cameras(spoilable: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    change_json(spoilable, change)
    with pytest.raises(SceneError, match=message):
        opened(Dl3dvDataset, spoilable.parents[1]).load(FOX, ClipProfile(6, (32, 32)))


def test_damaged_files(spoilable: Path) -> None:
    dataset = opened(Dl3dvDataset, spoilable.parents[1])
    with pytest.raises(SceneError, match=r"lists 24 frames; 49 frames .* never padded"):
        dataset.load(FOX, ClipProfile(49, (32, 32)))
    picture = spoilable / "images_4" / "0002.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(SceneError, match=r"0002\.jpg: damaged image"):
        dataset.load(FOX, ClipProfile(3, (32, 32)))
    rewrite(spoilable / "transforms.json", lambda text: text[:5000])
    for method in (dataset.load, dataset.fingerprint):
        with pytest.raises(SceneError, match="not valid JSON"):
            method(FOX, ClipProfile(3, (32, 32)))


def test_fingerprint_sees_what_is_read_and_nothing_else(spoilable: Path) -> None:
    root, two = spoilable.parents[1], ClipProfile(2, (32, 32))
    dataset = opened(Dl3dvDataset, root)
    before = dataset.fingerprint(FOX, two)
    (spoilable / "images_4" / "0009.jpg").write_bytes(b"another")
    assert dataset.fingerprint(FOX, two) == before
    assert opened(Dl3dvDataset, root, undistort="yes").fingerprint(FOX, two) != before
    assert dataset.fingerprint(FOX, ClipProfile(2, (32, 32), stride=2)) != before
    (spoilable / "prompt.txt").write_text("a fox\n")
    assert dataset.fingerprint(FOX, two) != before
    assert dataset.load(FOX, two).prompt == "a fox"


def project(
    points: np.ndarray, k: np.ndarray, distortion: tuple[float, float, float, float] = (0, 0, 0, 0)
) -> np.ndarray:
    """OpenCV's model written out as in its documentation; [N, 3] camera points give [N, 2] pixels."""
    k1, k2, p1, p2 = distortion
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    r2 = x**2 + y**2
    u = x * (1 + k1 * r2 + k2 * r2**2) + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
    v = y * (1 + k1 * r2 + k2 * r2**2) + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    return np.stack([k[0, 0] * u + k[0, 2], k[1, 1] * v + k[1, 2]], axis=1)


coefficient = st.floats(-0.08, 0.08)
tangential = st.floats(-0.005, 0.005)


@given(coefficient, coefficient, tangential, tangential)
def test_undistortion_is_the_inverse_of_the_lens(k1: float, k2: float, p1: float, p2: float) -> None:
    lens, size = (k1, k2, p1, p2), (60, 80)
    k = np.array([[70.0, 0, 41], [0, 72.0, 29], [0, 0, 1]])
    straight = undistortion(k, lens, size)
    rows, columns = np.meshgrid(np.arange(60), np.arange(80), indexing="ij")
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(size)], axis=-1).reshape(-1, 3)
    expected = project(rays @ np.linalg.inv(straight.intrinsics).T, k, lens) - 0.5
    assert np.abs(straight.source[::-1].reshape(2, -1).T - expected).max() < 1e-9
    assert 1 <= straight.zoom < MAX_ZOOM
    # nothing that the lens did not see, and not a pixel more zoom than that needs
    assert (expected >= -0.5 - 1e-9).all()
    assert (expected <= np.array([79.5, 59.5]) + 1e-9).all()
    if straight.zoom > 1.001:
        wider = k.copy()
        wider[[0, 1], [0, 1]] *= straight.zoom - 1e-3
        outside = project(rays @ np.linalg.inv(wider).T, k, lens)
        assert (outside < 0).any() or (outside > [80, 60]).any()


def test_undistortion_straightens_a_picture() -> None:
    """A smooth scene photographed through a lens, straightened, is the scene through the straight camera."""
    size, lens = (120, 160), (-0.35, 0.1, 0.01, -0.01)
    k = np.array([[150.0, 0, 82], [0, 148.0, 58], [0, 0, 1]])

    def colour(rays: np.ndarray) -> np.ndarray:
        x, y = rays[..., 0] / rays[..., 2], rays[..., 1] / rays[..., 2]
        waves = [np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(5 * x * y + 3 * x)]
        return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)

    rows, columns = np.meshgrid(np.arange(120) + 0.5, np.arange(160) + 0.5, indexing="ij")
    pixels = np.stack([columns, rows, np.ones(size)], axis=-1)
    straight = undistortion(k, lens, size)
    expected = colour(pixels @ np.linalg.inv(straight.intrinsics).T)
    # the lens's picture needs the rays of its pixels: a fixed point of the model, as OpenCV finds it
    rays = pixels @ np.linalg.inv(k).T
    for _ in range(50):
        rays[..., :2] -= (
            (project(rays.reshape(-1, 3), k, lens) - pixels[..., :2].reshape(-1, 2)) / k[[0, 1], [0, 1]]
        ).reshape(*size, 2)
    found = straight.picture(colour(rays))
    assert np.abs(found.astype(int) - expected).max() <= 3
    assert np.abs(colour(rays).astype(int) - expected).max() > 30


def test_distortion_of_no_lens_is_refused() -> None:
    with pytest.raises(SceneError, match="leaves no picture of 80x60"):
        undistortion(np.array([[40.0, 0, 40], [0, 40.0, 30], [0, 0, 1]]), (9.0, 0, 0, 0), (60, 80))


def test_exports_come_back_the_same(tmp_path: Path) -> None:
    scenes = [tiny_scene(name, depth=False) for name in ("a", "b/c")]
    folders = export_scenes(scenes, "dl3dv", tmp_path)
    assert [folder.relative_to(tmp_path).as_posix() for folder in folders] == ["1K/tiny_a", "1K/tiny_b_c"]
    dataset = opened(Dl3dvDataset, tmp_path)
    for scene, name in zip(scenes, dataset.all_scene_ids(), strict=True):
        profile = ClipProfile(scene.num_frames, scene.image_size)
        back = dataset.load(name, profile)
        assert np.array_equal(back.rgb, scene.rgb)
        assert np.abs(back.cameras.world_from_cam - scene.cameras.world_from_cam).max() < 1e-9
        assert np.abs(back.cameras.intrinsics - scene.cameras.intrinsics).max() < 1e-9
        assert back.prompt == scene.prompt
        assert dataset.remarks(name, profile) == ("pictures from images_4",)
    content = json.loads((folders[0] / "transforms.json").read_text())
    assert content["w"] == 4 * scenes[0].image_size[1]
    assert np.linalg.det(np.array(content["applied_transform"])[:, :3]) == pytest.approx(1)
