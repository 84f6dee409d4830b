from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    intrinsics_at,
    masked,
    read_depth_npy,
    read_depth_png16,
    read_mask,
    read_picture,
    read_prompt,
    read_text,
)
from gen3r_bench.errors import InputError, SceneError
from gen3r_bench.scene import Scene

SIZE = (12, 16)
CAMERA = np.array([[10.0, 0, 8], [0, 11.0, 6], [0, 0, 1]])
PROFILE = ClipProfile(3, (12, 12))


def source(i: int, **changes: Any) -> FrameSource:
    """Frame ``i``: a flat wall 2 m ahead with an unknown left column, the camera moving right by 0.1 a frame."""

    def depth() -> tuple[np.ndarray, np.ndarray]:
        valid = np.ones(SIZE, dtype=bool)
        valid[:, 2] = False
        return np.full(SIZE, 2.0, dtype=np.float32), valid

    pose = np.eye(4)
    pose[0, 3] = 5 + 0.1 * i
    frame = FrameSource(
        name=f"frame {i}",
        read_rgb=lambda: np.full((*SIZE, 3), i, dtype=np.uint8),
        intrinsics=lambda size: CAMERA.copy(),
        world_from_cam=pose,
        read_depth=depth,
    )
    return replace(frame, **changes)


def clip(frames: list[FrameSource], profile: ClipProfile = PROFILE) -> Scene:
    return assemble_clip(frames, profile, dataset="walls", scene_id="a", prompt="A wall.", scale="sfm")


def with_pose(i: int, **entries: Any) -> FrameSource:
    frame = source(i)
    pose = frame.world_from_cam.copy()
    for key, value in entries.items():
        pose[int(key[1]), int(key[2])] = value
    return replace(frame, world_from_cam=pose)


def test_a_clip_is_cropped_and_rebased() -> None:
    scene = clip([source(i) for i in range(3)])
    assert (scene.dataset, scene.scene_id, scene.prompt, scene.scale) == ("walls", "a", "A wall.", "sfm")
    assert scene.rgb.shape == (3, 12, 12, 3)
    assert scene.rgb[2].max() == scene.rgb[2].min() == 2
    # 16 columns become 12: two go on each side, so the unknown column is the first that is left
    assert np.allclose(scene.cameras.intrinsics, [[10, 0, 6], [0, 11, 6], [0, 0, 1]])
    assert not scene.valid[:, :, 0].any()
    assert scene.valid[:, :, 1:].all()
    assert scene.depth is not None
    assert (scene.depth[:, :, 0] == 0).all()
    assert np.allclose(scene.cameras.world_from_cam[:, 0, 3], [0, 0.1, 0.2])


def test_start_and_stride_pick_frames_and_read_no_other() -> None:
    def refuse() -> np.ndarray:
        raise AssertionError("a frame outside the clip was read")

    frames = [source(i) if i in (1, 4, 7) else source(i, read_rgb=refuse) for i in range(9)]
    scene = clip(frames, ClipProfile(3, (12, 12), stride=3, start=1))
    assert scene.rgb[:, 0, 0, 0].tolist() == [1, 4, 7]


@given(total=st.integers(0, 40), frames=st.integers(1, 12), stride=st.integers(1, 5), start=st.integers(0, 8))
def test_chosen_frames_are_a_slice_or_an_error_with_the_counts(
    total: int, frames: int, stride: int, start: int
) -> None:
    profile = ClipProfile(frames, (8, 8), stride=stride, start=start)
    expected = list(range(start, total, stride))[:frames]
    if len(expected) == frames:
        assert chosen_frames(range(total), profile, "scene a") == expected
    else:
        with pytest.raises(
            SceneError, match=f"scene a lists {total} frames; {frames} frames from {start} .*never padded"
        ):
            chosen_frames(range(total), profile, "scene a")


