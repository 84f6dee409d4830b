from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_lvsm import CONFIGS, cameras_around, formula_lvsm, formula_views

from gen3r_bench.errors import InputError
from gen3r_bench.models.checkpoint import load_exactly
from gen3r_bench.models.lvsm import LvsmConfig, build, normalised_poses, pluecker_rays
from gen3r_bench.models.lvsm.config import Kind
from gen3r_bench.models.lvsm.plan import plan
from gen3r_bench.scene import Cameras

KINDS: tuple[Kind, ...] = ("decoder-only", "encoder-decoder")

# What the released LVSM (commit 2fea924) gives for golden_poses(), in float32
UPSTREAM = {
    "frame0": [
        [0.9738271832466125, 0.0438518263399601, -0.22301961481571198, -0.7407407164573669],
        [-0.045883893966674805, 0.998939037322998, -0.003935432527214289, 0.02980399690568447],
        [0.22261041402816772, 0.014065438881516457, 0.9748059511184692, -0.20260608196258545],
        [0.0, 0.0, 0.0, 1.0],
    ],
    "frame9": [
        [0.973885715007782, -0.043851833790540695, 0.22276386618614197, 0.7346786260604858],
        [0.0414079912006855, 0.9990200400352478, 0.01563180796802044, -0.029312696307897568],
        [-0.2232310175895691, -0.005999389104545116, 0.9747470617294312, 0.22922708094120026],
        [0.0, 0.0, 0.0, 1.0],
    ],
    "max_abs_t": 0.7407407164573669,
}


def golden_poses() -> np.ndarray:
    """Ten poses that upstream_functions.json describes under `_inputs`."""
    poses = np.tile(np.eye(4), (10, 1, 1))
    for i, pose in enumerate(poses):
        pose[:3, :3] = (Rotation.from_euler("z", 0.01 * i) * Rotation.from_euler("y", 0.05 * i)).as_matrix()
        pose[:3, 3] = [0.3 * i, 0.05 * np.sin(i), 0.002 * i**2]
    return poses


def test_pose_normalisation_equals_the_released_code() -> None:
    poses = normalised_poses(golden_poses())
    np.testing.assert_allclose(poses[0], UPSTREAM["frame0"], atol=2e-7)
    np.testing.assert_allclose(poses[9], UPSTREAM["frame9"], atol=2e-7)
    assert np.abs(poses[:, :3, 3]).max() == pytest.approx(UPSTREAM["max_abs_t"], abs=1e-7)


def test_the_numbers_above_are_those_of_the_golden_file(shared_dir: Path) -> None:
    goldens = json.loads((shared_dir / "goldens" / "upstream_functions.json").read_text())
    assert goldens["lvsm_preprocess_poses"] == UPSTREAM


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.floats(0.01, 100),
)
def test_where_the_world_lies_and_its_unit_do_not_matter(turn: list[float], move: list[float], unit: float) -> None:
    poses = golden_poses()
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = Rotation.from_rotvec(turn).as_matrix(), move
    scaled = poses.copy()
    scaled[:, :3, 3] *= unit
    np.testing.assert_allclose(normalised_poses(world @ scaled), normalised_poses(poses), atol=1e-6)


def test_the_mean_camera_is_the_new_world() -> None:
    poses = normalised_poses(golden_poses())
    np.testing.assert_allclose(poses[:, :3, 3].mean(0), 0, atol=1e-12)
    forward = poses[:, :3, 2].mean(0)
    np.testing.assert_allclose(forward / np.linalg.norm(forward), [0, 0, 1], atol=1e-12)
    assert poses[:, :3, 1].mean(0)[0] == pytest.approx(0, abs=1e-12)


def test_cameras_in_one_place_stay_there() -> None:
    turning = golden_poses()
    turning[:, :3, 3] = [3, 4, 5]
    poses = normalised_poses(turning)
    np.testing.assert_array_equal(poses[:, :3, 3], 0)
    assert np.isfinite(poses).all()


