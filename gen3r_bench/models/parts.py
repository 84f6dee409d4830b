"""The networks of a model: loaded when first used, and moved out of the way between uses where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import torch
from torch import nn

from gen3r_bench.errors import InputError

Offload = Literal["none", "encoders", "all"]
OFFLOADS: Final = ("none", "encoders", "all")
_ENCODERS: Final = ("text", "image")


class Parts:
    """The networks, each loaded when it is first used, and where it lies between its uses.

    Args:
        load: gives the network of a name, on the CPU.
        device: where networks run.
        offload: "none": a network stays on the device once it has run. "encoders": the text and image encoder are
            dropped after use and read again when needed; everything else stays. "all": the encoders are dropped, and
            every other network goes back to the CPU after use.

    Raises:
        InputError: on another ``offload``.
    """

    def __init__(self, load: Callable[[str], nn.Module], device: torch.device, offload: Offload) -> None:
        if offload not in OFFLOADS:
            raise InputError(f"offload {offload!r}", expected=" or ".join(OFFLOADS))
        self._load = load
        self._loaded: dict[str, nn.Module] = {}
        self.device = device
        self.offload = offload

    @contextmanager
    def use(self, name: str) -> Iterator[Any]:
        """The network on the device, for the length of a ``with`` block."""
        module = self._loaded.get(name)
        if module is None:
            module = self._loaded[name] = self._load(name)
        module.to(self.device)
        try:
            yield module
        finally:
            if self.offload != "none" and name in _ENCODERS:
                del self._loaded[name]
            elif self.offload == "all":
                module.to("cpu")

    def resident(self) -> tuple[str, ...]:
        """Names of the networks in memory."""
        return tuple(self._loaded)
