from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.checkpoint import load_exactly, read_safetensors, weight_files, weights_sha256


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0)


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], suffix: str = ".safetensors") -> Path:
    names = list(tensors)
    parts = {f"part-{i}-of-2{suffix}": names[i::2] for i in range(2)}
    for file, keys in parts.items():
        part = {key: tensors[key] for key in keys}
        save_file(part, folder / file) if suffix == ".safetensors" else torch.save(part, folder / file)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": {key: file for file, keys in parts.items() for key in keys}}))
    return index


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w.pth", "w.pt"])
def test_reads_a_file_and_its_folder(tmp_path: Path, name: str) -> None:
    tensors = tensors_of(two_layers())
    if name.endswith(".safetensors"):
        save_file(tensors, tmp_path / name)
    else:
        torch.save(tensors, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    assert_same(read_safetensors(tmp_path / name), tensors)
    assert_same(read_safetensors(tmp_path), tensors)


def test_reads_a_torch_file_of_the_old_format(tmp_path: Path) -> None:
    tensors = tensors_of(two_layers())
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_same(read_safetensors(tmp_path / "w.pth"), tensors)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_reads_shards_through_their_index(tmp_path: Path, suffix: str) -> None:
    tensors = tensors_of(two_layers())
    index = write_shards(tmp_path, tensors, suffix)
    assert_same(read_safetensors(index), tensors)
    assert_same(read_safetensors(tmp_path), tensors)
    index.unlink()
    assert_same(read_safetensors(tmp_path), tensors)


def test_safetensors_go_before_torch_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    torch.save({"b": torch.zeros(1)}, tmp_path / "w.bin")
    assert [file.name for file in weight_files(tmp_path)] == ["w.safetensors"]


def test_hash_of_weights(tmp_path: Path) -> None:
    tensors = tensors_of(two_layers())
    save_file(tensors, tmp_path / "w.safetensors")
    single = weights_sha256(tmp_path)
    assert single == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    (tmp_path / "w.safetensors").unlink()
    index = write_shards(tmp_path, tensors)
    sharded = weights_sha256(index)
    assert sharded == weights_sha256(tmp_path) != single
    save_file({}, tmp_path / "part-0-of-2.safetensors")
    assert weights_sha256(index) != sharded


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_safetensors(tmp_path / "none")
    with pytest.raises(InputError, match="holds no weights"):
        read_safetensors(tmp_path)
    (tmp_path / "w.txt").write_text("")
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        read_safetensors(tmp_path / "w.txt")
    for name in ("short.safetensors", "short.pth"):
        (tmp_path / name).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
        with pytest.raises(InputError, match="cannot be read"):
            read_safetensors(tmp_path / name)
    (tmp_path / "saved.pt").write_bytes(b"abc" * 500)
    with pytest.raises(InputError, match="cannot be read"):
        read_safetensors(tmp_path / "saved.pt")
    (tmp_path / "bad.safetensors.index.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        read_safetensors(tmp_path / "bad.safetensors.index.json")
    (tmp_path / "bad.safetensors.index.json").write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    with pytest.raises(InputError, match="lie beside it"):
        read_safetensors(tmp_path)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = write_shards(tmp_path, tensors_of(two_layers()))
    (tmp_path / "part-1-of-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"names 2 files, and 1 are missing: part-1-of-2\.safetensors"):
        read_safetensors(index)


def test_a_key_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("model", "model.fp16"):
        save_file({"a": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="1 tensors lie in"):
        read_safetensors(tmp_path)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_no_pickled_code_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Payload()}, tmp_path / "w.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Payload()}))
    for name in ("w.pth", "plain.pth"):
        with pytest.raises(InputError, match=r"cannot be read \(no torch file, or one that holds more than tensors\)"):
            read_safetensors(tmp_path / name)
    assert capsys.readouterr().out == ""
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="more than named tensors"):
        read_safetensors(tmp_path / "w.pth")


def test_load_fills_a_module_on_the_meta_device() -> None:
    tensors = tensors_of(two_layers())
    with torch.device("meta"):
        module = two_layers()
    load_exactly(module, tensors, what="test weights")
    assert_same(tensors_of(module), tensors)
    assert module[0].weight.data_ptr() == tensors["0.weight"].data_ptr()
    assert module[0].weight.requires_grad
    assert module.eval()(torch.ones(2, 3)).shape == (2, 4)


def test_load_strips_ignores_and_converts() -> None:
    tensors = {f"model.{name}": tensor for name, tensor in tensors_of(two_layers()).items()}
    tensors["track_head.norm.weight"] = torch.zeros(7)
    module = two_layers()
    load_exactly(module, tensors, what="w", ignore=("track_head.*",), strip_prefix="model.", dtype=torch.bfloat16)
    assert module[0].weight.dtype == torch.bfloat16
    assert module[1].num_batches_tracked.dtype == torch.int64


def test_load_names_everything_that_does_not_fit() -> None:
    module, tensors = two_layers(), tensors_of(two_layers())
    before = tensors_of(module)
    del tensors["0.bias"]
    tensors["0.weight"] = torch.zeros(4, 5)
    tensors |= {f"extra.{i}": torch.zeros(1) for i in range(8)}
    with pytest.raises(InputError) as caught:
        load_exactly(module, tensors, what="tiny weights")
    text = str(caught.value)
    assert "tiny weights: weights do not fit" in text
    assert "1 missing: 0.bias" in text
    assert "8 unexpected: extra.0, extra.1, extra.2, extra.3, extra.4 and 3 more" in text
    assert "1 of another shape: 0.weight [4, 5] for [4, 3]" in text
    assert "the 7 tensors of Sequential" in text
    assert_same(tensors_of(module), before)


def test_load_refuses_a_key_with_and_without_the_prefix() -> None:
    tensors = tensors_of(two_layers())
    with pytest.raises(InputError, match=r"0\.bias is given with and without"):
        load_exactly(two_layers(), tensors | {"model.0.bias": torch.zeros(4)}, what="w", strip_prefix="model.")


def test_load_refuses_buffers_that_would_stay_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = nn.Linear(1, 1)
        module.register_buffer("table", torch.zeros(2), persistent=False)
    with pytest.raises(ValueError, match="build buffer table off the meta device"):
        load_exactly(module, tensors_of(nn.Linear(1, 1)), what="w")