def test_cameras_back_to_back_have_no_mean() -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = np.diag([-1, 1, -1])
    with pytest.raises(InputError, match="mean axes vanish or coincide"):
        normalised_poses(poses)


def test_rays_pass_through_their_pixels() -> None:
    """Oracle: a point on each ray projects to the pixel's centre, and moment and direction are perpendicular."""
    cameras = cameras_around(3, side=16)
    rays = pluecker_rays(cameras.world_from_cam, cameras, 8).numpy().astype(np.float64)
    assert rays.shape == (3, 6, 8, 8)
    moment, direction = rays[:, :3], rays[:, 3:]
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((moment * direction).sum(1), 0, atol=1e-6)
    for frame, (row, column) in [(0, (0, 0)), (1, (3, 5)), (2, (7, 1))]:
        d, m = direction[frame, :, row, column], moment[frame, :, row, column]
        centre = cameras.world_from_cam[frame, :3, 3]
        point = np.cross(d, m) + (d @ centre + 2.5) * d  # the foot of the origin on the ray, then on along it
        local = cameras.world_from_cam[frame, :3, :3].T @ (point - centre)
        pixel = cameras.intrinsics[frame] @ local / local[2]
        np.testing.assert_allclose(pixel[:2], [(column + 0.5) * 2, (row + 0.5) * 2], atol=1e-4)


