"""LVSM beside its released code. Runs where LVSM_UPSTREAM names a checkout of haian-jin/LVSM.

Nothing of the released code is in this repository. It needs einops, easydict and jaxtyping; xformers, lpips,
torchvision, imageio and cv2 are stood in for. ``pytest -s`` prints the measured differences.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lvsm import cameras_around, formula_lvsm, formula_views
from torch import Tensor, nn

from gen3r_bench.models.lvsm import LvsmConfig, build, normalised_poses, pluecker_rays
from gen3r_bench.models.lvsm.config import Kind

VARIABLE = "LVSM_UPSTREAM"
BOUND = 1e-4
"""Largest allowed difference relative to the largest value; what is measured lies far below."""
KINDS: tuple[Kind, ...] = ("decoder-only", "encoder-decoder")
MODULES = {"decoder-only": "model.LVSM_scene_decoder_only", "encoder-decoder": "model.LVSM_scene_encoder_decoder"}
OWN = ("model", "utils", "data")
STANDINS = ("xformers", "xformers.ops", "lpips", "torchvision", "torchvision.models", "imageio", "cv2")

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no parity with the released LVSM: set {VARIABLE} to a checkout of it"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the released code
]


@contextlib.contextmanager
def released_code() -> Iterator[SimpleNamespace]:
    """The released modules, with attention by torch and without what only training and videos need."""
    folder = Path(os.environ[VARIABLE])
    assert (folder / "model" / "LVSM_scene_decoder_only.py").is_file(), f"{VARIABLE}={folder} is no checkout of LVSM"

    def mine(name: str) -> bool:
        return name.partition(".")[0] in {*OWN, *(name.partition(".")[0] for name in STANDINS)}

    before = {name: sys.modules.pop(name) for name in list(sys.modules) if mine(name)}
    sys.path.insert(0, str(folder))
    try:
        for name in STANDINS:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
        flash = SimpleNamespace(FwOp=None, BwOp=None)

        def attention(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
            by_head = (tensor.transpose(1, 2) for tensor in (q, k, v))
            return nn.functional.scaled_dot_product_attention(*by_head).transpose(1, 2)

        ops: Any = sys.modules["xformers.ops"]
        ops.memory_efficient_attention, ops.fmha = attention, SimpleNamespace(flash=flash)
        xformers: Any = sys.modules["xformers"]
        xformers.ops = ops
        models: Any = sys.modules["torchvision.models"]
        models.vgg19 = None
        yield SimpleNamespace(
            networks={kind: importlib.import_module(name).Images2LatentScene for kind, name in MODULES.items()},
            dataset=importlib.import_module("data.dataset_scene").Dataset,
        )
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if mine(name)]:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(scope="module")
def released() -> Iterator[SimpleNamespace]:
    with released_code() as code:
        yield code


def released_network(code: SimpleNamespace, config: LvsmConfig, views: int, targets: int) -> Any:
    """The released network at the sizes of a configuration; it splits a sample's views by its configuration."""
    from easydict import EasyDict  # type: ignore[import-not-found]

    sizes = {"d": config.width, "d_head": config.head_width, "use_qk_norm": True, "special_init": True}
    if config.kind == "encoder-decoder":
        depths = {
            "encoder_n_layer": config.encoder_depth,
            "decoder_n_layer": config.depth,
            "n_latent_vectors": config.latents,
        }
    else:
        depths = {"n_layer": config.depth}
    tokenizers = {
        name: {"patch_size": config.patch_size, "in_channels": channels}
        for name, channels in (("image_tokenizer", 9), ("target_pose_tokenizer", 6))
    }
    training = {
        "num_input_views": views,
        "num_target_views": targets,
        "num_views": views + targets,
        "target_has_input": False,
        "grad_checkpoint_every": 1,
        "perceptual_loss_weight": 0.0,
        "lpips_loss_weight": 0.0,
        "l2_loss_weight": 1.0,
    }
    transformer = {**sizes, "depth_init": True, **depths}
    whole = {"model": {**tokenizers, "transformer": transformer}, "training": training, "inference": {}}
    return code.networks[config.kind](EasyDict(whole))


@torch.no_grad()
def renders(code: SimpleNamespace, kind: Kind, views: int, at_once: int | None) -> tuple[Tensor, Tensor]:
    """Our answer and the released one for the same weights, frames and raw cameras."""
    ours = formula_lvsm(kind)
    theirs = released_network(code, ours.config, views, targets=5)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.eval()
    cameras = cameras_around(views + 5)
    images = formula_views(1, views + 5, 16)
    poses = code.dataset.preprocess_poses(None, torch.from_numpy(cameras.world_from_cam.copy()).float(), 1.35)
    K = cameras.intrinsics
    batch = {
        "image": images,
        "c2w": poses[None],
        "fxfycxcy": torch.tensor(np.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]], -1))[None].float(),
        "index": torch.zeros(1, views + 5, 2, dtype=torch.long),
        "scene_name": ["formula"],
    }
    rays = pluecker_rays(normalised_poses(cameras.world_from_cam), cameras, 16)[None]
    answer = ours(images[:, :views], rays[:, :views], rays[:, views:], targets_at_once=at_once)
    return answer, theirs(batch, has_target_image=False).render


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("at_once", [None, 2])
def test_renders(released: SimpleNamespace, kind: Kind, views: int, at_once: int | None) -> None:
    ours, theirs = renders(released, kind, views, at_once)
    assert theirs.std() > 0.05, "the tiny network answers with one grey"
    difference = relative(ours, theirs)
    print(f"parity {kind}, {views} view(s), {at_once or 'all'} targets at once: {difference:.1e}")
    assert difference <= BOUND


@pytest.mark.parametrize("kind", KINDS)
def test_official_keys_and_shapes(released: SimpleNamespace, kind: Kind) -> None:
    with torch.device("meta"):
        ours, theirs = build(LvsmConfig.official(kind)), released_network(released, LvsmConfig.official(kind), 2, 1)
    assert {k: t.shape for k, t in ours.state_dict().items()} == {k: t.shape for k, t in theirs.state_dict().items()}


def test_pose_normalisation(released: SimpleNamespace) -> None:
    poses = cameras_around(9).world_from_cam
    theirs = released.dataset.preprocess_poses(None, torch.from_numpy(poses.copy()).float(), 1.35)
    np.testing.assert_allclose(normalised_poses(poses), theirs, atol=1e-6)
