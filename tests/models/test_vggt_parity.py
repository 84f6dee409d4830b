"""VGGT beside the released code of Gen3R, which carries it. Runs where GEN3R_UPSTREAM names a checkout of that code.

Nothing of the released code is in this repository. ``python tests/models/test_vggt_parity.py`` prints the measured
differences and, with ``--write``, freezes the released code's numbers as ``goldens/vggt.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from tiny_vggt import CONFIG, FIELDS, formula_images, formula_vggt, summaries
from torch import Tensor, nn

from gen3r_bench.models.vggt import Vggt, VggtConfig, VggtOutput, VggtTokens, cameras_from_pose_encoding
from gen3r_bench.scene import invert_rigid

VARIABLE = "GEN3R_UPSTREAM"
BOUND = 1e-5
"""Largest allowed relative difference in float32; what is measured lies below."""
CASES = {
    "native": {"batch": 1, "frames": 3, "size": (56, 56)},
    "resampled": {"batch": 1, "frames": 2, "size": (70, 70)},
    "wide": {"batch": 2, "frames": 3, "size": (56, 84)},
    "single": {"batch": 1, "frames": 1, "size": (70, 56)},
}

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no parity with the released VGGT: set {VARIABLE} to a checkout of Gen3R"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the released code
]


@contextlib.contextmanager
def released_code() -> Iterator[SimpleNamespace]:
    """The released classes; their packages' own start-up code, which imports a whole pipeline, is passed over."""
    folder = Path(os.environ[VARIABLE])
    assert (folder / "gen3r" / "models" / "vggt").is_dir(), f"{VARIABLE}={folder} is no checkout of JaceyHuang/Gen3R"

    def ours(name: str) -> bool:
        return name == "gen3r" or name.startswith("gen3r.")

    before = {name: sys.modules.pop(name) for name in list(sys.modules) if ours(name)}
    try:
        for name in ("gen3r", "gen3r.models", "gen3r.models.vggt"):
            package = ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")))]
            sys.modules[name] = package
        wanted = {
            "VGGT": "models.vggt",
            "Aggregator": "models.aggregator",
            "CameraHead": "heads.camera_head",
            "DPTHead": "heads.dpt_head",
            "DinoVisionTransformer": "layers.vision_transformer",
            "NestedTensorBlock": "layers",
            "MemEffAttention": "layers",
            "pose_encoding_to_extri_intri": "utils.pose_enc",
            "unproject_depth_map_to_point_map": "utils.geometry",
        }
        yield SimpleNamespace(
            **{name: getattr(importlib.import_module(f"gen3r.models.vggt.{at}"), name) for name, at in wanted.items()}
        )
    finally:
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(scope="module")
def released() -> Iterator[SimpleNamespace]:
    with released_code() as code:
        yield code


def released_tiny(code: SimpleNamespace, weights: dict[str, Tensor]) -> nn.Module:
    """The released modules at the sizes of ``CONFIG``, with the given weights."""
    c = CONFIG
    model = nn.Module()
    model.aggregator = code.Aggregator(
        img_size=c.encoder_grid * c.patch_size, embed_dim=c.width, depth=c.depth, num_heads=c.heads, patch_embed="conv"
    )
    model.aggregator.patch_embed = code.DinoVisionTransformer(
        img_size=c.encoder_grid * c.patch_size,
        patch_size=c.patch_size,
        embed_dim=c.width,
        depth=c.encoder_depth,
        num_heads=c.encoder_heads,
        block_fn=partial(code.NestedTensorBlock, attn_class=code.MemEffAttention),
        num_register_tokens=c.registers,
        interpolate_antialias=True,
        interpolate_offset=0.0,
        block_chunks=0,
        init_values=1.0,
    )
    model.camera_head = code.CameraHead(dim_in=c.token_width, trunk_depth=c.camera_depth, num_heads=c.camera_heads)
    sizes = {"dim_in": c.token_width, "features": c.dense_width, "out_channels": list(c.dense_layer_widths)}
    model.point_head = code.DPTHead(output_dim=4, activation="inv_log", conf_activation="expp1", **sizes)
    model.depth_head = code.DPTHead(output_dim=2, activation="exp", conf_activation="expp1", **sizes)
    model.load_state_dict(weights, strict=True)
    return model.eval()


