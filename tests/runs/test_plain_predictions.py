from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData, PlyElement
from scipy.spatial.transform import Rotation
from tiny import FRAMES, SIZE, tiny_scene

from gen3r_bench.errors import BenchError, InputError, SceneError
from gen3r_bench.runs.bundle import write_bundle
from gen3r_bench.runs.plain_predictions import folder_fingerprint, read_predictions, scene_folder
from gen3r_bench.scene import Prediction, invert_rigid


def poses(frames: int = FRAMES) -> np.ndarray:
    world_from_cam = np.repeat(np.eye(4)[None], frames, axis=0)
    world_from_cam[:, :3, :3] = Rotation.from_rotvec(np.linspace(0, 0.35, frames)[:, None] * [0, 1, 0]).as_matrix()
    world_from_cam[:, 0, 3] = np.linspace(0, 1, frames)
    return world_from_cam


def write_cameras(folder: Path, world_from_cam: np.ndarray, rows: int = 4) -> None:
    intrinsics = np.repeat(np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])[None], len(world_from_cam), axis=0)
    content = {"extrinsics": invert_rigid(world_from_cam)[:, :rows].tolist(), "intrinsics": intrinsics.tolist()}
    (folder / "cameras.json").write_text(json.dumps(content))


def write_frames(folder: Path, rgb: np.ndarray, pattern: str = "{}.png") -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for index, frame in enumerate(rgb):
        Image.fromarray(frame).save(folder / pattern.format(index))


def write_ply(path: Path, points: np.ndarray) -> None:
    vertex = np.zeros(len(points), dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
    vertex["x"], vertex["y"], vertex["z"] = points.T
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(path))


@pytest.mark.parametrize("rows", [3, 4])
def test_gen3r_cameras_are_world_to_camera(tmp_path: Path, rows: int) -> None:
    write_cameras(tmp_path, poses(), rows)
    prediction = read_predictions(tmp_path, FRAMES, SIZE)
    np.testing.assert_allclose(prediction.world_from_cam, poses(), atol=1e-12)
    assert prediction.intrinsics[0, 0, 0] == 30
    assert prediction.adaptations == ()


def test_rotations_rounded_to_bfloat16_are_projected_and_it_is_said(tmp_path: Path) -> None:
    rounded = poses()
    rounded[:, :3, :3] = np.round(rounded[:, :3, :3] * 256) / 256
    write_cameras(tmp_path, poses())
    content = json.loads((tmp_path / "cameras.json").read_text())
    content["extrinsics"] = [pose.tolist() for pose in invert_rigid(rounded)]
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    prediction = read_predictions(tmp_path, FRAMES, SIZE)
    angle = Rotation.from_matrix(prediction.world_from_cam[:, :3, :3].transpose(0, 2, 1) @ poses()[:, :3, :3])
    assert np.degrees(angle.magnitude()).max() < 0.5
    assert "nearest rigid" in prediction.adaptations[0]


def test_the_authors_own_cameras(shared_dir: Path, tmp_path: Path) -> None:
    text = (shared_dir / "data" / "gen3r_bedroom" / "cameras.json").read_text()
    (tmp_path / "cameras.json").write_text(text)
    prediction = read_predictions(tmp_path, 49, (560, 560))
    cam_from_world = np.asarray(json.loads(text)["extrinsics"])
    np.testing.assert_allclose(
        prediction.world_from_cam @ cam_from_world, np.repeat(np.eye(4)[None], 49, axis=0), atol=1e-5
    )
    assert prediction.intrinsics[0, 0, 0] == pytest.approx(479.921, abs=1e-2)
    assert prediction.adaptations == ()


@pytest.mark.parametrize(("where", "pattern"), [("", "{}.png"), ("", "frame_{:05d}.png"), ("rgb", "{:04d}.png")])
def test_frames_are_sorted_by_number(tmp_path: Path, where: str, pattern: str) -> None:
    rgb = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 3), np.uint8)
    write_frames(tmp_path / where, rgb, pattern)
    np.testing.assert_array_equal(read_predictions(tmp_path, 12, (4, 5)).rgb, rgb)


def test_points_as_npy_and_ply_agree(tmp_path: Path) -> None:
    points = tiny_scene().points_world()
    (tmp_path / "npy").mkdir()
    (tmp_path / "ply").mkdir()
    np.save(tmp_path / "npy/points.npy", points.astype(np.float64))
    write_ply(tmp_path / "ply/points.ply", points.reshape(-1, 3))
    for name in ("npy", "ply"):
        np.testing.assert_array_equal(read_predictions(tmp_path / name, FRAMES, SIZE).points_world, points)


def test_depth_may_carry_a_channel_axis(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).random((FRAMES, *SIZE, 1)).astype(np.float16)
    np.save(tmp_path / "depth.npy", depth)
    np.testing.assert_array_equal(read_predictions(tmp_path, FRAMES, SIZE).depth, depth[..., 0])