@pytest.mark.parametrize("bad", [{"frames": 0}, {"stride": 0}, {"start": -1}])
def test_a_senseless_profile_is_an_input_error(bad: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        clip([source(i) for i in range(3)], replace(PROFILE, **bad))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_world_that_poses_came_in_does_not_matter(seed: int) -> None:
    random = np.random.default_rng(seed)
    world = np.eye(4)
    world[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    world[:3, 3] = random.normal(scale=10, size=3)
    frames = [source(i) for i in range(3)]
    moved = [replace(frame, world_from_cam=world @ frame.world_from_cam) for frame in frames]
    assert np.allclose(clip(moved).cameras.world_from_cam, clip(frames).cameras.world_from_cam, rtol=0, atol=1e-9)


def test_small_rotation_errors_are_repaired_and_large_ones_refused() -> None:
    scene = clip([source(0), with_pose(1, r00=1.004), source(2)])
    assert np.allclose(scene.cameras.world_from_cam[1, :3, :3], np.eye(3), atol=1e-12)
    with pytest.raises(SceneError, match=r"frame 1: its pose is not rigid \(rotation 0.04 off"):
        clip([source(0), with_pose(1, r00=1.02), source(2)])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (with_pose(1, r03=np.nan), "frame 1: its pose is not a finite 4x4"),
        (with_pose(1, r00=-1.0), "frame 1: its pose is not rigid .* det -1"),
        (with_pose(1, r30=0.5), "last row"),
        (source(1, world_from_cam=np.eye(3)), "not a finite 4x4"),
        (source(1, read_rgb=lambda: np.zeros((16, 12, 3), np.uint8), read_depth=None), "frame 1: 12x16 pixels.*16x12"),
        (source(1, intrinsics=lambda size: CAMERA * np.nan), "frame 1: intrinsics"),
        (source(1, intrinsics=lambda size: -CAMERA), "frame 1: intrinsics.*positive focals"),
        (source(1, intrinsics=lambda size: np.diag([9.0, 9.0, 2.0])), "last row is not 0 0 1"),
        (source(1, read_depth=lambda: (np.ones((16, 12), np.float32), np.ones((16, 12), bool))), "depth of 12x16"),
        (source(1, read_depth=lambda: (np.ones(SIZE, np.float32), np.ones((6, 8), bool))), r"mask of \[6, 8\]"),
        (source(1, read_depth=lambda: (np.ones((0, 5), np.float32), np.ones((0, 5), bool))), "depth of shape"),
    ],
)
def test_an_unusable_frame_is_one_line(frame: FrameSource, message: str) -> None:
    with pytest.raises(SceneError, match=message) as caught:
        clip([source(0), frame, source(2)])
    assert "\n" not in str(caught.value)


def test_depth_of_another_size_is_taken_at_pixel_centres() -> None:
    coarse = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    frames = [source(i, read_depth=lambda: (coarse, coarse > 1)) for i in range(3)]
    scene = clip(frames, ClipProfile(3, SIZE))
    assert scene.depth is not None
    assert np.array_equal(scene.depth[0], np.where(coarse > 1, coarse, 0).repeat(4, 0).repeat(4, 1))


def test_non_finite_and_negative_depth_is_never_valid() -> None:
    depth = np.full(SIZE, 2.0, dtype=np.float32)
    depth[0, :3] = [np.nan, np.inf, -1.0]
    scene = clip([source(i, read_depth=lambda: (depth, np.ones(SIZE, bool))) for i in range(3)], ClipProfile(3, SIZE))
    assert scene.valid.sum() == 3 * (12 * 16 - 3)


def test_frames_without_depth() -> None:
    none = [source(i, read_depth=None) for i in range(3)]
    assert clip(none).depth is None
    some = clip([source(0), none[1], source(2)])
    assert some.valid.any(axis=(1, 2)).tolist() == [True, False, True]
    empty = [source(i, read_depth=lambda: (np.zeros(SIZE, np.float32), np.ones(SIZE, bool))) for i in range(3)]
    with pytest.raises(SceneError, match="walls a: no valid depth in any of 3 frames"):
        clip(empty)


def test_pictures_of_every_mode_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "l.png")
    Image.fromarray(np.dstack([grey, grey + 1, grey + 2, grey * 0])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([grey] * 3)).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert np.array_equal(read_picture(tmp_path / "l.png"), np.dstack([grey] * 3))
    # transparent everywhere: the colour stays what is stored
    assert np.array_equal(read_picture(tmp_path / "rgba.png"), np.dstack([grey, grey + 1, grey + 2]))
    assert np.array_equal(read_picture(tmp_path / "p.png"), np.dstack([grey] * 3))


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").shape == (4, 8, 3)


