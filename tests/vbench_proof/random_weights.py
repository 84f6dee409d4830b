"""Writes random numbers in the exact file formats that VBench reads, each marked as random.

Networks come from the packages themselves; PyTorch's hub folder, whose real content is DINO's repository, gets a
stand-in that takes the same vision transformer from DreamSim. Run with an interpreter that has VBench:
``python random_weights.py ROOT NAME...``, where ROOT is ``GEN3R_BENCH_WEIGHTS`` and NAME one of the catalogue's.
"""

from __future__ import annotations

import json
import os
import sys
import typing
from collections import OrderedDict
from pathlib import Path

from gen3r_bench.metrics.vbench.worker import make_importable
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX

HUBCONF = """
import torch
import vision_transformer

dependencies = ["torch"]


def dino_vitb16(pretrained=True, **kwargs):
    model = vision_transformer.vit_base(patch_size=16, num_classes=0, **kwargs)
    if pretrained:
        url = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
        model.load_state_dict(torch.hub.load_state_dict_from_url(url=url, map_location="cpu"), strict=True)
    return model
"""


class _TypingOrderedDict(OrderedDict):
    """Pickles as the global ``typing.OrderedDict``, as the published AMT checkpoint does."""

    def __reduce__(self):
        return typing.OrderedDict, (), None, None, iter(self.items())


def save(content, path: Path) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    path.with_name(path.name + RANDOM_SUFFIX).touch()


def spread(module, scale: float = 0.05):
    """Random numbers in every parameter, zero-initialised ones included, so that a file that is not read shows."""
    import torch

    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter) * scale
        parameter.data = noise + (1 if "norm" in name and name.endswith("weight") else 0)
    return module


def vit_base():
    from dreamsim.feature_extraction.vision_transformer import vit_base as make

    return spread(make(patch_size=16))


def dino(root: Path) -> None:
    save(vit_base().state_dict(), root / "hub/checkpoints/dino_vitbase16_pretrain.pth")


def dino_code(root: Path) -> None:
    folder = root / "hub/facebookresearch_dino_main"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hubconf.py").write_text(HUBCONF)
    (folder / "vision_transformer.py").write_text("from dreamsim.feature_extraction.vision_transformer import *\n")
    (folder / "utils.py").write_text("")


def dreamsim(root: Path) -> None:
    import torch
    from dreamsim import dreamsim as make
    from dreamsim.feature_extraction.vision_transformer import DINOHead

    hub = root / "hub"
    head = spread(DINOHead(768, 2048)).state_dict()
    names = [f"mlp.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
    student = {f"module.head.{name}": head[name] for name in names}
    student["module.head.last_layer.weight"] = torch.randn(2048, 256)
    save({"student": student}, hub / "dino_vitb16_pretrain.pth")
    for name in ("clip", "open_clip"):
        state = vit_base().state_dict()
        state |= {"pos_drop.weight": torch.rand(768) + 0.5, "pos_drop.bias": torch.randn(768) * 0.05}
        state["proj"] = torch.randn(768, 512) * 0.05
        save({"state_dict": state}, hub / f"{name}_vitb16_pretrain.pth.tar")
    adapter = hub / "ensemble_lora"
    adapter.mkdir()
    config = {"r": 16, "lora_alpha": 0.5, "lora_dropout": 0.3, "bias": "none", "target_modules": ["qkv"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    model, _ = make(pretrained=False, device="cpu", cache_dir=str(hub))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.5
    model.save_pretrained(str(adapter))


def musiq(root: Path) -> None:
    from pyiqa.archs.musiq_arch import MUSIQ

    save(MUSIQ(pretrained=False).state_dict(), root / "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth")


def clip(root: Path) -> None:
    import clip.model
    import torch

    model = clip.model.CLIP(768, 224, 2, 64, 32, 8, 100, 64, 1, 1).eval()
    traced = torch.jit.trace(model, (torch.zeros(1, 3, 224, 224), torch.zeros(1, 8, dtype=torch.int64)))
    path = root / "clip_model/ViT-L-14.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(traced, str(path))
    path.with_name(path.name + RANDOM_SUFFIX).touch()


def aesthetic_head(root: Path) -> None:
    import torch

    save(torch.nn.Linear(768, 1).state_dict(), root / "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth")


def amt(root: Path) -> None:
    from omegaconf import OmegaConf
    from vbench.third_party import amt as package
    from vbench.third_party.amt.utils.build_utils import build_from_cfg

    folder = Path(next(iter(package.__path__)))
    model = build_from_cfg(OmegaConf.load(folder / "cfgs/AMT-S.yaml").network)
    save({"state_dict": _TypingOrderedDict(model.state_dict())}, root / "amt_model/amt-s.pth")


WRITERS = {
    "vbench-dino": dino,
    "vbench-dino-code": dino_code,
    "vbench-dreamsim": dreamsim,
    "vbench-musiq": musiq,
    "vbench-clip": clip,
    "vbench-aesthetic-head": aesthetic_head,
    "vbench-amt": amt,
}


def write(root: Path, names: list[str]) -> None:
    """Write files below ``root``, the weights root; DreamSim needs DINO's beside it, and comes after them."""
    import torch

    cache = root / "vbench"
    os.environ["TORCH_HOME"] = str(cache)
    make_importable()
    for seed, (name, writer) in enumerate(WRITERS.items()):
        if name in names:
            torch.manual_seed(seed)
            writer(cache)


if __name__ == "__main__":
    sys.path.pop(0)
    write(Path(sys.argv[1]), sys.argv[2:])
