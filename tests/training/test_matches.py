from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny import tiny_scene

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras, Scene
from gen3r_bench.training.matches import latent_matches, patch_flow, patch_matches

SIZE = (16, 24)


def wall(shift: float, *, depth: float = 2.0, focal: float = 20.0) -> Scene:
    """A flat wall seen by two cameras side by side: everything moves by ``focal * shift / depth`` pixels."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = shift
    intrinsics = np.tile(np.array([[focal, 0, 12], [0, focal, 8], [0, 0, 1.0]]), (2, 1, 1))
    maps = np.full((2, *SIZE), depth, dtype=np.float32)
    return Scene(
        dataset="t", scene_id="w", rgb=np.zeros((2, *SIZE, 3), np.uint8), cameras=Cameras(poses, intrinsics, SIZE),
        depth=maps, valid=np.ones_like(maps, dtype=bool), prompt="", scale="metric",
    )  # fmt: skip


def test_a_view_of_itself_matches_itself() -> None:
    np.testing.assert_array_equal(patch_matches(wall(0.3), 0, [0], 8), np.eye(6))


def test_a_shift_by_half_a_patch_is_shared_by_two() -> None:
    """4 pixels to the left: half of a patch stays, half is seen one patch further left, and the border sees less."""
    shares = patch_matches(wall(0.4), 0, [1], 8)
    middle = np.zeros(6)
    middle[[0, 1]] = 0.5
    np.testing.assert_array_equal(shares[1], middle)
    np.testing.assert_array_equal(shares[0], np.eye(6)[0])  # its other half is out of view


def test_views_share_a_row() -> None:
    shares = patch_matches(wall(0.8), 0, [0, 1], 8)  # a whole patch
    assert shares.shape == (6, 12)
    assert shares[1, 1] == shares[1, 6 + 0] == 0.5
    np.testing.assert_array_equal(shares[0], np.eye(12)[0])


def test_a_latent_frame_is_the_mean_of_its_four_frames() -> None:
    """A wall that goes by, and stands still for the next four frames."""
    places = [0, 0.4, 0.4, 0.8, 0.8, *[0.0] * 4]
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 3] = places
    base = wall(0)
    scene = dataclasses.replace(
        base,
        rgb=np.repeat(base.rgb[:1], 9, axis=0),
        depth=np.repeat(base.depth[:1], 9, axis=0),
        valid=np.repeat(base.valid[:1], 9, axis=0),
        cameras=Cameras(poses, np.repeat(base.cameras.intrinsics[:1], 9, axis=0), SIZE),
    )
    shares = latent_matches(scene, 8)
    assert shares.shape == (3, 6, 6)
    assert not shares[0].any()
    # moved 4 pixels to the right twice, and a whole patch twice: half and nothing of it is still where it was
    np.testing.assert_array_equal(shares[1, 0], [(0.5 + 0.5) / 4, (0.5 + 0.5 + 1 + 1) / 4, 0, 0, 0, 0])
    np.testing.assert_array_equal(shares[2], np.eye(6))


def test_rows_are_shares_or_nothing() -> None:
    scene = tiny_scene(size=(24, 32))
    shares = patch_matches(scene, 3, [0, 1], 8)
    sums = shares.sum(1)
    assert np.isclose(sums, 1, atol=1e-6).any()
    assert (np.isclose(sums, 1, atol=1e-6) | (sums == 0)).all()


def test_what_is_hidden_or_unknown_does_not_match() -> None:
    scene = wall(0.4)
    depth = scene.depth.copy()
    depth[1, :, :8] = 1.0  # something stands before the wall in the view
    hidden = Scene(**{n: getattr(scene, n) for n in scene.__dataclass_fields__} | {"depth": depth})
    np.testing.assert_array_equal(patch_matches(hidden, 0, [1], 8)[0], 0)
    valid = scene.valid.copy()
    valid[0, :8, 8:16] = False
    unknown = Scene(**{n: getattr(scene, n) for n in scene.__dataclass_fields__} | {"valid": valid})
    np.testing.assert_array_equal(patch_matches(unknown, 0, [1], 8)[1], 0)


def test_no_depth_no_matches() -> None:
    with pytest.raises(InputError, match="has no depth"):
        patch_matches(tiny_scene(depth=False), 0, [1], 8)


def test_flow_of_a_wall_is_its_shift() -> None:
    """The wall moves by 4 pixels of 24, into the view from the left; of itself it does not move."""
    flow, known = patch_flow(wall(0.4), 1, 8)
    assert known.all()
    assert flow.shape == (2, 6, 2)
    np.testing.assert_allclose(flow[0], np.tile([-4 / 24, 0], (6, 1)), atol=1e-6)
    np.testing.assert_allclose(flow[1], 0, atol=1e-6)
    np.testing.assert_allclose(patch_flow(wall(0.4), 0, 8)[0][1], np.tile([4 / 24, 0], (6, 1)), atol=1e-6)


def test_flow_is_the_mean_over_what_is_known() -> None:
    scene = wall(0.4)
    valid, depth = scene.valid.copy(), scene.depth.copy()
    depth[0, :8, :4] = 4.0  # half of a patch moves half as far
    valid[0, 8:, 8:16] = False
    changed = Scene(**{n: getattr(scene, n) for n in scene.__dataclass_fields__} | {"valid": valid, "depth": depth})
    flow, known = patch_flow(changed, 1, 8)
    np.testing.assert_allclose(flow[0, 0], [-3 / 24, 0], atol=1e-6)
    assert known[0].tolist() == [True, True, True, True, False, True]
    np.testing.assert_array_equal(flow[0, 4], 0)


def test_what_lies_behind_a_view_or_far_outside_has_a_bound() -> None:
    scene = wall(0.0)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 2, 3] = 3.0  # beyond the wall
    behind = Cameras(poses, scene.cameras.intrinsics, SIZE)
    changed = Scene(**{n: getattr(scene, n) for n in scene.__dataclass_fields__} | {"cameras": behind})
    flow, known = patch_flow(changed, 1, 8)
    assert not known[0].any()
    np.testing.assert_array_equal(flow[0], 0)
    far, known = patch_flow(wall(50.0), 1, 8)
    assert known.all()
    np.testing.assert_allclose(far[0, :, 0], -1)


def test_flow_is_where_points_are_seen_pixel_by_pixel() -> None:
    """Oracle: every pixel of a patch of a turned, moved camera sent through world and view by hand."""
    scene = tiny_scene(size=(24, 32))
    flow, known = patch_flow(scene, 2, 8)
    cameras = scene.cameras
    for frame, patch in ((0, 5), (3, 0), (1, 11)):
        moves = []
        for row, column in np.ndindex(8, 8):
            y, x = patch // 4 * 8 + row, patch % 4 * 8 + column
            if scene.valid[frame, y, x]:
                ray = np.linalg.inv(cameras.intrinsics[frame]) @ [x + 0.5, y + 0.5, 1]
                world = cameras.world_from_cam[frame] @ [*(scene.depth[frame, y, x] * ray), 1]
                seen = cameras.intrinsics[2] @ (np.linalg.inv(cameras.world_from_cam[2]) @ world)[:3]
                moves.append((seen[:2] / seen[2] - [x + 0.5, y + 0.5]) / [32, 24])
        assert known[frame, patch] == bool(moves)
        if moves:
            np.testing.assert_allclose(flow[frame, patch], np.clip(moves, -1, 1).mean(0), atol=1e-5)


def test_no_depth_no_flow() -> None:
    with pytest.raises(InputError, match="has no depth"):
        patch_flow(tiny_scene(depth=False), 0, 8)
