"""Beside the authors' released code: same tiny sizes, same weights. Set GEN3R_UPSTREAM to a checkout of it to run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from released_gen3r import released_code
from tiny import tiny_scene
from tiny_gen3r import fill, formula_tensors, relative_difference, tiny_modules, wave, write_tokenizer
from torch import nn

from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS
from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline
from gen3r_bench.models.joint.conditioning import plucker_rays
from gen3r_bench.models.joint.pipeline import ClipInputs, Sampling, parts_from_modules
from gen3r_bench.models.joint.plan import _CLIP_UNUSED
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder, load_tokenizer
from gen3r_bench.models.wan.transformer import DitConfig, JointDit
from gen3r_bench.scene import Cameras, invert_rigid, unproject_depth

BOUND = 1e-4
"""Largest allowed relative difference in float32; what is measured lies far below."""

VARIABLE = "GEN3R_UPSTREAM"
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no parity with the released code: set {VARIABLE} to a checkout of it"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the released code
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Any]:
    """Gives modules of the released code by their dotted name below ``gen3r``."""
    pytest.importorskip("einops", reason="the released code needs einops")
    with warnings.catch_warnings(), released_code(Path(os.environ[VARIABLE])) as load:
        warnings.simplefilter("ignore")
        yield load


def report(name: str, difference: float) -> None:
    print(f"parity {name}: {difference:.2e}")
    assert difference <= BOUND


def their_transformer(upstream: Any, config: DitConfig) -> Any:
    module = upstream("models.videoxfun_wan.wan_transformer3d")
    content = {key: value for key, value in config.to_json().items() if key not in {"image_dim", "halves"}}
    model = module.WanTransformer3DModel.from_config(content)
    if config.image_dim != 1280:
        model.img_emb = module.MLPProj(config.image_dim, config.dim)  # the released class fixes 1280
    return model.eval()


def test_dit_official_names_and_shapes(upstream: Any) -> None:
    with torch.device("meta"):
        ours = JointDit(DitConfig.official()).state_dict()
        theirs = their_transformer(upstream, DitConfig.official()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}


def test_encoders_official_names_and_shapes(upstream: Any) -> None:
    text_config, image_config = TextConfig.official(), ImageConfig.official()
    with torch.device("meta"):
        text, image = TextEncoder(text_config).state_dict(), ImageEncoder(image_config).state_dict()
        module = upstream("models.videoxfun_wan.wan_text_encoder")
        their_text = module.WanT5EncoderModel.from_config(text_config.to_json()).state_dict()
        their_image = upstream("models.videoxfun_wan.wan_image_encoder").CLIPModel().state_dict()
    assert {name: tensor.shape for name, tensor in text.items()} == {name: t.shape for name, t in their_text.items()}
    whole = {name.removeprefix("model."): tensor for name, tensor in their_image.items()}
    used = {k: t for k, t in whole.items() if not any(fnmatchcase(k, p) for p in image_config.unused_keys())}
    assert {name: tensor.shape for name, tensor in image.items()} == {name: t.shape for name, t in used.items()}
    unused = sum(tensor.numel() for name, tensor in whole.items() if name not in used)
    assert unused == _CLIP_UNUSED


@pytest.mark.parametrize("layers", [2, 5])
def test_dit_forward(upstream: Any, layers: int) -> None:
    config = dataclasses.replace(DitConfig.tiny(), num_layers=layers)
    ours, theirs = fill(JointDit(config)), their_transformer(upstream, config)
    theirs.load_state_dict(ours.state_dict())
    frames, height, width = 4, 6, 12
    latents = wave((2, 16, frames, height, width), 1)
    condition = torch.cat([wave((2, 16, frames, height, width), 2), torch.zeros(2, 4, frames, height, width)], dim=1)
    condition[:, 16:, 0, :, : width // 2] = 1
    rays = wave((2, 24, frames, 8 * height, 8 * width), 3)
    text = [wave((5, config.text_dim), 4), wave((9, config.text_dim), 5)]
    image = wave((2, 257, config.image_dim), 6)  # the released code cuts the context at 257
    timestep = torch.tensor([999.0, 431.25])
    with torch.no_grad():
        expected = theirs(
            latents, timestep, text, frames * height * width // 4, clip_fea=image, y=condition, y_camera=rays
        )
        padded = torch.stack([torch.nn.functional.pad(t, (0, 0, 0, config.text_len - len(t))) for t in text])
        given = ours(latents, timestep, condition=condition, text=padded, image=image, rays=rays)
        report(f"DiT forward, {layers} blocks", relative_difference(given, expected))
        expected = theirs(
            latents,
            timestep,
            text,
            frames * height * width // 4,
            clip_fea=image,
            y=condition,
            y_camera=torch.zeros_like(rays),
        )
        given = ours(latents, timestep, condition=condition, text=padded, image=image)
        report("DiT forward without cameras", relative_difference(given, expected))


def test_text_encoder(upstream: Any) -> None:
    config = TextConfig.tiny()
    module = upstream("models.videoxfun_wan.wan_text_encoder")
    ours = fill(TextEncoder(config))
    theirs = module.WanT5EncoderModel.from_config(config.to_json()).eval()
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[5, 9, 33, 2, 60, 17, 1]])
    padded = torch.nn.functional.pad(ids, (0, 512 - 7))
    with torch.no_grad():
        expected = theirs(padded, attention_mask=(torch.arange(512) < 7)[None].long())[0][:, :7]
        report("umT5", relative_difference(ours(ids), expected))


def test_image_encoder(upstream: Any) -> None:
    config = ImageConfig.tiny()
    module = upstream("models.videoxfun_wan.wan_image_encoder")
    model, transforms = module._clip(
        pretrained_name="x", return_transforms=True, image_size=28, vision_dim=32, vision_heads=2, vision_layers=3,
        vocab_size=11, text_dim=8, text_heads=2, text_layers=1, embed_dim=8, activation="gelu",
    )  # fmt: skip
    theirs = module.CLIPModel.__new__(module.CLIPModel)
    torch.nn.Module.__init__(theirs)
    theirs.model, theirs.transforms = model.eval(), transforms
    tensors = formula_tensors({name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()})
    theirs.load_state_dict(tensors)
    from gen3r_bench.models.checkpoint import load_exactly

    ours = ImageEncoder(config)
    ignore = tuple(f"model.{pattern}" for pattern in config.unused_keys())
    load_exactly(ours, tensors, what="clip", strip_prefix="model.", ignore=ignore)
    image = (wave((1, 3, 56, 56), 3) + 1) / 2
    with torch.no_grad():
        expected = theirs([(image[0] * 2 - 1)[:, None]])
        report("CLIP", relative_difference(ours(image), expected))


def clip_config() -> Gen3rConfig:
    """Tiny, with the 257 image tokens at which the released code cuts the context."""
    return dataclasses.replace(
        Gen3rConfig.tiny(), image=ImageConfig(image_size=224, patch_size=14, dim=32, num_heads=2, num_layers=3)
    )


def their_pipeline(upstream: Any, config: Gen3rConfig, modules: dict[str, nn.Module], tokenizer: Any) -> Any:
    """The released pipeline around released modules of the tiny sizes, with our weights."""
    vae_module = upstream("models.videoxfun_wan.wan_vae")
    vae = vae_module.AutoencoderKLWan.__new__(vae_module.AutoencoderKLWan)
    with torch.device("meta"):
        vae.__init__()
    vae.mean, vae.std = torch.tensor(config.vae.latent_mean), torch.tensor(config.vae.latent_std)
    vae.scale = [vae.mean, 1.0 / vae.std]
    vae.model = vae_module._video_vae(z_dim=16, dim=config.vae.dim)

    adapter_config = {
        key: config.adapter.to_json()[key] for key in ("hidden_dim", "input_dim", "output_dim", "resample_scale")
    }
    adapter = upstream("models.geometry_adapter.geometry_adapter").GeometryAdapter(**adapter_config)
    adapter.model.decoder.out_block.resample[0].size = (16, 16)  # fixed at 80 for 560 pixels; 16 for 112

    vggt = nn.Module()
    vggt.aggregator = nn.Module()
    vggt.aggregator.patch_size = 14
    width, dense = config.vggt.token_width, upstream("models.vggt.heads.dpt_head").DPTHead
    vggt.camera_head = upstream("models.vggt.heads.camera_head").CameraHead(width, trunk_depth=2, num_heads=2)
    for name, channels, activation in (("point_head", 4, "inv_log"), ("depth_head", 2, "exp")):
        head = dense(
            width,
            output_dim=channels,
            activation=activation,
            features=config.vggt.dense_width,
            out_channels=list(config.vggt.dense_layer_widths),
        )
        setattr(vggt, name, head)

    text = upstream("models.videoxfun_wan.wan_text_encoder").WanT5EncoderModel.from_config(config.text.to_json())
    image_module = upstream("models.videoxfun_wan.wan_image_encoder")
    clip, transforms = image_module._clip(
        pretrained_name="x", return_transforms=True, image_size=224, vision_dim=32, vision_heads=2, vision_layers=3,
        vocab_size=11, text_dim=8, text_heads=2, text_layers=1, embed_dim=8, activation="gelu",
    )  # fmt: skip
    image = image_module.CLIPModel.__new__(image_module.CLIPModel)
    nn.Module.__init__(image)
    image.model, image.transforms = clip, transforms

    transformer = their_transformer(upstream, config.transformer)
    for theirs, name in ((transformer, "transformer"), (vae, "vae"), (adapter, "adapter"), (text, "text")):
        theirs.load_state_dict(modules[name].state_dict())
    vggt.load_state_dict({k: v for k, v in modules["vggt"].state_dict().items() if not k.startswith("aggregator.")})
    ours = modules["image"].state_dict()
    missing = image.load_state_dict({f"model.{key}": tensor for key, tensor in ours.items()}, strict=False)
    assert not missing.unexpected_keys
    from diffusers import FlowMatchEulerDiscreteScheduler

    for module in (transformer, vae, adapter, vggt, text, image):
        module.eval()
    pipeline = upstream("pipeline.pipeline_gen3r").Gen3RPipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        transformer=transformer,
        clip_image_encoder=image,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=2.0),
        geo_adapter=adapter,
        wan_vae=vae,
        vggt=vggt,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("visible", "with_cameras", "steps"),
    [([0], True, 50), ([0, 12], True, 8), ([0, 12], False, 8), (list(range(13)), False, 8)],
)
def test_whole_clip(
    upstream: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: list[int], with_cameras: bool, steps: int
) -> None:
    """Tokens, CLIP, condition, noise, guided steps and both decoders: one seed, one clip on either side."""
    config, frames, size = clip_config(), 13, 112
    modules = tiny_modules(config)
    write_tokenizer(tmp_path / "tokenizer")
    from transformers import AutoTokenizer

    pipeline = their_pipeline(upstream, config, modules, AutoTokenizer.from_pretrained(str(tmp_path / "tokenizer")))
    rgb = ((wave((len(visible), size, size, 3), 7) + 1) * 127).round().byte()
    scene = tiny_scene(frames=frames, size=(size, size))
    cameras = scene.cameras if with_cameras else None
    inputs = ClipInputs(
        rgb=rgb.numpy(), frame_indices=visible, num_frames=frames, cameras=cameras, prompt="a small room", seed=11
    )
    ours = Gen3rPipeline(
        config,
        parts_from_modules(modules, PARTS),
        load_tokenizer(tmp_path / "tokenizer"),
        lambda: type(pipeline.scheduler).from_config(pipeline.scheduler.config),
    )
    latents = ours.sample(inputs, Sampling(steps=steps))
    clip = ours.decode(latents)

    rays = torch.zeros(1, frames, 6, size, size)
    if cameras is not None:
        data = upstream("utils.data_utils")
        poses = data.preprocess_poses(torch.from_numpy(cameras.world_from_cam.copy()))
        origin, direction = data.compute_rays(poses, torch.from_numpy(cameras.intrinsics.copy()), size, size, "cpu")
        rays = torch.cat([torch.cross(origin, direction, dim=1), direction], dim=1)[None].float()
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())  # their loop asks for CUDA
    common = {
        "prompt": "a small room",
        "negative_prompt": "bad detailed",
        "height": size,
        "width": size,
        "control_cameras": rays,
        "control_images": rgb.float().div(255).permute(0, 3, 1, 2)[None],
        "num_frames": frames,
        "num_inference_steps": steps,
        "guidance_scale": 5,
    }
    torch.manual_seed(11)
    (their_latents,) = pipeline(**common, output_type="latent")
    torch.manual_seed(11)
    theirs = pipeline(**common, return_dict=True)
    case = f"{len(visible)} visible, {'with' if with_cameras else 'no'} cameras, {steps} steps"
    report(f"clip latents ({case})", relative_difference(latents, their_latents))
    report(f"clip depth ({case})", relative_difference(torch.from_numpy(clip.depth), theirs.depth_maps[0, ..., 0]))
    rgb_difference = (torch.from_numpy(clip.rgb).float() / 255 - theirs.rgbs[0]).abs().max()
    print(f"parity clip rgb ({case}): {rgb_difference:.2e} (half a step of 8 bits is 1.96e-03)")
    assert rgb_difference < 0.5 / 255 + 1e-4
    extrinsics, intrinsics = theirs.cameras
    poses = torch.from_numpy(invert_rigid(clip.cameras.world_from_cam)[:, :3])
    report(f"clip poses ({case})", relative_difference(poses, extrinsics[0]))
    report(f"clip intrinsics ({case})", relative_difference(torch.from_numpy(clip.cameras.intrinsics), intrinsics[0]))
    # they unproject whole pixels, we pixel centres: the same points from a principal point half a pixel further
    shifted = clip.cameras.intrinsics.copy()
    shifted[:, :2, 2] += 0.5
    points = unproject_depth(clip.depth, Cameras(clip.cameras.world_from_cam, shifted, clip.cameras.image_size))
    report(f"clip points ({case})", relative_difference(torch.from_numpy(points), theirs.pcds[0]))


def test_plucker_rays(upstream: Any) -> None:
    """Rays of a moving, turning camera."""
    rays = plucker_rays(tiny_scene(frames=5, size=(16, 16)).cameras)
    data = upstream("utils.data_utils")
    cameras = tiny_scene(frames=5, size=(16, 16)).cameras
    poses = data.preprocess_poses(torch.from_numpy(cameras.world_from_cam.copy()))
    origin, direction = data.compute_rays(poses, torch.from_numpy(cameras.intrinsics.copy()), 16, 16, "cpu")
    expected = torch.cat([torch.cross(origin, direction, dim=1), direction], dim=1)
    report("Plücker rays", relative_difference(rays, expected))
