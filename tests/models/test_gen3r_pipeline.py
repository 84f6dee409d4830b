from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_scene
from tiny_gen3r import summary, write_folder

from gen3r_bench.errors import InputError
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS, Gen3rFolder, vggt_config
from gen3r_bench.models.gen3r.pipeline import Clip, Gen3rPipeline
from gen3r_bench.models.gen3r.plan import plan
from gen3r_bench.models.joint.conditioning import ConditionStyle
from gen3r_bench.models.joint.pipeline import ClipInputs, Sampling, parts_from_modules
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.models.wan.transformer import JointDit

GOLDENS = Path(__file__).parent / "goldens" / "gen3r_clip.json"
FEW = Sampling(steps=3)
FRAMES, SIDE = 5, 112


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("gen3r") / "checkpoint")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Gen3rPipeline:
    return Gen3rPipeline.from_checkpoint(Gen3rFolder(folder))


def inputs(**changes: object) -> ClipInputs:
    ramp = np.arange(SIDE, dtype=np.uint8)
    rgb = np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, ramp[:, None] // 2 + ramp // 2], axis=-1)[None]
    values: dict[str, object] = {
        "rgb": rgb,
        "frame_indices": (0,),
        "num_frames": FRAMES,
        "cameras": tiny_scene(frames=FRAMES, size=(SIDE, SIDE)).cameras,
        "prompt": "a room",
        "seed": 5,
    }
    return ClipInputs(**{**values, **changes})  # type: ignore[arg-type]


def same(a: Clip, b: Clip) -> bool:
    return np.array_equal(a.depth, b.depth) and np.array_equal(a.rgb, b.rgb)


def test_a_clip_and_its_parts(pipeline: Gen3rPipeline) -> None:
    clip = pipeline(inputs(), FEW)
    assert clip.rgb.shape == (FRAMES, SIDE, SIDE, 3)
    assert clip.rgb.dtype == np.uint8
    assert clip.depth.shape == clip.depth_confidence.shape == (FRAMES, SIDE, SIDE)
    assert clip.depth.min() > 0
    assert clip.cameras.image_size == (SIDE, SIDE)
    points = clip.points_world()
    pose, intrinsics = clip.cameras.world_from_cam[2], clip.cameras.intrinsics[2]
    local = (points[2, 30, 40] - pose[:3, 3]) @ pose[:3, :3]
    assert local[2] == pytest.approx(clip.depth[2, 30, 40], rel=1e-4)
    assert (intrinsics @ local / local[2])[:2] == pytest.approx([40.5, 30.5], abs=1e-2)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_a_transformer_may_answer_with_clean_latents(
    folder: Path, monkeypatch: pytest.MonkeyPatch, guidance: float
) -> None:
    pipeline = Gen3rPipeline.from_checkpoint(Gen3rFolder(folder))
    pipeline.config = dataclasses.replace(pipeline.config, style=ConditionStyle(answer="clean"))
    clean = torch.linspace(-2, 2, 16 * 2 * 14 * 28).view(1, 16, 2, 14, 28)
    # it knows the clip, whatever the noise: so every flow leads there
    monkeypatch.setattr(JointDit, "flow", lambda *_: clean)
    sampling = dataclasses.replace(FEW, guidance=guidance)
    torch.testing.assert_close(pipeline.sample(inputs(), sampling), clean, atol=1e-5, rtol=1e-5)


def test_the_released_numbers_frozen(pipeline: Gen3rPipeline) -> None:
    """Whole clips equal the released pipeline's at 5e-7 (latents) and 5e-6 (depth): test_gen3r_parity.py."""
    goldens = json.loads(GOLDENS.read_text())
    latents = pipeline.sample(inputs(), FEW)
    clip = pipeline.decode(latents)
    # an untrained network and a sampler amplify rounding; a wrong formula moves these numbers by far more
    assert summary(latents) == pytest.approx(goldens["latents"], rel=1e-3, abs=1e-3)
    assert summary(torch.from_numpy(clip.depth)) == pytest.approx(goldens["depth"], rel=2e-3, abs=2e-3)
    poses = torch.from_numpy(clip.cameras.world_from_cam[:, :3].copy())
    assert summary(poses) == pytest.approx(goldens["poses"], rel=2e-3, abs=2e-3)


def test_the_seed_alone_decides(pipeline: Gen3rPipeline, folder: Path) -> None:
    clip = pipeline(inputs(), FEW)
    torch.manual_seed(123)  # nobody else's generator matters
    assert same(clip, Gen3rPipeline.from_checkpoint(Gen3rFolder(folder))(inputs(), FEW))
    assert not same(clip, pipeline(inputs(seed=6), FEW))


