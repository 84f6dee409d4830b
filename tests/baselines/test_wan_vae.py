from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_autoencoders import tiny_vae, with_formula_weights

from gen3r_bench.baselines.wan_vae import WanVaeMethod
from gen3r_bench.errors import InputError
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder
from gen3r_bench.scene import Conditioning, conditioning_indices


def shown(
    frames: int = 5, size: tuple[int, int] = (16, 24), *, seed: int = 1, setting: str = "allview"
) -> Conditioning:
    indices = conditioning_indices(setting, frames)
    rgb = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    return Conditioning(
        setting=setting,
        frame_indices=indices,
        rgb=rgb[list(indices)],
        cameras=None,
        num_frames=frames,
        image_size=size,
        prompt="",
        seed=seed,
    )


def method() -> WanVaeMethod:
    return WanVaeMethod(tiny_vae())


def test_all_frames_come_back() -> None:
    prediction = method().predict(shown())
    assert prediction.parts() == ("rgb",)
    assert prediction.rgb.shape == (5, 16, 24, 3)
    assert prediction.frame_indices == (0, 1, 2, 3, 4)
    assert prediction.adaptations == ()


def test_frames_are_those_of_the_network() -> None:
    given, vae = shown(), tiny_vae()
    video = torch.from_numpy(given.rgb.copy()).permute(3, 0, 1, 2)[None].float() / 255 * 2 - 1
    draw = vae.encode(video).sample(torch.Generator().manual_seed(given.seed))
    expected = (vae.decode(draw)[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255
    difference = np.abs(method().predict(given).rgb.astype(float) - expected.numpy())
    assert difference.max() <= 0.51


def test_the_draw_is_the_seeds() -> None:
    first = method().predict(shown(seed=1)).rgb
    np.testing.assert_array_equal(first, method().predict(shown(seed=1)).rgb)
    assert (first != method().predict(shown(seed=2)).rgb).any()


@pytest.mark.parametrize("seed", [-1, 2**64 + 3])
def test_any_seed_will_do(seed: int) -> None:
    assert method().predict(shown(1, seed=seed)).rgb is not None


def test_other_lengths_and_sizes_are_padded_cut_and_recorded() -> None:
    prediction = method().predict(shown(7, (18, 21)))
    assert prediction.rgb.shape == (7, 18, 21, 3)
    assert prediction.adaptations == (
        "last frame repeated 2 more times, for 1 + 4 k frames",
        "border repeated to 24 x 24, for multiples of 8",
    )


def test_the_padding_is_the_last_frame_and_the_border() -> None:
    given = shown(2, (8, 9))
    padded = np.pad(given.rgb, [(0, 3), (0, 0), (0, 7), (0, 0)], mode="edge")
    full = Conditioning("allview", tuple(range(5)), padded, None, 5, (8, 16), "", given.seed)
    np.testing.assert_array_equal(method().predict(given).rgb, method().predict(full).rgb[:2, :, :9])


def test_only_all_views_are_supported() -> None:
    refusal = WanVaeMethod.contract.refusal
    assert refusal(shown()) is None
    assert "does not support 1view" in refusal(shown(setting="1view"))


def test_checkpoints_are_read_by_path(tmp_path: Path) -> None:
    tiny_vae().save(tmp_path / "wan_vae")
    whole = WanVaeMethod.load(str(tmp_path), device="cpu")
    part = WanVaeMethod.load(str(tmp_path / "wan_vae"), device="cpu")
    assert whole.checkpoint_sha256 == part.checkpoint_sha256
    assert len(whole.checkpoint_sha256) == 64
    np.testing.assert_array_equal(whole.predict(shown()).rgb, method().predict(shown()).rgb)


def test_official_weights_are_found_in_the_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    tiny_vae().save(tmp_path / "gen3r" / "wan_vae")
    assert WanVaeMethod.load("official", device="cpu").checkpoint_sha256 is not None


def test_missing_weights_are_named_with_the_command_that_fetches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as error:
        WanVaeMethod.load("official", device="cpu")
    assert str(tmp_path / "gen3r" / "wan_vae" / "config.json") in error.value.given
    assert "JaceyH919/Gen3R" in error.value.expected
    assert error.value.fix == f'hf download JaceyH919/Gen3R --include "wan_vae/*" --local-dir {tmp_path / "gen3r"}'
    tiny_vae().save(tmp_path / "gen3r" / "wan_vae")
    (tmp_path / "gen3r" / "wan_vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"wan_vae/diffusion_pytorch_model\.safetensors, and it is not there"):
        WanVaeMethod.load(None, device="cpu")


def test_the_weights_folder_is_in_the_cache_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gen3r_bench.locations import weights_root

    monkeypatch.delenv("GEN3R_BENCH_WEIGHTS", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_root() == tmp_path / ".cache" / "gen3r-bench" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert weights_root() == tmp_path / "x" / "gen3r-bench" / "weights"


def test_unknown_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"checkpoint 'refrence' for wan-vae: no such folder; expected 'official', 'reference', or"
    ):
        WanVaeMethod.load("refrence", device="cpu")
    with pytest.raises(InputError, match=r"config\.json is missing"):
        WanVaeMethod.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("module", ["wan_vae", "gen3r_vae_only", "official_weights"])
def test_listing_methods_imports_no_torch(module: str, tmp_path: Path) -> None:
    code = f"import sys, gen3r_bench.baselines.{module}; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert printed.stdout.strip() == "False"


def tiny_patch() -> PatchVideoAutoencoder:
    return with_formula_weights(PatchVideoAutoencoder(PatchAutoencoderConfig.tiny()))


def test_another_autoencoder_stands_in_and_is_recorded(tmp_path: Path) -> None:
    tiny_patch().save(tmp_path / "wan_vae")
    standing_in = WanVaeMethod.load(str(tmp_path), device="cpu")
    prediction = standing_in.predict(shown(5, (18, 24)))
    assert prediction.rgb.shape == (5, 18, 24, 3)
    assert prediction.adaptations == (
        "a patch autoencoder in place of the Wan VAE",
        "border repeated to 24 x 24, for multiples of 8",
    )
    np.testing.assert_array_equal(standing_in.predict(shown()).rgb, WanVaeMethod(tiny_patch()).predict(shown()).rgb)


def test_autoencoders_of_neither_kind_are_refused(tmp_path: Path) -> None:
    tiny_patch().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderTiny"}))
    with pytest.raises(InputError, match="that of a AutoencoderTiny; expected AutoencoderKLWan or PatchVideoAuto"):
        WanVaeMethod.load(str(tmp_path), device="cpu")
