from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from regression.goldens import golden_of
from reports.synthetic import GEN3R, WVD, flat, row, write_run

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.protocols.geometry import GEOM_2VIEW
from gen3r_bench.regression.golden import (
    Golden,
    Wanted,
    chosen,
    read_golden,
    read_goldens,
    readable_goldens,
    reference_folder,
    write_golden,
)


@pytest.fixture
def golden(tmp_path: Path) -> Golden:
    return golden_of(write_run(tmp_path / "run", lambda p, r, s, seed: flat(float(s[1:])), rows=(GEN3R,)))


def test_what_is_written_is_read_again(golden: Golden, tmp_path: Path) -> None:
    path = write_golden(golden, tmp_path / "new" / "goldens")
    assert path.name == "gen3r@reference.geom-1view.mini.json"
    assert read_golden(path) == golden
    assert read_goldens(path.parent) == {path: golden}
    again = write_golden(golden, path.parent)
    assert again == path
    assert all(record.seconds is None and record.peak_memory_bytes is None for record in golden.records)


def edited(path: Path, golden: Golden, *place: Any, value: Any) -> None:
    content = golden.model_dump(mode="json")
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("records", 0, "scores", "chamfer@fps20k"), 1.25, "was changed after it was written"),
        (("reason",), "another", "was changed after it was written"),
        (("header", "environment", "numpy"), "3.0", "was changed after it was written"),
        (("calibration", "tolerances", "chamfer@fps20k", "tolerance"), 5.0, "does not follow from its drift"),
        (("calibration", "factor"), 1000.0, "does not follow from its drift"),
        (("calibration", "tolerances", "chamfer@fps20k", "drift"), -1.0, "greater than or equal to 0"),
        (("records", 0, "scores", "chamfer@fps20k"), float("nan"), "finite number"),
        (("records", 0, "scores"), {"psnr@8bit": 3.0}, "a score of s0 has no tolerance"),
        (("records", 0, "scene_id"), "s1", "not one for each scene and seed"),
        (("records", 0, "row"), "wvd@reference", "is not one of gen3r@reference"),
        (("records",), [], "at least 1 item"),
        (("header", "rows"), [], "one row, one protocol and one dataset"),
        (("extra",), 1, "Extra inputs are not permitted"),
        (("schema_version",), 2, "has schema version 2; this suite reads version 1"),
        (("schema_version",), None, "has schema version None"),
        (("schema_version",), True, "has schema version True"),
        (("schema_version",), 1.0, "has schema version 1.0"),
    ],
)
def test_a_golden_that_was_edited_or_is_of_another_version_is_refused(
    golden: Golden, tmp_path: Path, place: tuple[Any, ...], value: Any, message: str
) -> None:
    path = tmp_path / "golden.json"
    edited(path, golden, *place, value=value)
    with pytest.raises(StoreError, match=message):
        read_golden(path)


def test_a_repeated_record_and_no_json(golden: Golden, tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    records = golden.model_dump(mode="json")["records"]
    edited(path, golden, "records", value=[*records, records[0]])
    with pytest.raises(StoreError, match="not one for each scene and seed"):
        read_golden(path)
    for text in ("{", "[]", "[" * 200_000):
        path.write_text(text)
        with pytest.raises(StoreError, match=r"damaged|schema version None"):
            read_golden(path)
    with pytest.raises(StoreError, match="cannot read"):
        read_golden(tmp_path / "nowhere.json")


def test_two_files_of_one_row_and_protocol_are_refused(golden: Golden, tmp_path: Path) -> None:
    path = write_golden(golden, tmp_path / "goldens")
    (path.parent / "copy.json").write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match="both guard gen3r@reference"):
        read_goldens(path.parent)
    found, problems = readable_goldens(path.parent)
    assert list(found.values()) == [golden]
    assert "(fix: remove one)" in str(problems[0])


def test_what_cannot_be_read_is_passed_over_and_written_over(golden: Golden, tmp_path: Path) -> None:
    folder = tmp_path / "my goldens"
    path = write_golden(golden, folder)
    (folder / "b.json").write_text(path.read_text())
    path.write_text(path.read_text()[:-20])
    found, (problem,) = readable_goldens(folder)
    assert found == {folder / "b.json": golden}
    assert str(problem).startswith(f"{path} is damaged: ")
    assert f"--protocol PROTOCOL --dataset DATASET --goldens '{folder}')" in str(problem)
    assert read_golden(write_golden(golden, folder)) == golden
    assert readable_goldens(tmp_path / "nowhere") == ({}, [])
    with pytest.raises(StoreError, match=r"cannot make .*choose another --goldens"):
        write_golden(golden, path / "a file is no folder")


def test_a_name_that_belongs_to_another_golden(golden: Golden, tmp_path: Path) -> None:
    other = golden_of(write_run(tmp_path / "w", lambda p, r, s, seed: flat(1.0), rows=(row("gen3r/@reference"),)))
    twin = golden_of(write_run(tmp_path / "v", lambda p, r, s, seed: flat(1.0), rows=(row("gen3r_@reference"),)))
    assert other.file_name == twin.file_name
    write_golden(other, tmp_path / "goldens")
    with pytest.raises(StoreError, match="is the golden of gen3r/@reference"):
        write_golden(twin, tmp_path / "goldens")


def test_an_empty_folder_says_how_goldens_are_made(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="regress --update"):
            read_goldens(folder)


def test_names_choose_goldens(golden: Golden, tmp_path: Path) -> None:
    other = golden_of(write_run(tmp_path / "w", lambda p, r, s, seed: flat(1.0), rows=(WVD,), cards=(GEOM_2VIEW,)))
    goldens = {Path("a"): golden, Path("b"): other}
    assert chosen(goldens, Wanted()) == goldens
    assert list(chosen(goldens, Wanted(methods=("wvd",)))) == [Path("b")]
    assert list(chosen(goldens, Wanted(methods=("gen3r@reference", "wvd")))) == [Path("a"), Path("b")]
    assert list(chosen(goldens, Wanted(protocols=("geom-1view",), datasets=("mini",)))) == [Path("a")]
    for wanted, message in (
        (Wanted(methods=("gen3r@official",)), "no golden of method 'gen3r@official'"),
        (Wanted(methods=("wvd",), protocols=("geom-1view",)), "no golden of method 'wvd' among"),
        (Wanted(datasets=("dl3dv",)), "no golden of dataset 'dl3dv'"),
    ):
        with pytest.raises(InputError, match=message):
            chosen(goldens, wanted)


def test_the_shipped_goldens_say_what_they_stand_on() -> None:
    for path, golden in read_goldens(reference_folder()).items():
        assert path.name == golden.file_name
        assert golden.commit, path
        assert golden.header.environment["device"] == "cpu"
        names = {observed.name for observed in golden.calibration.observed}
        assert {"1 thread", "2 threads", "CPU with AVX2", "CPU with SSE4", "last digits of the data"} <= names
        if golden.row.kind == "method":
            assert len(golden.row.checkpoint_sha256 or "") == 64
            said = " ".join(golden.calibration.not_observed)
            assert ("float64" in names) != ("no rounding variants" in said)
        assert "/" not in golden.header.command
