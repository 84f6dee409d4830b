from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_gen3r import write_folder

from gen3r_bench.errors import InputError
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import Gen3rFolder
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder


def test_another_autoencoder_may_stand_in(tmp_path: Path) -> None:
    config = dataclasses.replace(Gen3rConfig.tiny(), vae=PatchAutoencoderConfig.tiny())
    folder = Gen3rFolder(write_folder(tmp_path / "gen3r", config=config))
    assert folder.config == config
    autoencoder = folder.load("vae")
    assert isinstance(autoencoder, PatchVideoAutoencoder)
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())
    path = tmp_path / "gen3r" / "wan_vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "AutoencoderDC"}))
    with pytest.raises(InputError, match="that of a AutoencoderDC; expected AutoencoderKLWan or PatchVideoAutoencoder"):
        Gen3rFolder(tmp_path / "gen3r")
