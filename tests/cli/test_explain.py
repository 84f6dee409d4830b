"""The real command, on a run that kept its predictions."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process
from PIL import Image

METHOD = """
import numpy as np
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Prediction

class Wall(Method):
    contract = Contract(
        method_id="wall", title="Wall", summary="A slanted wall.", settings=("1view",),
        returns=("rgb", "depth", "cameras"), cameras="required",
    )
    slope = 0.02

    def predict(self, conditioning):
        frames, (height, width) = conditioning.num_frames, conditioning.image_size
        wall = 2 + self.slope * np.arange(width)
        return Prediction(
            frame_indices=range(frames),
            rgb=np.repeat(conditioning.rgb, frames, axis=0),
            depth=np.broadcast_to(wall, (frames, height, width)).astype(np.float32),
            world_from_cam=conditioning.cameras.world_from_cam,
            intrinsics=conditioning.cameras.intrinsics,
        )

class Flat(Wall):
    contract = Contract(
        method_id="flat", title="Flat", summary="A wall.", settings=("1view",),
        returns=("rgb", "depth", "cameras"), cameras="required",
    )
    slope = 0.0
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``kept``: three protocols, two methods and a floor, two scenes."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "walls.py").write_text(METHOD)
    gen3r_bench(
        "run", "-p", "geom-1view", "-p", "appearance-1view", "-p", "camera-1view", "-m", "walls.py:Wall",
        "-m", "walls.py:Flat", "-m", "freeze", "--no-diagnostics", "--limit", 2, "--keep-predictions", "-o", "kept",
        "-q", cwd=folder,
    )  # fmt: skip
    return folder


def test_json_a_figure_and_a_run_that_comes_out_again(place: Path) -> None:
    one = ("--scenes", "test/000")  # for the time: every way of scoring it, of all rows and protocols
    done = gen3r_bench("explain", "kept", *one, "--json", "--figure", "moves.png", "--quiet", cwd=place)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["scores_compared_with_the_record"] == 3 * (3 + 2 + 3)
    assert found["differences_from_the_record"] == []
    panels = {panel["metric"]: panel for panel in found["panels"]}
    assert {"chamfer@fps20k", "psnr@8bit", "ssim@skimage-gauss", "auc30@hist1deg"} <= set(panels)
    lines = {line["dialect"]: line["rows"] for line in panels["chamfer@fps20k"]["lines"]}
    assert lines["scale=umeyama"]["wall"]["moved"] != 0
    assert lines["default"]["wall"]["rank"] in {1, 2}
    assert lines["default"]["freeze"]["rank"] is None
    with Image.open(place / "moves.png") as figure:
        assert figure.width > 1000


def test_the_terminal_fits_100_columns_and_says_what_is_partial(place: Path) -> None:
    done = gen3r_bench_process("explain", "kept", "-p", "camera-1view", "--jobs", 1, cwd=place)
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 100
    assert "AUC@30 ↑ · Camera control from one view · mini 13×112×112" in done.stdout
    assert "recipe=vggt" in done.stdout
    assert "All 18 recorded scores came out again in the card's own way." in done.stdout
    assert "Partial run" in done.stdout


def test_only_what_was_asked_for_in_the_format_asked_for(place: Path) -> None:
    chosen = ("-p", "geom-1view", "-m", "wall", "--scenes", "test/001", "--dialect", "scale=none")
    done = gen3r_bench("explain", "kept", *chosen, "--format", "csv", cwd=place)
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {line["dialect"] for line in lines} == {"default", "scale=none"}
    assert {(line["row"], line["N"]) for line in lines} == {("wall", "1")}
    written = gen3r_bench("explain", "kept", *chosen, "--format", "markdown", "--out", "e.md", cwd=place)
    assert written.stdout == ""
    assert "Wrote e.md" in written.stderr
    assert "| scale=none" in (place / "e.md").read_text().replace("\\", "")


def test_a_damaged_prediction_is_exit_1_with_its_reason(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "kept", tmp_path / "torn")
    bundle = tmp_path / "torn/predictions/flat/1view-cameras-given/seed-42/mini/test/000"
    (bundle / "geometry.safetensors").write_bytes(b"")
    done = gen3r_bench("explain", "torn", "-p", "camera-1view", cwd=tmp_path, code=1)
    text = " ".join(done.stdout.split())
    assert "1 predictions not scored again" in text
    assert "does not match its checksum" in text
    assert "default, flat: n = 1 of 2 scenes" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run folder"),
        (["kept", "-m", "wal"], "unknown row of the run 'wal'; did you mean 'wall'"),
        (["kept", "--dialect", "scale=horn"], "unknown dialect 'scale=horn'; did you mean 'scale=none'"),
        (["kept", "--data-root", "x=/nowhere"], "unknown dataset in --data-root 'x'"),
        (["bare"], "--keep-predictions --fresh"),
        (["kept", "-p", "camera-1view", "-m", "flat", "--scenes", "test/000", "-o", "no/x"], "cannot write no/x"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_reason(place: Path, arguments: list[str], message: str) -> None:
    if not (place / "bare").exists():
        shutil.copytree(place / "kept", place / "bare", ignore=lambda *_: ["predictions"])
    done = gen3r_bench("explain", *arguments, cwd=place, code=2)
    assert message in " ".join(done.stderr.split())


def test_the_dialects_are_listed(tmp_path: Path) -> None:
    done = gen3r_bench("ls", "dialects", cwd=tmp_path)
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 100
    listed = json.loads(gen3r_bench("ls", "dialects", "--json", cwd=tmp_path).stdout)
    (entry,) = [row for row in listed if row["dialect"] == "scale=umeyama"]
    assert entry["source"] == "Umeyama 1991, eq. 42"
