from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MINI_VERSION, MiniDataset, cache
from gen3r_bench.datasets.mini.dataset import compose
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Scene, unproject_depth

SMALL = ClipProfile(5, (48, 48))


@pytest.fixture(scope="module")
def mini(clip_cache: Path) -> MiniDataset:
    return MiniDataset(clip_cache)


@pytest.fixture(scope="module")
def scenes(mini: MiniDataset) -> list[Scene]:
    return [mini.load(scene_id, DEFAULT_PROFILE) for scene_id in mini.scene_ids()]


def smooth_reprojection(scene: Scene, one: int, two: int) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of frame ``one``'s depth, bilinearly read in frame ``two``, and who is in view there.

    Independent of the ray caster: only depth, intrinsics and poses. Depth is interpolated as 1 / z, which is linear
    over the picture of a plane; pixels whose four neighbours there are not one smooth surface are left out.
    """
    height, width = scene.image_size
    points = unproject_depth(np.where(scene.valid, scene.depth, 1), scene.cameras)[one][scene.valid[one]]
    pose = scene.cameras.world_from_cam[two]
    u, v, z = scene.cameras.intrinsics[two] @ ((points.astype(np.float64) - pose[:3, 3]) @ pose[:3, :3]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = u / z - 0.5, v / z - 0.5
    ok = (z > 0) & (x >= 1) & (x < width - 2) & (y >= 1) & (y < height - 2)
    x, y, z = x[ok], y[ok], z[ok]
    column, row = x.astype(int), y.astype(int)
    with np.errstate(divide="ignore"):
        inverse = np.where(scene.valid[two], 1.0 / scene.depth[two].astype(np.float64), 0)
    # one plane through the 4x4 neighbourhood: its second differences vanish
    patch = np.stack([[inverse[row + i, column + j] for j in range(-1, 3)] for i in range(-1, 3)])
    bend = np.maximum(
        np.abs(np.diff(patch, n=2, axis=0)).max(axis=(0, 1)), np.abs(np.diff(patch, n=2, axis=1)).max(axis=(0, 1))
    )
    smooth = (bend < 1e-3 * patch.max(axis=(0, 1))) & (patch.min(axis=(0, 1)) > 0)
    fx, fy = x - column, y - row
    read = (1 - fy) * ((1 - fx) * patch[1, 1] + fx * patch[1, 2]) + fy * ((1 - fx) * patch[2, 1] + fx * patch[2, 2])
    with np.errstate(divide="ignore"):
        return (1.0 / read / z - 1.0)[smooth], smooth


def test_depth_agrees_between_frames_at_co_visible_pixels(scenes: list[Scene]) -> None:
    for scene in scenes:
        for one, two in ((0, 6), (12, 5)):
            error, _ = smooth_reprojection(scene, one, two)
            # a point may be hidden in the other frame, never in front of what that frame sees
            assert error.max() < 1e-3, scene.scene_id
            visible = np.abs(error) < 0.02
            assert visible.sum() > 2000, scene.scene_id
            # the rest of the band are points hidden just behind what the other frame sees
            assert np.percentile(np.abs(error[visible]), 99.9) < 1e-3, scene.scene_id
            assert np.median(np.abs(error[visible])) < 1e-5, scene.scene_id


def test_all_test_scenes_are_sane(scenes: list[Scene]) -> None:
    assert [scene.scene_id for scene in scenes] == [f"test/{i:03d}" for i in range(40)]
    for scene in scenes:
        assert scene.scale == "metric"
        assert 0.6 < scene.valid.mean() <= 1
        assert (scene.valid == (scene.depth > 0)).all()
        near, middle, far = np.percentile(scene.depth[scene.valid], [0, 50, 100])
        assert 0.25 < near < middle < far < 20
        path = scene.cameras.world_from_cam[:, :3, 3]
        baseline = np.linalg.norm(path - path[0], axis=1).max()
        first = np.median(scene.depth[0][scene.valid[0]])
        assert 0.1 < baseline / first < 0.8
        assert 90 < scene.rgb.mean() < 140
        assert scene.rgb.astype(float).std() > 20
        assert len(scene.prompt.split()) > 8
        R = scene.cameras.world_from_cam[:, :3, :3]
        assert np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
        assert np.abs(np.linalg.det(R) - 1).max() < 1e-12
    assert any((~scene.valid).any() for scene in scenes)
    assert sum(scene.valid.all() for scene in scenes) >= 20


def test_the_clips_move_by_a_moderate_amount(scenes: list[Scene]) -> None:
    """The freeze baseline: miniature.md asks for textures and motion that leave it near 20 dB."""
    freeze = []
    for scene in scenes:
        rgb = scene.rgb / 255.0
        freeze.append(np.mean([-10 * np.log10(((frame - rgb[0]) ** 2).mean()) for frame in rgb[1:]]))
    assert 17 < np.mean(freeze) < 21
    assert min(freeze) > 12
    assert max(freeze) < 28


def test_no_camera_is_inside_or_close_to_a_solid() -> None:
    from gen3r_bench.datasets.mini import raycast

    for scene_id in [*MiniDataset().scene_ids(), *(f"train/{i}" for i in range(20))]:
        world, path = compose(scene_id)
        for pose in path.poses([i / 48 for i in range(49)]):
            x, y, z = pose[:3, 3]
            assert raycast.inside(world.kinds, world.data, x, y, z, 0.2) == -1, scene_id
            assert (world.bounds[0] - 0.1 <= pose[:3, 3]).all(), scene_id
            assert (pose[:3, 3] <= world.bounds[1] + 0.1).all(), scene_id


def test_training_and_test_share_neither_textures_nor_layouts() -> None:
    from gen3r_bench.datasets.mini.layouts import PLANS
    from gen3r_bench.datasets.mini.textures import PATTERNS, PICTURES

    assert not set(PICTURES["train"]) & set(PICTURES["test"])
    assert not set(PATTERNS["train"]) & set(PATTERNS["test"])
    plans: dict[str, set[str]] = {"train": set(), "test": set()}
    sources: dict[str, set[str]] = {"train": set(), "test": set()}
    for scene_id in [*MiniDataset().scene_ids(), *(f"train/{i}" for i in range(60))]:
        world, _ = compose(scene_id)
        split = scene_id.split("/")[0]
        plans[split].add(world.plan)
        sources[split] |= {spec.source for spec in world.textures[1:]}  # the first one is the sky's clouds
    for split in ("train", "test"):
        assert plans[split] == {plan for family in PLANS[split].values() for plan in family}
        assert sources[split] == {*PICTURES[split], *PATTERNS[split]}
    assert not plans["train"] & plans["test"]
    assert not sources["train"] & sources["test"]


def test_the_test_split_has_every_family_and_every_path() -> None:
    found = [compose(scene_id) for scene_id in MiniDataset().scene_ids()]
    families = [world.family for world, _ in found]
    assert all(families.count(family) >= 13 for family in ("room", "table", "court"))
    kinds = [path.kind for _, path in found]
    assert all(kinds.count(kind) >= 6 for kind in ("orbit", "dolly", "walk", "pan"))
    assert len({world.data.tobytes() for world, _ in found}) == 40


def test_more_frames_and_pixels_sample_the_same_scene(mini: MiniDataset, scenes: list[Scene]) -> None:
    coarse = scenes[6]
    dense = mini.load("test/006", ClipProfile(25, (112, 112)))
    assert (dense.cameras.world_from_cam[::2] == coarse.cameras.world_from_cam).all()
    assert (dense.depth[::2] == coarse.depth).all()
    assert (dense.rgb[::2] == coarse.rgb).all()
    large = mini.load("test/006", ClipProfile(2, (336, 336)))
    assert np.abs(large.depth[0, 1::3, 1::3] - coarse.depth[0]).max() < 1e-5
    shrunk = large.rgb[1].reshape(112, 3, 112, 3, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - coarse.rgb[-1]).mean() < 12
    wide = mini.load("test/006", ClipProfile(1, (112, 200)))
    assert np.abs(wide.depth[0, :, 44:156] - coarse.depth[0]).max() < 1e-5
    assert mini.load("test/006", ClipProfile(1, (30, 30))).num_frames == 1


def test_larger_frames_show_more_detail(mini: MiniDataset) -> None:
    """Textures are sharper, not magnified: a 4x larger frame keeps at least half of its pixel-to-pixel contrast."""
    step = {}
    for side in (112, 448):
        rgb = mini.load("test/004", ClipProfile(1, (side, side))).rgb[0].astype(float)
        step[side] = np.abs(np.diff(rgb, axis=1)).mean()
    assert step[448] > 0.35 * step[112]


SCRIPT = """
import sys, hashlib
from pathlib import Path
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
mini = MiniDataset(Path(sys.argv[1]))
digest = hashlib.sha256()
for scene_id in ("test/000", "test/005", "train/7"):
    scene = mini.load(scene_id, ClipProfile(3, (64, 64)))
    for array in (scene.rgb, scene.depth, scene.cameras.world_from_cam, scene.cameras.intrinsics):
        digest.update(array.tobytes())
    digest.update(scene.prompt.encode())
