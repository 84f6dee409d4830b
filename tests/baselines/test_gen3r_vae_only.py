from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_autoencoders import with_formula_weights

from gen3r_bench.baselines.gen3r_vae_only import Gen3rVaeOnly
from gen3r_bench.errors import InputError
from gen3r_bench.locations import shipped_weights
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig, pack_tokens, unpack_tokens
from gen3r_bench.models.vggt import Vggt, VggtConfig, cameras_from_pose_encoding
from gen3r_bench.scene import Conditioning

CONFIG = VggtConfig.tiny()
SIDE = 56


def tiny_vggt(config: VggtConfig = CONFIG) -> Vggt:
    """Weights by formula; the camera head's last bias gives fields of view that a camera can have."""
    vggt = with_formula_weights(Vggt(config))
    last = vggt.camera_head.pose_branch.fc2
    last.weight.mul_(0.01)
    last.bias.copy_(torch.tensor([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.3, 0.3]))
    return vggt


def networks() -> tuple[Vggt, GeometryAdapter]:
    return tiny_vggt(), with_formula_weights(GeometryAdapter(GeometryAdapterConfig.tiny(5 * CONFIG.token_width)))


def method() -> Gen3rVaeOnly:
    return Gen3rVaeOnly(*networks(), short_side=SIDE)


def shown(frames: int = 5, size: tuple[int, int] = (SIDE, SIDE), *, seed: int = 1) -> Conditioning:
    rgb = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    return Conditioning("allview", tuple(range(frames)), rgb, None, frames, size, "", seed)


def test_depth_and_cameras_of_all_frames() -> None:
    prediction = method().predict(shown())
    assert prediction.parts() == ("depth", "world_from_cam", "intrinsics")
    assert prediction.depth.shape == prediction.confidence.shape == (5, SIDE, SIDE)
    assert (prediction.depth > 0).all()
    assert prediction.adaptations == ()
    np.testing.assert_allclose(prediction.intrinsics[:, :2, 2], SIDE / 2)


def test_the_heads_read_decoded_tokens() -> None:
    given, (vggt, adapter) = shown(), networks()
    images = torch.from_numpy(given.rgb.copy()).permute(0, 3, 1, 2).float()[None] / 255
    posterior = adapter.encode(pack_tokens(vggt.encode(images)))
    tokens = unpack_tokens(adapter.decode(posterior.sample(torch.Generator().manual_seed(given.seed))))
    expected = vggt.decode(tokens, (SIDE, SIDE))
    prediction = method().predict(given)
    np.testing.assert_allclose(prediction.depth, expected.depth[0], rtol=1e-4)
    cameras = cameras_from_pose_encoding(expected.pose_encoding[0], (SIDE, SIDE))
    np.testing.assert_allclose(prediction.world_from_cam, cameras.world_from_cam, atol=1e-5)


def test_the_draw_is_the_seeds() -> None:
    first = method().predict(shown(seed=1)).depth
    np.testing.assert_array_equal(first, method().predict(shown(seed=1)).depth)
    assert (first != method().predict(shown(seed=2)).depth).any()


def test_float64_gives_the_same_geometry() -> None:
    plain, variants = method(), method().rounding_variants()
    assert variants.keys() == {"float64"}
    doubled = variants["float64"]()
    assert {next(network.parameters()).dtype for network in (doubled.vggt, doubled.adapter)} == {torch.float64}
    ours, exact = plain.predict(shown()), doubled.predict(shown())
    np.testing.assert_allclose(exact.depth, ours.depth, rtol=2e-3)
    np.testing.assert_allclose(exact.world_from_cam, ours.world_from_cam, atol=2e-4)
    assert (exact.depth != ours.depth).any()


def test_other_lengths_and_sizes_are_adapted_and_recorded() -> None:
    prediction = method().predict(shown(3, (28, 40)))
    assert prediction.depth.shape == (3, 28, 40)
    assert prediction.adaptations == (
        "frames resized from 28 x 40 to 56 x 56, depth and cameras back",
        "last frame repeated 2 more times, for 1 + 4 k frames",
    )
    np.testing.assert_allclose(prediction.intrinsics[:, 0, 2], 20)
    np.testing.assert_allclose(prediction.intrinsics[:, 1, 2], 14)
    # the same rays: a focal length in units of the picture's side does not change
    larger = method().predict(
        Conditioning("allview", (0, 1, 2), np.zeros((3, 56, 56, 3), np.uint8), None, 3, (56, 56), "", 1)
    )
    assert prediction.intrinsics[0, 0, 0] / 40 == pytest.approx(larger.intrinsics[0, 0, 0] / 56, rel=0.2)


def test_other_short_sides_are_refused() -> None:
    with pytest.raises(InputError, match="multiple of 56"):
        Gen3rVaeOnly(*networks(), short_side=518)


def write(folder: Path) -> None:
    vggt, adapter = networks()
    adapter.save(folder / "geo_adapter")
    (folder / "vggt").mkdir(parents=True)
    sizes = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    (folder / "vggt" / "config.json").write_text(json.dumps(sizes))
    tracker = {"track_head.fmap_norm.weight": torch.zeros(3)}
    save_file({**vggt.state_dict(), **tracker}, folder / "vggt" / "model.safetensors")


