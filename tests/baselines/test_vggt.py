from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_card, tiny_scene
from tiny_vggt import CONFIG, formula_vggt

from gen3r_bench.baselines import vggt
from gen3r_bench.baselines.vggt import VggtMethod, plan_checkpoint
from gen3r_bench.errors import InputError
from gen3r_bench.method import checked_method
from gen3r_bench.models.plan import ModelPlan
from gen3r_bench.models.vggt import VggtConfig, cameras_from_pose_encoding
from gen3r_bench.protocols.conditioning import condition
from gen3r_bench.protocols.scoring import coverage_of
from gen3r_bench.scene import Cameras, unproject_depth

SIDE = 56


def shown(setting: str, side: int = SIDE):
    card = tiny_card(setting=setting, cameras="none", frames_scored=("all",))
    return condition(tiny_scene(size=(side, side)), card, 1)


@pytest.fixture(scope="module")
def method() -> VggtMethod:
    return VggtMethod(formula_vggt(), input_size=SIDE, device="cpu")


@pytest.fixture
def tiny_official(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A weights folder whose official VGGT is tiny, tracker and all."""
    monkeypatch.setattr(VggtConfig, "official", classmethod(lambda cls: CONFIG))
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "vggt").mkdir()
    weights = formula_vggt().state_dict() | {"track_head.fmap_norm.weight": torch.zeros(3)}
    save_file(weights, tmp_path / "vggt" / "model.safetensors")
    return tmp_path / "vggt" / "model.safetensors"


def test_contract() -> None:
    assert checked_method(VggtMethod, "vggt").contract.method_id == "vggt"
    assert VggtMethod.contract.refusal(shown("allview")) is None


def test_contract_is_read_without_torch() -> None:
    code = "import sys, gen3r_bench.baselines.vggt; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(sys.prefix), check=False).returncode == 0


@pytest.mark.parametrize(("setting", "frames"), [("1view", (0,)), ("2view", (0, 3)), ("allview", (0, 1, 2, 3))])
def test_predicts_the_given_views(method: VggtMethod, setting: str, frames: tuple[int, ...]) -> None:
    prediction = method.predict(shown(setting))
    assert prediction.frame_indices == frames
    assert set(prediction.parts()) == {"depth", "world_from_cam", "intrinsics"}
    assert prediction.image_size == (SIDE, SIDE)
    assert prediction.adaptations == ()
    assert (prediction.depth > 0).all()
    assert (prediction.confidence >= 1).all()
    np.testing.assert_allclose(prediction.intrinsics[:, :2, 2], SIDE / 2)


def test_few_views_count_as_given_views(method: VggtMethod) -> None:
    card = tiny_card(setting="2view", cameras="none", frames_scored=("all",))
    assert coverage_of(method.predict(shown("2view")), card, 4) == "given-views"


def test_prediction_is_the_networks(method: VggtMethod) -> None:
    given = shown("2view")
    prediction = method.predict(given)
    with torch.inference_mode():
        output = formula_vggt()(torch.tensor(given.rgb).permute(0, 3, 1, 2)[None] / 255)
    np.testing.assert_allclose(prediction.depth, output.depth[0], rtol=1e-5)
    cameras = cameras_from_pose_encoding(output.pose_encoding[0], (SIDE, SIDE))
    np.testing.assert_allclose(prediction.world_from_cam, cameras.world_from_cam, atol=1e-5)
    np.testing.assert_allclose(prediction.world_points(), unproject_depth(prediction.depth, cameras), atol=1e-3)


def test_same_answer_twice(method: VggtMethod) -> None:
    first, second = (method.predict(shown("allview")) for _ in range(2))
    np.testing.assert_array_equal(first.depth, second.depth)
    np.testing.assert_array_equal(first.world_from_cam, second.world_from_cam)


def test_rounding_variants_give_the_same_geometry(method: VggtMethod) -> None:
    plain = method.predict(shown("allview"))
    variants = method.rounding_variants()
    assert variants.keys() == {"one frame at a time", "all frames at once", "float64"}
    for make in variants.values():
        other = make().predict(shown("allview"))
        np.testing.assert_allclose(other.depth, plain.depth, rtol=2e-4)
        np.testing.assert_allclose(other.world_from_cam, plain.world_from_cam, atol=2e-4)
    assert next(variants["float64"]()._network.parameters()).dtype == torch.float64
    assert next(method._network.parameters()).dtype == torch.float32


@pytest.mark.parametrize("side", [42, 64, 112])
def test_other_sizes_are_resized_and_noted(method: VggtMethod, side: int) -> None:
    prediction = method.predict(shown("2view", side))
    assert prediction.adaptations == (
        f"frames resized from {side} to 56 pixels (bicubic); depth comes back by nearest neighbour",
    )
    assert prediction.image_size == (side, side)
    np.testing.assert_allclose(prediction.intrinsics[:, :2, 2], side / 2)
    assert len(np.unique(prediction.depth[0])) <= 56 * 56


def test_resizing_keeps_rays(method: VggtMethod) -> None:
    """At twice the input size the far corner of the image is seen in the same direction."""
    given = shown("1view", 112)
    K = method.predict(given).intrinsics[0]
    small = torch.from_numpy(vggt._resized_frames(given.rgb, SIDE))
    assert small.shape == (1, SIDE, SIDE, 3)
    with torch.inference_mode():
        output = formula_vggt()(small.permute(0, 3, 1, 2)[None] / 255)
    at_56 = cameras_from_pose_encoding(output.pose_encoding[0], (SIDE, SIDE)).intrinsics[0]
    corner, corner_at_56 = np.array([112, 112, 1]), np.array([56, 56, 1])
    np.testing.assert_allclose(np.linalg.inv(K) @ corner, np.linalg.inv(at_56) @ corner_at_56, rtol=1e-5)


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    maps = np.arange(9.0).reshape(1, 3, 3)
    np.testing.assert_array_equal(vggt._nearest(maps, 3), maps)
    np.testing.assert_array_equal(vggt._nearest(maps, 6)[0, 0], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(vggt._nearest(maps, 5)[0, :, 0], [0, 0, 3, 6, 6])
    np.testing.assert_array_equal(vggt._nearest(maps, 1), [[[4]]])


def test_frames_that_are_not_square_are_refused(method: VggtMethod) -> None:
    card = tiny_card(setting="1view", cameras="none", frames_scored=("all",))
    with pytest.raises(InputError, match=r"24 x 32 pixels; expected square frames"):
        method.predict(condition(tiny_scene(), card, 1))


def test_half_a_pixel_hardly_moves_the_points() -> None:
    """The released unprojection lies half a pixel beside ours; alignment takes most of that away."""
    scene = tiny_scene(size=(SIDE, SIDE))
    cameras, focal_px = scene.cameras, scene.cameras.intrinsics[0, 0, 0]
    shifted = cameras.intrinsics.copy()
    shifted[:, :2, 2] += 0.5
    ours, theirs = (
        unproject_depth(scene.depth, seen).reshape(-1, 3).astype(np.float64)
        for seen in (cameras, Cameras(cameras.world_from_cam, shifted, cameras.image_size))
    )
    moved = np.linalg.norm(theirs - ours, axis=1).mean()
    assert moved == pytest.approx(0.5 * 2**0.5 * scene.depth.mean() / focal_px, rel=0.01)
    centred, target = theirs - theirs.mean(0), ours - ours.mean(0)
    u, _, vt = np.linalg.svd(centred.T @ target)
    left = np.linalg.norm(centred @ (u @ vt) - target, axis=1).mean()
    assert left < 0.1 * moved


def test_loads_the_official_file(tiny_official: Path) -> None:
    loaded = VggtMethod.load("official", device="cpu")
    assert (loaded._input_size, len(loaded.checkpoint_sha256)) == (560, 64)
    assert VggtMethod.load(None, device="cpu")._input_size == 560
    assert VggtMethod.load("official+518", device="cpu")._input_size == 518
    for name, tensor in formula_vggt().state_dict().items():
        assert tensor.equal(loaded._network.state_dict()[name]), name
    assert not any(p.requires_grad for p in loaded._network.parameters())


def test_loads_a_path(tiny_official: Path) -> None:
    sizes = [VggtMethod.load(f"{tiny_official}{tail}", device="cpu")._input_size for tail in ("", "+518", "+560")]
    assert sizes == [560, 518, 560]
    assert VggtMethod.load(str(tiny_official.parent), device="cpu").checkpoint_sha256 is not None


def test_missing_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as caught:
        VggtMethod.load("official", device="cpu")
    assert str(caught.value) == (
        f"no weights of VGGT at {tmp_path}/vggt/model.safetensors; expected model.safetensors of facebook/VGGT-1B "
        f"(5.0 GB), or a path as in vggt@PATH (fix: hf download facebook/VGGT-1B model.safetensors "
        f"--local-dir {tmp_path}/vggt)"
    )


def test_other_input_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=re.escape("input size 512 of vggt@official+512; expected 518 or 560")):
        VggtMethod.load("official+512", device="cpu")


def test_incomplete_weights_are_refused(tiny_official: Path) -> None:
    weights = formula_vggt().state_dict()
    del weights["aggregator.camera_token"]
    save_file(weights, tiny_official)
    with pytest.raises(InputError, match=r"1 missing: aggregator\.camera_token"):
        VggtMethod.load("official", device="cpu")


def told_file(path: Path, **metadata: str) -> Path:
    told = {"side": "28", "config": json.dumps(CONFIG.to_fields()), **metadata}
    save_file(formula_vggt().state_dict(), path, metadata={k: v for k, v in told.items() if v})
    return path


def test_a_file_that_says_its_sizes_is_loaded_as_it_says(tmp_path: Path) -> None:
    path = told_file(tmp_path / "small.safetensors")
    for name in (str(path), f"{path}+28"):
        loaded = VggtMethod.load(name, device="cpu")
        assert (loaded._input_size, loaded._network.config) == (28, CONFIG)
    prediction = loaded.predict(shown("allview", 28))
    assert prediction.adaptations == ()
    assert prediction.depth.shape == (4, 28, 28)
    assert "resized from 56 to 28" in loaded.predict(shown("1view", 56)).adaptations[0]


def test_a_file_that_says_its_sizes_takes_no_other(tmp_path: Path) -> None:
    path = told_file(tmp_path / "small.safetensors")
    message = re.escape(f"input size 560 of vggt@{path}+560; expected 28 (fix: vggt@{path})")
    with pytest.raises(InputError, match=message):
        VggtMethod.load(f"{path}+560", device="cpu")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"config": "{"}, "a JSON object"),
        ({"config": "[3]"}, "a JSON object"),
        ({"side": ""}, "a file as `gen3r-bench train` writes it"),
        ({"side": "0"}, "a size in pixels"),
        ({"side": "x"}, "a size in pixels"),
    ],
)
def test_sizes_that_cannot_be_read_are_refused(tmp_path: Path, metadata: dict[str, str], expected: str) -> None:
    path = told_file(tmp_path / "small.safetensors", **metadata)
    for read in (partial(VggtMethod.load, device="cpu"), planned):
        with pytest.raises(InputError, match=f"small.safetensors .*; expected {expected}"):
            read(str(path))


def planned(checkpoint: str) -> ModelPlan:
    return plan_checkpoint(checkpoint, num_frames=3, image_size=(28, 28), dtype=torch.float32)


def test_nothing_is_planned_for_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(told_file(tmp_path / "whole.safetensors").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"mine\.safetensors cannot be read .*expected a whole safetensors file"):
        planned(str(tmp_path / "mine.safetensors"))


def test_a_file_that_says_its_sizes_was_trained_on_mini(tmp_path: Path) -> None:
    contract = VggtMethod.load(str(told_file(tmp_path / "small.safetensors")), device="cpu").contract
    assert (contract.training_sets, contract.licence) == ((), "as its maker says")
    assert contract.method_id == "vggt"


def test_weights_of_another_size_than_said_are_refused(tmp_path: Path) -> None:
    other = json.dumps(CONFIG.to_fields() | {"registers": 3})
    with pytest.raises(InputError, match="VGGT from"):
        VggtMethod.load(str(told_file(tmp_path / "small.safetensors", config=other)), device="cpu")
    with pytest.raises(InputError, match="unknown sizes depths"):
        VggtMethod.load(str(told_file(tmp_path / "odd.safetensors", config='{"depths": 3}')), device="cpu")
