from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.training.losses import LossWriter, read_losses

THREE = b'{"step": 1, "total": 3.5}\n{"step": 2, "total": 3}\n{"step": 3, "total": NaN}\n'
TWICE = b'{"step": 1, "total": 3.5}\n{"step": 1, "total": 3.5}\n'


def written(out: Path, content: bytes) -> Path:
    out.mkdir(exist_ok=True)
    (out / "losses.jsonl").write_bytes(content)
    return out


def test_round_trip(tmp_path: Path) -> None:
    with LossWriter(tmp_path / "a" / "b") as writer:
        writer.append({"step": 1, "total": 0.1})
        writer.append({"step": 2, "total": 0.2})
        writer.to_disk()
    assert read_losses(tmp_path / "a" / "b") == [{"step": 1, "total": 0.1}, {"step": 2, "total": 0.2}]
    assert read_losses(tmp_path) == []


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_line_cut_off_by_a_kill_is_not_there(tmp_path: Path, cut: int) -> None:
    out = written(tmp_path, THREE[:-cut])
    assert [line["step"] for line in read_losses(out)] == [1, 2]
    with pytest.raises(InputError, match=r"losses\.jsonl holds 2 of 3 steps; expected a line for every step"):
        read_losses(out, 3)
    with LossWriter(out) as writer:
        writer.keep(2)
        writer.append({"step": 3, "total": 4})
    assert [line["total"] for line in read_losses(out)] == [3.5, 3, 4]


def test_what_follows_the_kept_steps_is_cut_off_whatever_it_is(tmp_path: Path) -> None:
    out = written(tmp_path, THREE + b"\xff\n")
    with LossWriter(out) as writer:
        writer.keep(2)
    assert (out / "losses.jsonl").read_bytes() == THREE[: THREE.index(b'{"step": 3')]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"step": "x", "total": 1}\n', r"line 1 is .*; expected the losses of step 1"),
        (b"\xff\xfe\n", "line 1 is "),
        (b"[" * 100_000 + b"\n", "line 1 is "),
        (b"[1]\n", r"line 1 is '\[1\]'"),
        (b"\n", "line 1 is ''"),
        (b'{"step": 1}\n', "line 1 is "),
        (b'{"step": true, "total": 1}\n', "line 1 is "),
        (b'{"step": 1, "total": "low"}\n', "line 1 is "),
        (TWICE, "line 2 is .*expected the losses of step 2"),
        (THREE[THREE.index(b"\n") + 1 :], "line 1 is .*expected the losses of step 1"),
    ],
)
def test_a_line_that_is_not_of_its_step_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    out = written(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        read_losses(out)
    assert len(str(caught.value)) < 250 + len(str(out))
    with LossWriter(out) as writer, pytest.raises(InputError, match=message):
        writer.keep(2)
    assert (out / "losses.jsonl").read_bytes() == content


def test_places_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "losses.jsonl").mkdir(parents=True)
    for out in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / "folder", Path("/proc/x")):
        with pytest.raises(StoreError, match=r"cannot open .*losses\.jsonl: .*\(fix: "):
            LossWriter(out)
    for out in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(StoreError, match=r"cannot read .*losses\.jsonl: "):
            read_losses(out)


def test_two_writers_never_share_a_folder(tmp_path: Path) -> None:
    with LossWriter(tmp_path) as writer:
        writer.append({"step": 1, "total": 1})
        with pytest.raises(StoreError, match=r"another training writes into .*\(fix: wait for it, or choose another"):
            LossWriter(tmp_path)
    with LossWriter(tmp_path) as writer:
        writer.append({"step": 2, "total": 1})
    assert len(read_losses(tmp_path)) == 2


def test_a_folder_without_locks_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(StoreError, match=r"cannot lock .*losses\.jsonl: No locks available"):
        LossWriter(tmp_path)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "losses.jsonl").symlink_to("/dev/full")
    with LossWriter(tmp_path) as writer, pytest.raises(StoreError, match=r"cannot append to .*No space left"):
        writer.append({"step": 1, "total": 1})
