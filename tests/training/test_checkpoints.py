from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from line_recipe import KilledError, Line
from safetensors.torch import save_file

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.training.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    origins_at,
    prepare_folder,
    require_same_recipe,
    save_checkpoint,
)

FACTS = Line().facts()
FILES = ("weights.safetensors", "optimiser.pt", "recipe.json")


def state(step: int) -> Checkpoint:
    network = Line().network()
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 1)).sum().backward()
    optimiser.step()
    return Checkpoint.of(network, optimiser, step, FACTS, ({"from_step": 1, "commit": "c"},))


def saved(out: Path, *steps: int) -> Path:
    for step in steps:
        save_checkpoint(out, state(step))
    return out


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_round_trip(tmp_path: Path) -> None:
    written = state(4)
    save_checkpoint(tmp_path, written)
    found = latest_checkpoint(tmp_path, FACTS)
    assert found is not None
    assert (found.step, found.facts, found.origins) == (4, json.loads(json.dumps(FACTS)), written.origins)
    assert origins_at(tmp_path, 4) == written.origins
    network = Line().network()
    optimiser = torch.optim.AdamW(network.parameters())
    found.restore(network, optimiser)
    assert all(tensor.equal(written.weights[key]) for key, tensor in network.state_dict().items())
    moments = optimiser.state_dict()["state"][0]["exp_avg"]
    assert moments.equal(written.optimiser["state"][0]["exp_avg"])


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    assert names(saved(tmp_path, 4, 8, 12)) == ["00000008", "00000012"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "folder", "other"])
def test_a_damaged_one_is_passed_over_and_told(tmp_path: Path, name: str, damage: str) -> None:
    path = saved(tmp_path, 4, 8) / "checkpoints" / "00000008" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "other": b"<html>\n"}[damage])
    said: list[str] = []
    found = latest_checkpoint(tmp_path, FACTS, said.append)
    assert found is not None
    assert found.step == 4
    (text,) = said
    assert str(path) in text
    assert text.endswith("going on from the checkpoint of step 4")
    assert "\n" not in text
    # without another one it is an error
    shutil.rmtree(tmp_path / "checkpoints" / "00000004")
    with pytest.raises(InputError, match=rf"{name}.*; expected a whole checkpoint in .*\(fix: choose another --out"):
        latest_checkpoint(tmp_path, FACTS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "step: Field required"),
        ('{"step": "8", "recipe": {}}', "step: Input should be a valid integer"),
        ('{"step": 8, "recipe": []}', "recipe: "),
        ('{"step": 9, "recipe": {}}', "it says step 9"),
        ("[]", "recipe.json cannot be read"),
    ],
)
def test_facts_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    (saved(tmp_path, 8) / "checkpoints" / "00000008" / "recipe.json").write_text(content)
    with pytest.raises(InputError, match=message):
        latest_checkpoint(tmp_path, FACTS)


@pytest.mark.parametrize("recipe", [{}, {"schedule": 3}, {"schedule": {"steps": "x", "decay_steps": 1}}])
def test_another_recipe_is_refused_before_its_tensors_are_read(tmp_path: Path, recipe: dict[str, Any]) -> None:
    folder = saved(tmp_path, 8) / "checkpoints" / "00000008"
    (folder / "recipe.json").write_text(json.dumps({"step": 8, "recipe": recipe}))
    (folder / "weights.safetensors").unlink()
    for refuse in (require_same_recipe, latest_checkpoint):
        with pytest.raises(InputError, match="holds step 8 of another recipe"):
            refuse(tmp_path, FACTS)


def test_checkpoints_that_tell_no_origin_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path, 8) / "checkpoints" / "00000008" / "recipe.json"
    path.write_text(json.dumps({"step": 8, "recipe": FACTS}))
    found = latest_checkpoint(tmp_path, FACTS)
    assert found is not None
    assert found.origins == ()


def test_what_fits_no_network_is_one_line(tmp_path: Path) -> None:
    folder = saved(tmp_path, 8) / "checkpoints" / "00000008"
    network = Line().network()
    optimiser = torch.optim.AdamW(network.parameters())

    def restore() -> None:
        found = latest_checkpoint(tmp_path, FACTS)
        assert found is not None
        found.restore(network, optimiser)

    torch.save({"state": {}}, folder / "optimiser.pt")
    with pytest.raises(InputError, match="checkpoint of step 8 does not fit"):
        restore()
    save_file({"x": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"checkpoint of step 8 does not fit.*Missing key") as caught:
        restore()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("killed_in", ["save_file", "torch.save", "os.replace"])
def test_a_kill_while_saving_leaves_the_others_and_nothing_for_good(
    tmp_path: Path, killed_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 4)

    def killed(*_: Any) -> None:
        raise KilledError

    monkeypatch.setattr(f"gen3r_bench.training.checkpoints.{killed_in}", killed)
    monkeypatch.setattr("gen3r_bench.training.checkpoints.shutil.rmtree", lambda *_, **__: None)  # nobody cleans up
    with pytest.raises(KilledError):
        save_checkpoint(tmp_path, state(8))
    monkeypatch.undo()
    assert names(tmp_path) == [f".00000008.{os.getpid()}", "00000004"]
    found = latest_checkpoint(tmp_path, FACTS)
    assert found is not None
    assert found.step == 4
    prepare_folder(tmp_path)
    assert names(tmp_path) == ["00000004"]


def test_a_full_disk_is_one_line_and_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 4)
    monkeypatch.setattr("gen3r_bench.training.checkpoints.os.fsync", no_space)
    with pytest.raises(StoreError, match=r"cannot write .*00000008: No space left.*free space or choose another --out"):
        save_checkpoint(tmp_path, state(8))
    assert names(tmp_path) == ["00000004"]


@pytest.mark.parametrize("longest", [64, 1000])  # bytes: neither file fits, or the weights alone
def test_libraries_that_hide_what_the_disk_says_are_seen_through(tmp_path: Path, longest: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*00000008: .*File too large"):
            save_checkpoint(tmp_path, state(8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    with pytest.raises(StoreError, match=r"cannot make .*checkpoints"):
        prepare_folder(tmp_path)


def test_other_folders_beside_them_are_left_alone(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    for name in ("2024-copy", "00000012.old"):
        (tmp_path / "checkpoints" / name).mkdir()
    saved(tmp_path, 8, 12)
    assert names(tmp_path) == ["00000008", "00000012", "00000012.old", "2024-copy"]


def test_a_later_one_that_cannot_be_read_does_not_count_as_kept(tmp_path: Path) -> None:
    saved(tmp_path, 4, 12)
    (tmp_path / "checkpoints" / "00000012" / "recipe.json").unlink()
    assert names(saved(tmp_path, 8)) == ["00000004", "00000008"]
