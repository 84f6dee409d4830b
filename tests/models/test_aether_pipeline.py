from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_aether import GOLDENS, camera_path, frozen_inputs, write_folder
from tiny_gen3r import summary, wave

from gen3r_bench.errors import InputError
from gen3r_bench.models.aether.config import AetherConfig
from gen3r_bench.models.aether.folder import PARTS, SCHEDULER_FILE, AetherFolder
from gen3r_bench.models.aether.pipeline import (
    AetherPipeline,
    Clip,
    ClipInputs,
    Sampling,
    parts_from_modules,
    rotary_positions,
)
from gen3r_bench.models.aether.plan import plan as planned
from gen3r_bench.models.aether.reconstruction import reconstruct, window_of

SIZE = (64, 96)
FRAMES = 17
FEW = Sampling(steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("aether") / "tiny")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> AetherPipeline:
    return AetherPipeline.from_folder(AetherFolder(folder))


def inputs(given: int = 1, *, size: tuple[int, int] = (32, 32), **changes: Any) -> ClipInputs:
    fields = {
        "rgb": ((wave((given, *size, 3), 7) + 1) / 2).numpy(),
        "num_frames": FRAMES,
        "cameras": None,
        "seed": 3,
    }
    return ClipInputs(**{**fields, **changes})


def differs(a: Clip, b: Clip) -> bool:
    return not np.array_equal(a.raymap, b.raymap)


@pytest.mark.parametrize(("given", "task"), [(1, "prediction"), (2, "planning"), (FRAMES, "reconstruction")])
def test_a_clip_of_every_task(pipeline: AetherPipeline, given: int, task: str) -> None:
    request = inputs(given, size=SIZE)
    assert request.task == task
    clip = pipeline(request, None if task == "reconstruction" else FEW)
    assert clip.rgb.shape == (FRAMES, *SIZE, 3)
    assert clip.rgb.dtype == np.float32
    assert 0 <= clip.rgb.min() <= clip.rgb.max() <= 1
    assert clip.disparity.shape == (FRAMES, *SIZE)
    assert clip.disparity.min() >= 0
    assert clip.raymap.shape == (FRAMES, 6, 8, 12)


@pytest.mark.parametrize("given", [1, 2, FRAMES])
def test_the_released_numbers_frozen(pipeline: AetherPipeline, given: int) -> None:
    """Whole clips equal the released pipeline's at 2e-5: test_aether_parity.py."""
    request = frozen_inputs(given)
    clip = pipeline(request, Sampling.reconstruction() if given == FRAMES else FEW)
    ours = {
        "rgb": clip.rgb,
        "disparity": clip.disparity,
        "raymap": clip.raymap,
        "poses": window_of(clip).world_from_cam,
    }
    goldens = json.loads(GOLDENS.read_text())[request.task]
    assert goldens.keys() == ours.keys()
    for name, array in ours.items():
        # an untrained network and a sampler amplify rounding; a wrong formula moves these numbers by far more
        assert summary(torch.from_numpy(array)) == pytest.approx(goldens[name], rel=2e-3, abs=2e-3), name


def test_every_input_matters(pipeline: AetherPipeline) -> None:
    base = pipeline(inputs(), FEW)
    assert not differs(pipeline(inputs(), FEW), base)
    cameras = camera_path(FRAMES, (32, 32))
    posed = pipeline(inputs(cameras=cameras), FEW)
    others = {
        "frame": pipeline(inputs(rgb=inputs().rgb * 0.5), FEW),
        "goal": pipeline(inputs(2), FEW),
        "seed": pipeline(inputs(seed=4), FEW),
        "cameras": posed,
        "steps": pipeline(inputs(), Sampling(steps=3)),
        "guidance": pipeline(inputs(), Sampling(steps=2, guidance=2.0)),
        "unguided": pipeline(inputs(), Sampling(steps=2, guidance=1.0)),
    }
    assert [name for name, clip in others.items() if not differs(clip, base)] == []
    assert differs(pipeline(inputs(cameras=cameras, dmax=0.5), FEW), posed)


def test_the_empty_prompt_is_encoded_once_and_its_encoder_dropped(folder: Path) -> None:
    loads: list[str] = []
    opened = AetherFolder(folder)
    pipeline = AetherPipeline.from_folder(opened, offload="encoders")
    load = pipeline.parts._load
    pipeline.parts._load = lambda name: (loads.append(name), load(name))[1]
    for seed in (1, 2):
        pipeline.sample(inputs(seed=seed), Sampling(steps=1))
    assert loads == ["vae", "text", "transformer"]
    assert pipeline.parts.resident() == ("vae", "transformer")


def test_the_empty_prompt_is_an_end_and_padding(pipeline: AetherPipeline) -> None:
    features = pipeline._empty_prompt()
    with pipeline.parts.use("text") as encoder:
        expected = encoder(torch.tensor([[1, 0, 0, 0, 0, 0]])).last_hidden_state
    assert torch.equal(features, expected)


