from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tiny_aether import camera_path

from gen3r_bench.errors import InputError
from gen3r_bench.models.aether.raymap import (
    centred_cameras,
    decode_raymap,
    depth_from_disparity,
    encode_raymap,
    focal_from_half_fov,
    fold_raymap,
    half_fov_from_focal,
    signed_exp,
    signed_log,
    unfold_raymap,
)
from gen3r_bench.scene import Cameras

SIZE = (64, 96)


def golden_cameras() -> Cameras:
    """Ten cameras by formula, as the numbers below were made with: 480 x 720, focal length 600."""
    frame = np.arange(10)
    poses = np.repeat(np.eye(4)[None], 10, axis=0)
    poses[:, :3, :3] = Rotation.from_euler("ZY", np.stack([0.01 * frame, 0.05 * frame], axis=1)).as_matrix()
    poses[:, :3, 3] = np.stack([0.3 * frame, 0.05 * np.sin(frame), 0.002 * frame**2], axis=1)
    K = np.array([[600.0, 0, 360], [0, 600, 240], [0, 0, 1]])
    return Cameras(poses, np.repeat(K[None], 10, axis=0), (480, 720))


def test_raymap_of_the_released_code() -> None:
    raymap = encode_raymap(golden_cameras(), dmax=0.5)
    assert raymap.shape == (10, 6, 60, 90)
    centre = [2.6741485595703125, 0.09806059300899506, 0.5933268666267395]
    first = [-0.06421807408332825, -0.40156376361846924, 1.1588891744613647, *centre]
    last = [0.9292833805084229, 0.4779570698738098, 0.6427300572395325, *centre]
    assert raymap[9, :, 0, 0] == pytest.approx(first, abs=2e-6)
    assert raymap[9, :, 59, 89] == pytest.approx(last, abs=2e-6)
    assert np.abs(raymap).mean() == pytest.approx(0.6147611141204834, abs=2e-6)


def test_poses_of_the_released_code() -> None:
    """Centres come back times dmax; the rotation is off by the half pixel of the released encoder."""
    cameras = golden_cameras()
    poses, half_fov = decode_raymap(encode_raymap(cameras, dmax=0.5))
    expected = [
        [0.8971636295318604, -0.08951752632856369, 0.43253228068351746, 1.350000023841858],
        [0.08096274733543396, 0.9959849119186401, 0.03819665312767029, 0.010302973911166191],
        [-0.43421491980552673, 0.000750355888158083, 0.9008090496063232, 0.08100003004074097],
        [0, 0, 0, 1],
    ]
    assert poses[9] == pytest.approx(np.array(expected), abs=2e-6)
    assert focal_from_half_fov(half_fov, (480, 720))[9] == pytest.approx(600, abs=2e-3)
    assert poses[9, :3, 3] == pytest.approx(0.5 * cameras.rebased().world_from_cam[9, :3, 3], abs=1e-6)


@st.composite
def paths(draw: st.DrawFn) -> Cameras:
    """Cameras of any focal length on a random path."""
    frames = draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    poses[:, :3, :3] = Rotation.random(frames, random_state=int(random.integers(2**31))).as_matrix()
    poses[:, :3, 3] = random.uniform(-9, 9, (frames, 3))
    return centred_cameras(poses, random.uniform(30, 500, frames), SIZE)


@settings(deadline=None)
@given(cameras=paths(), dmax=st.floats(0.01, 20))
def test_cameras_come_back(cameras: Cameras, dmax: float) -> None:
    """But for the half pixel, which is a turn of every camera by the same angle about its own axes."""
    poses, half_fov = decode_raymap(encode_raymap(cameras, dmax=dmax))
    rebased = cameras.rebased()
    goal = rebased.world_from_cam
    assert poses[:, :3, 3] == pytest.approx(dmax * goal[:, :3, 3], rel=1e-4, abs=1e-4 * dmax)
    turn = Rotation.from_matrix(goal[:, :3, :3].transpose(0, 2, 1) @ poses[:, :3, :3]).magnitude()
    half_pixel = np.arctan(np.sqrt(0.5) / cameras.intrinsics[:, 0, 0])
    assert turn == pytest.approx(half_pixel, abs=1e-4)
    # the axis through the image's centre is not the mean ray by half a pixel, so the field of view is off in 2nd order
    assert focal_from_half_fov(half_fov, SIZE) == pytest.approx(cameras.intrinsics[:, 0, 0], rel=1e-3)


