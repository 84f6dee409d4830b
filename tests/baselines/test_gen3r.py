from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import gen3r_bench
from tiny import conditioned, tiny_scene
from tiny_gen3r import write_folder

from gen3r_bench.baselines.gen3r import FOLDERS, Gen3r
from gen3r_bench.baselines.joint_clips import working_size
from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras

SIDE = 112
PROTOCOLS = ("geom-1view", "geom-2view", "geom-recon", "appearance-2view", "camera-1view")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("gen3r") / "tiny")


@pytest.fixture(scope="module")
def method(folder: Path) -> Gen3r:
    from gen3r_bench.models.joint.pipeline import Sampling

    loaded = Gen3r.load(str(folder), device="cpu")
    loaded.sampling = Sampling(steps=2)
    return loaded


def test_nothing_heavy_is_imported_for_its_contract(tmp_path: Path) -> None:
    code = "import sys, gen3r_bench.baselines.gen3r; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_missing_weights_say_what_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as caught:
        Gen3r.load("official", device="cpu")
    assert f"{tmp_path / 'gen3r'} does not exist" in str(caught.value)
    assert caught.value.fix == f"hf download JaceyH919/Gen3R --local-dir {tmp_path / 'gen3r'}"
    for name in FOLDERS[:-2]:
        (tmp_path / "gen3r" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="tokenizer, scheduler missing in"):
        Gen3r.load(None, device="cpu")
    with pytest.raises(InputError, match="a folder of its layout"):
        Gen3r.load(str(tmp_path / "other"), device="cpu")


def test_missing_libraries_are_named_before_anything_is_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen3r_bench.baselines.gen3r.LIBRARIES", ("torch", "no_such_library"))
    with pytest.raises(InputError, match=r"no_such_library not installed.*pip install no_such_library"):
        Gen3r.load(str(folder), device="cpu")