def test_rays_of_another_aspect() -> None:
    cameras = Cameras(np.eye(4)[None], np.array([[[10.0, 0, 8], [0, 10, 4], [0, 0, 1]]]), (8, 16))
    rays = pluecker_rays(cameras.world_from_cam, cameras, 4)
    np.testing.assert_allclose(rays[0, 3, 0, 0] / rays[0, 5, 0, 0], (2 - 8) / 10, rtol=1e-6)
    np.testing.assert_allclose(rays[0, 4, 0, 0] / rays[0, 5, 0, 0], (1 - 4) / 10, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_read_from_the_weights(kind: Kind) -> None:
    for config in (LvsmConfig.official(kind), CONFIGS[kind]):
        with torch.device("meta"):
            assert LvsmConfig.of_weights(build(config).state_dict()) == config


def test_other_patches_are_read_from_the_weights() -> None:
    config = LvsmConfig(width=32, head_width=8, mlp_ratio=2, patch_size=16, depth=3)
    assert LvsmConfig.of_weights(build(config).state_dict()) == config


@pytest.mark.parametrize("kind", KINDS)
def test_official_sizes(kind: Kind) -> None:
    with torch.device("meta"):
        network = build(LvsmConfig.official(kind))
    count = {"decoder-only": 170_795_520, "encoder-decoder": 173_154_816}[kind]
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(InputError, match=r"without a tensor image_tokenizer\.1\.weight"):
        LvsmConfig.of_weights({"a": torch.zeros(1)})
    wrong = build(CONFIGS["decoder-only"]).state_dict()
    wrong["image_tokenizer.1.weight"] = torch.zeros(32, 100)
    with pytest.raises(InputError, match="100 inputs a patch"):
        LvsmConfig.of_weights(wrong)
    with pytest.raises(InputError, match="of 0"):
        LvsmConfig.of_weights(wrong | {"image_tokenizer.1.weight": torch.zeros(0, 144)})


def test_keys_must_be_covered_both_ways() -> None:
    weights = build(CONFIGS["decoder-only"]).state_dict()
    less = {name: tensor for name, tensor in weights.items() if name != "transformer_blocks.1.attn.k_norm.weight"}
    more = weights | {"transformer_blocks.0.attn.to_qkv.bias": torch.zeros(96)}
    for given_weights, fault in ((less, "1 missing"), (more, "1 unexpected")):
        with pytest.raises(InputError, match=fault):
            load_exactly(build(CONFIGS["decoder-only"]), given_weights, what="LVSM")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"width": 100, "head_width": 64}, "heads that divide"),
        ({"depth": 0}, "at least 1"),
        ({"latents": 4}, "both where there is an encoder"),
        ({"kind": "encoder-decoder", "encoder_depth": 2}, "both where there is an encoder"),
    ],
)
def test_sizes_that_contradict_each_other(fields: dict[str, object], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        LvsmConfig(**fields)


def views_and_targets(views: int = 2, targets: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cameras = cameras_around(views + targets)
    rays = pluecker_rays(normalised_poses(cameras.world_from_cam), cameras, 16)[None]
    return formula_views(1, views, 16), rays[:, :views], rays[:, views:]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_chunks_change_nothing(kind: Kind) -> None:
    network, given_views = formula_lvsm(kind), views_and_targets()
    whole = network(*given_views)
    assert whole.shape == (1, 5, 3, 16, 16)
    assert whole.std() > 0.05
    assert ((whole >= 0) & (whole <= 1)).all()
    for at_once in (1, 2, 4, 9):
        torch.testing.assert_close(network(*given_views, targets_at_once=at_once), whole, rtol=0, atol=1e-6)
    images, rays, targets = given_views
    alone = network(images, rays, targets[:, 3:4])
    torch.testing.assert_close(alone, whole[:, 3:4], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_order_of_the_views_does_not_matter(kind: Kind) -> None:
    network, (images, rays, targets) = formula_lvsm(kind), views_and_targets(3)
    swapped = network(images[:, [2, 0, 1]], rays[:, [2, 0, 1]], targets)
    torch.testing.assert_close(swapped, network(images, rays, targets), rtol=0, atol=1e-5)


@torch.no_grad()
def test_everything_given_is_looked_at() -> None:
    network, (images, rays, targets) = formula_lvsm(), views_and_targets()
    whole = network(images, rays, targets)
    for changed in ((1 - images, rays, targets), (images, -rays, targets), (images, rays, -targets)):
        assert (network(*changed) - whole).abs().max() > 0.01


def test_a_patch_is_its_pixels_in_rows_with_their_channels() -> None:
    network = formula_lvsm()
    maps = torch.arange(2 * 8 * 12).reshape(1, 2, 8, 12)
    tokens = network.image_tokenizer[0](maps)
    assert tokens.shape == (1, 6, 32)
    expected = [maps[0, c, 4 + y, 8 + x].item() for y in range(4) for x in range(4) for c in range(2)]
    assert tokens[0, 5].tolist() == expected  # second row of patches, third column


def test_pixels_come_back_in_the_same_order() -> None:
    network = formula_lvsm()
    image = torch.rand(2, 3, 8, 12)
    torch.testing.assert_close(network._image(network.image_tokenizer[0](image), 8, 12), image)


def test_shapes_that_do_not_belong_together() -> None:
    network, (images, rays, targets) = formula_lvsm(), views_and_targets()
    for faulty, fault in (
        ((images[:, :, :2], rays, targets), "images of shape"),
        ((images, rays[:, :1], targets), "rays of shape"),
        ((images, rays, targets[:, :, :5]), "target rays of shape"),
        ((images[..., :15], rays[..., :15], targets[..., :15]), "divisible by 4"),
    ):
        with pytest.raises(InputError, match=fault):
            network(*faulty)
    with pytest.raises(InputError, match="0 targets at once"):
        network(images, rays, targets, targets_at_once=0)


def test_memory_is_bounded_by_the_chunk() -> None:
    sizes = {"side": 64, "dtype": torch.float32}
    config = CONFIGS["decoder-only"]
    short, long, wide = (
        plan(config, num_frames=frames, targets_at_once=at_once, **sizes).stages[0]
        for frames, at_once in ((8, 4), (16, 4), (16, 16))
    )
    outputs_and_rays = 4 * 64 * 64 * (2 * 3 + 6) * 8  # of eight more frames: pixels, joined once, and their rays
    assert 0 <= long.work_bytes - short.work_bytes <= outputs_and_rays
    assert wide.work_bytes > 2 * long.work_bytes
    assert short.weight_bytes == 4 * sum(p.numel() for p in build(config).parameters())