def test_checkpoints_are_read_by_path(tmp_path: Path) -> None:
    write(tmp_path)
    loaded = Gen3rVaeOnly.load(str(tmp_path), device="cpu")
    assert loaded.short_side is None
    np.testing.assert_array_equal(loaded.predict(shown()).depth, method().predict(shown()).depth)
    assert len(loaded.checkpoint_sha256) == 64


def test_missing_weights_are_named_with_the_commands_that_fetch_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    write(tmp_path / "gen3r")
    (tmp_path / "gen3r" / "vggt" / "model.safetensors").unlink()
    with pytest.raises(InputError) as error:
        Gen3rVaeOnly.load("official", device="cpu")
    assert str(tmp_path / "gen3r" / "vggt" / "model.safetensors") in error.value.given
    assert error.value.expected == "vggt/ and geo_adapter/ of the Hugging Face model JaceyH919/Gen3R"
    assert error.value.fix.count("hf download JaceyH919/Gen3R") == 2


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    GeometryAdapter(GeometryAdapterConfig.tiny(40)).save(tmp_path / "geo_adapter")
    with pytest.raises(InputError, match=r"tokens of 64 channels, and .* takes 40"):
        Gen3rVaeOnly.load(str(tmp_path), device="cpu")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    save_file({"aggregator.camera_token": torch.zeros(1)}, tmp_path / "vggt" / "model.safetensors")
    with pytest.raises(InputError, match=r"VGGT in .* weights do not fit"):
        Gen3rVaeOnly.load(str(tmp_path), device="cpu")


# ---- an adapter in one file


def adapter_file(path: Path, *, channels: int = 1280, **metadata: str) -> Path:
    """An adapter on patches of 8 pixels, one latent a patch; by default for the tokens of this project's VGGT."""
    config = GeometryAdapterConfig(
        token_channels=channels, hidden_dim=4, resample_scale=20, grid_unit=1, latent_unit=1,
        width_multipliers=(1, 1, 1, 1), blocks_per_stage=1,
    )  # fmt: skip
    adapter = with_formula_weights(GeometryAdapter(config))
    save_file(adapter.state_dict(), path, metadata={"config": json.dumps(config.to_json()), **metadata})
    return path


def vggt_file(path: Path) -> Path:
    config = dataclasses.replace(CONFIG, patch_size=8)
    save_file(tiny_vggt(config).state_dict(), path, metadata={"config": json.dumps(config.to_fields()), "side": "16"})
    return path


def together(*files: Path) -> str:
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@pytest.mark.parametrize("named", [{}, {"vggt": "reference"}])
def test_an_adapters_file_is_read_with_our_vggt(tmp_path: Path, named: dict[str, str]) -> None:
    path = adapter_file(tmp_path / "mine.safetensors", side="64", **named)
    loaded = Gen3rVaeOnly.load(str(path), device="cpu")
    assert loaded.vggt.config == VggtConfig.reference()
    assert (loaded.short_side, loaded.side_unit) == (64, 8)
    assert loaded.checkpoint_sha256 == together(shipped_weights("vggt"), path)
    assert (loaded.contract.licence, loaded.contract.training_sets) == ("as its maker says", ())


def test_an_adapters_file_names_its_vggt(tmp_path: Path) -> None:
    vggt = vggt_file(tmp_path / "vggt.safetensors")
    path = adapter_file(tmp_path / "mine.safetensors", channels=5 * CONFIG.token_width, vggt=str(vggt))
    loaded = Gen3rVaeOnly.load(str(path), device="cpu")
    assert loaded.short_side is None  # the adapter's side counts, not VGGT's
    torch.testing.assert_close(loaded.vggt.state_dict(), load_file(vggt))
    assert loaded.predict(shown(5, (20, 27))).adaptations == (
        "frames resized from 20 x 27 to 16 x 24, depth and cameras back",
    )
    vggt.unlink()
    with pytest.raises(InputError, match=r"the vggt that it was trained beside, .*vggt.safetensors, is not there"):
        Gen3rVaeOnly.load(str(path), device="cpu")


def test_an_adapters_file_may_name_the_official_vggt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    path = adapter_file(tmp_path / "mine.safetensors", channels=5 * CONFIG.token_width, vggt="official")
    with pytest.raises(InputError, match="vggt/ of the Hugging Face model"):
        Gen3rVaeOnly.load(str(path), device="cpu")
    write(tmp_path / "gen3r")
    loaded = Gen3rVaeOnly.load(str(path), device="cpu")
    assert (loaded.vggt.config, loaded.side_unit) == (CONFIG, 14)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"channels": 80},
            r"tokens of 256 channels, and .* takes 80; expected .* a folder with vggt/ and geo_adapter/",
        ),
        ({"side": "60"}, "a short side of 60 px; expected a multiple of 8"),
        ({"side": "wide"}, "says side 'wide'; expected a size in pixels"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    path = adapter_file(tmp_path / "mine.safetensors", **metadata)
    with pytest.raises(InputError, match=message):
        Gen3rVaeOnly.load(str(path), device="cpu")


def test_other_files_and_names_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"says no sizes .* `gen3r-bench train geometry-adapter` writes it"):
        Gen3rVaeOnly.load(str(tmp_path / "bare.safetensors"), device="cpu")
    with pytest.raises(InputError, match=r"no such folder; expected 'official', 'reference', or a folder with vggt/"):
        Gen3rVaeOnly.load(str(tmp_path / "refrence"), device="cpu")
