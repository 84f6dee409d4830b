from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import opened, reprojection_errors, rewrite
from PIL import Image
from scipy.spatial.transform import Rotation
from tiny import tiny_scene

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.export import export_scenes
from gen3r_bench.datasets.tartanair import (
    CAMERA_FILE,
    OFFICIAL_CAMERA,
    TartanAirDataset,
    ned_from_opencv,
    opencv_from_ned,
)
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Scene

ID = "tiny_a/Easy/P000"
PROFILE = ClipProfile(4, (24, 32))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One small trajectory of four frames."""
    export_scenes([tiny_scene("a")], "tartanair", tmp_path / "tartanair")
    return tmp_path / "tartanair"


def hospital(shared_dir: Path) -> Path:
    return shared_dir / "data" / "tartanair_hospital_a"


def test_real_frames_reproject(shared_dir: Path) -> None:
    dataset = opened(TartanAirDataset, hospital(shared_dir))
    assert dataset.scene_ids() == dataset.all_scene_ids() == ("hospital/Hard/P000",)
    scene = dataset.load("hospital/Hard/P000", ClipProfile(8, (480, 480)))
    assert scene.scale == "metric"
    assert scene.valid.all()
    assert np.allclose(scene.cameras.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]], [320, 320, 240, 240])
    for one in range(7):
        for pair in ((one, one + 1), (one + 1, one)):
            errors = reprojection_errors(scene, *pair)
            assert len(errors) > 20_000
            assert np.median(errors) < 0.002


def test_wrong_axes_would_be_seen(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(TartanAirDataset, hospital(shared_dir))
    monkeypatch.setattr("gen3r_bench.datasets.tartanair.opencv_from_ned", lambda pose: pose)
    scene = dataset.load("hospital/Hard/P000", ClipProfile(8, (240, 240)))
    assert np.median(reprojection_errors(scene, 0, 1)) > 0.02


def test_the_first_pose_is_the_documented_one(shared_dir: Path) -> None:
    # SOURCE.md's reference for the sample; the reader itself re-bases on this pose
    line = (hospital(shared_dir) / "hospital" / "Hard" / "P000" / "pose_left.txt").read_text().split("\n")[0]
    numbers = [float(word) for word in line.split()]
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(numbers[3:]).as_matrix()
    pose[:3, 3] = numbers[:3]
    expected = [
        [-0.257047, 0.63465, -0.728798, 16.477741],
        [0.234118, 0.772568, 0.590193, -8.223969],
        [0.937612, -0.018917, -0.347169, -12.521735],
    ]
    assert np.allclose(opencv_from_ned(pose)[:3], expected, atol=1e-5)


def test_ned_axes() -> None:
    """Forward, right and down of NED are z, x and y of OpenCV."""
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    assert opencv_from_ned(pose)[:3, 3].tolist() == [2, 3, 1]
    # a turn to the right about the downward axis is one about OpenCV's y
    pose[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    assert np.allclose(opencv_from_ned(pose)[:3, :3], Rotation.from_euler("y", 30, degrees=True).as_matrix())


@given(seed=st.integers(0, 2**32 - 1))
def test_ned_there_and_back(seed: int) -> None:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    pose[:3, 3] = np.random.default_rng(seed).normal(scale=100, size=3)
    turned = opencv_from_ned(pose)
    assert np.allclose(ned_from_opencv(turned), pose, rtol=0, atol=1e-12)
    assert np.isclose(np.linalg.det(turned[:3, :3]), 1.0)
    other = np.linalg.inv(pose) @ ned_from_opencv(np.eye(4))
    # relative poses turn with the camera's axes alone, whatever the world's are
    assert np.allclose(opencv_from_ned(pose @ other), turned @ opencv_from_ned(other), atol=1e-9)


def test_both_ways_to_unpack_give_the_same_scenes(root: Path, tmp_path: Path) -> None:
    doubled = tmp_path / "doubled" / "tiny_a"
    shutil.copytree(root / "tiny_a", doubled / "tiny_a")
    one, two = opened(TartanAirDataset, root), opened(TartanAirDataset, tmp_path / "doubled")
    assert one.scene_ids() == two.scene_ids() == (ID,)
    assert one.fingerprint(ID, PROFILE) == two.fingerprint(ID, PROFILE)
    shutil.copytree(root / "tiny_a" / "Easy", doubled / "Easy")
    with pytest.raises(InputError, match=f"trajectory {ID} twice"):
        opened(TartanAirDataset, tmp_path / "doubled")


def test_levels(root: Path) -> None:
    shutil.copytree(root / "tiny_a" / "Easy", root / "tiny_a" / "Hard")
    hard = opened(TartanAirDataset, root, level="hard")
    assert hard.scene_ids() == ("tiny_a/Hard/P000",)
    assert hard.all_scene_ids() == (ID, "tiny_a/Hard/P000")
    assert hard.excluded() == {ID: "option level=hard"}
    assert hard.load(ID, PROFILE).num_frames == 4  # any indexed scene can be read
    assert len(opened(TartanAirDataset, root).scene_ids()) == 2


def test_the_cap_and_non_finite_depth(root: Path) -> None:
    file = root / "tiny_a" / "Easy" / "P000" / "depth_left" / "000001_left_depth.npy"
    depth = np.full((24, 32), 2.0, dtype=np.float32)
    depth[0, :6] = [np.nan, np.inf, -np.inf, 0, 80.0, 80.01]
    depth[1, :2] = [9e3, 30.0]
    np.save(file, depth)
    default = opened(TartanAirDataset, root).load(ID, PROFILE).valid[1]
    assert default[0, :6].tolist() == [False, False, False, False, True, False]
    assert default[1, :2].tolist() == [False, True]
    near = opened(TartanAirDataset, root, depth_cap="20")
    assert near.load(ID, PROFILE).valid[1, 1, :2].tolist() == [False, False]
    assert near.fingerprint(ID, PROFILE) != opened(TartanAirDataset, root).fingerprint(ID, PROFILE)


def test_the_official_camera_holds_where_no_file_says_otherwise(root: Path) -> None:
    (root / "tiny_a" / "Easy" / "P000" / CAMERA_FILE).unlink()
    scene = opened(TartanAirDataset, root).load(ID, PROFILE)  # 32x24, a twentieth of the official size
    assert np.allclose(scene.cameras.intrinsics, np.diag([1 / 20, 1 / 20, 1]) @ OFFICIAL_CAMERA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_cap": "0"}, "option depth_cap=0; expected metres above 0"),
        ({"depth_cap": "far"}, "option depth_cap=far"),
        ({"depth_cap": "nan"}, "option depth_cap=nan"),
        ({"depth_cap": "inf"}, "option depth_cap=inf"),
        ({"level": "Easy"}, "option level=Easy; expected all or easy or hard"),
    ],
)
def test_illegal_options(root: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(TartanAirDataset, root, **options)


def test_roots_without_the_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tartanair without a root"):
        TartanAirDataset.open(None, {"depth_cap": "80", "level": "all"})
    with pytest.raises(InputError, match="expected an existing folder"):
        opened(TartanAirDataset, tmp_path / "none")
    (tmp_path / "env" / "Data_easy" / "P000").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no trajectory in .*V2 is another format"):
        opened(TartanAirDataset, tmp_path)


def test_indexing_opens_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    dataset = opened(TartanAirDataset, root)
    assert dataset.scene_ids() == (ID,)
    with pytest.raises(UnknownNameError, match="did you mean"):
        dataset.load("tiny_a/Easy/P001", PROFILE)


def no_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "image_left")


def poses(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return lambda folder: rewrite(
        folder / "pose_left.txt", lambda text: "\n".join(change(text.split("\n")[:-1])) + "\n"
    )


def words(line: int, position: int, value: str) -> Callable[[Path], None]:
    def change(lines: list[str]) -> list[str]:
        split = lines[line].split()
        split[position] = value
        return [*lines[:line], " ".join(split), *lines[line + 1 :]]

    return poses(change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_pictures, "image_left: no pictures .*unpack"),
        (lambda f: (f / "image_left" / "000001_left.png").unlink(), "expected frame 000001, found 000002"),
        (poses(lambda lines: lines[:-1]), "pose_left.txt: 3 poses for 4 pictures"),
        (poses(lambda lines: [*lines, lines[0]]), "5 poses for 4 pictures"),
        (words(2, 0, "nan"), "line 3 is not 7 finite numbers"),
        (words(2, 0, "x"), "line 3 is not 7 finite numbers"),
        (words(2, 0, ""), "line 3 is not 7 finite numbers"),
        (poses(lambda lines: [*lines[:3], "0 0 0 0 0 0 0"]), "line 4 has length 0; expected 1"),
        (lambda f: (f / "pose_left.txt").unlink(), "pose_left.txt: missing"),
        (lambda f: (f / "depth_left" / "000002_left_depth.npy").unlink(), "000002_left_depth.npy: missing"),
        (lambda f: np.save(f / "depth_left" / "000002_left_depth.npy", np.ones((24, 24))), "depth of 24x24"),
        (lambda f: Image.new("RGB", (24, 24)).save(f / "image_left" / "000000_left.png"), "another shape"),
        (lambda f: (f / CAMERA_FILE).write_text('{"fx": 3}'), f"{CAMERA_FILE}: expected numbers for fx"),
        (lambda f: (f / CAMERA_FILE).write_text("["), f"{CAMERA_FILE}: expected numbers for fx"),
    ],
)
def test_damage_is_one_line(root: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(root / "tiny_a" / "Easy" / "P000")
    with pytest.raises(SceneError, match=message) as caught:
        opened(TartanAirDataset, root).load(ID, PROFILE)
    assert "\n" not in str(caught.value)


def test_a_short_trajectory_says_so_and_stays_in_the_draw(root: Path) -> None:
    dataset = opened(TartanAirDataset, root)
    assert dataset.scene_ids() == (ID,)
    for call in (dataset.load, dataset.fingerprint):
        with pytest.raises(SceneError, match=f"tartanair {ID} lists 4 frames; 49 frames from 0 in steps of 1 need 49"):
            call(ID, ClipProfile(49, (24, 32)))


def test_long_trajectories_come_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(1, 6):
        shutil.copytree(root / "tiny_a" / "Easy" / "P000", root / "tiny_a" / "Easy" / f"P00{i}")
    before = opened(TartanAirDataset, root).scene_ids()
    last = before[-1]
    pictures = root / last / "image_left"
    for i in range(4, 49):
        (pictures / f"{i:06d}_left.png").touch()
    assert opened(TartanAirDataset, root).scene_ids() == (last, *before[:-1])


def test_fingerprints_follow_the_files_of_the_clip(root: Path) -> None:
    dataset = opened(TartanAirDataset, root)
    profile = ClipProfile(2, (24, 32))
    folder = root / ID
    before = dataset.fingerprint(ID, profile)
    Image.new("RGB", (32, 24)).save(folder / "image_left" / "000003_left.png")  # outside the clip
    assert dataset.fingerprint(ID, profile) == before
    seen = {before, dataset.fingerprint(ID, ClipProfile(2, (24, 24)))}
    Image.new("RGB", (32, 24)).save(folder / "image_left" / "000001_left.png")
    seen.add(dataset.fingerprint(ID, profile))
    (folder / "prompt.txt").write_text("Another prompt.")
    seen.add(dataset.fingerprint(ID, profile))
    content = json.loads((folder / CAMERA_FILE).read_text())
    (folder / CAMERA_FILE).write_text(json.dumps({**content, "fx": 31.0}))
    seen.add(dataset.fingerprint(ID, profile))
    assert len(seen) == 5


def test_clips_start_where_the_profile_says(root: Path) -> None:
    whole: Scene = opened(TartanAirDataset, root).load(ID, PROFILE)
    part: Scene = opened(TartanAirDataset, root).load(ID, ClipProfile(2, (24, 32), stride=2, start=1))
    assert np.array_equal(part.rgb, whole.rgb[[1, 3]])
    relative = np.linalg.inv(whole.cameras.world_from_cam[1]) @ whole.cameras.world_from_cam[3]
    assert np.allclose(part.cameras.world_from_cam[1], relative, atol=1e-9)
