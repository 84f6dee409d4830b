from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import gen3r_bench
from safetensors.torch import save_file
from tiny import tiny_card, tiny_scene
from tiny_lvsm import formula_lvsm

from gen3r_bench.baselines import lvsm
from gen3r_bench.baselines.lvsm import FILES, LvsmMethod, plan_checkpoint
from gen3r_bench.errors import InputError
from gen3r_bench.method import checked_method
from gen3r_bench.models.lvsm.config import Kind
from gen3r_bench.protocols.conditioning import condition
from gen3r_bench.runs.store import read_run
from gen3r_bench.scene import Conditioning

SIDE = 16


def shown(setting: str = "2view", side: int = SIDE, *, cameras: str = "given") -> Conditioning:
    card = tiny_card(setting=setting, cameras=cameras, frames_scored=("all",))
    return condition(tiny_scene(frames=6, size=(side, side)), card, 1)


@pytest.fixture(scope="module")
def method() -> LvsmMethod:
    return LvsmMethod(formula_lvsm(), side=SIDE, device="cpu")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder where each of the authors' four files is tiny, with all that such a file holds."""
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "lvsm").mkdir()
    for name, file in FILES.items():
        kind: Kind = "encoder-decoder" if "encoder" in name else "decoder-only"
        model = formula_lvsm(kind).state_dict() | {"loss_computer.perceptual_loss_module.w": torch.zeros(2)}
        content = {"model": model, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "fwdbwd_pass_step": 9}
        torch.save(content, tmp_path / "lvsm" / file)
    return tmp_path / "lvsm"


def test_contract() -> None:
    contract = checked_method(LvsmMethod, "lvsm").contract
    assert (contract.returns, contract.cameras, contract.training_sets) == (("rgb",), "required", ("realestate10k",))
    assert "CC BY-NC-SA 4.0" in contract.licence
    assert contract.refusal(shown("2view")) is None
    assert "needs cameras" in str(contract.refusal(shown("2view", cameras="none")))
    assert "does not support allview" in str(contract.refusal(shown("allview")))


def test_contract_is_read_without_torch() -> None:
    code = "import sys, gen3r_bench.baselines.lvsm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(sys.prefix), check=False).returncode == 0


@pytest.mark.parametrize("setting", ["1view", "2view"])
def test_renders_every_frame(method: LvsmMethod, setting: str) -> None:
    prediction = method.predict(shown(setting))
    assert prediction.frame_indices == tuple(range(6))
    assert prediction.parts() == ("rgb",)
    assert prediction.rgb.shape == (6, SIDE, SIDE, 3)
    assert len({frame.tobytes() for frame in prediction.rgb}) == 6
    told = ("one view, where LVSM was trained with two",) if setting == "1view" else ()
    assert prediction.adaptations == told


def test_prediction_is_the_networks(method: LvsmMethod) -> None:
    given = shown("2view")
    poses = lvsm_rays(given)
    with torch.inference_mode():
        images = torch.tensor(given.rgb).permute(0, 3, 1, 2)[None].float() / 255
        expected = formula_lvsm()(images, poses[:, [0, 5]], poses)[0].permute(0, 2, 3, 1).numpy()
    off = np.abs(method.predict(given).rgb - 255 * expected)
    assert off.max() <= 0.5 + 1e-3


def test_rounding_variants_give_the_same_frames(method: LvsmMethod) -> None:
    given = shown("2view")
    expected = method.predict(given)
    variants = method.rounding_variants()
    assert list(variants) == ["one target at a time", "all targets at once", "float64"]
    for make in variants.values():
        variant = make()
        assert np.abs(variant.predict(given).rgb.astype(int) - expected.rgb).max() <= 1
    assert next(variants["float64"]()._network.parameters()).dtype == torch.float64
    assert next(method._network.parameters()).dtype == torch.float32
    assert [variants[name]()._targets_at_once for name in list(variants)[:2]] == [1, 2**16]


def lvsm_rays(given: Conditioning) -> torch.Tensor:
    from gen3r_bench.models.lvsm import normalised_poses, pluecker_rays

    return pluecker_rays(normalised_poses(given.cameras.world_from_cam), given.cameras, SIDE)[None]


def test_a_method_that_saw_one_view_says_nothing() -> None:
    trained = LvsmMethod(formula_lvsm(), side=SIDE, device="cpu", one_view_trained=True)
    assert trained.predict(shown("1view")).adaptations == ()


def test_other_sizes_are_resized_and_noted(method: LvsmMethod) -> None:
    prediction = method.predict(shown("2view", 40))
    assert prediction.rgb.shape == (6, 40, 40, 3)
    assert prediction.adaptations == (
        "frames resized from 40 to 16 pixels (Lanczos), the rendered ones back (bicubic)",
    )


