from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_scene
from tiny_gen3r import fill

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.conditioning import (
    Axis,
    ConditionStyle,
    camera_condition,
    encode_condition,
    fold_time,
    joined,
    parted,
    plucker_rays,
    visibility_mask,
    visible_clip,
)
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig
from gen3r_bench.scene import Cameras, conditioning_indices

FRAMES, SIZE, LATENT = 9, (16, 16), (2, 2)


@pytest.fixture(scope="module")
def vae() -> WanVae:
    model = fill(WanVae(WanVaeConfig.tiny()))
    assert isinstance(model, WanVae)
    return model


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def test_time_is_folded_with_the_first_frame_four_times() -> None:
    clip = torch.arange(2 * 5).float().view(1, 2, 5, 1, 1)  # channel c, frame t: 5 c + t
    folded = fold_time(clip)[0, :, :, 0, 0]
    assert folded[:, 0].tolist() == [0, 0, 0, 0, 5, 5, 5, 5]
    assert folded[:, 1].tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    with pytest.raises(InputError, match="6 frames"):
        fold_time(torch.zeros(1, 1, 6, 1, 1))


def test_missing_frames_are_black() -> None:
    rgb = frames(2)
    clip = visible_clip(rgb, (0, 8), FRAMES)
    assert clip.shape == (1, 3, FRAMES, *SIZE)
    assert (clip[:, :, 1:8] == -1).all()
    assert torch.allclose((clip[0, :, 8].permute(1, 2, 0) + 1) * 127.5, torch.from_numpy(rgb[1]).float(), atol=1e-4)