@pytest.mark.parametrize("offload", ["none", "all"])
def test_offloading_changes_no_number(folder: Path, pipeline: AetherPipeline, offload: Any) -> None:
    other = AetherPipeline.from_folder(AetherFolder(folder), offload=offload)
    assert not differs(other(inputs(), FEW), pipeline(inputs(), FEW))


def test_bfloat16_runs_through_every_network(folder: Path, pipeline: AetherPipeline) -> None:
    lowered = AetherPipeline.from_folder(AetherFolder(folder), dtype=torch.bfloat16)
    clip, expected = lowered(inputs(2), FEW), pipeline(inputs(2), FEW)
    assert clip.rgb.dtype == clip.raymap.dtype == np.float32
    assert differs(clip, expected)
    assert np.abs(clip.rgb - expected.rgb).mean() < 0.05


@given(step=st.integers(1, 1000), steps=st.integers(1, 60), guidance=st.floats(1.5, 9))
def test_guidance_varies_between_one_and_more(step: int, steps: int, guidance: float) -> None:
    varied = Sampling(steps=steps, guidance=guidance).weight(step)
    assert 1 - 1e-9 <= varied <= 1 + guidance + 1e-9
    assert Sampling(steps=steps, guidance=guidance, varied=False).weight(step) == guidance
    assert Sampling(steps=steps, guidance=guidance).weight(steps) == 1


def test_half_a_frame_has_the_places_of_the_native_frames_middle() -> None:
    config, device = AetherConfig.official(), torch.device("cpu")
    whole = rotary_positions(config, 2, (480, 720), device)[0].view(2, 30, 45, 64)
    square = rotary_positions(config, 2, (480, 480), device)[0].view(2, 30, 30, 64)
    # 7.5 columns on either side: as released, rounded to the even 8, and the last column a quarter of a place short
    assert torch.allclose(square, whole[:, :, 8:38], atol=0.27)
    assert torch.allclose(square[:, :, 0], whole[:, :, 8], atol=1e-5)
    assert not torch.allclose(square[:, :, 0], whole[:, :, 7], atol=0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_frames": 13}, "13 frames"),
        ({"num_frames": 49}, "49 frames"),
        ({"rgb": np.zeros((3, 32, 32, 3), np.float32)}, "3 given frames of 17"),
        ({"rgb": np.zeros((1, 24, 32, 3), np.float32)}, "24 x 32"),
        ({"cameras": camera_path(16, (32, 32))}, "cameras of 16 frames"),
        ({"cameras": camera_path(17, (32, 48))}, "cameras of 17 frames at"),
    ],
)
def test_what_does_not_fit_is_refused(pipeline: AetherPipeline, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pipeline.sample(inputs(**changes), FEW)


def test_a_reconstruction_is_not_guided(pipeline: AetherPipeline) -> None:
    with pytest.raises(InputError, match="guidance"):
        pipeline(inputs(FRAMES), FEW)
    with pytest.raises(InputError, match="0 steps"):
        Sampling(steps=0)


def test_reconstruction_in_windows(pipeline: AetherPipeline) -> None:
    rgb = inputs(20).rgb
    whole, starts = reconstruct(pipeline, rgb, seed=5)
    assert starts == [0, 3]
    assert len(whole.world_from_cam) == len(whole.focal_px) == len(whole.rgb) == len(whole.disparity) == 20
    alone, one = reconstruct(pipeline, rgb[:17], seed=5)
    assert one == [0]
    assert whole.rgb[:3] == pytest.approx(alone.rgb[:3])
    assert whole.world_from_cam[:3] == pytest.approx(alone.world_from_cam[:3])
    posed, _ = reconstruct(pipeline, rgb, seed=5, cameras=camera_path(20, (32, 32)))
    assert not np.array_equal(posed.rgb, whole.rgb)
    raw, _ = reconstruct(pipeline, rgb, seed=5, smooth=False)
    assert not np.array_equal(raw.world_from_cam, whole.world_from_cam)


def test_a_short_video_stands_still_at_times(pipeline: AetherPipeline) -> None:
    window, starts = reconstruct(pipeline, inputs(5).rgb, seed=5)
    assert starts == [0]
    assert window.rgb.shape == (5, 32, 32, 3)


def test_folder_loads_every_network(folder: Path) -> None:
    opened = AetherFolder(folder)
    assert dict(opened.config.transformer) == dict(AetherConfig.tiny().transformer)
    assert opened.scheduler().config.prediction_type == "v_prediction"
    for name in PARTS:
        module = opened.load(name)
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    text = opened.load("text", dtype=torch.bfloat16)
    assert text.get_parameter("shared.weight").dtype == torch.bfloat16


def copied(folder: Path, path: Path) -> Path:
    """The folder's files again, each a link unless a test writes its own."""
    for file in folder.rglob("*"):
        if file.is_file():
            target = path / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
    return path


def replaced(path: Path, content: str) -> None:
    path.unlink()
    path.write_text(content)


def test_everything_that_differs_is_named_at_once(folder: Path, tmp_path: Path) -> None:
    path = copied(folder, tmp_path / "bad")
    for name in ("transformer", "vae"):
        file = path / name / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        file.unlink()
        key = sorted(tensors)[0]
        tensors[f"{key}.more"] = tensors.pop(key)
        save_file(tensors, file)
    with pytest.raises(InputError) as caught:
        AetherFolder(path)
    message = str(caught.value)
    assert "2 parts of" in message
    for words in ("transformer in", "CogVideoX VAE in", "1 missing", "1 unexpected"):
        assert words in message


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("vae/config.json", '{"latent_channels": 16, "depth": 3}', "unknown keys depth"),
        ("vae/config.json", "[]", "holds a list"),
        ("text_encoder/config.json", '{"d_model": 32}', "text_embed_dim of transformer 24, d_model of text_encoder 32"),
        (SCHEDULER_FILE, '{"_class_name": "EulerDiscreteScheduler"}', "EulerDiscreteScheduler"),
        ("text_encoder/config.json", "{}", "d_model of text_encoder None"),
        (SCHEDULER_FILE, "nothing", "not JSON"),
        (SCHEDULER_FILE, "[]", "holds a list"),
    ],
)
def test_a_configuration_that_does_not_fit(folder: Path, tmp_path: Path, file: str, content: str, words: str) -> None:
    path = copied(folder, tmp_path / "bad")
    replaced(path / file, content)
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        AetherFolder(path)