def test_what_is_given_matters(pipeline: Gen3rPipeline) -> None:
    clip = pipeline.sample(inputs(), FEW)
    for changes in (
        {"prompt": "a wood"},
        {"cameras": None},
        {"rgb": 255 - inputs().rgb},
        {"rgb": np.repeat(inputs().rgb, 2, axis=0), "frame_indices": (0, FRAMES - 1)},
    ):
        assert not torch.allclose(clip, pipeline.sample(inputs(**changes), FEW), atol=1e-4), changes
    assert not torch.allclose(clip, pipeline.sample(inputs(), Sampling(steps=3, negative_prompt="blurry")), atol=1e-4)
    assert not torch.allclose(clip, pipeline.sample(inputs(), Sampling(steps=3, guidance=3)), atol=1e-4)


def test_guidance_of_one_ignores_the_negative_prompt(pipeline: Gen3rPipeline) -> None:
    one, other = (pipeline.sample(inputs(), Sampling(steps=2, guidance=1, negative_prompt=text)) for text in "ab")
    assert torch.equal(one, other)


def test_effective_noise_levels(folder: Path) -> None:
    """The released pipeline's own: diffusers applies the shift of 2 to both ends of the range, and then once more."""
    scheduler = Gen3rFolder(folder).scheduler()
    scheduler.set_timesteps(50)
    sigmas = scheduler.sigmas.tolist()
    assert [round(s, 4) for s in sigmas[:3] + sigmas[24:25] + sigmas[-4:]] == [
        1.0, 0.9897, 0.9792, 0.6765, 0.082, 0.0438, 0.004, 0.0,
    ]  # fmt: skip
    shifted = [2 * s / (1 + s) for s in np.linspace(1, 2 * 0.001 / 1.001, 50)]
    assert sigmas[:-1] == pytest.approx(shifted, abs=1e-6)


def test_bfloat16_runs_through_every_network(pipeline: Gen3rPipeline, folder: Path) -> None:
    """As on CUDA: every weight but VGGT's heads in bfloat16. Three steps keep the clip near the float32 one."""
    lowered = Gen3rPipeline.from_checkpoint(Gen3rFolder(folder), dtype=torch.bfloat16)
    latents, exact = lowered.sample(inputs(), FEW), pipeline.sample(inputs(), FEW)
    assert latents.dtype == torch.float32
    assert (latents - exact).abs().mean() < 0.05 * exact.abs().mean()
    clip = lowered.decode(exact)
    assert np.isfinite(clip.depth).all()
    assert np.abs(clip.rgb.astype(float) - pipeline.decode(exact).rgb).mean() < 4


