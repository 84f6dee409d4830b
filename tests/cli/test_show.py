"""The real command, on a run that kept its predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process
from PIL import Image


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``kept`` of one scene."""
    folder = tmp_path_factory.mktemp("show")
    gen3r_bench(
        "run", "-p", "geom-1view", "-m", "freeze", "--limit", 1, "--keep-predictions", "-o", "kept", "-q", cwd=folder
    )
    return folder


def test_a_scene_becomes_a_picture_whose_path_is_printed(place: Path) -> None:
    done = gen3r_bench_process("show", "kept", "--scene", "test/000", "--quiet", cwd=place)
    assert (done.stdout, done.stderr) == ("test-000.png\n", "")
    with Image.open(place / "test-000.png") as picture:
        assert picture.width > 1500
        assert picture.height > 2000  # the truth and four rows


def test_json_says_what_is_in_the_picture(place: Path) -> None:
    done = gen3r_bench(
        "show", "kept", "-s", "test/000", "-m", "wobble", "-m", "freeze", "-o", "two.png", "--json", cwd=place
    )
    content = json.loads(done.stdout)
    assert [entry["row"] for entry in content["rows"]] == ["wobble", "freeze"]
    assert content["input_frames"] == [0]
    assert "Chamfer" in content["rows"][0]["scores"]
    assert (place / content["picture"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kept", "-s", "test/00"], "unknown scene of the run 'test/00'; did you mean 'test/000'"),
        (["kept", "-s", "test/000", "-m", "freeze", "-o", "no/where.png"], "cannot write no/where.png"),
        (["kept"], "Missing option '--scene'"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_reason(place: Path, arguments: list[str], message: str) -> None:
    done = gen3r_bench("show", *arguments, cwd=place, code=2)
    assert message in " ".join(done.stderr.replace("│", " ").split())