def test_damaged_pictures_are_scene_errors(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    (tmp_path / "text.png").write_text("not found")
    Image.fromarray(picture[..., 0].astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SceneError, match=r"cut.png: damaged image"):
        read_picture(tmp_path / "cut.png")
    with pytest.raises(SceneError, match=r"text.png: not a readable image"):
        read_picture(tmp_path / "text.png")
    with pytest.raises(SceneError, match=r"none.png: missing"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(SceneError, match=r"deep.png: a picture of mode I;16; expected 8 bits"):
        read_picture(tmp_path / "deep.png")


def test_depth_png_keeps_its_sixteen_bits(tmp_path: Path) -> None:
    raw = np.array([[0, 1, 255, 256], [1000, 32768, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(raw).save(tmp_path / "d.png")
    read = read_depth_png16(tmp_path / "d.png")
    assert read.dtype == np.uint16
    assert np.array_equal(read, raw)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("RGB", "png"), ("L", "jpg")])
def test_depth_of_eight_bits_is_refused(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"d.{suffix}"
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(SceneError, match=f"mode {mode}; expected 16 bits.*8 bits"):
        read_depth_png16(path)


def test_depth_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "half.npy", np.array([[1.5, np.nan]], dtype=np.float16))
    read = read_depth_npy(tmp_path / "half.npy")
    assert read.dtype == np.float32
    assert read[0, 0] == 1.5
    np.save(tmp_path / "huge.npy", np.array([[1e300]]))
    assert np.isinf(read_depth_npy(tmp_path / "huge.npy")).all()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


def test_unusable_npy_files_are_refused_and_no_pickle_runs(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "whole.npy", np.ones((30, 40), dtype=np.float32))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:500])
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("objects", "pickle", "cut", "empty"):
        with pytest.raises(SceneError, match=f"{name}.npy: not a readable NPY file"):
            read_depth_npy(tmp_path / f"{name}.npy")
    np.save(tmp_path / "int.npy", np.ones((3, 4), dtype=np.int32))
    np.save(tmp_path / "flat.npy", np.ones(3))
    with (tmp_path / "zip.npy").open("wb") as file:
        np.savez(file, a=np.ones((3, 4)))
    for name, given_ in (("int", r"int32 \[3, 4\]"), ("flat", r"float64 \[3\]"), ("zip", "an archive")):
        with pytest.raises(SceneError, match=f"{name}.npy: {given_}; expected floating-point"):
            read_depth_npy(tmp_path / f"{name}.npy")
    with pytest.raises(SceneError, match="missing"):
        read_depth_npy(tmp_path / "none.npy")


def test_masks(tmp_path: Path) -> None:
    values = np.array([[0, 127, 128, 255]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    Image.fromarray(values > 127).save(tmp_path / "one.png")
    assert read_mask(tmp_path / "one.png").tolist() == [[0, 0, 255, 255]]
    valid = np.array([[True, True, True, False]])
    assert masked(valid, tmp_path / "m.png", above=127).tolist() == [[False, False, True, False]]
    with pytest.raises(SceneError, match=r"a mask of \[1, 4\] for depth of \[4, 1\]"):
        masked(valid.T, tmp_path / "m.png", above=0)
    Image.new("RGB", (4, 1)).save(tmp_path / "rgb.png")
    with pytest.raises(SceneError, match="a mask of mode RGB"):
        read_mask(tmp_path / "rgb.png")


def test_intrinsics_follow_a_resize_but_not_a_crop() -> None:
    assert np.allclose(intrinsics_at(CAMERA, (12, 16), (24, 32), "a"), np.diag([2, 2, 1]) @ CAMERA)
    assert np.allclose(intrinsics_at(CAMERA, (480, 854), (270, 480), "a")[0, 2], 8 * 480 / 854)  # rounded sizes pass
    with pytest.raises(SceneError, match="a: 12x12 pixels, but its intrinsics are for 16x12, another shape"):
        intrinsics_at(CAMERA, (12, 16), (12, 12), "a")


def test_prompts_and_texts(tmp_path: Path) -> None:
    assert read_prompt(tmp_path) == ("", None)
    (tmp_path / "captions.txt").write_text(" A kitchen. \nAnother line.\n")
    assert read_prompt(tmp_path) == ("A kitchen.", tmp_path / "captions.txt")
    (tmp_path / "prompt.txt").write_text("")
    assert read_prompt(tmp_path) == ("", tmp_path / "prompt.txt")
    (tmp_path / "prompt.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match="cannot be read as UTF-8"):
        read_prompt(tmp_path)
    with pytest.raises(SceneError, match=r"none.txt: missing"):
        read_text(tmp_path / "none.txt")


def test_fingerprint_covers_names_contents_order_and_extras_but_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            (tmp_path / folder / name).write_text(f"content of {name}")
    one, two = ([tmp_path / folder / name for name in ("a", "b")] for folder in ("one", "two"))
    base = files_fingerprint(one, "x", "y")
    assert len(base) == 64
    assert files_fingerprint(two, "x", "y") == base
    different = {
        files_fingerprint(one[::-1], "x", "y"),
        files_fingerprint(one, "x"),
        files_fingerprint(one[:1], "x", "y"),
    }
    two[1].write_text(json.dumps("changed"))
    two[0].rename(two[0].with_name("c"))
    different |= {
        files_fingerprint([one[0], two[1]], "x", "y"),
        files_fingerprint([two[0].with_name("c"), one[1]], "x", "y"),
    }
    assert base not in different
    assert len(different) == 5
    with pytest.raises(SceneError, match="a: missing"):
        files_fingerprint([two[0]])
