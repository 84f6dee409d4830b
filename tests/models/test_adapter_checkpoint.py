from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_autoencoders import tiny_adapter, with_formula_weights

from gen3r_bench.errors import InputError
from gen3r_bench.models.adapter_checkpoint import adapter_config, build_adapter, load_adapter
from gen3r_bench.models.code_adapter import CodeAdapter, CodeAdapterConfig
from gen3r_bench.models.folder import CONFIG_KEY
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig


def tiny_code_adapter() -> CodeAdapter:
    return with_formula_weights(CodeAdapter(CodeAdapterConfig.tiny()))


@pytest.mark.parametrize("make", [tiny_adapter, tiny_code_adapter])
@pytest.mark.parametrize("one_file", [False, True])
def test_a_checkpoint_says_which_it_holds(tmp_path: Path, make, one_file: bool) -> None:
    adapter, path = make(), tmp_path
    if one_file:
        path = tmp_path / "one.safetensors"
        save_file(adapter.state_dict(), path, metadata={CONFIG_KEY: json.dumps(adapter.config.to_json())})
    else:
        adapter.save(path)
    back = load_adapter(path)
    assert type(back) is type(adapter)
    assert back.config == adapter.config
    tokens = torch.randn(1, 40, 5, 4, 4)
    assert back.encode(tokens).mean.equal(adapter.encode(tokens).mean)


@pytest.mark.parametrize("name", [None, "GeometryAdapter"])
def test_the_official_configuration_names_gen3rs_or_nothing(tmp_path: Path, name: str | None) -> None:
    content = {"hidden_dim": 128, "input_dim": 10240, "latent_channels": 16, "output_dim": 10240, "resample_scale": 10}
    named = {} if name is None else {"_class_name": name}
    (tmp_path / "config.json").write_text(json.dumps({**content, **named}))
    assert adapter_config(tmp_path) == adapter_config(tmp_path / "config.json") == GeometryAdapterConfig.official()


def test_other_networks_are_named_and_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(InputError, match=r"that of a AutoencoderKL; expected GeometryAdapter or CodeAdapter"):
        load_adapter(tmp_path)


def test_weights_of_the_other_network_do_not_fit(tmp_path: Path) -> None:
    tiny_code_adapter().save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(GeometryAdapterConfig.tiny().to_json()))
    with pytest.raises(InputError, match=r"geometry adapter in .*: weights do not fit"):
        load_adapter(tmp_path)


def test_every_configuration_has_its_network() -> None:
    with torch.device("meta"):
        assert isinstance(build_adapter(GeometryAdapterConfig.tiny()), GeometryAdapter)
        assert isinstance(build_adapter(CodeAdapterConfig.tiny()), CodeAdapter)