@torch.no_grad()
def released_answer(model: nn.Module, images: Tensor) -> tuple[VggtTokens, VggtOutput]:
    layers, start = model.aggregator(images)
    chosen = [layers[i] for i in CONFIG.used_layers]
    depth, depth_confidence = model.depth_head(chosen, images=images, patch_start_idx=start, frames_chunk_size=2)
    points, points_confidence = model.point_head(chosen, images=images, patch_start_idx=start, frames_chunk_size=2)
    pose = model.camera_head(chosen)[-1]
    grid = (images.shape[3] // CONFIG.patch_size, images.shape[4] // CONFIG.patch_size)
    return VggtTokens(tuple(chosen), start, grid), VggtOutput(
        depth[..., 0], depth_confidence, points, points_confidence, pose
    )


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def differences(code: SimpleNamespace, case: dict[str, Any]) -> dict[str, float]:
    model = formula_vggt()
    images = formula_images(case["frames"], case["size"], case["batch"])
    tokens = model.encode(images)
    output = model.decode(tokens, case["size"])
    their_tokens, their_output = released_answer(released_tiny(code, model.state_dict()), images)
    pairs = {f"layer {i}": pair for i, pair in enumerate(zip(tokens.layers, their_tokens.layers, strict=True))}
    for name in FIELDS:
        pairs[name] = (getattr(output, name), getattr(their_output, name))
    return {name: relative(*pair) for name, pair in pairs.items()}


@pytest.mark.parametrize("case", CASES)
def test_tokens_and_heads(released: SimpleNamespace, case: str) -> None:
    found = differences(released, CASES[case])
    assert max(found.values()) <= BOUND, found


@pytest.mark.parametrize("bias", [0.25, -0.25])
@torch.no_grad()
def test_every_refinement_of_the_cameras(released: SimpleNamespace, bias: float) -> None:
    """With a negative bias the rectifier answers 0, and the next refinement starts from below it on both sides."""
    model = formula_vggt()
    model.camera_head.pose_branch.fc2.bias[7:] = bias
    tokens = model.encode(formula_images()).layers
    ours = model.camera_head(tokens[-1][:, :, 0])
    theirs = torch.stack(released_tiny(released, model.state_dict()).camera_head(list(tokens)))
    assert relative(ours, theirs) <= BOUND
    assert (theirs[..., 7:] == 0).all() == (bias < 0)


def released_official(code: SimpleNamespace) -> nn.Module:
    linspace = torch.linspace
    # the released constructor reads numbers out of a tensor, which has none on the meta device
    with torch.device("meta"), mock.patch.object(torch, "linspace", lambda *a: linspace(*a, device="cpu")):
        model: nn.Module = code.VGGT()
    return model


def test_official_keys_and_shapes(released: SimpleNamespace) -> None:
    theirs = released_official(released)
    with torch.device("meta"):
        ours = Vggt(VggtConfig.official())
    assert {k: t.shape for k, t in ours.state_dict().items()} == {k: t.shape for k, t in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_epsilons_of_norms(released: SimpleNamespace) -> None:
    def epsilons(model: nn.Module) -> dict[str, float]:
        return {name: m.eps for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)}

    with torch.device("meta"):
        ours = epsilons(Vggt(VggtConfig.official()))
    ours["camera_head.adaln_norm"] = ours.pop("camera_head.unlearned_norm")  # without weights, so without a key
    assert ours == epsilons(released_official(released))


@pytest.mark.parametrize("size", [(518, 518), (560, 560), (518, 294)])
def test_positions_at_full_grid(released: SimpleNamespace, size: tuple[int, int]) -> None:
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    encoder = Vggt(VggtConfig(**(fields | {"encoder_grid": 37}))).aggregator.patch_embed
    theirs = released.DinoVisionTransformer(
        img_size=518, patch_size=14, embed_dim=CONFIG.width, depth=1, num_heads=2, interpolate_antialias=True,
        interpolate_offset=0.0, block_chunks=0, num_register_tokens=4,
    )  # fmt: skip
    theirs.pos_embed = encoder.pos_embed
    grid = (size[0] // 14, size[1] // 14)
    expected = theirs.interpolate_pos_encoding(torch.zeros(1, 1 + grid[0] * grid[1], CONFIG.width), *size)
    assert relative(encoder.positions(grid).flatten(1, 2), expected[:, 1:]) <= 1e-6


def test_cameras(released: SimpleNamespace) -> None:
    torch.manual_seed(0)
    encoding = torch.randn(1, 6, 9)
    encoding[..., 7:] = 0.3 + torch.rand(1, 6, 2)
    extrinsics, intrinsics = released.pose_encoding_to_extri_intri(encoding, (56, 84))
    cameras = cameras_from_pose_encoding(encoding[0], (56, 84))
    cam_from_world = torch.from_numpy(invert_rigid(cameras.world_from_cam))[:, :3]
    assert relative(cam_from_world, extrinsics[0].double()) <= 1e-6
    assert relative(torch.from_numpy(cameras.intrinsics.copy()), intrinsics[0].double()) <= 1e-6


def main() -> None:
    with released_code() as code:
        for name, case in CASES.items():
            print(name, {key: f"{value:.1e}" for key, value in differences(code, case).items()})
        model = released_tiny(code, formula_vggt().state_dict())
        outputs = {}
        for name, case in CASES.items():
            images = formula_images(case["frames"], case["size"], case["batch"])
            outputs[name] = {**case, "values": summaries(*released_answer(model, images))}
        state = released_official(code).state_dict()
        parameters = sum(p.numel() for p in released_official(code).parameters())
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
    goldens = {
        "made_by": "tests/models/test_vggt_parity.py --write, from the released code of Gen3R",
        "official": {
            "parameters": parameters,
            "tensors": len(lines),
            "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        },
        "outputs": outputs,
    }
    print(goldens["official"])
    if "--write" in sys.argv:
        target = Path(__file__).parent / "goldens" / "vggt.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(goldens, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
