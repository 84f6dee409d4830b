from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gen3r_bench.errors import InputError
from gen3r_bench.models.folder import told, told_side


def file_that_says(path: Path, **metadata: str) -> Path:
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    return path


def test_a_file_tells_what_it_says_of_itself(tmp_path: Path) -> None:
    path = file_that_says(tmp_path / "a.safetensors", side="64", vggt="reference")
    assert told(path, "vggt") == "reference"
    assert told(path, "config") is None
    assert told_side(path) == 64


def test_other_places_tell_nothing(tmp_path: Path) -> None:
    assert told_side(file_that_says(tmp_path / "a.safetensors")) is None
    (tmp_path / "config.json").write_text('{"side": 64}')
    (tmp_path / "b.pth").write_bytes(b"side")
    for path in (tmp_path, tmp_path / "b.pth", tmp_path / "absent.safetensors"):
        assert told_side(path) is None


@pytest.mark.parametrize("side", ["0", "", "-8", "64.0", "wide", "\u0664"])
def test_sides_that_are_no_size_are_refused(tmp_path: Path, side: str) -> None:
    with pytest.raises(InputError, match=f"says side '{side}'; expected a size in pixels"):
        told_side(file_that_says(tmp_path / "a.safetensors", side=side))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="a whole safetensors file"):
        told_side(tmp_path / "a.safetensors")