def test_resizing_keeps_a_plain_colour_and_its_place() -> None:
    left_white = torch.zeros(1, 3, 8, 8)
    left_white[..., :4] = 1
    pixels = lvsm._pixels(left_white, 16)
    assert pixels.shape == (1, 16, 16, 3)
    assert (pixels[:, :, :5] == 255).all()
    assert (pixels[:, :, 11:] == 0).all()
    np.testing.assert_array_equal(pixels[:, :, :8], 255 - pixels[:, :, :7:-1])
    assert (lvsm._pixels(torch.full((1, 3, 8, 8), 0.4), 24) == 102).all()


def test_frames_that_are_not_square_are_refused(method: LvsmMethod) -> None:
    with pytest.raises(InputError, match="24 x 32 pixels; expected square frames"):
        method.predict(condition(tiny_scene(), tiny_card(setting="2view", cameras="given"), 1))


@pytest.mark.parametrize(("name", "side", "kind"), [
    ("official", 256, "decoder-only"),
    ("official+512", 512, "decoder-only"),
    ("encoder-decoder", 256, "encoder-decoder"),
    ("encoder-decoder+512", 512, "encoder-decoder"),
])  # fmt: skip
def test_loads_the_authors_files(weights: Path, name: str, side: int, kind: Kind) -> None:
    loaded = LvsmMethod.load(name, device="cpu")
    assert (loaded._side, loaded._network.config.kind, len(loaded.checkpoint_sha256)) == (side, kind, 64)
    for key, tensor in formula_lvsm(kind).state_dict().items():
        assert tensor.equal(loaded._network.state_dict()[key]), key
    assert not any(parameter.requires_grad for parameter in loaded._network.parameters())


def test_the_side_of_a_path(weights: Path, tmp_path: Path) -> None:
    def side(checkpoint: object) -> int:
        return LvsmMethod.load(str(checkpoint), device="cpu")._side

    file = weights / FILES["official"]
    assert side(file) == 256
    assert side(f"{file}+64") == 64
    assert side(weights / FILES["official+512"]) == 512
    save_file(formula_lvsm().state_dict(), tmp_path / "mine.safetensors", metadata={"side": "32"})
    assert side(tmp_path / "mine.safetensors") == 32
    assert side(f"{tmp_path / 'mine.safetensors'}+48") == 48
    # a file that says its side comes from this suite's training, any other from the authors
    own, theirs = (LvsmMethod.load(str(path), device="cpu").contract for path in (tmp_path / "mine.safetensors", file))
    assert (own.licence, own.training_sets) == ("as its maker says", ())
    assert theirs == LvsmMethod.contract
    with pytest.raises(InputError, match=re.escape("expected a multiple of its patch size 4")):
        side(f"{file}+66")


def test_missing_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError) as caught:
        LvsmMethod.load("official+512", device="cpu")
    assert str(caught.value) == (
        f"no weights of LVSM at {tmp_path}/lvsm/lvsm_scene_decoder_only_res512.pt; expected one of coast01/LVSM's "
        f"files, or a path as in lvsm@PATH (fix: hf download coast01/LVSM lvsm_scene_decoder_only_res512.pt "
        f"--local-dir {tmp_path}/lvsm)"
    )


def test_incomplete_weights_are_refused(weights: Path) -> None:
    model = formula_lvsm().state_dict()
    del model["transformer_blocks.1.norm2.weight"]
    torch.save({"model": model}, weights / FILES["official"])
    with pytest.raises(InputError, match=r"1 missing: transformer_blocks\.1\.norm2\.weight"):
        LvsmMethod.load("official", device="cpu")


def test_plans_of_files_that_are_not_there_and_that_are(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = {"num_frames": 6, "image_size": (560, 560), "dtype": torch.float32}
    (here,) = plan_checkpoint("official", **clip).stages
    assert here.weight_bytes == 4 * here.parameters
    assert plan_checkpoint("official", **{**clip, "dtype": torch.bfloat16}).stages == [here]  # it never runs shorter
    assert here.parameters == sum(tensor.numel() for tensor in formula_lvsm().state_dict().values())
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(weights / "none"))
    (official,) = plan_checkpoint("encoder-decoder", **clip).stages
    assert (official.parameters, official.part) == (173_154_816, "encoder-decoder")


def test_two_protocols_end_to_end(tmp_path: Path) -> None:
    """The real command on a tiny network: frames are scored in both settings, geometry is not its business."""
    save_file(formula_lvsm().state_dict(), tmp_path / "tiny.safetensors", metadata={"side": "32"})
    protocols = ["-p", "appearance-1view", "-p", "appearance-2view", "-p", "geom-1view"]
    method = ["--method", "lvsm@tiny.safetensors", "--no-diagnostics"]
    gen3r_bench("run", *protocols, *method, "--limit", 1, "-o", "r", "-q", cwd=tmp_path)
    records = {record.protocol: record for record in read_run(tmp_path / "r").records}
    for name in ("appearance-1view", "appearance-2view"):
        scores = records[name].scores
        assert records[name].status == "ok"
        assert 3 < scores["psnr@8bit"] < 20
        assert "resized from 112 to 32" in records[name].adaptations[0]
    assert len(records["appearance-1view"].adaptations) == 2
    assert records["geom-1view"].status == "unsupported"
