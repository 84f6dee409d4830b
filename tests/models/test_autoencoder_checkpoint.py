from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_autoencoders import clip, tiny_vae, with_formula_weights

from gen3r_bench.errors import InputError
from gen3r_bench.models.autoencoder_checkpoint import autoencoder_config, build_autoencoder, load_autoencoder
from gen3r_bench.models.folder import CONFIG_KEY
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig


def tiny_patch() -> PatchVideoAutoencoder:
    return with_formula_weights(PatchVideoAutoencoder(PatchAutoencoderConfig.tiny()))


@pytest.mark.parametrize("make", [tiny_vae, tiny_patch])
def test_a_folder_says_which_it_holds(tmp_path: Path, make) -> None:
    autoencoder = make()
    autoencoder.save(tmp_path)
    back = load_autoencoder(tmp_path)
    assert type(back) is type(autoencoder)
    assert back.config == autoencoder.config
    assert back.encode(clip(5, (16, 16))).mean.equal(autoencoder.encode(clip(5, (16, 16))).mean)


def test_a_folder_that_says_nothing_holds_the_wan_vae(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"latent_channels": 16}))
    assert autoencoder_config(tmp_path) == WanVaeConfig.official()


@pytest.mark.parametrize("make", [tiny_vae, tiny_patch])
def test_so_does_a_single_file(tmp_path: Path, make) -> None:
    autoencoder, path = make(), tmp_path / "one.safetensors"
    save_file(autoencoder.state_dict(), path, metadata={CONFIG_KEY: json.dumps(autoencoder.config.to_json())})
    back = load_autoencoder(path)
    assert type(back) is type(autoencoder)
    assert back.config == autoencoder.config


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_that_says_nothing_is_the_public_wan_vae(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "Wan2.1_VAE.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    assert autoencoder_config(path) == WanVaeConfig.official()
    with pytest.raises(InputError, match=r"Wan VAE in .*Wan2\.1_VAE\.safetensors: weights do not fit"):
        load_autoencoder(path)


def test_other_networks_are_named_and_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", "latent_channels": 4}))
    with pytest.raises(
        InputError, match=r"config\.json is that of a AutoencoderKL; expected AutoencoderKLWan or Patch"
    ):
        load_autoencoder(tmp_path)


def test_weights_of_the_other_network_do_not_fit(tmp_path: Path) -> None:
    tiny_patch().save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(WanVaeConfig.tiny().to_json()))
    with pytest.raises(InputError, match=r"Wan VAE in .*: weights do not fit \(.*missing: encoder\.conv1"):
        load_autoencoder(tmp_path)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no header")
    with pytest.raises(InputError, match=r"broken\.safetensors cannot be read"):
        load_autoencoder(broken)
    for path in (tmp_path, tmp_path / "nowhere.safetensors"):
        with pytest.raises(InputError, match="is missing"):
            load_autoencoder(path)


def test_every_configuration_has_its_network() -> None:
    with torch.device("meta"):
        assert isinstance(build_autoencoder(WanVaeConfig.tiny()), WanVae)
        assert isinstance(build_autoencoder(PatchAutoencoderConfig.tiny()), PatchVideoAutoencoder)
