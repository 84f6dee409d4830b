"""VGGT as Gen3R's checkpoint holds it, a folder, or as ``train`` writes it, one file; and its RGB head."""

from __future__ import annotations

from pathlib import Path

import torch

from gen3r_bench.errors import InputError
from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
from gen3r_bench.models.folder import CONFIG_FILE, holds_config
from gen3r_bench.models.gen3r.folder import vggt_config
from gen3r_bench.models.vggt import Vggt, VggtConfig
from gen3r_bench.models.vggt.heads import RgbHead


def vggt_config_at(path: Path) -> VggtConfig:
    """Sizes of the network in a folder or file; a file that says none has the official ones.

    Raises:
        InputError: as ``vggt_config``.
    """
    if path.is_file() and not holds_config(path):
        return VggtConfig.official()
    return vggt_config(path / CONFIG_FILE if path.is_dir() else path)


def load_vggt(path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Vggt:
    """The network in a folder or file, in evaluation mode; a file that says no sizes has the official ones.

    Raises:
        InputError: where files are missing, or the weights are not exactly those of the configured size.
    """
    config = vggt_config_at(path)
    with torch.device("meta"):
        vggt = Vggt(config)
    load_exactly(vggt, read_safetensors(path), what=f"VGGT in {path}", ignore=("track_head.*",), dtype=dtype)
    return vggt.to(device).eval()


def load_rgb_head(path: Path, *, device: torch.device | str = "cpu") -> RgbHead:
    """The RGB head in a file that says the sizes of its VGGT, in float32 and evaluation mode.

    Raises:
        InputError: where it says none, or the weights are not exactly those of such a head.
    """
    if not holds_config(path):
        raise InputError(f"{path} says no sizes", expected="a file as `gen3r-bench train vggt-rgb-head` writes it")
    with torch.device("meta"):
        head = RgbHead(vggt_config_at(path))
    load_exactly(head, read_safetensors(path), what=f"RGB head in {path}", dtype=torch.float32)
    return head.to(device).eval().requires_grad_(False)
