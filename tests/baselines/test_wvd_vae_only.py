from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_autoencoders import with_formula_weights

from gen3r_bench.baselines.wvd_vae_only import WvdVaeOnly
from gen3r_bench.errors import InputError
from gen3r_bench.models.vggt import Vggt, VggtConfig, cameras_from_pose_encoding
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig
from gen3r_bench.models.wvd.normalisation import fit_normaliser
from gen3r_bench.scene import Conditioning, unproject_depth

CONFIG = VggtConfig.tiny()
SIDE = 56


def networks() -> tuple[Vggt, WanVae]:
    """Weights by formula; the camera head's last bias gives fields of view that a camera can have."""
    vggt = with_formula_weights(Vggt(CONFIG))
    last = vggt.camera_head.pose_branch.fc2
    last.weight.mul_(0.01)
    last.bias.copy_(torch.tensor([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.3, 0.3]))
    return vggt, with_formula_weights(WanVae(WanVaeConfig.tiny()))


def shown(frames: int = 5, size: tuple[int, int] = (SIDE, SIDE), *, seed: int = 1) -> Conditioning:
    rgb = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    return Conditioning("allview", tuple(range(frames)), rgb, None, frames, size, "", seed)


def vggt_points(vggt: Vggt, given: Conditioning) -> np.ndarray:
    images = torch.from_numpy(given.rgb.copy()).permute(0, 3, 1, 2).float()[None] / 255
    with torch.inference_mode():
        output = vggt(images)
    cameras = cameras_from_pose_encoding(output.pose_encoding[0], given.image_size)
    return unproject_depth(output.depth[0].numpy(), cameras)


@pytest.mark.parametrize("kind", ["max-abs", "box"])
def test_points_pass_as_frames(kind: str) -> None:
    """By hand: normalised over the clip, one draw of the latent, decoded, and back in VGGT's unit."""
    given, (vggt, vae) = shown(), networks()
    points = vggt_points(vggt, given)
    normaliser = fit_normaliser(points, kind)  # type: ignore[arg-type]
    video = torch.from_numpy(normaliser.to_range(points)).permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        decoded = vae.decode(vae.encode(video).sample(torch.Generator().manual_seed(given.seed)))
    expected = normaliser.to_world(decoded[0].permute(1, 2, 3, 0).numpy())
    prediction = WvdVaeOnly(vggt, vae, normalisation=kind, short_side=SIDE).predict(given)  # type: ignore[arg-type]
    assert prediction.parts() == ("points_world",)
    np.testing.assert_allclose(prediction.points_world, expected, atol=1e-4 * float(np.abs(points).max()))
    assert prediction.adaptations == (f"points normalised by {kind}",)


class Lossless(WanVae):
    """Its latent is the video itself."""

    def encode(self, clip: torch.Tensor, **_: object) -> Lossless:  # type: ignore[override]
        self.clip = clip
        return self

    def sample(self, generator: torch.Generator | None) -> torch.Tensor:
        return self.clip

    def decode(self, latent: torch.Tensor, **_: object) -> torch.Tensor:  # type: ignore[override]
        return latent


def test_nothing_but_the_autoencoder_loses_anything() -> None:
    given, (vggt, _) = shown(4), networks()
    prediction = WvdVaeOnly(vggt, Lossless(WanVaeConfig.tiny()), short_side=SIDE).predict(given)
    points = vggt_points(vggt, given)
    np.testing.assert_allclose(prediction.points_world, points, atol=1e-5 * float(np.abs(points).max()))


def test_float64_gives_the_same_points() -> None:
    plain = WvdVaeOnly(*networks(), normalisation="box", short_side=SIDE)
    doubled = plain.rounding_variants()["float64"]()
    assert {next(network.parameters()).dtype for network in (doubled.vggt, doubled.vae)} == {torch.float64}
    ours, exact = plain.predict(shown()).points_world, doubled.predict(shown()).points_world
    np.testing.assert_allclose(exact, ours, atol=1e-3 * float(np.abs(ours).max()))
    assert (exact != ours).any()


def test_other_lengths_and_sizes_are_adapted_and_recorded() -> None:
    method = WvdVaeOnly(*networks(), short_side=SIDE)
    prediction = method.predict(shown(3, (28, 40)))
    assert prediction.points_world.shape == (3, 28, 40, 3)
    assert prediction.adaptations[1:] == (
        "frames resized from 28 x 40 to 56 x 56, points back",
        "last frame repeated 2 more times, for 1 + 4 k frames",
    )
    other = method.predict(shown(3, (28, 40), seed=2))
    assert not np.array_equal(prediction.points_world, other.points_world)
    with pytest.raises(InputError, match="multiple of 56"):
        WvdVaeOnly(*networks(), short_side=100)


def write(folder: Path) -> Path:
    vggt, vae = networks()
    vae.save(folder / "wan_vae")
    (folder / "vggt").mkdir(parents=True)
    (folder / "vggt" / "config.json").write_text(json.dumps(asdict(CONFIG)))
    save_file(vggt.state_dict(), folder / "vggt" / "model.safetensors")
    return folder


def test_checkpoints_are_read_by_path_and_variant(tmp_path: Path) -> None:
    folder = write(tmp_path / "a+b")
    loaded = WvdVaeOnly.load(str(folder), device="cpu")
    assert loaded.normalisation == "max-abs"
    assert loaded.short_side is None
    assert len(loaded.checkpoint_sha256) == 64
    assert WvdVaeOnly.load(f"{folder}+percentile", device="cpu").normalisation == "percentile"


def test_missing_weights_and_variants_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as error:
        WvdVaeOnly.load("official+box", device="cpu")
    assert error.value.expected == "vggt/ and wan_vae/ of the Hugging Face model JaceyH919/Gen3R"
    with pytest.raises(InputError, match=r"official\+box or official\+percentile"):
        WvdVaeOnly.load("official+log", device="cpu")
