"""Imports torchvision also where its compiled operators do not load: PyPI's build beside a PyTorch for CPUs.

PyPI's torchvision is linked against CUDA. Beside a PyTorch without CUDA its library of operators cannot be loaded, and
``import torchvision`` stops at ``operator torchvision::nms does not exist``, although its networks need none of these
operators. Declaring the two that it registers at import (``nms`` and ``qnms``; declared, not implemented: calling one
is still an error) is all it takes. Where torchvision imports by itself, as every matching pair of the two does, nothing
is declared and nothing is touched. Nothing here needs the rest of the suite.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from types import ModuleType
from typing import Any, Final

DECLARATIONS: Final = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)
_SYMPTOM: Final = "operator torchvision::nms does not exist"
_kept_alive: Final[list[Any]] = []
"""A declaration lasts as long as its library object."""
_mutex: Final = threading.Lock()


def import_torchvision() -> ModuleType:
    """The module torchvision; its operators are declared first where their library does not load.

    Raises:
        ImportError: where torchvision or PyTorch is not installed.
        RuntimeError: where torchvision does not import for another reason.
    """
    with _mutex:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if _SYMPTOM not in str(error):
                raise
        import torch

        # what the broken attempt left behind must not be taken for the real modules
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library
        fragment = library.Library("torchvision", "FRAGMENT")
        for declaration in DECLARATIONS:
            fragment.define(declaration)
        _kept_alive.append(fragment)
        return importlib.import_module("torchvision")


def prepare_torchvision() -> None:
    """Makes ``import torchvision`` work for the packages that do it by themselves (transformers, diffusers).

    They import torchvision wherever it is installed, and their networks do not load where that import fails. Where it
    is not installed, or does not import for another reason, nothing is done: they may not need it.
    """
    with contextlib.suppress(ImportError, RuntimeError):
        import_torchvision()