def test_missing_frames_may_show_the_nearest_visible_one() -> None:
    rgb = frames(2)
    clip = visible_clip(rgb, (0, 4), FRAMES, "nearest")
    shown = ((clip[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    # frame 2 is as near to both: the earlier one
    np.testing.assert_array_equal(shown, rgb[[0, 0, 0, 1, 1, 1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("1view", [[1, 0, 0]] * 4),
        ("2view", [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]),
        ("allview", [[1, 1, 1]] * 4),
    ],
)
def test_masks_lie_on_the_left_half(setting: str, expected: list[list[int]]) -> None:
    mask = visibility_mask(conditioning_indices(setting, FRAMES), FRAMES, LATENT)  # type: ignore[arg-type]
    assert mask.shape == (1, 4, 3, 2, 4)
    assert (mask[..., 2:] == 0).all()
    for row in range(2):
        for column in range(2):
            assert mask[0, :, :, row, column].tolist() == expected


@pytest.mark.parametrize("setting", ["1view", "2view", "allview"])
def test_the_geometry_half_sees_nothing(vae: WanVae, setting: str) -> None:
    """Neither latents nor mask: whatever frames are visible, the right half of the condition is zero."""
    indices = conditioning_indices(setting, FRAMES)  # type: ignore[arg-type]
    clip = visible_clip(frames(len(indices)), indices, FRAMES)
    mask = visibility_mask(indices, FRAMES, LATENT)
    condition = encode_condition(vae, clip, mask, generator=torch.Generator().manual_seed(0))
    assert condition.shape == (1, 20, 3, 2, 4)
    assert (condition[..., 2:] == 0).all()
    assert (condition[:, :16, ..., :2] != 0).all()
    assert torch.equal(condition[:, 16:], mask)  # the mask comes last


def test_the_condition_is_drawn_not_averaged(vae: WanVae) -> None:
    clip, mask = visible_clip(frames(1), (0,), FRAMES), visibility_mask((0,), FRAMES, LATENT)
    first, again, other = (
        encode_condition(vae, clip, mask, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    expected = vae.encode(clip).sample(torch.Generator().manual_seed(1))
    assert torch.equal(first[:, :16, ..., :2], expected)


def test_rays_by_hand() -> None:
    pose = np.eye(4)
    pose[:3, 3] = (1, 2, 3)
    intrinsics = np.array([[4.0, 0, 2], [0, 5.0, 1], [0, 0, 1]])
    rays = plucker_rays(Cameras(np.stack([np.eye(4), pose]), np.stack([intrinsics] * 2), (3, 4))).numpy()
    assert rays.shape == (2, 6, 3, 4)
    direction = np.array([(3 + 0.5 - 2) / 4, (1 + 0.5 - 1) / 5, 1.0])
    direction /= np.linalg.norm(direction)
    assert rays[1, 3:, 1, 3] == pytest.approx(direction, abs=1e-6)
    assert rays[1, :3, 1, 3] == pytest.approx(np.cross([1, 2, 3], direction), abs=1e-6)
    assert (rays[0, :3] == 0).all()  # the first camera is the world's origin


@given(moment=st.floats(0.1, 20), turn=st.floats(0.1, 20))
@settings(max_examples=20, deadline=None)
def test_gains_enlarge_what_the_cameras_motion_changes(moment: float, turn: float) -> None:
    cameras = tiny_scene(frames=5).cameras
    plain = plucker_rays(cameras)
    rays = plucker_rays(cameras, ConditionStyle(moment_gain=moment, turn_gain=turn))
    assert torch.allclose(rays[:, :3], moment * plain[:, :3], atol=1e-5)
    assert torch.allclose(rays[0, 3:], plain[0, 3:])
    assert torch.allclose(rays[:, 3:] - rays[:1, 3:], turn * (plain[:, 3:] - plain[:1, 3:]), atol=1e-4)


def test_gains_are_positive_and_fills_and_answers_known() -> None:
    wrong: Any = "grey"
    with pytest.raises(InputError, match="answer 'grey'"):
        ConditionStyle(answer=wrong)
    with pytest.raises(InputError, match="fill 'grey'"):
        ConditionStyle(fill=wrong)
    for gain in (0.0, float("nan")):
        with pytest.raises(InputError, match="gains"):
            ConditionStyle(turn_gain=gain)


def test_rays_do_not_depend_on_the_world() -> None:
    cameras = tiny_scene().cameras
    moved = np.eye(4)
    moved[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    moved[:3, 3] = (5, -3, 2)
    elsewhere = Cameras(moved @ cameras.world_from_cam, cameras.intrinsics, cameras.image_size)
    assert torch.allclose(plucker_rays(cameras), plucker_rays(elsewhere), atol=1e-5)


def test_both_halves_have_the_same_rays_and_none_are_zeros() -> None:
    cameras = tiny_scene(frames=5).cameras
    rays = camera_condition(cameras, 5, cameras.image_size)
    height, width = cameras.image_size
    assert rays.shape == (1, 24, 2, height, 2 * width)
    assert torch.equal(rays[..., :width], rays[..., width:])
    single = plucker_rays(cameras)
    # channel 4 c + j: ray channel c of the j-th frame of the group
    assert torch.equal(rays[0, 4 * 3 + 2, 1, :, :width], single[3, 3])
    assert torch.equal(rays[0, 4 * 3 : 4 * 4, 0, :, :width], single[0, 3].expand(4, -1, -1))
    assert (camera_condition(None, 5, cameras.image_size) == 0).all()
    assert camera_condition(None, 5, cameras.image_size).shape == rays.shape
    with pytest.raises(InputError, match="cameras of 5 frames"):
        camera_condition(cameras, 9, cameras.image_size)


@settings(max_examples=20, deadline=None)
@given(
    axis=st.sampled_from(["width", "channel"]),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
)
def test_joined_latents_come_apart(axis: Axis, shape: tuple[int, ...]) -> None:
    appearance, geometry = torch.randn(shape), torch.randn(shape)
    both = joined(appearance, geometry, axis)
    assert both.numel() == 2 * appearance.numel()
    first, second = parted(both, axis)
    assert torch.equal(first, appearance)
    assert torch.equal(second, geometry)


def test_along_the_channels_there_is_one_half(vae: WanVae) -> None:
    """What is told of a clip is what the left half is told along the width; nothing is told of the geometry."""
    indices = (0, FRAMES - 1)
    clip, cameras = visible_clip(frames(2), indices, FRAMES), tiny_scene(frames=FRAMES, size=SIZE).cameras
    wide, single = (visibility_mask(indices, FRAMES, LATENT, axis) for axis in ("width", "channel"))
    assert torch.equal(visibility_mask(indices, FRAMES, LATENT, "alone"), single)
    assert torch.equal(wide[..., :2], single)
    conditions = [
        encode_condition(vae, clip, mask, generator=torch.Generator().manual_seed(1), axis=axis)
        for axis, mask in (("width", wide), ("channel", single))
    ]
    assert conditions[1].shape == (1, 20, 3, 2, 2)
    assert torch.equal(conditions[0][..., :2], conditions[1])
    rays = [camera_condition(cameras, FRAMES, SIZE, axis) for axis in ("width", "channel")]
    assert torch.equal(rays[0][..., : SIZE[1]], rays[1])
