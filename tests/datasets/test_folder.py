from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import fox_folder, redkitchen_folder

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.folder import FolderDataset
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Scene

PROFILE = ClipProfile(3, (24, 24))


def write_capture(folder: Path, frames: int = 4, *, depth: str | None = "png", **fields: Any) -> Path:
    """A small capture: a flat wall 2 m ahead, the camera moving right by 0.1 m a frame; 32x24 pictures."""
    for name in ("images", *(["depth"] if depth else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entries = []
    for i in range(frames):
        Image.new("RGB", (32, 24), (10 * i, 100, 200)).save(folder / "images" / f"{i}.png")
        if depth == "png":
            Image.fromarray(np.full((24, 32), 2000, dtype=np.uint16)).save(folder / "depth" / f"{i}.png")
        elif depth == "npy":
            np.save(folder / "depth" / f"{i}.npy", np.full((12, 16), 2.0))
        pose = np.eye(4)
        pose[0, 3] = 0.1 * i + 5.0
        entries.append({"file_path": f"images/{i}.png", "transform_matrix": pose.tolist()})
    content = {"axes": "opencv", "fl_x": 30.0, "fl_y": 31.0, "cx": 16.0, "cy": 12.0, "w": 32, "h": 24, **fields}
    (folder / "transforms.json").write_text(json.dumps({"frames": entries, **content}))
    return folder


def edit(folder: Path, **fields: Any) -> None:
    file = folder / "transforms.json"
    content = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_frame(folder: Path, index: int, **fields: Any) -> None:
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    frames[index] |= fields
    edit(folder, frames=frames)


def load(folder: Path, profile: ClipProfile = PROFILE) -> Scene:
    dataset = FolderDataset.open(folder, {})
    return dataset.load(dataset.scene_ids()[0], profile)


def reprojection_errors(scene: Scene, one: int, two: int) -> np.ndarray:
    """Relative depth errors of frame ``one``'s valid pixels looked up (nearest) in frame ``two``."""
    height, width = scene.image_size
    rows, columns = np.nonzero(scene.valid[one])
    z = scene.depth[one][rows, columns].astype(np.float64)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(z))]) * z
    local = np.linalg.inv(scene.cameras.intrinsics[one]) @ pixels
    two_from_one = np.linalg.inv(scene.cameras.world_from_cam[two]) @ scene.cameras.world_from_cam[one]
    there = two_from_one[:3, :3] @ local + two_from_one[:3, 3:]
    u, v, w = scene.cameras.intrinsics[two] @ there
    with np.errstate(all="ignore"):
        column, row = np.floor(u / w), np.floor(v / w)
    ok = (w > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    row, column, w = row[ok].astype(int), column[ok].astype(int), w[ok]
    seen = scene.valid[two][row, column]
    return np.abs(scene.depth[two][row, column][seen] / w[seen] - 1)


def test_a_small_capture_is_read_exactly(tmp_path: Path) -> None:
    scene = load(write_capture(tmp_path / "wall", prompt=" A wall. "))
    assert (scene.dataset, scene.scene_id, scene.prompt, scene.scale) == ("folder", "wall", "A wall.", "metric")
    assert scene.rgb[2, 0, 0].tolist() == [20, 100, 200]
    assert scene.valid.all()
    assert np.allclose(scene.depth, 2.0)
    assert np.allclose(scene.cameras.world_from_cam[:, 0, 3], [0, 0.1, 0.2])
    assert np.allclose(scene.cameras.intrinsics[0], [[30, 0, 12], [0, 31, 12], [0, 0, 1]])
    assert np.median(reprojection_errors(scene, 0, 2)) < 1e-6


def test_opengl_axes_are_turned(tmp_path: Path) -> None:
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    folder = write_capture(tmp_path / "wall")
    expected = load(folder).cameras.world_from_cam
    for i in range(4):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * i + 5.0
        edit_frame(folder, i, transform_matrix=(pose @ flip).tolist())
    edit(folder, axes="opengl")
    assert np.allclose(load(folder).cameras.world_from_cam, expected)


def test_stride_start_and_numeric_order(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall", frames=12)
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    edit(folder, frames=sorted(frames, key=lambda frame: str(frame["file_path"])))  # 0, 1, 10, 11, 2, …
    scene = load(folder, ClipProfile(3, (24, 24), stride=4, start=2))
    assert scene.rgb[:, 0, 0, 0].tolist() == [20, 60, 100]
    with pytest.raises(SceneError, match="lists 12 frames; 3 frames from 4 in steps of 4 need 13"):
        load(folder, ClipProfile(3, (24, 24), stride=4, start=4))


def test_depth_of_another_size_and_unit_and_its_holes(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall", depth="npy")
    half = np.full((12, 16), 7.0)
    half[0, 8], half[1, 8], half[2, 8], half[11, 8] = np.nan, np.inf, -1.0, 0.0
    np.save(folder / "depth" / "1.npy", half)
    scene = load(folder)
    assert scene.scale == "sfm"
    assert scene.valid[0].all()
    assert (~scene.valid[1]).sum() == 4 * 4
    assert not scene.valid[1, [0, 3, 5, 23], 12].any()
    edit(folder, scale="metric")
    assert load(folder).scale == "metric"


def test_png_depth_holes_are_zero_and_65535(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall")
    raw = np.full((24, 32), 1500, dtype=np.uint16)
    raw[3, 10], raw[4, 10] = 0, 65535
    Image.fromarray(raw).save(folder / "depth" / "0.png")
    scene = load(folder)
    assert (~scene.valid[0]).sum() == 2
    assert scene.depth[0].max() == pytest.approx(1.5)


def test_intrinsics_are_scaled_to_the_picture(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall", fl_x=60.0, fl_y=62.0, cx=32.0, cy=24.0, w=64, h=48)
    assert np.allclose(load(folder).cameras.intrinsics[0], [[30, 0, 12], [0, 31, 12], [0, 0, 1]])
    edit(folder, w=48)
    with pytest.raises(SceneError, match="another shape"):
        load(folder)
    edit(folder, w=None, h=None, fl_x=None)
    with pytest.raises(SceneError, match="fl_x = None"):
        load(folder)
    for i in range(4):
        edit_frame(folder, i, fl_x=30.0)
    assert load(folder).cameras.intrinsics[0, 0, 0] == 30.0


def test_without_depth_and_with_a_prompt_file(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall", depth=None)
    (folder / "captions.txt").write_text("A wall, first line\nsecond line\n")
    scene = load(folder)
    assert scene.depth is None
    assert not scene.valid.any()
    assert scene.prompt == "A wall, first line"
    assert scene.scale == "sfm"


def test_a_folder_of_captures(tmp_path: Path) -> None:
    write_capture(tmp_path / "b")
    write_capture(tmp_path / "a")
    dataset = FolderDataset.open(tmp_path, {})
    assert dataset.scene_ids() == ("a", "b")
    with pytest.raises(UnknownNameError, match="'a'"):
        dataset.load("aa", PROFILE)
    with pytest.raises(InputError, match=r"no transforms\.json"):
        FolderDataset.open(tmp_path / "a" / "images", {})
    with pytest.raises(InputError, match="--data-root"):
        FolderDataset.open(None, {})
    with pytest.raises(InputError, match="existing folder"):
        FolderDataset.open(tmp_path / "c", {})


def test_the_fingerprint_follows_every_file_used_and_no_other(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall")
    dataset = FolderDataset.open(folder, {})
    first = dataset.fingerprint("wall", PROFILE)
    assert first == FolderDataset.open(folder, {}).fingerprint("wall", PROFILE)
    assert first != dataset.fingerprint("wall", ClipProfile(2, (24, 24)))
    Image.new("RGB", (32, 24)).save(folder / "images" / "3.png")  # not among the first three
    assert dataset.fingerprint("wall", PROFILE) == first
    seen = {first}
    for change in (
        lambda: Image.new("RGB", (32, 24)).save(folder / "images" / "1.png"),
        lambda: Image.fromarray(np.full((24, 32), 9, dtype=np.uint16)).save(folder / "depth" / "1.png"),
        lambda: (folder / "prompt.txt").write_text("words"),
        lambda: edit(folder, fl_x=29.0),
    ):
        change()
        seen.add(dataset.fingerprint("wall", PROFILE))
    assert len(seen) == 5


BAD_POSE = np.eye(4)
BAD_POSE[0, 0] = np.nan
SCALED = np.diag([2.0, 2.0, 2.0, 1.0])
MIRRORED = np.diag([1.0, 1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, axes=None), r'transforms\.json: no "axes" field; add "axes": "opengl".*"axes": "opencv"'),
        (lambda f: edit(f, axes="blender"), "axes 'blender'"),
        (lambda f: edit(f, frames=[]), "no frames"),
        (lambda f: edit(f, k1=0.1), "distorted.*undistort them"),
        (lambda f: edit(f, scale="feet"), "'feet'"),
        (lambda f: edit(f, scale="sfm"), "depth in millimetres"),
        (lambda f: edit(f, prompt=3), "prompt is 3"),
        (lambda f: edit(f, fl_x=-1.0), "positive"),
        (lambda f: edit(f, cx="16"), "cx = '16'"),
        (lambda f: (f / "transforms.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "images" / "1.png").unlink(), r"1\.png is listed but missing"),
        (lambda f: (f / "images" / "1.png").write_bytes(b"no picture"), r"1\.png: not a readable image"),
        (lambda f: (f / "images" / "1.png").write_bytes((f / "images" / "1.png").read_bytes()[:60]), r"1\.png: "),
        (lambda f: (f / "depth" / "2.png").unlink(), r"depth of 2\.png is missing"),
        (lambda f: np.save(f / "depth" / "2.npy", np.ones((2, 2))), "as PNG and as NPY"),
        (lambda f: Image.new("L", (32, 24)).save(f / "depth" / "0.png"), "mode L; expected 16 bits"),
        (lambda f: edit_frame(f, 1, file_path="images/0.png"), "listed twice"),
        (lambda f: edit_frame(f, 1, file_path=None), "without file_path"),
        (lambda f: edit_frame(f, 1, transform_matrix=BAD_POSE.tolist()), r"1\.png is not a finite 4x4"),
        (lambda f: edit_frame(f, 1, transform_matrix=[[1, 2], [3]]), "not a finite 4x4"),
        (lambda f: edit_frame(f, 1, transform_matrix=SCALED.tolist()), "off orthonormal"),
        (lambda f: edit_frame(f, 1, transform_matrix=MIRRORED.tolist()), "det -1"),
        (lambda f: (f / "prompt.txt").write_bytes(b"\xff\xfe\xff"), "UTF-8"),
    ],
)
def test_bad_captures_are_one_line_scene_errors(tmp_path: Path, damage: Any, message: str) -> None:
    folder = write_capture(tmp_path / "wall")
    damage(folder)
    with pytest.raises(SceneError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 4), dtype=np.int32), "int32"),
        (np.ones((2, 4, 4)), r"\[2, 4, 4\]"),
        (np.array([[None]]), "not a readable NPY"),
    ],
)
def test_bad_npy_depth(tmp_path: Path, array: Any, message: str) -> None:
    folder = write_capture(tmp_path / "wall", depth="npy")
    np.save(folder / "depth" / "0.npy", array, allow_pickle=True)
    with pytest.raises(SceneError, match=message):
        load(folder)


def test_a_rotation_that_is_only_rounded_is_repaired(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall")
    pose = np.eye(4)
    pose[0, 1] = 3e-3
    edit_frame(folder, 0, transform_matrix=pose.tolist())
    assert load(folder).num_frames == 3


def test_redkitchen_reprojects(shared_dir: Path, tmp_path: Path) -> None:
    dataset = FolderDataset.open(redkitchen_folder(shared_dir, tmp_path), {})
    scene = dataset.load("redkitchen", ClipProfile(49, (120, 120)))
    assert scene.scale == "metric"
    assert 0.85 < scene.valid.mean() < 0.95
    for one, two in ((0, 1), (10, 11), (30, 31), (48, 47)):
        errors = reprojection_errors(scene, one, two)
        assert len(errors) > 5000
        assert np.median(errors) < 0.005
    with pytest.raises(SceneError, match="lists 49 frames; 50 frames"):
        dataset.load("redkitchen", ClipProfile(50, (120, 120)))


def test_redkitchen_with_the_wrong_axes_does_not_reproject(shared_dir: Path, tmp_path: Path) -> None:
    folder = redkitchen_folder(shared_dir, tmp_path)
    edit(folder, axes="opengl")
    assert np.median(reprojection_errors(load(folder, ClipProfile(3, (120, 120), stride=5)), 0, 2)) > 0.01


def test_fox_pictures_match_along_epipolar_lines(shared_dir: Path, tmp_path: Path) -> None:
    from skimage.feature import SIFT, match_descriptors

    scene = load(fox_folder(shared_dir, tmp_path), ClipProfile(3, (280, 280)))
    assert scene.scale == "sfm"
    assert scene.depth is None
    found = []
    for picture in scene.rgb[[0, 2]]:
        sift = SIFT()
        sift.detect_and_extract(picture.mean(axis=2) / 255)
        found.append((sift.keypoints[:, ::-1] + 0.5, sift.descriptors))
    pairs = match_descriptors(found[0][1], found[1][1], max_ratio=0.75, cross_check=True)
    assert len(pairs) > 60
    K, pose = scene.cameras.intrinsics, scene.cameras.world_from_cam
    relative = np.linalg.inv(pose[2]) @ pose[0]
    tx, ty, tz = relative[:3, 3]
    essential = np.array([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]]) @ relative[:3, :3]
    fundamental = np.linalg.inv(K[2]).T @ essential @ np.linalg.inv(K[0])
    one = np.c_[found[0][0][pairs[:, 0]], np.ones(len(pairs))]
    two = np.c_[found[1][0][pairs[:, 1]], np.ones(len(pairs))]
    line = one @ fundamental.T
    distance = np.abs((two * line).sum(axis=1)) / np.hypot(line[:, 0], line[:, 1])
    assert np.median(distance) < 0.5  # 0.8 px of 1080, measured on the originals; wrong axes: tens of pixels


def test_nothing_is_written_into_a_capture(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "wall")
    copy = shutil.copytree(folder, tmp_path / "copy")
    load(folder)
    assert sorted(p.name for p in folder.rglob("*")) == sorted(p.name for p in copy.rglob("*"))
