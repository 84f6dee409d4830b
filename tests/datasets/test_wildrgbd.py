from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import opened, redkitchen_as_wildrgbd, reprojection_errors, rewrite
from PIL import Image
from tiny import tiny_scene

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.export import export_scenes
from gen3r_bench.datasets.splits import protocol_split
from gen3r_bench.datasets.wildrgbd import KNOWN_BAD, WildRgbdDataset
from gen3r_bench.errors import InputError, SceneError, UnknownNameError

ID = "tiny/scene_a"
PROFILE = ClipProfile(4, (24, 32))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One category with the recordings scene_a and scene_b, four frames each."""
    export_scenes([tiny_scene("a"), tiny_scene("b")], "wildrgbd", tmp_path / "wild")
    return tmp_path / "wild"


def test_real_frames_reproject(shared_dir: Path, tmp_path: Path) -> None:
    dataset = opened(WildRgbdDataset, redkitchen_as_wildrgbd(shared_dir, tmp_path))
    assert dataset.scene_ids() == ("kitchen/scene_000",)
    scene = dataset.load("kitchen/scene_000", ClipProfile(49, (480, 480)))
    assert scene.scale == "metric"
    assert 0.88 < scene.valid.mean() < 0.94
    for pair in ((0, 1), (10, 11), (30, 31), (48, 47)):
        errors = reprojection_errors(scene, *pair)
        assert len(errors) > 100_000
        assert np.median(errors) < 0.005


def test_an_inverted_pose_would_be_seen(shared_dir: Path, tmp_path: Path) -> None:
    root = redkitchen_as_wildrgbd(shared_dir, tmp_path)
    poses = root / "kitchen" / "scenes" / "scene_000" / "cam_poses.txt"
    numbers = np.loadtxt(poses)
    numbers[:, 1:] = np.linalg.inv(numbers[:, 1:].reshape(-1, 4, 4)).reshape(-1, 16)
    np.savetxt(poses, numbers)
    scene = opened(WildRgbdDataset, root).load("kitchen/scene_000", ClipProfile(49, (120, 120)))
    assert max(np.median(reprojection_errors(scene, i, i + 1)) for i in (0, 10, 20, 30, 40)) > 0.015


def test_k_is_written_column_by_column(root: Path) -> None:
    scene = opened(WildRgbdDataset, root).load(ID, PROFILE)
    assert np.allclose(scene.cameras.intrinsics, [[30, 0, 16], [0, 30, 12], [0, 0, 1]])
    meta = root / "tiny" / "scenes" / "scene_a" / "metadata"
    assert json.loads(meta.read_text())["K"] == [30, 0, 0, 0, 30, 0, 16, 12, 1]
    rewrite(meta, lambda _: json.dumps({"w": 32, "h": 24, "K": [30, 0, 16, 0, 30, 12, 0, 0, 1]}))
    with pytest.raises(SceneError, match=r"metadata: K or w, h are no camera's.*transposed"):
        opened(WildRgbdDataset, root).load(ID, PROFILE)


def test_depth_is_millimetres_with_two_kinds_of_nothing(root: Path) -> None:
    raw = np.full((24, 32), 1234, dtype=np.uint16)
    raw[0, :5] = [0, 65535, 5000, 5001, 65534]
    Image.fromarray(raw).save(root / "tiny" / "scenes" / "scene_a" / "depth" / "00001.png")
    scene = opened(WildRgbdDataset, root).load(ID, PROFILE)
    assert scene.depth is not None
    assert scene.valid[1, 0, :6].tolist() == [False, False, True, False, False, True]
    assert scene.depth[1, 0, 5] == np.float32(1.234)
    far = opened(WildRgbdDataset, root, max_depth="65.534").load(ID, PROFILE)
    assert far.valid[1, 0, :6].tolist() == [False, False, True, True, True, True]


def test_object_masks_are_an_option(root: Path) -> None:
    masks = root / "tiny" / "scenes" / "scene_a" / "masks"
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[10:, :16], mask[10:, 16:] = 255, 127
    for i in range(4):
        Image.fromarray(mask).save(masks / f"{i:05d}.png")
    plain, cut = opened(WildRgbdDataset, root), opened(WildRgbdDataset, root, foreground="yes")
    assert plain.load(ID, PROFILE).valid[:, 3:].all()
    assert np.array_equal(cut.load(ID, PROFILE).valid[2], mask > 127)
    assert plain.fingerprint(ID, PROFILE) != cut.fingerprint(ID, PROFILE)
    (masks / "00003.png").unlink()
    assert plain.load(ID, PROFILE).num_frames == 4
    with pytest.raises(SceneError, match=r"masks/00003.png: missing"):
        cut.load(ID, PROFILE)


def test_hands_and_known_bad_recordings_are_not_drawn(root: Path) -> None:
    bad = root / "box" / "scenes" / "scene_257"
    shutil.copytree(root / "tiny" / "scenes" / "scene_a", bad)
    (root / "tiny" / "types.json").write_text(json.dumps({"scene_a": "single", "scenes/scene_b": "hand"}))
    dataset = opened(WildRgbdDataset, root)
    assert dataset.all_scene_ids() == ("box/scene_257", ID, "tiny/scene_b")
    assert dataset.scene_ids() == (ID,)
    assert dataset.excluded() == {
        "box/scene_257": KNOWN_BAD["box/scene_257"],
        "tiny/scene_b": "a moving hand holds the object (types.json)",
    }
    assert dataset.load("tiny/scene_b", PROFILE).scene_id == "tiny/scene_b"  # it can be read all the same


def test_official_lists(root: Path) -> None:
    content = {"train": ["scenes/scene_a"], "val": ["scenes/scene_b", "scenes/scene_not_here"]}
    (root / "tiny" / "nvs_list.json").write_text(json.dumps(content))
    nvs = opened(WildRgbdDataset, root, lists="nvs")
    assert nvs.scene_ids() == ("tiny/scene_b",)
    assert nvs.excluded() == {ID: "not in val of nvs_list.json"}
    assert len(opened(WildRgbdDataset, root, lists="camera_eval").scene_ids()) == 2
    (root / "tiny" / "nvs_list.json").unlink()
    with pytest.raises(InputError, match=r"nvs_list.json: .*missing"):
        opened(WildRgbdDataset, root, lists="nvs").scene_ids()
    (root / "tiny" / "types.json").write_text("[1]")
    with pytest.raises(InputError, match=r"types.json holds a list; expected a JSON object"):
        opened(WildRgbdDataset, root).scene_ids()


def test_a_large_root_draws_a_tenth_and_a_list_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    names = [f"scene_{i:03d}" for i in range(300)]
    for category in ("ball", "truck"):  # names repeat: ids must not
        for name in names:
            (tmp_path / category / "scenes" / name).mkdir(parents=True)
        (tmp_path / category / "camera_eval_list.json").write_text(json.dumps({"val": names[:40]}))
    dataset = opened(WildRgbdDataset, tmp_path)
    assert len(dataset.all_scene_ids()) == 600
    assert dataset.scene_ids() == protocol_split("wildrgbd", dataset.all_scene_ids())
    assert 30 < len(dataset.scene_ids()) < 90
    listed = opened(WildRgbdDataset, tmp_path, lists="camera_eval").scene_ids()
    assert len(listed) == 80
    # what else was downloaded moves no scene in or out
    shutil.rmtree(tmp_path / "ball")
    alone = opened(WildRgbdDataset, tmp_path).scene_ids()
    assert alone == tuple(scene for scene in dataset.scene_ids() if scene.startswith("truck/"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foreground": "true"}, "option foreground=true; expected yes or no"),
        ({"max_depth": "70"}, "option max_depth=70; expected metres above 0 and up to 65.534"),
        ({"max_depth": "-1"}, "option max_depth=-1"),
        ({"lists": "val"}, "option lists=val; expected none or nvs or camera_eval"),
    ],
)
def test_illegal_options(root: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(WildRgbdDataset, root, **options)


def test_roots_and_names(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recording in .*expected CATEGORY/scenes"):
        opened(WildRgbdDataset, root / "tiny")
    with pytest.raises(UnknownNameError, match="scene of wildrgbd 'scene_a'"):
        opened(WildRgbdDataset, root).load("scene_a", PROFILE)


def poses(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return lambda f: rewrite(f / "cam_poses.txt", lambda text: "\n".join(change(text.split("\n")[:-1])) + "\n")


def nan_pose(lines: list[str]) -> list[str]:
    words = lines[1].split()
    return [lines[0], " ".join([*words[:4], "nan", *words[5:]]), *lines[2:]]


def eight_bits(folder: Path) -> None:
    Image.new("L", (32, 24), 100).save(folder / "depth" / "00001.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "rgb"), "rgb: no pictures"),
        (lambda f: (f / "rgb" / "00001.png").unlink(), "expected frame 00001, found 00002"),
        (lambda f: (f / "rgb" / "00001.png").write_bytes(b""), "00001.png: not a readable image"),
        (lambda f: (f / "depth" / "00001.png").unlink(), "depth/00001.png: missing"),
        (eight_bits, "depth/00001.png: PNG of mode L; expected 16 bits"),
        (poses(lambda lines: lines[:-1]), "cam_poses.txt: 3 poses for 4 pictures"),
        (poses(lambda lines: [lines[0], *lines[:3]]), "line 2 is for frame 0; expected each of 0 to 3 once"),
        (poses(lambda lines: [*lines[:3], "9 " + lines[3].split(" ", 1)[1]]), "line 4 is for frame 9"),
        (poses(lambda lines: [*lines[:3], lines[3] + " 1"]), "line 4 is not 17 numbers"),
        (poses(lambda lines: [*lines[:3], "3 x"]), "line 4 is not 17 numbers"),
        (poses(nan_pose), "rgb/00001.png: its pose is not a finite 4x4"),
        (lambda f: (f / "cam_poses.txt").unlink(), "cam_poses.txt: missing"),
        (lambda f: (f / "metadata").unlink(), "metadata: missing"),
        (lambda f: (f / "metadata").write_text('{"K": [1, 2], "w": 1, "h": 1}'), "metadata: expected JSON with w, h"),
        (lambda f: (f / "metadata").write_text("K"), "metadata: expected JSON"),
        (lambda f: rewrite(f / "metadata", lambda t: t.replace('"w": 32', '"w": 640')), "another shape"),
    ],
)
def test_damage_is_one_line(root: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(root / "tiny" / "scenes" / "scene_a")
    with pytest.raises(SceneError, match=message) as caught:
        opened(WildRgbdDataset, root).load(ID, PROFILE)
    assert "\n" not in str(caught.value)


def test_poses_in_any_order_meet_their_frames(root: Path) -> None:
    before = opened(WildRgbdDataset, root).load(ID, PROFILE)
    poses(lambda lines: lines[::-1])(root / "tiny" / "scenes" / "scene_a")
    after = opened(WildRgbdDataset, root).load(ID, PROFILE)
    assert np.array_equal(after.cameras.world_from_cam, before.cameras.world_from_cam)


def test_fingerprints_follow_the_files_of_the_clip(root: Path) -> None:
    dataset = opened(WildRgbdDataset, root)
    folder = root / "tiny" / "scenes" / "scene_a"
    profile = ClipProfile(2, (24, 32), start=1)
    seen = {dataset.fingerprint(ID, profile), dataset.fingerprint(ID, ClipProfile(2, (24, 32)))}
    for name in ("rgb/00003.png", "masks/00001.png"):  # another frame; a mask that is not used
        (folder / name).write_bytes(b"changed")
    assert dataset.fingerprint(ID, profile) in seen
    for name in ("rgb/00001.png", "depth/00002.png", "metadata", "cam_poses.txt", "prompt.txt"):
        (folder / name).write_bytes(b"changed")
        seen.add(dataset.fingerprint(ID, profile))
    assert len(seen) == 7
    with pytest.raises(SceneError, match="lists 4 frames"):
        dataset.fingerprint(ID, ClipProfile(49, (24, 32)))
