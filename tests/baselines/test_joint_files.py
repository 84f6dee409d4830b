"""Gen3R, its two ablations and WVD from a file, as ``gen3r-bench train`` writes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import gen3r_bench
from tiny import conditioned, tiny_scene
from tiny_files import FRAMES, SIDE, rewrite, write_file, write_frozen

from gen3r_bench import locations
from gen3r_bench.baselines import joint_files
from gen3r_bench.baselines.gen3r import Gen3r
from gen3r_bench.baselines.gen3r_two_stage import Gen3rTwoStage
from gen3r_bench.baselines.gen3r_without_kl import Gen3rWithoutKl
from gen3r_bench.baselines.joint_clips import JointMethod
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.baselines.wvd import Wvd
from gen3r_bench.cli.plan import PLANS
from gen3r_bench.errors import InputError
from gen3r_bench.method import Method
from gen3r_bench.models.checkpoint import weights_sha256
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Conditioning, conditioning_indices
from gen3r_bench.weights import entries

METHODS: dict[str, tuple[type[JointMethod], str]] = {
    "gen3r": (Gen3r, "Gen3r"),
    "gen3r-without-kl": (Gen3rWithoutKl, "Gen3r"),
    "gen3r-two-stage": (Gen3rTwoStage, "Video"),
    "wvd": (Wvd, "Wvd"),
}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_frozen(tmp_path_factory.mktemp("frozen"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, frozen: dict[str, Path]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {name: write_file(folder / f"{name}.safetensors", kind, frozen) for name, (_, kind) in METHODS.items()}


@pytest.fixture(scope="module")
def loaded(files: dict[str, Path], frozen: dict[str, Path]) -> dict[str, Any]:
    readers = {"gen3r-two-stage": f"+vggt={frozen['vggt']}"}
    return {
        name: kind.load(f"{files[name]}{readers.get(name, '')}", device="cpu") for name, (kind, _) in METHODS.items()
    }


def combined(*hashes: str) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@pytest.mark.parametrize("name", METHODS)
def test_a_prediction_at_the_files_own_size_and_sampling(name: str, loaded: dict[str, Any]) -> None:
    method = loaded[name]
    scene = tiny_scene(frames=FRAMES, size=(SIDE, SIDE))
    prediction = method.predict(conditioned(scene))
    assert prediction.frame_indices == tuple(range(FRAMES))
    assert prediction.image_size == (SIDE, SIDE)
    # untrained points of WVD have no cameras
    expected = ("rgb", "points_world") if name == "wvd" else ("rgb", "depth", "world_from_cam", "intrinsics")
    assert prediction.parts() == expected
    assert not any("trained on" in note or "resized" in note for note in prediction.adaptations)
    assert (method.sampling.steps, method.sampling.guidance) == (2, 1.5)
    longer = method.predict(conditioned(tiny_scene(frames=6, size=(48, 48)), "2view"))
    assert longer.image_size == (48, 48)
    assert "frames resized from 48 x 48 to 32 x 32, and everything back" in longer.adaptations
    assert "6 frames; the weights were trained on 5" in longer.adaptations


def test_the_hash_is_of_everything_that_answers(
    loaded: dict[str, Any], files: dict[str, Path], frozen: dict[str, Path]
) -> None:
    beside = {
        "gen3r": ("wan-vae", "geometry-adapter", "vggt"),
        "gen3r-without-kl": ("wan-vae", "geometry-adapter", "vggt"),
        "wvd": ("wan-vae",),
        "gen3r-two-stage": ("wan-vae",),
    }
    for name, parts in beside.items():
        own = combined(weights_sha256(files[name]), *(weights_sha256(frozen[part]) for part in parts))
        expected = combined(own, weights_sha256(frozen["vggt"])) if name == "gen3r-two-stage" else own
        assert loaded[name].checkpoint_sha256 == expected


@pytest.mark.parametrize("name", ["gen3r", "gen3r-two-stage"])
def test_rounding_variants_give_the_same_clip(name: str, loaded: dict[str, Any]) -> None:
    method = loaded[name]
    given = conditioned(tiny_scene(frames=FRAMES, size=(SIDE, SIDE)))
    plain = method.predict(given)
    variants = method.rounding_variants()
    read = {"one frame at a time", "all frames at once"} if name == "gen3r-two-stage" else set()
    assert variants.keys() == {"float64", "all latent frames at once"} | read
    for make in variants.values():
        other = make()
        assert other.checkpoint_sha256 == method.checkpoint_sha256
        prediction = other.predict(given)
        np.testing.assert_allclose(prediction.depth, plain.depth, rtol=1e-3)
        np.testing.assert_allclose(prediction.world_from_cam, plain.world_from_cam, atol=1e-3)
        assert np.abs(prediction.rgb.astype(int) - plain.rgb).max() <= 1
    doubled: Any = variants["float64"]()
    exact = doubled.predict(given)
    assert (exact.depth != plain.depth).any()
    with doubled.pipeline.parts.use("transformer") as transformer:
        assert next(transformer.parameters()).dtype == torch.float64
    with method.pipeline.parts.use("transformer") as transformer:
        assert next(transformer.parameters()).dtype == torch.float32


@pytest.mark.parametrize("setting", ["1view", "2view", "allview"])
def test_two_stages_are_vggts_reading_of_the_made_frames(
    setting: str, loaded: dict[str, Any], frozen: dict[str, Path]
) -> None:
    method: Gen3rTwoStage = loaded["gen3r-two-stage"]
    scene = tiny_scene(frames=FRAMES, size=(SIDE, SIDE))
    prediction = method.predict(conditioned(scene, setting))
    frames, places = prediction.rgb, conditioning_indices("allview", FRAMES)
    reader = VggtMethod.load(str(frozen["vggt"]), device="cpu")
    read = reader.predict(Conditioning("allview", places, frames, None, FRAMES, (SIDE, SIDE), "", 0))
    np.testing.assert_array_equal(prediction.depth, read.depth)
    np.testing.assert_array_equal(prediction.confidence, read.confidence)
    np.testing.assert_array_equal(prediction.world_from_cam, read.world_from_cam)
    np.testing.assert_array_equal(prediction.intrinsics, read.intrinsics)
    note = "every frame given, and VGGT still reads what the diffusion makes of them"
    assert (note in prediction.adaptations) == (setting == "allview")
    unused = "cameras not used: with every frame given, 2-Stage reconstructs without them"
    assert (unused in prediction.adaptations) == (setting == "allview")


def test_the_second_stage_is_named_behind_the_file(files: dict[str, Path], frozen: dict[str, Path]) -> None:
    ours = Gen3rTwoStage.load(f"{files['gen3r-two-stage']}+tiled", device="cpu")
    assert ours.tiled
    prediction = ours.predict(conditioned(tiny_scene(frames=FRAMES, size=(SIDE, SIDE))))
    note = "VGGT: frames resized from 32 to 64 pixels (bicubic); depth comes back by nearest neighbour"
    assert prediction.adaptations == ("frames pass the Wan VAE in overlapping tiles", note)
    with pytest.raises(InputError, match="no weights of VGGT at"):
        Gen3rTwoStage.load(f"{files['gen3r-two-stage']}+vggt=nowhere", device="cpu")


@pytest.mark.parametrize("name", ["gen3r-two-stage", "gen3r-without-kl"])
def test_that_no_weights_exist_is_said(name: str) -> None:
    for checkpoint in (None, "official"):
        with pytest.raises(InputError, match=rf"no weights of .*were ever published.*{name}@PATH of a .*the paper's"):
            METHODS[name][0].load(checkpoint, device="cpu")
    with pytest.raises(InputError, match="were ever published"):
        entries(name)


@pytest.mark.parametrize("name", METHODS)
def test_files_that_are_not_there(name: str, tmp_path: Path) -> None:
    kind, _ = METHODS[name]
    with pytest.raises(InputError, match=r"nowhere\.safetensors does not exist"):
        kind.load(str(tmp_path / "nowhere.safetensors"), device="cpu")
    with pytest.raises(InputError, match=f"{name}@.*nowhere (does not exist|is no file).*expected.*file"):
        kind.load(str(tmp_path / "nowhere"), device="cpu")


def test_a_file_of_another_model_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="is that of a Wvd; expected that of a Gen3r"):
        Gen3r.load(str(files["wvd"]), device="cpu")
    with pytest.raises(InputError, match="is that of a Gen3r; expected that of a Video"):
        Gen3rTwoStage.load(str(files["gen3r"]), device="cpu")


def test_the_network_that_was_frozen_must_be_there(files: dict[str, Path], tmp_path: Path) -> None:
    said = json.loads(_config_of(files["wvd"]))
    for checkpoint, message in (
        (str(tmp_path / "gone"), "the wan-vae that it was trained beside, .*gone, is not there"),
        ("reference", r"has the SHA-256 [0-9a-f]{64}; .* was trained beside the wan-vae of"),
        ("without-kl", "wan-vae that it was trained beside, without-kl, is not there"),
    ):
        said["parts"]["wan-vae"]["checkpoint"] = checkpoint
        path = rewrite(files["wvd"], tmp_path / "moved.safetensors", config=json.dumps(said))
        with pytest.raises(InputError, match=message):
            Wvd.load(str(path), device="cpu")


def test_official_networks_are_found_where_gen3rs_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"wan-vae@official needs .*wan_vae"):
        joint_files.frozen_path("wan-vae", "official")
    (tmp_path / "gen3r" / "wan_vae").mkdir(parents=True)
    (tmp_path / "gen3r" / "wan_vae" / "config.json").write_text("{}")
    (tmp_path / "gen3r" / "wan_vae" / "x.safetensors").write_bytes(b"")
    assert joint_files.frozen_path("wan-vae", "official") == tmp_path / "gen3r" / "wan_vae"


def _config_of(path: Path) -> str:
    from gen3r_bench.models.folder import safetensors_metadata

    return safetensors_metadata(path)["config"]


@pytest.mark.parametrize("name", METHODS)
def test_our_own_checkpoint_tells_its_licence_and_data(
    name: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_files, "shipped_weights", lambda network, *_: tmp_path / f"{network}.safetensors")
    kind, _ = METHODS[name]
    with pytest.raises(InputError, match=rf"{name}@reference is not shipped.*fix: gen3r-bench train {name}\)"):
        kind.load("reference", device="cpu")
    (tmp_path / f"{name}.safetensors").symlink_to(files[name])
    entry = make_row(f"{name}@reference", device="cpu").entry
    assert (entry.label, entry.licence, entry.training_sets) == (f"{name}@reference", "MIT", ())
    assert kind.contract.licence != "MIT"
    assert kind.contract.training_sets
    ours: Method = kind.load("reference", device="cpu")
    assert (ours.contract.native_frames, ours.contract.native_size) == (13, (64, 64))
    assert ours.contract.method_id == name


@pytest.mark.parametrize("name", METHODS)
def test_a_trained_file_claims_neither_the_papers_data_nor_a_licence(name: str, loaded: dict[str, Any]) -> None:
    contract = loaded[name].contract
    assert (contract.licence, contract.training_sets) == ("as its maker says", ())
    assert replace(contract, licence="", training_sets=()) == replace(
        METHODS[name][0].contract, licence="", training_sets=()
    )


@pytest.mark.parametrize(("row", "other"), [("gen3r", "gen3r-without-kl"), ("gen3r-without-kl", "gen3r")])
def test_a_file_of_the_other_adapter_is_refused(row: str, other: str) -> None:
    file = locations.shipped_weights(other)
    with pytest.raises(InputError, match=rf"geometry adapter '.*'; expected a file of {row} \(fix: --method {other}@/"):
        METHODS[row][0].load(str(file), device="cpu")


@pytest.mark.parametrize("name", METHODS)
def test_the_plan_of_a_file_is_at_its_own_size(name: str, files: dict[str, Path]) -> None:
    clip: dict[str, Any] = {"num_frames": FRAMES, "dtype": torch.bfloat16}
    plan_checkpoint = import_module(PLANS[name]).plan_checkpoint
    made = plan_checkpoint(str(files[name]), image_size=(560, 560), **clip)
    parts = ["wan_vae", "text_encoder", "clip_image_encoder", "transformer", "wan_vae"]
    more = {"wvd": ["wan_vae"], "gen3r-two-stage": ["vggt", "vggt"]}.get(name, ["geo_adapter", "vggt"])
    assert [stage.part for stage in made.stages] == [*parts, *more]
    transformer = made.stages[3]
    assert transformer.weight_bytes == 4 * transformer.parameters  # float32, whatever is asked for
    assert made == plan_checkpoint(str(files[name]), image_size=(64, 64), **clip)
    with pytest.raises(InputError, match="nowhere"):
        plan_checkpoint("nowhere", image_size=(64, 64), **clip)


def test_shipped_networks_lie_in_the_package() -> None:
    assert joint_files.frozen_path("wan-vae", "reference") == locations.shipped_weights("wan-vae")
    assert locations.shipped_weights("geometry-adapter", "without-kl").name == (
        "geometry-adapter-without-kl.safetensors"
    )


def test_rows_end_to_end(files: dict[str, Path], tmp_path: Path) -> None:
    """The real command on the embedded dataset, with weights that were never trained."""
    method = ["--method", f"gen3r-two-stage@{files['gen3r-two-stage']}", "--no-diagnostics"]
    done = gen3r_bench(
        "run", "--limit", 1, "--jobs", 1, "--protocol", "geom-1view", *method, "-o", "run", "-q", cwd=tmp_path
    )
    records = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    status = {record["row"]: record["status"] for record in records if record["row"].startswith("gen3r")}
    assert status == {"gen3r-two-stage@gen3r-two-stage.safetensors": "ok"}, done.stdout + done.stderr


def test_a_file_that_was_changed_by_hand_is_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    path = rewrite(files["gen3r"], tmp_path / "file.safetensors", frames="[0]")
    done = gen3r_bench("run", "-p", "geom-1view", "-m", f"gen3r@{path}", cwd=tmp_path, code=2)
    assert "file.safetensors: frames is '[0]'; expected a whole number above 0" in done.stderr