print(digest.hexdigest())
"""


def test_two_processes_render_the_same_bytes_and_the_cache_keeps_them(tmp_path: Path) -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / folder)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in ("a", "b", "a")
    ]
    assert len(found[0]) == 65
    assert found[0] == found[1] == found[2]


def test_the_module_imports_without_numba(tmp_path: Path) -> None:
    code = "import sys, gen3r_bench.datasets.mini; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_pixels_have_not_changed_under_this_version(scenes: list[Scene]) -> None:
    """Whoever changes a scene must bump MINI_VERSION; the figures leave room for another processor's last digits."""
    assert MINI_VERSION == "2"
    for index, (rgb, depth, path) in GOLDEN.items():
        scene = scenes[index]
        assert scene.rgb.mean() == pytest.approx(rgb, abs=0.01)
        assert scene.depth.mean() == pytest.approx(depth, abs=1e-4)
        assert np.abs(scene.cameras.world_from_cam[-1, :3, 3]).sum() == pytest.approx(path, abs=1e-9)


GOLDEN = {
    0: (114.1611, 2.579723, 1.528148863686),
    1: (113.8236, 2.834670, 0.991024649019),
    2: (113.5532, 3.376760, 2.064139396865),
    7: (114.5980, 2.366900, 0.471328955116),
    20: (113.2888, 4.249734, 2.164734800655),
    33: (112.5110, 3.615415, 0.916520085940),
}
"""Test scene: (mean of rgb, mean of depth, sum of the last camera's absolute coordinates)."""


