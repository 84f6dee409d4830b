"""What a model needs before anything is loaded: parameters, bytes on disk, memory at its peak, stage by stage.

Nothing is loaded and nothing is computed: each stage runs on the meta device, where tensors have shapes and no content,
while every storage that is alive is counted. What kernels take for themselves (convolution workspaces, the allocator's
slack) is not seen, so a device needs more than these numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of answering a clip.

    Attributes:
        stage: what happens.
        part: the network that does it, as its subfolder is named.
        parameters: of that network as it is kept in memory.
        disk_bytes: of its folder's weights, were they stored like they are kept in memory.
        weight_bytes: of its weights in memory.
        work_bytes: of all other tensors that are alive at the stage's peak.
    """

    stage: str
    part: str
    parameters: int
    disk_bytes: int
    weight_bytes: int
    work_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Weights and work, where no other network is on the device."""
        return self.weight_bytes + self.work_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """The stages of a clip in their order.

    Attributes:
        stages: at least one.
        dropped: parts that are freed after each use.
        pinned: parts that never leave the device, whatever is offloaded; they come first.
    """

    stages: Sequence[StagePlan]
    dropped: Collection[str] = ()
    pinned: Collection[str] = ()

    @property
    def parts(self) -> list[StagePlan]:
        """One stage of each part."""
        return list({stage.part: stage for stage in self.stages}.values())

    @property
    def resident_bytes(self) -> int:
        """Peak of a clip where every part but the dropped ones stays on the device once it has run."""
        loaded: dict[str, int] = {}
        peak = 0
        for stage in self.stages:
            loaded[stage.part] = stage.weight_bytes
            peak = max(peak, sum(loaded.values()) + stage.work_bytes)
            if stage.part in self.dropped:
                del loaded[stage.part]
        return peak

    @property
    def one_part_bytes(self) -> int:
        """Peak of a clip where one part is on the device at a time, beside the pinned ones."""
        pinned = {part.part: part.weight_bytes for part in self.parts if part.part in self.pinned}
        return max(sum({**pinned, stage.part: stage.weight_bytes}.values()) + stage.work_bytes for stage in self.stages)


def stage_plan(
    module: nn.Module, stage: str, part: str, run: Callable[[Any], object], *, tensors_on_disk: int | None = None
) -> StagePlan:
    """Run a stage on the meta device and count.

    Args:
        module: on the meta device, in the types in which it is kept.
        stage: what happens.
        part: name of the network.
        run: the call, given ``module``; its inputs are meta tensors too.
        tensors_on_disk: numbers in the part's files, where they hold more than the module.
    """
    living = _Living(module)
    with torch.device("meta"), torch.inference_mode(), _FusedAttention(), living:
        run(module)
    numbers = count_numbers(module)
    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in _stored(module))
    return StagePlan(
        stage=stage,
        part=part,
        parameters=numbers,
        disk_bytes=(numbers if tensors_on_disk is None else tensors_on_disk) * weight_bytes // numbers,
        weight_bytes=weight_bytes,
        work_bytes=living.peak,
    )


def count_numbers(module: nn.Module) -> int:
    """How many numbers a module's state dict holds; what has two names counts once."""
    return sum(tensor.numel() for tensor in _stored(module))


def _stored(module: nn.Module) -> list[Tensor]:
    return list({tensor.untyped_storage()._cdata: tensor for tensor in module.state_dict().values()}.values())


class _FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel has it: an answer, and no matrix of all tokens by all tokens."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is nnf.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Adds up the bytes of storages that came into being in the block and are still alive."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        # a view of a weight is no new memory
        self._seen = {tensor.untyped_storage()._cdata for tensor in module.state_dict().values()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
