"""Beside the authors' released code: same tiny sizes, same weights. Set AETHER_UPSTREAM to a checkout of it to run."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from released_aether import Float32Torch, released_code
from tiny import tiny_scene
from tiny_aether import GOLDENS, SCHEDULER, camera_path, frozen_inputs, tiny_modules
from tiny_gen3r import relative_difference, summary, wave, write_tokenizer

from gen3r_bench.models.aether.config import AetherConfig
from gen3r_bench.models.aether.folder import scheduler
from gen3r_bench.models.aether.pipeline import AetherPipeline, Clip, ClipInputs, Sampling, parts_from_modules
from gen3r_bench.models.aether.raymap import (
    centred_cameras,
    decode_raymap,
    depth_from_disparity,
    encode_raymap,
)
from gen3r_bench.models.aether.reconstruction import window_of
from gen3r_bench.models.aether.trajectory import (
    Window,
    gaussian_smoothed,
    joined,
    kalman_smoothed,
    smoothed,
    window_starts,
)
from gen3r_bench.scene import Cameras, unproject_depth

BOUND = 1e-4
"""Largest allowed relative difference in float32; what is measured lies far below."""
SIZE = (64, 96)
FRAMES = 17

VARIABLE = "AETHER_UPSTREAM"
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no parity with the released code: set {VARIABLE} to a checkout of it"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the released code
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Any]:
    """Gives modules of the released code by their dotted name."""
    for name in ("einops", "filterpy"):
        pytest.importorskip(name, reason=f"the released code needs {name}")
    with warnings.catch_warnings(), released_code(Path(os.environ[VARIABLE])) as load:
        warnings.simplefilter("ignore")
        yield load


@pytest.fixture(scope="module")
def post(upstream: Any) -> Any:
    return upstream("aether.utils.postprocess_utils")


def report(name: str, ours: NDArray[Any], theirs: Any) -> None:
    difference = relative_difference(torch.from_numpy(np.asarray(ours)), torch.from_numpy(np.asarray(theirs)))
    print(f"parity {name}: {difference:.2e}")
    assert difference <= BOUND


@pytest.fixture(scope="module")
def pipelines(upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[AetherPipeline, Any]:
    """Ours and theirs around the same networks."""
    config = AetherConfig.tiny()
    modules = tiny_modules(config)
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    from transformers import AutoTokenizer

    module = upstream("aether.pipelines.aetherv1_pipeline_cogvideox")
    module.torch = Float32Torch("torch")
    theirs = module.AetherV1PipelineCogVideoX(
        tokenizer=AutoTokenizer.from_pretrained(str(folder)),
        text_encoder=modules["text"],
        vae=modules["vae"],
        scheduler=scheduler(SCHEDULER),
        transformer=modules["transformer"],
    )
    # its length is fixed at the official 226 tokens
    theirs.empty_prompt_embeds = theirs._get_t5_prompt_embeds("", max_sequence_length=6)
    theirs.set_progress_bar_config(disable=True)
    return AetherPipeline(config, parts_from_modules(modules), lambda: scheduler(SCHEDULER)), theirs


@pytest.mark.parametrize(
    ("given", "with_cameras", "steps"),
    [(1, True, 50), (1, True, 2), (1, False, 2), (2, True, 2), (2, False, 2), (FRAMES, True, 4), (FRAMES, False, 4)],
)
def test_whole_clip(
    pipelines: tuple[AetherPipeline, Any], post: Any, given: int, with_cameras: bool, steps: int
) -> None:
    """Condition, noise, guided steps, both decodings, cameras and points: one seed, one clip on either side."""
    ours, theirs = pipelines
    rgb = ((wave((given, *SIZE, 3), 7) + 1) / 2).numpy()
    cameras = camera_path(FRAMES, SIZE) if with_cameras else None
    inputs = ClipInputs(rgb=rgb, num_frames=FRAMES, cameras=cameras, seed=11, dmax=0.5)
    reconstruction = given == FRAMES
    clip = ours(inputs, Sampling.reconstruction() if reconstruction else Sampling(steps=steps))
    raymap = None
    if cameras is not None:
        raymap = post.camera_pose_to_raymap(
            cameras.world_from_cam.copy(), cameras.intrinsics.copy(), dmax=0.5, H=SIZE[0], W=SIZE[1]
        )
        report("raymap", encode_raymap(cameras, dmax=0.5), raymap)
    frames = {"video": rgb} if reconstruction else {"image": rgb[0], "goal": rgb[1] if given == 2 else None}
    expected = theirs(
        task=inputs.task,
        **frames,
        raymap=raymap,
        height=SIZE[0],
        width=SIZE[1],
        num_frames=FRAMES,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(11),
    )
    case = f"{inputs.task}, {'with' if with_cameras else 'no'} cameras, {steps} steps"
    for name in ("rgb", "disparity", "raymap"):
        report(f"clip {name} ({case})", getattr(clip, name), getattr(expected, name))
    check_points(expected, post, case)


def check_points(clip: Any, post: Any, case: str) -> None:
    """What is read from their clip: 1 / disparity would blow up the difference of two."""
    theirs = post.postprocess_pointmap(
        clip.disparity, clip.raymap.copy(), ray_o_scale_inv=0.1, smooth_camera=True, smooth_method="kalman"
    )
    window = window_of(Clip(rgb=clip.rgb, disparity=clip.disparity, raymap=clip.raymap))
    cameras = centred_cameras(window.world_from_cam, window.focal_px, SIZE)
    report(f"poses ({case})", window.world_from_cam, theirs["camera_pose"])
    report(f"intrinsics ({case})", cameras.intrinsics, theirs["intrinsics"])
    depth = depth_from_disparity(window.disparity)
    report(f"depth ({case})", depth, theirs["depth"])
    report(f"points ({case})", unproject_depth(depth, cameras), theirs["pointmap"])


@pytest.mark.parametrize("given", [1, 2, FRAMES])
def test_frozen_numbers_are_theirs(pipelines: tuple[AetherPipeline, Any], post: Any, given: int) -> None:
    """What CI holds our pipeline to; ``AETHER_FREEZE=1`` writes it anew."""
    request = frozen_inputs(given)
    cameras = request.cameras
    assert cameras is not None
    frames = {"video": request.rgb} if given == FRAMES else {"image": request.rgb[0]}
    if given == 2:
        frames["goal"] = request.rgb[1]
    clip = pipelines[1](
        task=request.task,
        **frames,
        raymap=post.camera_pose_to_raymap(
            cameras.world_from_cam.copy(),
            cameras.intrinsics.copy(),
            dmax=request.dmax,
            H=request.image_size[0],
            W=request.image_size[1],
        ),
        height=request.image_size[0],
        width=request.image_size[1],
        num_frames=FRAMES,
        num_inference_steps=4 if given == FRAMES else 2,
        generator=torch.Generator().manual_seed(request.seed),
    )
    points = post.postprocess_pointmap(
        clip.disparity, clip.raymap.copy(), ray_o_scale_inv=0.1, smooth_camera=True, smooth_method="kalman"
    )
    named = {
        "rgb": clip.rgb,
        "disparity": clip.disparity,
        "raymap": clip.raymap,
        "poses": points["camera_pose"],
    }
    numbers = {name: summary(torch.from_numpy(np.array(array))) for name, array in named.items()}
    goldens = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {}
    if os.environ.get("AETHER_FREEZE"):
        goldens[request.task] = numbers
        GOLDENS.write_text(json.dumps(goldens, indent=1) + "\n")
    for name, values in numbers.items():
        assert values == pytest.approx(goldens[request.task][name], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("size", [(32, 48), (64, 64), (96, 64), (64, 128), (32, 96)])
def test_other_sizes(pipelines: tuple[AetherPipeline, Any], size: tuple[int, int]) -> None:
    """Tokens take the same places in the native grid."""
    ours, theirs = pipelines
    rgb = ((wave((1, *size, 3), 7) + 1) / 2).numpy()
    clip = ours(ClipInputs(rgb=rgb, num_frames=FRAMES, cameras=None, seed=5), Sampling(steps=1))
    expected = theirs(
        task="prediction",
        image=rgb[0],
        height=size[0],
        width=size[1],
        num_frames=FRAMES,
        num_inference_steps=1,
        generator=torch.Generator().manual_seed(5),
    )
    report(f"rgb at {size}", clip.rgb, expected.rgb)
    report(f"disparity at {size}", clip.disparity, expected.disparity)


def test_raymaps_of_random_numbers(post: Any) -> None:
    """Decoding takes no advantage of a raymap being one of a camera."""
    raymap = wave((5, 6, 8, 12), 3).numpy()
    poses, half_fov = decode_raymap(raymap)
    expected, fov_x, fov_y = post.raymap_to_poses(raymap.copy(), ray_o_scale_inv=0.1)
    report("random poses", poses, expected)
    report("random fields of view", half_fov, np.stack([fov_x, fov_y], axis=1))


@pytest.mark.parametrize("motion", [1.0, 0.0008, 0.0])
def test_smoothing(post: Any, motion: float) -> None:
    poses = camera_path(23, SIZE, motion=motion, shake=0.3).world_from_cam
    report("Gaussian smoothing", gaussian_smoothed(poses, 9), post.smooth_poses(poses, 9))
    report("Kalman smoothing", kalman_smoothed(poses), post.smooth_trajectory(poses, 5))
    is_static, moved, turned = post.detect_static_sequence(poses)
    assert is_static == (motion < 0.1)
    expected = post.adaptive_pose_smoothing(poses, moved, turned) if is_static else post.smooth_trajectory(poses, 5)
    report(f"smoothing at {moved + turned:.1e} a frame", smoothed(poses), expected)


def test_windows(upstream: Any) -> None:
    evaluation = upstream("evaluation.rel_pose.launch_aether")
    path = camera_path(49, SIZE)
    starts = window_starts(49, 41, 24)
    windows, theirs = [], []
    for number, start in enumerate(starts):
        poses = camera_path(49, SIZE, shake=0.2 * number).world_from_cam[start : start + 41]
        poses = Cameras(poses, path.intrinsics[:41], SIZE).rebased().world_from_cam
        window = Window(
            rgb=((wave((41, 6, 9, 3), number) + 1) / 2).numpy(),
            disparity=((wave((41, 6, 9), number + 5) + 1.1) / 2).numpy(),
            world_from_cam=poses,
            focal_px=100 + wave((41,), number).double().numpy(),
        )
        windows.append(window)
        theirs.append(
            {
                "rgb": window.rgb.copy(),
                "disparity": window.disparity.copy(),
                "poses": poses[:, :3].copy(),
                "focals": window.focal_px.copy(),
                "range": (start, start + 41),
            }
        )
    whole, expected = joined(windows, starts, "released"), evaluation.blend_window_outputs(theirs)
    for name, key in (("rgb", "rgb"), ("disparity", "disparity"), ("focal_px", "focals")):
        report(f"joined {name}", getattr(whole, name), expected[key])
    report("joined poses", kalman_smoothed(whole.world_from_cam), expected["poses"])


def test_scenes_conventions_agree(post: Any) -> None:
    """Cameras of a scene go out and come back: what is lost is the released half pixel."""
    cameras = tiny_scene(frames=5, size=SIZE).cameras
    raymap = post.camera_pose_to_raymap(
        cameras.world_from_cam.copy(), cameras.intrinsics.copy(), dmax=1.0, H=SIZE[0], W=SIZE[1]
    )
    report("scene raymap", encode_raymap(cameras), raymap)