def test_a_subset_of_frames_is_named_by_a_list(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.ones((2, *SIZE), np.float32))
    with pytest.raises(InputError, match=r"holds 2 frames; expected 4, .*frame_indices\.json"):
        read_predictions(tmp_path, FRAMES, SIZE)
    (tmp_path / "frame_indices.json").write_text("[0, 3]")
    assert read_predictions(tmp_path, FRAMES, SIZE).frame_indices == (0, 3)
    (tmp_path / "frame_indices.json").write_text("[0]")
    with pytest.raises(InputError, match="lists 1 frames"):
        read_predictions(tmp_path, FRAMES, SIZE)


def test_a_bundle_is_read_as_one(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", Prediction(frame_indices=(0,), depth=np.ones((1, *SIZE), np.float32)))
    assert read_predictions(tmp_path / "a", FRAMES, SIZE).frame_indices == (0,)


def broken(folder: Path, name: str) -> None:
    folder.mkdir()
    if name == "pickle":
        np.save(folder / "points.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif name == "text npy":
        np.save(folder / "depth.npy", np.array(["a"]))
    elif name == "truncated npy":
        np.save(folder / "depth.npy", np.ones((FRAMES, *SIZE)))
        (folder / "depth.npy").write_bytes((folder / "depth.npy").read_bytes()[:200])
    elif name == "bad png":
        (folder / "0.png").write_bytes(b"not a picture")
    elif name == "odd size":
        write_frames(folder, np.zeros((FRAMES, 4, 4, 3), np.uint8))
        Image.new("RGB", (9, 9)).save(folder / "3.png")
    elif name == "lengths":
        write_frames(folder, np.zeros((FRAMES, *SIZE, 3), np.uint8))
        np.save(folder / "depth.npy", np.ones((2, *SIZE)))
    elif name == "filtered ply":
        write_ply(folder / "points.ply", np.zeros((10, 3), np.float32))
    elif name == "no ply":
        (folder / "points.ply").write_text("hello")
    elif name == "no json":
        (folder / "cameras.json").write_text("{")
    elif name == "missing key":
        (folder / "cameras.json").write_text('{"extrinsics": []}')
    elif name == "wrong shape":
        (folder / "cameras.json").write_text('{"extrinsics": [[1, 2], [3, 4]], "intrinsics": []}')
    elif name == "nan pose":
        bad = poses()
        bad[1, 0, 3] = np.nan
        write_cameras(folder, bad)
    elif name == "scaled pose":
        bad = poses()
        bad[:, :3, :3] *= 2
        write_cameras(folder, bad)
    elif name == "odd list":
        np.save(folder / "depth.npy", np.ones((FRAMES, *SIZE)))
        (folder / "frame_indices.json").write_text('{"a"')


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickle", r"points\.npy cannot be read"),
        ("text npy", "does not hold real numbers"),
        ("truncated npy", r"depth\.npy cannot be read"),
        ("bad png", r"0\.png cannot be read"),
        ("odd size", "frame 3 in .* is 9x9 pixels; expected 4x4"),
        ("lengths", "parts of different lengths"),
        ("filtered ply", "holds 10 points; expected 3072.*before any filtering"),
        ("no ply", r"points\.ply cannot be read"),
        ("no json", r"cameras\.json cannot be read"),
        ("missing key", "KeyError"),
        ("wrong shape", r"extrinsics of shape \[2, 2\]"),
        ("nan pose", "non-finite"),
        ("scaled pose", "rotation of frame 0"),
        ("odd list", r"frame_indices\.json cannot be read"),
        ("empty", r"holds no prediction \(looked for"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    broken(tmp_path / "x", name)
    with pytest.raises(BenchError, match=message) as caught:
        read_predictions(tmp_path / "x", FRAMES, SIZE)
    assert "\n" not in str(caught.value)


def test_scene_folders(tmp_path: Path) -> None:
    (tmp_path / "cat/seq").mkdir(parents=True)
    assert scene_folder(tmp_path, "cat/seq", only_scene=False) == tmp_path / "cat/seq"
    with pytest.raises(SceneError, match="no predictions for scene other"):
        scene_folder(tmp_path, "other", only_scene=True)
    np.save(tmp_path / "depth.npy", np.ones(3))
    assert scene_folder(tmp_path, "other", only_scene=True) == tmp_path
    with pytest.raises(SceneError):
        scene_folder(tmp_path, "other", only_scene=False)


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.ones((2, *SIZE)))
    first = folder_fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("not part of the prediction")
    assert folder_fingerprint(tmp_path) == first
    np.save(tmp_path / "depth.npy", np.zeros((2, *SIZE)))
    assert folder_fingerprint(tmp_path) != first
