from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen3r_bench.datasets.listing_cache import ListingCache

OLD_NS = 1_600_000_000_000_000_000


def settled(folder: Path, stamp: int = OLD_NS) -> Path:
    """The folder with a modification time that lies long ago."""
    folder.mkdir(exist_ok=True)
    os.utime(folder, ns=(stamp, stamp))
    return folder


class Scan:
    """Lists a folder and counts how often it was asked to."""

    def __init__(self, names: list[str]) -> None:
        self.result = names
        self.calls = 0

    def __call__(self) -> list[str]:
        self.calls += 1
        return list(self.result)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1)))
def test_names_survive_the_process(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    place = tmp_path_factory.mktemp("listing")
    folder, scan = settled(place / "data"), Scan(names)
    first = ListingCache(place / "cache.json")
    assert first.names(folder, "folders", scan) == first.names(folder, "folders", scan) == names
    first.save()
    assert ListingCache(place / "cache.json").names(folder, "folders", scan) == names
    assert scan.calls == 1


def test_a_changed_folder_is_listed_again(tmp_path: Path) -> None:
    cache, scan = ListingCache(tmp_path / "cache.json"), Scan(["a"])
    cache.names(settled(tmp_path / "data"), "folders", scan)
    scan.result = ["a", "b"]
    assert cache.names(settled(tmp_path / "data", OLD_NS + 1), "folders", scan) == ["a", "b"]
    assert scan.calls == 2


def test_entering_a_file_changes_the_time_that_is_looked_at(tmp_path: Path) -> None:
    folder = settled(tmp_path / "data")
    cache = ListingCache(tmp_path / "cache.json")
    assert cache.names(folder, "files", lambda: sorted(os.listdir(folder))) == []
    (folder / "new").touch()
    assert cache.names(folder, "files", lambda: sorted(os.listdir(folder))) == ["new"]


def test_a_folder_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    cache, scan = ListingCache(tmp_path / "cache.json"), Scan(["a"])
    for _ in range(2):
        cache.names(tmp_path / "data", "folders", scan)
    assert scan.calls == 2
    cache.save()
    assert not (tmp_path / "cache.json").exists()


def test_what_is_asked_for_is_part_of_the_key(tmp_path: Path) -> None:
    cache, folder = ListingCache(tmp_path / "cache.json"), settled(tmp_path / "data")
    assert cache.names(folder, "folders", Scan(["a"])) == ["a"]
    assert cache.names(folder, "files", Scan(["b"])) == ["b"]


def test_the_answer_is_the_callers_own(tmp_path: Path) -> None:
    cache, folder = ListingCache(tmp_path / "cache.json"), settled(tmp_path / "data")
    cache.names(folder, "folders", Scan(["a"])).append("x")
    cache.names(folder, "folders", Scan([])).append("y")
    assert cache.names(folder, "folders", Scan([])) == ["a"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"folders /x": 3}', '{"folders /x": ["a", null]}', "\x00"])
def test_a_damaged_cache_is_not_used(tmp_path: Path, content: str) -> None:
    (tmp_path / "cache.json").write_text(content)
    folder, scan = settled(tmp_path / "data"), Scan(["a"])
    cache = ListingCache(tmp_path / "cache.json")
    assert cache.names(folder, "folders", scan) == ["a"]
    cache.save()
    assert ListingCache(tmp_path / "cache.json").names(folder, "folders", Scan([])) == ["a"]


def test_an_unwritable_place_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ListingCache(tmp_path / "file" / "cache.json")
    cache.names(settled(tmp_path / "data"), "folders", Scan(["a"]))
    cache.save()


def test_errors_of_the_listing_pass_through(tmp_path: Path) -> None:
    def missing() -> list[str]:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        ListingCache(tmp_path / "cache.json").names(tmp_path / "absent", "folders", missing)
