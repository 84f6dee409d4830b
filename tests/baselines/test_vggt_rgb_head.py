from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from shipped_card import checked_card
from tiny_frozen import VGGT, write_vggt
from tiny_gen3r import fill

from gen3r_bench.baselines.vggt_rgb_head import VggtRgbHead, VggtRgbHeadReference
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.errors import InputError
from gen3r_bench.metrics.image import psnr
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.models.vggt.heads import RgbHead
from gen3r_bench.models.vggt_checkpoint import load_vggt
from gen3r_bench.scene import Conditioning


def write_head(folder: Path, **metadata: str) -> Path:
    config = VggtConfig.of_fields(VGGT, "here")
    head = fill(RgbHead(config))
    said = {"config": json.dumps(dataclasses.asdict(config)), "side": "16", "vggt": str(folder / "vggt.safetensors")}
    path = folder / "head.safetensors"
    save_file(head.state_dict(), path, metadata={**said, **metadata})
    return path


def shown(frames: int = 3, size: tuple[int, int] = (16, 16)) -> Conditioning:
    rgb = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    return Conditioning("allview", tuple(range(frames)), rgb, None, frames, size, None, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_vggt(tmp_path)
    return tmp_path


def test_frames_are_what_the_head_reads_from_the_tokens(folder: Path) -> None:
    path = write_head(folder)
    method = VggtRgbHead.load(str(path), device="cpu")
    given = shown(10)
    answer = method.predict(given)
    assert answer.rgb is not None
    assert answer.depth is None
    vggt = load_vggt(folder / "vggt.safetensors")
    with torch.no_grad():
        tokens = vggt.encode(torch.from_numpy(np.array(given.rgb)).permute(0, 3, 1, 2)[None].float() / 255)
        expected = method.head([layer[0, :, tokens.patch_start :] for layer in tokens.layers], tokens.grid)
    assert np.abs(answer.rgb - 255 * expected.numpy()).max() <= 0.51
    assert answer.adaptations == ()
    assert len(np.unique(answer.rgb)) > 20
    assert (
        method.checkpoint_sha256 != VggtRgbHead.load(str(write_head(folder, note="x")), device="cpu").checkpoint_sha256
    )


def test_other_sizes_are_resized_and_recorded(folder: Path) -> None:
    answer = VggtRgbHead.load(str(write_head(folder)), device="cpu").predict(shown(2, (24, 40)))
    assert answer.rgb is not None
    assert answer.rgb.shape == (2, 24, 40, 3)
    assert answer.adaptations == ("frames resized from 24 x 40 to 16 x 24, and back",)


@pytest.mark.parametrize("checkpoint", [None, "official"])
def test_none_was_published(checkpoint: str | None) -> None:
    with pytest.raises(InputError, match=r"ever published.*gen3r-bench train vggt-rgb-head"):
        VggtRgbHead.load(checkpoint, device="cpu")


def test_what_is_no_head(folder: Path) -> None:
    with pytest.raises(InputError, match="no head at"):
        VggtRgbHead.load(str(folder / "none.safetensors"), device="cpu")
    with pytest.raises(InputError, match="weights do not fit"):
        VggtRgbHead.load(str(folder / "vggt.safetensors"), device="cpu")
    bare = folder / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, bare)
    with pytest.raises(InputError, match="says no sizes"):
        VggtRgbHead.load(str(bare), device="cpu")
    other = {**VGGT, "registers": 2}
    with pytest.raises(InputError, match="another VGGT"):
        VggtRgbHead.load(str(write_head(folder, config=json.dumps(other))), device="cpu")


def test_the_shipped_head_belongs_to_its_card_and_recipe() -> None:
    checked_card("vggt-rgb-head", most_bytes=1_000_000)


def test_the_shipped_head_gives_frames_back_softly() -> None:
    """On one scene; all forty are in docs/training.md."""
    scene = MiniDataset().load("test/001", ClipProfile(frames=13, image_size=(64, 64)))
    method = VggtRgbHead.load("reference", device="cpu")
    assert isinstance(method, VggtRgbHeadReference)
    assert method.contract.licence == "MIT"
    answer = method.predict(Conditioning("allview", tuple(range(13)), scene.rgb, None, 13, (64, 64), None, 1))
    assert answer.rgb is not None
    mean_frame = np.broadcast_to(scene.rgb.mean(axis=(0, 1, 2)).astype(np.uint8), scene.rgb.shape)
    assert float(psnr(answer.rgb, scene.rgb).mean()) > float(psnr(mean_frame, scene.rgb).mean()) + 3
