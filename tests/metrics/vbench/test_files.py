"""The table of VBench's files: one folder for all, and what their names and places say agrees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gen3r_bench.metrics.vbench.files import (
    DIMENSIONS,
    FILES,
    Dimension,
    are_random,
    cache_folder,
    files_of,
    weight_paths,
)
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX


def test_all_lies_in_one_folder(weights: Path) -> None:
    assert cache_folder() == weights / "vbench"
    assert all(path.is_relative_to(cache_folder()) for file in FILES for path in file.paths())


def test_names_and_places_are_unique() -> None:
    names = [file.name for file in FILES]
    paths = [path for file in FILES for path in file.paths()]
    assert len(set(names)) == len(names)
    assert len(set(paths)) == len(paths)
    assert all(name.startswith("vbench-") for name in names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_archive_has_members_and_a_file_has_none(file) -> None:
    assert file.place.endswith("/") == bool(file.members) == file.url.endswith(".zip")
    assert file.url.startswith("https://")
    assert file.dimensions
    assert set(file.dimensions) <= set(DIMENSIONS)


def test_hashes_are_those_in_the_published_names() -> None:
    by_name = {file.name: file for file in FILES}
    assert by_name["vbench-musiq"].sha256 in by_name["vbench-musiq"].url
    assert by_name["vbench-clip"].sha256 in by_name["vbench-clip"].url
    assert all(re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", file.sha256) for file in FILES if file.sha256 is not None)


def test_what_may_not_be_used_commercially_is_marked() -> None:
    marked = {file.name for file in FILES if file.noncommercial}
    assert marked == {"vbench-musiq", "vbench-amt"}
    assert marked == {file.name for file in FILES if re.search("NC|Noncommercial", file.licence)}


def test_every_dimension_needs_something(weights: Path) -> None:
    assert [len(files_of(dimension)) for dimension in DIMENSIONS] == [2, 3, 1, 2, 1]
    assert not [path for file in FILES for path in file.missing()]


def test_what_is_missing(weights: Path) -> None:
    file = next(file for file in FILES if file.name == "vbench-dreamsim")
    gone = weights / "vbench" / "hub" / "clip_vitb16_pretrain.pth.tar"
    gone.unlink()
    assert file.missing() == [gone]


def test_the_adapter_counts_among_dreamsims_weights(weights: Path) -> None:
    adapter = weights / "vbench" / "hub" / "ensemble_lora" / "adapter_model.safetensors"
    assert adapter not in weight_paths("i2v_background")
    adapter.touch()
    assert adapter in weight_paths("i2v_background")
    assert adapter not in weight_paths("i2v_subject")


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_one_file_of_random_numbers_makes_all_random(weights: Path, dimension: Dimension) -> None:
    assert not are_random(dimension)
    last = files_of(dimension)[-1].paths()[-1]
    last.with_name(last.name + RANDOM_SUFFIX).touch()
    assert are_random(dimension)
    assert not [path for path in weight_paths(dimension) if path.name.endswith(RANDOM_SUFFIX)]
    others = [other for other in DIMENSIONS if not set(files_of(other)) & set(files_of(dimension))]
    assert not any(are_random(other) for other in others)