def test_fingerprints_tell_scenes_and_profiles_apart(mini: MiniDataset) -> None:
    prints = {
        mini.fingerprint(scene_id, profile)
        for scene_id in ("test/000", "test/001", "train/0")
        for profile in (DEFAULT_PROFILE, ClipProfile(14, (112, 112)), ClipProfile(13, (112, 113)))
    }
    assert len(prints) == 9
    assert mini.fingerprint("test/000", DEFAULT_PROFILE) == MiniDataset().fingerprint("test/000", DEFAULT_PROFILE)


def test_unknown_scenes_and_profiles_are_refused(mini: MiniDataset) -> None:
    for scene_id in ("test/040", "test/7", "train/-1", "train/01", "train/x", "", "room"):
        with pytest.raises(UnknownNameError, match="scene of mini"):
            mini.load(scene_id, SMALL)
    for profile in (
        ClipProfile(50, (48, 48)),
        ClipProfile(0, (48, 48)),
        ClipProfile(5, (561, 48)),
        ClipProfile(5, (48, 4)),
        ClipProfile(5, (48, 48), stride=2),
        ClipProfile(5, (48, 48), start=1),
    ):
        with pytest.raises(InputError):
            mini.load("test/000", profile)
    with pytest.raises(InputError, match="data root"):
        MiniDataset.open(Path("/data"), {})


def same(one: Scene, two: Scene) -> bool:
    return (one.rgb == two.rgb).all() and (one.depth == two.depth).all() and one.prompt == two.prompt


def test_damaged_cache_files_are_rendered_again(tmp_path: Path) -> None:
    mini = MiniDataset(tmp_path)
    scene = mini.load("train/3", SMALL)
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    for content in (b"", whole[:7], whole[: len(whole) // 2], whole[:-1], bytes(flipped), b"x" * 500, whole[::-1]):
        file.write_bytes(content)
        assert same(mini.load("train/3", SMALL), scene)
        assert file.read_bytes() == whole
    other = file.with_name(file.name.replace("3-", "4-"))
    file.rename(other)  # a sound file under another scene's name
    assert not same(mini.load("train/4", SMALL), scene)
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = MiniDataset(tmp_path)
    scene = mini.load("train/3", SMALL)
    monkeypatch.setattr("gen3r_bench.datasets.mini.dataset._render", None)
    assert same(MiniDataset(tmp_path).load("train/3", SMALL), scene)


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert MiniDataset(blocked).load("train/3", SMALL).num_frames == 5

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert MiniDataset(tmp_path / "full").load("train/3", SMALL).num_frames == 5
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_CLIP_BYTES", 1000)
    MiniDataset(tmp_path).load("train/3", SMALL)
    assert not list(tmp_path.rglob("*.safetensors"))
    monkeypatch.undo()
    monkeypatch.setattr(cache, "MAX_CACHE_BYTES", 150_000)
    mini = MiniDataset(tmp_path)
    for i in range(4):
        mini.load(f"train/{i}", SMALL)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert cache.MAX_CLIP_BYTES < 49 * 560 * 560 * 7


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_CACHE", "/own")
    assert cache.cache_folder() == Path("/own")
    monkeypatch.delenv("GEN3R_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_folder() == Path("/xdg/gen3r-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.cache_folder() == Path("/home/someone/.cache/gen3r-bench")


def test_missing_or_altered_pictures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from gen3r_bench.datasets.mini import textures

    monkeypatch.setattr(textures, "_picture_folder", lambda: tmp_path)
    with pytest.raises(SceneError, match=r"moon\.png.*reinstall scikit-image"):
        textures._picture.__wrapped__("moon")
    Image.new("L", (512, 512)).save(tmp_path / "moon.png")
    with pytest.raises(SceneError, match="not the picture mini was made with"):
        textures._picture.__wrapped__("moon")