def test_the_official_place_is_used(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gen3r").symlink_to(folder)
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    loaded = Gen3r.load("official", device="cpu")
    assert loaded.native_size is None  # tiny weights were not trained at 560
    assert loaded.checkpoint_sha256 is not None
    assert len(loaded.checkpoint_sha256) == 64


@pytest.mark.parametrize("setting", ["1view", "2view", "allview"])
def test_a_prediction_in_every_setting(method: Gen3r, setting: str) -> None:
    scene = tiny_scene(frames=5, size=(SIDE, SIDE))
    prediction = method.predict(conditioned(scene, setting))
    assert prediction.parts() == ("rgb", "depth", "world_from_cam", "intrinsics")
    assert prediction.frame_indices == tuple(range(5))
    assert prediction.image_size == (SIDE, SIDE)
    expected = ("cameras not used: with every frame given, Gen3R reconstructs without them",)
    assert prediction.adaptations == (expected if setting == "allview" else ())
    without = method.predict(conditioned(scene, setting, cameras=False))
    assert np.array_equal(prediction.rgb, without.rgb) == (setting == "allview")


def test_tiles_are_asked_for_by_name_and_recorded(folder: Path, method: Gen3r) -> None:
    tiled = Gen3r.load(f"{folder}+tiled", device="cpu")
    assert tiled.checkpoint_sha256 == method.checkpoint_sha256 or method.checkpoint_sha256 is None
    tiled.sampling = method.sampling
    conditioning = conditioned(tiny_scene(frames=5, size=(SIDE, SIDE)))
    prediction, whole = tiled.predict(conditioning), method.predict(conditioning)
    assert prediction.adaptations == ("frames pass the Wan VAE in overlapping tiles",)
    # one tile covers this clip, so only the blending's rounding is left
    assert np.abs(prediction.rgb.astype(int) - whole.rgb).max() <= 1
    with pytest.raises(InputError, match="a folder of its layout"):
        Gen3r.load("nowhere+tiled", device="cpu")


def test_randomness_comes_from_the_seed_alone(method: Gen3r) -> None:
    scene = tiny_scene(frames=5, size=(SIDE, SIDE))
    first, again = (method.predict(conditioned(scene)) for _ in range(2))
    other = method.predict(conditioned(scene, seed=4))
    assert np.array_equal(first.depth, again.depth)
    assert not np.array_equal(first.depth, other.depth)
    largest = method.predict(conditioned(scene, seed=2**64 - 1))
    assert largest.depth is not None


@pytest.mark.parametrize("setting", ["2view", "allview"])
def test_other_sizes_and_lengths_are_adapted_and_recorded(method: Gen3r, setting: str) -> None:
    scene = tiny_scene(frames=4, size=(120, 200))
    prediction = method.predict(conditioned(scene, setting, cameras=False))
    assert prediction.image_size == (120, 200)
    assert prediction.frame_indices == (0, 1, 2, 3)
    assert prediction.intrinsics is not None
    assert prediction.intrinsics[:, 0, 2] == pytest.approx(100)
    assert prediction.intrinsics[:, 1, 2] == pytest.approx(60)
    assert prediction.adaptations == (
        "frames resized from 120 x 200 to 112 x 224, and everything back",
        "1 frames generated behind the last one and cut off, for 1 + 4 k frames",
    )


def test_cameras_follow_the_resize(method: Gen3r, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = tiny_scene(frames=4, size=(56, 56))
    seen: list[Cameras] = []
    pipeline = method.pipeline
    call = type(pipeline).__call__
    monkeypatch.setattr(
        type(pipeline),
        "__call__",
        lambda self, given, sampling: (seen.append(given.cameras), call(self, given, sampling))[1],
    )
    method.predict(conditioned(scene))
    assert seen[0].image_size == (SIDE, SIDE)
    assert len(seen[0]) == 5
    assert seen[0].intrinsics[3, :2] == pytest.approx(2 * scene.cameras.intrinsics[3, :2])
    assert np.array_equal(seen[0].world_from_cam[4], scene.cameras.world_from_cam[3])


def test_native_size_of_the_released_weights() -> None:
    assert working_size((560, 560), (560, 560), 112) == (560, 560)
    assert working_size((112, 112), (560, 560), 112) == (560, 560)
    assert working_size((720, 1280), (560, 560), 112) == (560, 1008)
    assert working_size((300, 20), None, 112) == (336, 112)


def test_another_length_than_trained_is_recorded(method: Gen3r) -> None:
    scene = tiny_scene(frames=5, size=(SIDE, SIDE))
    native = Gen3r(method.pipeline, native_size=(SIDE, SIDE), sampling=method.sampling)
    assert native.predict(conditioned(scene)).adaptations == ("5 frames; the weights were trained on 49",)


def test_five_protocols_end_to_end(folder: Path, tmp_path: Path) -> None:
    """The real command on the embedded dataset, with weights that were never trained."""
    # through a file, so that the whole sampling of 50 steps is not repeated for every clip
    (tmp_path / "few.py").write_text(
        "from gen3r_bench.baselines.gen3r import Gen3r as Base\n"
        "from gen3r_bench.models.joint.pipeline import Sampling\n"
        "class Few(Base):\n"
        "    @classmethod\n"
        "    def load(cls, checkpoint, *, device):\n"
        "        method = super().load(checkpoint, device=device)\n"
        "        method.sampling = Sampling(steps=2)\n"
        "        return method\n"
    )
    protocols = [part for name in PROTOCOLS for part in ("--protocol", name)]
    method = ["--method", f"few.py:Few@{folder}", "--no-diagnostics"]
    done = gen3r_bench("run", "--limit", 1, "--jobs", 1, *protocols, *method, "-o", "run", "-q", cwd=tmp_path)
    records = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    ours = [record for record in records if record["row"].startswith("gen3r@")]
    assert {record["protocol"] for record in ours} == set(PROTOCOLS), done.stdout + done.stderr
    for record in ours:
        assert record["status"] == "ok", record