def test_progress_is_reported(pipeline: Gen3rPipeline) -> None:
    seen = []
    pipeline.sample(inputs(), FEW, on_step=lambda done, steps: seen.append((done, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("offload", ["none", "encoders", "all"])
def test_offloading_changes_no_number(pipeline: Gen3rPipeline, folder: Path, offload: str) -> None:
    other = Gen3rPipeline.from_checkpoint(Gen3rFolder(folder), offload=offload)  # type: ignore[arg-type]
    assert same(pipeline(inputs(), FEW), other(inputs(), FEW))
    resident = set(PARTS) if offload == "none" else set(PARTS) - {"text", "image"}
    assert set(other.parts.resident()) == resident


def test_a_prompt_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Gen3rFolder(folder)
    loaded: list[str] = []
    load = opened.load
    monkeypatch.setattr(opened, "load", lambda name, **kwargs: (loaded.append(name), load(name, **kwargs))[1])
    pipeline = Gen3rPipeline.from_checkpoint(opened)
    for seed in (1, 2):
        pipeline.sample(inputs(seed=seed), Sampling(steps=1))
    assert loaded.count("text") == 1
    pipeline.sample(inputs(prompt="another"), Sampling(steps=1))
    assert loaded.count("text") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 6}, "6 frames"),
        ({"rgb": np.zeros((1, 56, 112, 3), np.uint8), "cameras": None}, "multiples of 112"),
        ({"frame_indices": (1,)}, "0 among them"),
        ({"frame_indices": (0, 4)}, "one ascending place"),
        ({"cameras": tiny_scene(frames=9, size=(SIDE, SIDE)).cameras}, "cameras of 9 frames"),
    ],
)
def test_inputs_that_do_not_fit(pipeline: Gen3rPipeline, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline(inputs(**changes), FEW)
    with pytest.raises(InputError, match="0 steps"):
        Sampling(steps=0)


def test_a_sharded_folder_is_the_same(pipeline: Gen3rPipeline, tmp_path: Path) -> None:
    sharded = write_folder(tmp_path / "sharded", shards=3)
    assert len(list((sharded / "transformer").glob("*.safetensors"))) == 3
    clip, other = pipeline(inputs(), FEW), Gen3rPipeline.from_checkpoint(Gen3rFolder(sharded))(inputs(), FEW)
    # not to the last bit: tensors that lie elsewhere in a file are aligned otherwise, and summed in another order
    assert np.allclose(clip.depth, other.depth, atol=1e-4)


def test_generating_needs_only_the_heads_of_vggt(folder: Path) -> None:
    names = {name.split(".")[0] for name in Gen3rFolder(folder).load("vggt").state_dict()}
    assert names == {"camera_head", "depth_head", "point_head"}


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    shutil.rmtree(copy / "geo_adapter")
    (copy / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InputError, match=r"lacks geo_adapter/, scheduler/scheduler_config\.json"):
        Gen3rFolder(copy)
    with pytest.raises(InputError, match="does not exist"):
        Gen3rFolder(tmp_path / "nowhere")


def edit(file: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(file), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)


def test_everything_that_differs_is_named_at_once(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    transformer = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    edit(transformer, **{"blocks.1.ffn.0.bias": None, "img_emb.proj.5.bias": torch.zeros(2)})
    edit(copy / "vggt" / "model.safetensors", **{"camera_head.token_norm.bias": torch.zeros(3)})
    with pytest.raises(InputError) as caught:
        Gen3rFolder(copy)
    message = str(caught.value)
    assert "2 parts" in message
    assert "1 missing: blocks.1.ffn.0.bias" in message
    assert "1 unexpected: img_emb.proj.5.bias" in message
    assert "camera_head.token_norm.bias [3] for [64]" in message


def test_parts_of_two_models_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    config = json.loads((copy / "transformer" / "config.json").read_text())
    (copy / "transformer" / "config.json").write_text(json.dumps({**config, "text_dim": 32}))
    with pytest.raises(InputError, match="text_dim of transformer 32, dim of text_encoder 24"):
        Gen3rFolder(copy)


@pytest.mark.parametrize("change", [{"_class_name": "UniPC"}, {"use_dynamic_shifting": True}])
def test_another_scheduler_is_refused(folder: Path, tmp_path: Path, change: dict[str, object]) -> None:
    file = copied(folder, tmp_path) / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match="fixed shift"):
        Gen3rFolder(file.parents[1])


def test_trackers_and_statistics_of_exports_are_passed_over(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    edit(copy / "vggt" / "model.safetensors", **{"track_head.tracker.bias": torch.zeros(3)})
    edit(copy / "geo_adapter" / "diffusion_pytorch_model.safetensors", mean=torch.zeros(16), std=torch.ones(16))
    (copy / "clip_image_encoder" / "config.json").rename(copy / "kept.json")
    with pytest.raises(
        InputError, match="clip_image_encoder 1280"
    ):  # no configuration means the official size, which this is not
        Gen3rFolder(copy)
    (copy / "kept.json").rename(copy / "clip_image_encoder" / "config.json")
    assert Gen3rFolder(copy).config == Gen3rConfig.tiny()


def test_vggt_configurations(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for content in ({}, {"img_size": 518, "patch_size": 14, "embed_dim": 1024, "enable_track": True}):
        file.write_text(json.dumps(content))
        assert vggt_config(file) == VggtConfig.official()
    file.write_text(json.dumps(dataclasses.asdict(VggtConfig.tiny())))
    assert vggt_config(file) == VggtConfig.tiny()
    for content in ({"embed_dim": 384}, {"enable_depth": False}, {"img_size": 518, "more": 1}):
        file.write_text(json.dumps(content))
        with pytest.raises(InputError):
            vggt_config(file)


def test_networks_from_memory_must_be_complete() -> None:
    with pytest.raises(InputError, match="no adapter, image"):
        parts_from_modules({name: torch.nn.Identity() for name in ("vae", "transformer", "text")}, PARTS)


def test_the_official_plan() -> None:
    planned = plan(Gen3rConfig.official())
    rows = planned.stages
    parameters = {row.part: row.parameters for row in rows}
    assert parameters == {
        "wan_vae": 126_892_531,
        "text_encoder": 5_680_910_336,
        "clip_image_encoder": 611_086_080,
        "transformer": 1_616_337_728,
        "geo_adapter": 317_844_304,
        "vggt": 281_483_800,
    }
    by_stage = {row.stage: row for row in rows}
    # 31,850 tokens: the hidden feed-forward layer in bfloat16, before and after its activation, is 1.14 GB
    assert 1.14e9 < by_stage["denoising"].work_bytes < 4e9
    # the token map of 49 frames alone is 1.6 GB
    assert by_stage["latents to tokens"].work_bytes > 1.6e9
    assert max(row.peak_bytes for row in rows) <= planned.resident_bytes < sum(row.peak_bytes for row in rows)


def test_a_plan_grows_with_the_clip() -> None:
    small, large = (plan(Gen3rConfig.tiny(), num_frames=n, image_size=(112, 112)).stages for n in (1, 5))
    assert all(a.work_bytes <= b.work_bytes for a, b in zip(small, large, strict=True))
    assert all(a.weight_bytes == b.weight_bytes for a, b in zip(small, large, strict=True))
    with pytest.raises(InputError, match="multiples of 112"):
        plan(Gen3rConfig.tiny(), num_frames=5, image_size=(100, 112))