def test_a_folder_without_parts(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        AetherFolder(tmp_path / "none")
    path = copied(folder, tmp_path / "part")
    (path / SCHEDULER_FILE).unlink()
    with pytest.raises(InputError, match=r"lacks scheduler/scheduler_config.json"):
        AetherFolder(path)


def test_networks_of_other_families_are_refused(folder: Path, tmp_path: Path) -> None:
    """CogVideoX itself, 1.5, and one without rotary positions."""
    tiny = AetherConfig.tiny()
    for changes, words in (
        ({"in_channels": 32, "out_channels": 16}, "out_channels of transformer 16, frames, disparity and raymap 56"),
        ({"patch_size_t": 2}, "patch_size_t"),
        ({"use_rotary_positional_embeddings": False}, "rotary positions"),
    ):
        with pytest.raises(InputError, match=words):
            dataclasses.replace(tiny, transformer={**tiny.transformer, **changes})


def test_learned_positions_allow_the_native_size_alone() -> None:
    tiny = AetherConfig.tiny()
    learned = dataclasses.replace(tiny, transformer={**tiny.transformer, "use_learned_positional_embeddings": True})
    learned.check_clip(17, (32, 48))
    with pytest.raises(InputError, match=r"64 x 64 with learned positions.*\+letterbox"):
        learned.check_clip(17, (64, 64))
    tiny.check_clip(17, (64, 64))


def test_official_sizes() -> None:
    """5.57 billion parameters: what the published shards of 4.98, 4.95 and 1.22 GB hold in bfloat16."""
    config = AetherConfig.official()
    with torch.device("meta"):
        counts = {
            name: sum(tensor.numel() for tensor in {id(p): p for p in part.build(config).parameters()}.values())
            for name, part in PARTS.items()
        }
    assert counts == {"transformer": 5_571_757_792, "vae": 215_583_907, "text": 4_762_310_656}
    assert config.native_size == (480, 720)
    assert 2 * counts["transformer"] / 1e9 == pytest.approx(4.98 + 4.95 + 1.22, abs=0.015)


def test_the_plan_of_a_clip() -> None:
    plan = planned(AetherConfig.tiny(), num_frames=17, image_size=(32, 48), dtype=torch.float32)
    assert [stage.part for stage in plan.stages] == ["vae", "text_encoder", "transformer", "vae"]
    counts = {stage.part: stage.parameters for stage in plan.parts}
    with torch.device("meta"):
        networks = {part.subfolder: part.build(AetherConfig.tiny()) for part in PARTS.values()}
    # parameters() names a tied weight once
    assert counts == {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert all(stage.weight_bytes == 4 * stage.parameters == stage.disk_bytes for stage in plan.stages)
    assert all(stage.work_bytes > 0 for stage in plan.stages)
    larger = planned(AetherConfig.tiny(), num_frames=25, image_size=(32, 48), dtype=torch.float32)
    assert larger.stages[2].work_bytes > plan.stages[2].work_bytes
    with pytest.raises(InputError, match="13 frames"):
        planned(AetherConfig.tiny(), num_frames=13, image_size=SIZE)


def test_configurations_are_json(folder: Path) -> None:
    assert json.loads((folder / "vae" / "config.json").read_text())["_class_name"] == "AutoencoderKLCogVideoX"
    with pytest.raises(InputError, match="no text"):
        parts_from_modules({"vae": torch.nn.Identity(), "transformer": torch.nn.Identity()})
