from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_scene
from tiny_wvd import write_wvd_folder

from gen3r_bench.baselines.wvd import plan_checkpoint
from gen3r_bench.cli.plan import PLANS
from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.conditioning import Axis, parted
from gen3r_bench.models.joint.pipeline import ClipInputs, Sampling
from gen3r_bench.models.wan.transformer import JointDit
from gen3r_bench.models.wan.vae import WanVae
from gen3r_bench.models.wvd.config import WvdConfig
from gen3r_bench.models.wvd.folder import WvdFolder
from gen3r_bench.models.wvd.pipeline import WvdPipeline, decode_points, encode_points
from gen3r_bench.models.wvd.plan import plan

FEW = Sampling(steps=2)
FRAMES, SIDE = 5, 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("wvd")
    return {axis: write_wvd_folder(root / axis, axis) for axis in ("width", "channel")}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, WvdPipeline]:
    return {axis: WvdPipeline.from_checkpoint(WvdFolder(folder)) for axis, folder in folders.items()}


def inputs(**changes: object) -> ClipInputs:
    scene = tiny_scene(frames=FRAMES, size=(SIDE, SIDE))
    indices = changes.get("frame_indices", (0,))
    values: dict[str, object] = {
        "rgb": scene.rgb[list(indices)],  # type: ignore[call-overload]
        "frame_indices": indices,
        "num_frames": FRAMES,
        "cameras": scene.cameras,
        "prompt": "a room",
        "seed": 5,
    }
    return ClipInputs(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("axis", "shape"), [("width", (1, 16, 2, 4, 8)), ("channel", (1, 32, 2, 4, 4))])
def test_a_clip_and_where_its_halves_lie(pipelines: dict[str, WvdPipeline], axis: Axis, shape: tuple[int, ...]) -> None:
    """Both halves are decoded by the same autoencoder, the second one as points."""
    pipeline = pipelines[axis]
    latents = pipeline.sample(inputs(), FEW)
    assert tuple(latents.shape) == shape
    clip = pipeline.decode(latents)
    assert clip.rgb.shape == clip.points.shape == (FRAMES, SIDE, SIDE, 3)
    assert np.abs(clip.points).max() <= 1
    with pipeline.parts.use("vae") as vae, torch.inference_mode():
        appearance, geometry = (vae.decode(half)[0].permute(1, 2, 3, 0).numpy() for half in parted(latents, axis))
    np.testing.assert_array_equal(clip.points, geometry)
    np.testing.assert_allclose(clip.rgb, (appearance + 1) * 127.5, atol=0.51)


@pytest.mark.parametrize("axis", ["width", "channel"])
def test_the_seed_and_what_is_given_decide(pipelines: dict[str, WvdPipeline], axis: Axis) -> None:
    pipeline = pipelines[axis]
    first = pipeline.sample(inputs(), FEW)
    torch.manual_seed(123)  # nobody else's generator matters
    assert torch.equal(first, pipeline.sample(inputs(), FEW))
    for changes in (
        {"seed": 6},
        {"prompt": "a wood"},
        {"cameras": None},
        {"frame_indices": (0, FRAMES - 1)},
        {"frame_indices": tuple(range(FRAMES))},
    ):
        assert not torch.allclose(first, pipeline.sample(inputs(**changes), FEW), atol=1e-4), changes
    assert not torch.allclose(first, pipeline.sample(inputs(), Sampling(steps=2, guidance=2)), atol=1e-4)


def test_points_pass_the_autoencoder_as_frames_do(pipelines: dict[str, WvdPipeline]) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (FRAMES, SIDE, SIDE, 3)).astype(np.float32)
    with pipelines["width"].parts.use("vae") as vae, torch.inference_mode():
        assert isinstance(vae, WanVae)
        latent = encode_points(vae, points, generator=torch.Generator().manual_seed(1))
        video = torch.from_numpy(points).permute(3, 0, 1, 2)[None]
        assert torch.equal(latent, vae.encode(video).sample(torch.Generator().manual_seed(1)))
        assert decode_points(vae, latent).shape == points.shape


def test_clips_that_do_not_fit(pipelines: dict[str, WvdPipeline]) -> None:
    with pytest.raises(InputError, match="6 frames"):
        pipelines["width"](inputs(num_frames=6), FEW)
    with pytest.raises(InputError, match="multiples of 16"):
        pipelines["width"](inputs(rgb=np.zeros((1, 24, 32, 3), np.uint8), cameras=None), FEW)


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"lacks wvd\.json"),
        ('{"axis": "width"}', "lacks normalisation"),
        ('{"axis": "width", "normalisation": "max-abs", "more": 1}', "unknown keys more"),
        ('{"axis": "height", "normalisation": "max-abs"}', "axis 'height'; expected width or channel"),
        ('{"axis": "width", "normalisation": "log"}', "normalisation 'log'"),
        ('{"axis": "channel", "normalisation": "box"}', "out_dim of transformer 16, twice the latent channels .* 32"),
    ],
)
def test_options_must_be_told_and_fit(
    folders: dict[str, Path], tmp_path: Path, content: str | None, message: str
) -> None:
    copy = copied(folders["width"], tmp_path)
    if content is None:
        (copy / "wvd.json").unlink()
    else:
        (copy / "wvd.json").write_text(content)
    with pytest.raises(InputError, match=message):
        WvdFolder(copy)


def test_keys_must_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = copied(folders["channel"], tmp_path)
    assert WvdFolder(copy).config == WvdConfig.tiny("channel")
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["blocks.0.ffn.0.bias"]
    save_file(tensors, file)
    shutil.rmtree(copy / "scheduler")
    with pytest.raises(InputError, match=r"lacks scheduler/scheduler_config\.json"):
        WvdFolder(copy)
    shutil.copytree(folders["channel"] / "scheduler", copy / "scheduler")
    with pytest.raises(InputError, match=r"transformer in .* \(1 missing: blocks\.0\.ffn\.0\.bias"):
        WvdFolder(copy)


def test_official_sizes() -> None:
    """Along the width every weight is one of Gen3R's; along the channels two layers are larger."""
    made = plan(WvdConfig.official(), num_frames=5, image_size=(SIDE, SIDE))
    assert {row.part: row.parameters for row in made.stages} == {
        "wan_vae": 126_892_531,
        "text_encoder": 5_680_910_336,
        "clip_image_encoder": 611_086_080,
        "transformer": 1_616_337_728,
    }
    assert [row.stage for row in made.stages][-2:] == ["latents to frames", "latents to points"]
    with torch.device("meta"):
        channel = JointDit(WvdConfig.official("channel").transformer)
    more = sum(parameter.numel() for parameter in channel.parameters()) - 1_616_337_728
    assert more == 16 * 4 * 1536 + (1536 + 1) * 16 * 4  # patch embedding; output head with its bias


def test_the_plan_of_a_folder(folders: dict[str, Path]) -> None:
    assert PLANS["wvd"] == plan_checkpoint.__module__
    made = plan_checkpoint(str(folders["width"]), num_frames=5, image_size=(SIDE, SIDE), dtype=torch.float32)
    assert {row.part for row in made.stages} == {"transformer", "wan_vae", "text_encoder", "clip_image_encoder"}
    with pytest.raises(InputError, match="multiples of 16"):
        plan_checkpoint(None, num_frames=5, image_size=(40, 40), dtype=torch.float32)


def test_options_are_what_a_folder_says(folders: dict[str, Path]) -> None:
    assert json.loads((folders["channel"] / "wvd.json").read_text()) == WvdConfig.tiny("channel").options()
