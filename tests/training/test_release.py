from __future__ import annotations

import json
from pathlib import Path

import pytest
from line_recipe import KilledError, Line, killed_after

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.training.loop import train
from gen3r_bench.training.release import Released, release, released


def finished(out: Path) -> Released:
    return release(Line(), train(Line(), out, cpu=True, origin={"commit": "a"}), out, "line")


def test_what_is_released_is_found_again_and_not_written_again(tmp_path: Path) -> None:
    assert released(Line(), tmp_path, "line") is None
    files = finished(tmp_path)
    assert [path.name for path in files] == ["line.safetensors", "line.json", "line.png"]
    card = json.loads(files.card.read_text())
    assert card["origin"] == {"commit": "a"}
    assert card["mean_losses_of_the_last_steps"].keys() == {"steps", "total", "square"}
    assert card["mean_losses_of_the_last_steps"]["steps"] == 12
    before = [path.stat().st_mtime_ns for path in files]
    assert released(Line(), tmp_path, "line") == files
    assert [path.stat().st_mtime_ns for path in files] == before
    files.curves.unlink()
    assert released(Line(), tmp_path, "line") == files
    assert files.curves.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("damaged", ["weights", "card"])
@pytest.mark.parametrize("content", [None, b"", b"[]"])
def test_a_damaged_release_is_none(tmp_path: Path, damaged: str, content: bytes | None) -> None:
    files = finished(tmp_path)
    card = files.card.read_bytes()
    path: Path = getattr(files, damaged)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert released(Line(), tmp_path, "line") is None
    release(Line(), train(Line(), tmp_path, cpu=True, origin={"commit": "b"}), tmp_path, "line")
    assert files.card.read_bytes() == card


def test_a_card_tells_every_origin(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(Line(), tmp_path, cpu=True, origin={"commit": "a"}, on_step=killed_after(6))
    network = train(Line(), tmp_path, cpu=True, origin={"commit": "b"})
    card = json.loads(release(Line(), network, tmp_path, "line").card.read_text())
    assert card["origin"] == [{"from_step": 1, "commit": "a"}, {"from_step": 5, "commit": "b"}]


def test_a_card_of_another_recipe_is_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    with pytest.raises(InputError, match=r"line\.json is the card of another recipe"):
        released(Line(learning_rate=0.03), tmp_path, "line")


def test_lines_that_are_gone_are_missed(tmp_path: Path) -> None:
    files = finished(tmp_path)
    network = train(Line(), tmp_path, cpu=True)
    losses = tmp_path / "losses.jsonl"
    lines = losses.read_bytes().splitlines(keepends=True)
    files.card.unlink()
    for rest in (lines[:-1], lines[:-2] + lines[-1:], []):
        losses.write_bytes(b"".join(rest))
        with pytest.raises(InputError, match=r"losses\.jsonl"):
            release(Line(), network, tmp_path, "line")
    assert not files.card.exists()


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    network = train(Line(), tmp_path, cpu=True)
    (tmp_path / "line.png").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*line\.png"):
        release(Line(), network, tmp_path, "line")
    assert not (tmp_path / "line.json").exists()
