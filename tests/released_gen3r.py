"""The authors' released code, imported from a checkout of github.com/JaceyHuang/Gen3R; none of it is copied here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class _Stub(ModuleType):
    """A library that the released code imports and that these tests never reach."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


def _torchvision() -> dict[str, ModuleType]:
    """The three functions of torchvision that the released models call; its wheels replace a CPU build of torch."""
    root, transforms, functional = (
        _Stub(f"torchvision{tail}") for tail in ("", ".transforms", ".transforms.functional")
    )

    class Compose:
        def __init__(self, steps: list[Any]) -> None:
            self.transforms = steps

    class Normalize:
        def __init__(self, mean: list[float], std: list[float]) -> None:
            self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

        def __call__(self, x: Tensor) -> Tensor:
            return (x - self.mean) / self.std

    def to_tensor(image: Any) -> Tensor:
        import numpy as np

        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)

    transforms.Compose, transforms.Normalize = Compose, Normalize  # type: ignore[attr-defined]
    transforms.InterpolationMode = types.SimpleNamespace(BICUBIC=3)  # type: ignore[attr-defined]
    functional.to_tensor = to_tensor  # type: ignore[attr-defined]
    root.transforms, transforms.functional = transforms, functional  # type: ignore[attr-defined]
    return {module.__name__: module for module in (root, transforms, functional)}


@contextlib.contextmanager
def released_code(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Gives modules of a checkout by their dotted name below ``gen3r``; nothing of it stays imported afterwards."""
    assert (folder / "gen3r" / "pipeline").is_dir(), f"{folder} is no checkout of JaceyHuang/Gen3R"
    stubs = _torchvision()
    for name in ("cv2", "open3d", "matplotlib", "matplotlib.pyplot", "imageio", "decord"):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            stubs[name] = _Stub(name)
    import diffusers
    import transformers

    # both look for torchvision when they are imported, so they come before its stub
    _ = diffusers.FlowMatchEulerDiscreteScheduler, diffusers.DiffusionPipeline, transformers.AutoTokenizer
    before = {name: sys.modules.pop(name, None) for name in [*stubs, *_released()]}
    for name, module in stubs.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the checkout is not ours
    sys.path.insert(0, str(folder))
    try:
        yield lambda name: importlib.import_module(f"gen3r.{name}")
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        for name in [*stubs, *_released()]:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in before.items() if module is not None})


def _released() -> list[str]:
    return [name for name in sys.modules if name == "gen3r" or name.startswith("gen3r.")]
