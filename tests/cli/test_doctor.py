from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from gen3r_bench.cli.doctor import doctor
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.errors import BenchError, InputError, UnknownNameError

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(doctor)


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "100"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def capture(folder: Path, *, axes: str) -> Path:
    """A mini scene as a capture of one's own, with the axes named as given, rightly ("opencv") or not."""
    scene = MiniDataset.open(None, {}).load("test/000", ClipProfile(13, (112, 112)))
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    assert scene.depth is not None
    frames = []
    for i, (rgb, pose) in enumerate(zip(scene.rgb, scene.cameras.world_from_cam, strict=True)):
        Image.fromarray(rgb).save(folder / "images" / f"{i:03d}.png")
        np.save(folder / "depth" / f"{i:03d}.npy", scene.depth[i])
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": pose.tolist()})
    k = scene.cameras.intrinsics[0]
    content = {"axes": axes, "scale": "metric", "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    (folder / "transforms.json").write_text(json.dumps({**content, "frames": frames}))
    return folder


def test_a_sound_scene_passes_with_a_table_and_a_sheet(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    result = call("mini", "--scene", "test/001", "--sheet", str(sheet))
    assert result.exit_code == 0, result.output
    assert "mini test/001: ok" in result.stdout
    assert "convention: as-read" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "Contact sheet" not in result.stdout
    with Image.open(sheet) as image:
        assert image.format == "PNG"


def test_wrong_axes_fail_and_are_named(tmp_path: Path) -> None:
    root = capture(tmp_path / "own", axes="opengl")
    words = ("folder", "--data-root", str(root), "--frames", "13", "--size", "112")
    result = call(*words)
    assert result.exit_code == 1
    assert "convention: opengl" in result.stdout
    assert "OpenGL axes" in " ".join(result.stdout.split())
    report = json.loads(call(*words, "--json").stdout)
    assert report[0]["level"] == "error"
    assert report[0]["epipolar_px"]["opengl"] < report[0]["epipolar_px"]["as-read"] / 3
    (root / "transforms.json").write_text((root / "transforms.json").read_text().replace("opengl", "opencv"))
    assert call(*words).exit_code == 0


def test_a_missing_picture_fails_with_a_sheet_all_the_same(tmp_path: Path) -> None:
    root = capture(tmp_path / "own", axes="opencv")
    (root / "images" / "005.png").write_bytes(b"no picture")
    sheet = tmp_path / "sheet.png"
    result = call(
        "folder", "--data-root", str(root), "--frames", "13", "--size", "112", "--sheet", str(sheet), "--json", "-q"
    )
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout)
    assert report["convention"] is None
    assert "005.png" in report["findings"][0]["message"]
    assert report["findings"][0]["measured"] == "12 readable"
    assert sheet.is_file()


def test_count_takes_the_first_scenes() -> None:
    report = json.loads(call("mini", "--count", "2", "--json").stdout)
    assert [scene["scene_id"] for scene in report] == ["test/000", "test/001"]


def test_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        call("minni")
    with pytest.raises(UnknownNameError):
        call("mini", "--scene", "test/999")
    with pytest.raises(InputError):
        call("mini", "--data-root", str(tmp_path))
    with pytest.raises(BenchError, match="--sheet"):
        call("mini", "--count", "1", "--sheet", str(tmp_path / "no" / "sheet.png"))
    assert call("mini", "--count", "0").exit_code == 2
