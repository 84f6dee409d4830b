"""The authors' released code, imported from a checkout of github.com/InternRobotics/Aether; none is copied here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from released_gen3r import _Stub

_UNUSED = (
    "accelerate",
    "cv2",
    "evaluation.rel_pose.evo_utils",
    "evaluation.rel_pose.metadata",
    "evaluation.rel_pose.utils",
    "imageio",
    "imageio.v3",
    "rootutils",
)
"""What the released evaluation imports and these tests never reach."""
_PACKAGES = ("aether", "evaluation")


class Float32Torch(ModuleType):
    """torch, for a released module that casts to bfloat16 wherever it can: with float32 in its place."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def released_code(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Gives modules of a checkout by their dotted name; nothing of it stays imported afterwards."""
    assert (folder / "aether" / "pipelines").is_dir(), f"{folder} is no checkout of InternRobotics/Aether"
    import diffusers
    import transformers

    # both look for accelerate when they are imported, so they come before its stub
    _ = diffusers.CogVideoXImageToVideoPipeline, transformers.T5EncoderModel
    stubs: dict[str, ModuleType] = {name: _Stub(name) for name in _UNUSED}
    before = {name: sys.modules.pop(name, None) for name in [*stubs, *_released()]}
    for name, module in stubs.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.modules["imageio"].v3 = sys.modules["imageio.v3"]  # type: ignore[attr-defined]
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the checkout is not ours
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        for name in [*stubs, *_released()]:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in before.items() if module is not None})


def _released() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]
