from __future__ import annotations

import numpy as np
import pytest
from tiny import tiny_scene

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras, Scene
from gen3r_bench.training.matches import patch_matches

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
