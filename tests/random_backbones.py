"""Random numbers in the shape of the files that torchvision publishes, marked as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gen3r_bench.metrics.perceptual import BACKBONES, Net
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX
from gen3r_bench.torchvision_import import import_torchvision

MAKERS = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}


def random_state(net: Net, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of every layer of the features, of a scale that keeps signals alive, and a stand-in of the classifier."""
    models: Any = import_torchvision().models
    with torch.device("meta"):
        layers = getattr(models, MAKERS[net])().features.state_dict()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, layer in layers.items():
        scale = (2 / layer[0].numel()) ** 0.5 if layer.ndim > 1 else 0.1
        state[f"features.{name}"] = torch.randn(layer.shape, generator=generator) * scale
    return {**state, "classifier.1.weight": torch.zeros(2, 2), "classifier.1.bias": torch.zeros(2)}


def write_backbone(root: Path, net: Net, seed: int = 0, *, marked: bool = True) -> Path:
    """A backbone's file below a root of weights."""
    path = root / BACKBONES[net].place
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(random_state(net, seed), path)
    if marked:
        path.with_name(path.name + RANDOM_SUFFIX).touch()
    return path
