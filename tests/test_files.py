from __future__ import annotations

from pathlib import Path

import pytest

from gen3r_bench.errors import StoreError
from gen3r_bench.files import write_atomically


def test_a_file_without_a_name_cannot_be_written() -> None:
    with pytest.raises(StoreError, match=r"cannot write \.: it is a folder"):
        write_atomically(Path(), b"")


def test_write_atomically_replaces(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        write_atomically(tmp_path / "missing" / "x", b"")


def test_the_fix_names_the_option_that_chooses_the_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x"
    with pytest.raises(StoreError, match=r"choose another --out\)"):
        write_atomically(path, b"")
    with pytest.raises(StoreError, match=r"choose another --junit\)"):
        write_atomically(path, b"", "--junit")