def test_cells_are_seen_half_a_pixel_off() -> None:
    """With the principal point moved half a pixel, rays go through each cell's middle in this suite's convention."""
    cameras = camera_path(3, SIZE)
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, :2, 2] -= 0.5
    raymap = encode_raymap(Cameras(cameras.world_from_cam, intrinsics, SIZE))
    middle = np.array([8 * 5 + 4, 8 * 2 + 4, 1])
    assert raymap[2, :3, 2, 5] == pytest.approx(
        cameras.world_from_cam[2, :3, :3] @ np.linalg.inv(cameras.intrinsics[2]) @ middle, abs=1e-6
    )
    assert np.ptp(raymap[:, 3:], axis=(2, 3)).max() == 0


def test_what_is_decoded_is_left_as_it_was() -> None:
    raymap = encode_raymap(camera_path(5, SIZE))
    before = raymap.copy()
    decode_raymap(raymap)
    assert np.array_equal(raymap, before)


@pytest.mark.parametrize("dmax", [0.0, -1.0, float("nan"), float("inf")])
def test_dmax_is_a_positive_number(dmax: float) -> None:
    with pytest.raises(InputError, match="dmax"):
        encode_raymap(camera_path(2, SIZE), dmax=dmax)


def test_cameras_of_broken_cells_are_refused() -> None:
    with pytest.raises(InputError, match="60 x 96"):
        encode_raymap(camera_path(2, (60, 96)))


@pytest.mark.parametrize("fault", ["zero", "constant", "infinite", "far"])
def test_a_raymap_without_cameras_is_refused(fault: str) -> None:
    raymap = encode_raymap(camera_path(3, SIZE))
    if fault == "zero":
        raymap[1] = 0
    elif fault == "constant":
        raymap[1, :3] = raymap[1, :3, :1, :1]  # every ray the same: no field of view
    elif fault == "infinite":
        raymap[1, 0, 0, 0] = np.inf
    else:
        raymap[1, 3:] = 1e4  # its exponential is too large for any number
    with pytest.raises(InputError, match="a camera in 1 of 3 frames"):
        decode_raymap(raymap)


@given(x=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_signed_logarithm(x: list[float]) -> None:
    values: NDArray[np.float64] = np.array(x)
    assert signed_exp(signed_log(values)) == pytest.approx(values, rel=1e-9, abs=1e-12)
    assert signed_log(-values) == pytest.approx(-signed_log(values))


@given(focal=st.floats(5, 5000), height=st.integers(8, 2000), width=st.integers(8, 2000))
def test_field_of_view_and_focal_length(focal: float, height: int, width: int) -> None:
    half_fov = half_fov_from_focal(np.array([focal]), (height, width))
    assert np.tan(half_fov[0, 0]) * focal == pytest.approx(width / 2)
    assert focal_from_half_fov(half_fov, (height, width)) == pytest.approx([focal])
    cameras = centred_cameras(np.eye(4)[None], np.array([focal]), (height, width))
    assert cameras.intrinsics[0].tolist() == [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]


@pytest.mark.parametrize("frames", [5, 17, 41])
def test_folding_keeps_every_frame(frames: int) -> None:
    raymap = torch.arange(frames * 6 * 2 * 3).view(frames, 6, 2, 3).float()
    folded = fold_raymap(raymap)
    groups = 1 + (frames - 1) // 4
    assert folded.shape == (groups, 24, 2, 3)
    assert torch.equal(unfold_raymap(folded), raymap)
    # frames 0, 1, 2 in front, then the clip; the first latent frame holds every (1 + k)-th
    order = [0, 1, 2, *range(frames)]
    assert torch.equal(folded[0, 6:12], raymap[order[groups]])
    assert torch.equal(folded[-1, 18:], raymap[-1])


@pytest.mark.parametrize("frames", [1, 8])
def test_folding_refuses_other_lengths(frames: int) -> None:
    with pytest.raises(InputError, match=f"{frames} frames"):
        fold_raymap(torch.zeros(frames, 6, 1, 1))


def test_depth_of_disparity() -> None:
    disparity = np.array([[[0.0, 1e-5, 0.25, 1.0, 4.0]]], dtype=np.float32)
    assert depth_from_disparity(disparity)[0, 0] == pytest.approx([1000, 1000, 4, 1, 1])
    assert depth_from_disparity(disparity, nearest=None)[0, 0] == pytest.approx([1000, 1000, 4, 1, 0.25])
    assert depth_from_disparity(disparity).dtype == np.float32


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.2, 5))
def test_dmax_is_a_change_of_unit(scale: float) -> None:
    """A scene twice as large with half the largest disparity is the same raymap."""
    cameras = camera_path(4, SIZE)
    poses = cameras.world_from_cam.copy()
    poses[:, :3, 3] *= scale
    larger = dataclasses.replace(cameras, world_from_cam=poses)
    assert encode_raymap(larger, dmax=1 / scale) == pytest.approx(encode_raymap(cameras), abs=1e-5)
