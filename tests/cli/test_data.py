from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gen3r_bench.cli.data import app
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.datasets.splits import SplitManifest
from gen3r_bench.errors import BenchError, InputError, UnknownNameError

FORMATS = ("co3dv2", "dl3dv", "realestate10k", "tartanair", "wildrgbd")
SMALL = ("--frames", "3", "--size", "48")


def data(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "re10k"
    data("export", "mini", "--format", "realestate10k", "--out", folder, "--limit", 4, *SMALL)
    return folder


def split(root: Path, *arguments: object, code: int = 0) -> Result:
    return data("split", "realestate10k", "--data-root", root, *SMALL, *arguments, code=code)


@pytest.mark.parametrize("format_", FORMATS)
def test_mini_goes_through_every_format(format_: str, tmp_path: Path) -> None:
    printed = data("export", "mini", "-f", format_, "-o", tmp_path / "root", "--limit", 2, *SMALL).stdout.splitlines()
    assert len(printed) == 2
    assert all(Path(line).is_dir() for line in printed)
    manifest = tmp_path / "split.json"
    data("split", format_, "--data-root", tmp_path / "root", *SMALL, "--count", 2, "--out", manifest)
    assert len(SplitManifest.read(manifest).scenes) == 2
    data("verify", manifest, "--data-root", tmp_path / "root")


def test_export_takes_named_scenes_whole(tmp_path: Path) -> None:
    from gen3r_bench.datasets.realestate10k import RealEstate10kDataset

    mini = MiniDataset.open(None, {})
    scene_id = mini.scene_ids()[2]
    (line,) = data("export", "mini", "-f", "realestate10k", "-o", tmp_path, "--scenes", scene_id).stdout.splitlines()
    back = RealEstate10kDataset.open(tmp_path, {"layout": "frames", "split": "test"})
    assert np.array_equal(back.load(Path(line).name, DEFAULT_PROFILE).rgb, mini.load(scene_id, DEFAULT_PROFILE).rgb)
    with pytest.raises(UnknownNameError, match="export format 'colmap'"):
        data("export", "mini", "-f", "colmap", "-o", tmp_path)
    with pytest.raises(InputError, match="an export in another format"):
        data("export", "mini", "-f", "dl3dv", "-o", tmp_path)


def test_split_prints_or_writes_a_manifest(export: Path, tmp_path: Path) -> None:
    printed = SplitManifest.model_validate_json(split(export, "--count", 3).stdout)
    assert printed.dataset == "realestate10k"
    assert printed.options == {"layout": "auto", "split": "test"}
    assert printed.counts.model_dump() == {"listed": 4, "wanted": 3, "usable": 3, "excluded": 0}
    assert printed.profile(printed.scenes[0]) == ClipProfile(3, (48, 48))
    path = tmp_path / "deep" / "split.json"
    result = split(export, "--count", 3, "--out", path, "--dataset-option", "layout=frames")
    assert result.stdout == ""
    assert f"3 scenes of 3 wanted, 0 excluded, 4 listed (gen3r-bench split 1) in {path}" in result.stderr
    written = SplitManifest.read(path)
    assert written.scenes == printed.scenes
    assert written.options["layout"] == "frames"
    assert split(export, "--count", 3, "--out", path, "--quiet").output == ""


def test_split_says_what_is_missing(export: Path, tmp_path: Path) -> None:
    root = shutil.copytree(export, tmp_path / "root")
    clips = sorted(root.glob("test/*"))
    shutil.rmtree(clips[0])
    next(clips[1].glob("*.png")).unlink()
    result = split(root, code=1)  # the protocols want 200
    manifest = SplitManifest.model_validate_json(result.stdout)
    assert (manifest.counts.usable, manifest.counts.wanted) == (2, 200)
    reasons = {scene.scene_id: scene.reason for scene in manifest.excluded}
    assert reasons[clips[0].name].startswith("no frames")
    assert "1 of 3 frames are missing" in reasons[clips[1].name]
    assert "2 scenes of 200 wanted, 2 excluded, 4 listed" in result.stderr
    assert f"excluded {clips[0].name}: no frames" in result.stderr


def test_split_from_a_published_list(export: Path) -> None:
    result = split(export, "--published", "pixelsplat-re10k", code=1)
    manifest = SplitManifest.model_validate_json(result.stdout)
    assert manifest.rule == "published pixelsplat-re10k"
    assert (manifest.counts.listed, manifest.counts.usable) == (6474, 0)
    assert "… and 6469 more" in result.stderr
    with pytest.raises(InputError, match="droidslam-tartanair with realestate10k; expected tartanair"):
        split(export, "--published", "droidslam-tartanair")


def test_clip_of_a_protocol(export: Path) -> None:
    manifest = SplitManifest.model_validate_json(data("split", "mini", "--count", 1, "-p", "geom-recon").stdout)
    assert manifest.profile(manifest.scenes[0]) == DEFAULT_PROFILE
    text = split(export, "--count", 1, "--stride", 1, "--start", 0, "--protocol", "pose-recon").stdout
    assert SplitManifest.model_validate_json(text).scenes[0].frames == 3
    with pytest.raises(UnknownNameError):
        split(export, "--protocol", "pose")


def test_protocols_that_differ_must_be_chosen(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
    from gen3r_bench.protocols.card import ClipPlan

    monkeypatch.setitem(APPEARANCE_1VIEW.datasets, "realestate10k", ClipPlan(scenes=7))
    with pytest.raises(InputError, match=r"--protocol with one of .*their clips differ"):
        split(export)


def test_verify(export: Path, tmp_path: Path) -> None:
    root = shutil.copytree(export, tmp_path / "root")
    path = tmp_path / "split.json"
    split(root, "--count", 2, "--out", path)
    good = data("verify", path, "--data-root", root)
    assert good.stdout == ""
    assert "all files are as pinned: 2 scenes of realestate10k" in good.stderr
    scene = SplitManifest.read(path).scene_ids()[1]
    picture = min(root.glob(f"test/{scene}/*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    bad = data("verify", path, "--data-root", root, code=1)
    assert bad.stdout.startswith(f"{scene}: its files or the reader changed")
    shutil.rmtree(picture.parent)
    report = json.loads(data("verify", path, "--data-root", root, "--json", "--quiet", code=1).stdout)
    assert report["scenes"] == 2
    assert report["problems"][0].startswith(f"{scene}: no frames")
    with pytest.raises(BenchError, match="cannot read the manifest"):
        data("verify", tmp_path / "none.json", "--data-root", root)
    with pytest.raises(InputError, match="--data-root"):
        data("verify", path)


def test_published_lists() -> None:
    text = data("published").stdout
    rows = json.loads(data("published", "--json").stdout)
    assert {row["name"]: row["scenes"] for row in rows} == {
        "depthsplat-dl3dv-50": 140,
        "droidslam-tartanair": 32,
        "pixelsplat-re10k": 6474,
    }
    assert all(row["name"] in text and row["source"] for row in rows)
    ids = data("published", "droidslam-tartanair").stdout.splitlines()
    assert len(ids) == 32
    assert ids[0] == "abandonedfactory/Easy/P011"
    assert json.loads(data("published", "droidslam-tartanair", "--json").stdout)["scene_ids"] == ids
