from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import gen3r_bench
from tiny import conditioned, tiny_scene
from tiny_gen3r import tiny_modules as gen3r_modules
from tiny_gen3r import write_parts
from tiny_wvd import write_wvd_folder

from gen3r_bench.baselines.wvd import Wvd
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini.dataset import MiniDataset
from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.pipeline import ClipInputs, Sampling
from gen3r_bench.models.wvd.normalisation import fit_normaliser
from gen3r_bench.models.wvd.pipeline import Clip, WvdPipeline
from gen3r_bench.scene import Scene
from gen3r_bench.weights import entries

SIDE = 32
OPTIONS = "frames and points joined along the width of the latents; points of training normalised by max-abs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wvd_folder(tmp_path_factory.mktemp("wvd") / "tiny")


@pytest.fixture(scope="module")
def method(folder: Path) -> Wvd:
    loaded = Wvd.load(str(folder), device="cpu")
    loaded.sampling = Sampling(steps=2)
    return loaded


def test_nothing_heavy_is_imported_for_its_contract(tmp_path: Path) -> None:
    code = "import sys, gen3r_bench.baselines.wvd; print('torch' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("checkpoint", [None, "official"])
def test_that_no_weights_exist_is_said(checkpoint: str | None) -> None:
    with pytest.raises(InputError, match=r"no weights of WVD were ever published.*the paper's values stand"):
        Wvd.load(checkpoint, device="cpu")
    with pytest.raises(InputError, match="no weights of WVD were ever published"):
        entries("wvd")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist; expected a folder of Gen3R's layout"):
        Wvd.load(str(tmp_path / "nowhere"), device="cpu")
    (tmp_path / "part" / "transformer").mkdir(parents=True)
    with pytest.raises(InputError, match="wan_vae, text_encoder, clip_image_encoder, tokenizer, scheduler missing"):
        Wvd.load(str(tmp_path / "part"), device="cpu")


@pytest.mark.parametrize("setting", ["1view", "2view", "allview"])
def test_untrained_points_give_no_cameras_and_say_why(method: Wvd, setting: str) -> None:
    scene = tiny_scene(frames=5, size=(SIDE, SIDE))
    prediction = method.predict(conditioned(scene, setting))
    assert prediction.parts() == ("rgb", "points_world")
    assert prediction.image_size == (SIDE, SIDE)
    assert prediction.adaptations[0] == OPTIONS
    assert prediction.adaptations[-1].startswith("no cameras and depth: ")
    unused = "cameras not used: with every frame given, WVD reconstructs without them"
    assert (unused in prediction.adaptations) == (setting == "allview")


def test_randomness_comes_from_the_seed_alone(method: Wvd) -> None:
    scene = tiny_scene(frames=1, size=(SIDE, SIDE))
    first, again, other = (method.predict(conditioned(scene, seed=seed)).points_world for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.fixture
def perfect(method: Wvd, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scene], None]:
    """Makes the network answer with a scene's own points, in another world and normalised, at the size that it sees."""

    def answer(scene: Scene) -> None:
        def call(pipeline: WvdPipeline, inputs: ClipInputs, sampling: Sampling | None) -> Clip:
            points = scene.points_world() @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + 2
            points = np.concatenate([points, np.repeat(points[-1:], inputs.num_frames - len(points), axis=0)])
            normalised = fit_normaliser(points).to_range(points)
            return Clip(rgb=np.zeros(normalised.shape, np.uint8), points=normalised)

        monkeypatch.setattr(WvdPipeline, "__call__", call)

    return answer


def test_depth_and_cameras_come_from_the_points(method: Wvd, perfect: Callable[[Scene], None]) -> None:
    scene = MiniDataset().load("test/006", ClipProfile(frames=3, image_size=(48, 48)))
    perfect(scene)
    prediction = method.predict(conditioned(scene, "allview"))
    assert prediction.parts() == ("rgb", "depth", "points_world", "world_from_cam", "intrinsics")
    assert prediction.frame_indices == (0, 1, 2)
    assert prediction.intrinsics[:, 0, 0] == pytest.approx(scene.cameras.intrinsics[:, 0, 0], rel=1e-4)
    unit = float(np.median(prediction.depth[scene.valid] / scene.depth[scene.valid]))
    np.testing.assert_allclose(prediction.depth[scene.valid], unit * scene.depth[scene.valid], rtol=1e-3)
    centres = prediction.world_from_cam[:, :3, 3] / unit
    np.testing.assert_allclose(centres, scene.cameras.world_from_cam[:, :3, 3], atol=2e-3)
    # points lie in the world of the first recovered camera, as depth and cameras do
    np.testing.assert_allclose(prediction.points_world[0, ..., 2], prediction.depth[0], rtol=1e-5)
    assert prediction.valid[scene.valid].all()


def test_everything_comes_back_at_the_scenes_size(method: Wvd, perfect: Callable[[Scene], None]) -> None:
    seen = MiniDataset().load("test/006", ClipProfile(frames=3, image_size=(48, 48)))
    perfect(seen)
    scene = tiny_scene(frames=3, size=(50, 50))
    prediction = method.predict(conditioned(scene))
    assert prediction.image_size == (50, 50)
    assert prediction.adaptations[1] == "frames resized from 50 x 50 to 48 x 48, and everything back"
    expected = seen.cameras.intrinsics[0] * np.array([[50 / 48], [50 / 48], [1]])
    np.testing.assert_allclose(prediction.intrinsics[0], expected, rtol=1e-3)


def test_two_rows_end_to_end(folder: Path, tmp_path: Path) -> None:
    """The real command on the embedded dataset, with weights that were never trained."""
    from dataclasses import asdict

    from gen3r_bench.models.gen3r.config import Gen3rConfig
    from gen3r_bench.models.gen3r.folder import PARTS

    config = Gen3rConfig.tiny()
    modules = {name: module for name, module in gen3r_modules(config).items() if name in {"vggt", "vae"}}
    write_parts(tmp_path / "vae", PARTS, {"vggt": asdict(config.vggt), "vae": config.vae.to_json()}, modules)
    # through a file, so that the whole sampling of 50 steps is not repeated for every clip
    (tmp_path / "few.py").write_text(
        "from gen3r_bench.baselines.wvd import Wvd as Base\n"
        "from gen3r_bench.models.joint.pipeline import Sampling\n"
        "class Few(Base):\n"
        "    @classmethod\n"
        "    def load(cls, checkpoint, *, device):\n"
        "        method = super().load(checkpoint, device=device)\n"
        "        method.sampling = Sampling(steps=1)\n"
        "        return method\n"
    )
    methods = ["--method", f"few.py:Few@{folder}", "--method", f"wvd-vae-only@{tmp_path / 'vae'}", "--no-diagnostics"]
    done = gen3r_bench(
        "run", "--limit", 1, "--jobs", 1, "-p", "geom-recon", "-p", "camera-1view", *methods, "-o", "run", "-q",
        cwd=tmp_path,
    )  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    status = {(r["row"].partition("@")[0], r["protocol"]): r["status"] for r in records if r["row"].startswith("wvd")}
    assert status == {
        ("wvd", "geom-recon"): "ok",
        ("wvd", "camera-1view"): "unsupported",
        ("wvd-vae-only", "geom-recon"): "ok",
        ("wvd-vae-only", "camera-1view"): "unsupported",
    }, done.stdout + done.stderr
