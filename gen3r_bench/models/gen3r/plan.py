"""What Gen3R needs before anything is loaded: parameters, bytes on disk, memory at its peak, stage by stage.

Nothing is loaded and nothing is computed: each stage runs on the meta device, where tensors have shapes and no content,
while every storage that is alive is counted. What kernels take for themselves (convolution workspaces, the allocator's
slack) is not seen, so a device needs more than these numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gen3r_bench.models.gen3r.conditioning import SPATIAL_RATIO, TEMPORAL_RATIO
from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS
from gen3r_bench.models.geometry_adapter import unpack_tokens

_CLIP_UNUSED: Final = 581_928_705
"""Parameters of the official ``clip_image_encoder`` that no stage uses: its text half, last block and projections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of generating a clip.

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
        """Weights and work, where no other network is on the device (``offload="all"``)."""
        return self.weight_bytes + self.work_bytes


def plan(
    config: Gen3rConfig,
    *,
    num_frames: int = 49,
    image_size: tuple[int, int] = (560, 560),
    dtype: torch.dtype = torch.bfloat16,
) -> list[StagePlan]:
    """The stages of a clip in their order.

    Args:
        config: sizes of the networks.
        num_frames: of the clip, 1 + 4 k.
        image_size: (height, width) in pixels.
        dtype: of all weights but VGGT's heads, which are float32 as in the pipeline.

    Raises:
        InputError: where the clip does not fit the networks.
    """
    config.check_clip(num_frames, image_size)
    rows = []
    with torch.device("meta"), torch.inference_mode():
        for stage, name, run in _stages(config, num_frames, image_size, dtype):
            module = PARTS[name].build(config).eval()
            on_disk = _count(module)
            if name == "vggt":
                del module.aggregator
            elif name == "image" and config.image == type(config.image).official():
                on_disk += _CLIP_UNUSED
            module.to(torch.float32 if name == "vggt" else dtype)
            living = _Living(module)
            with _FusedAttention(), living:
                run(module)
            weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
            rows.append(
                StagePlan(
                    stage=stage,
                    part=PARTS[name].subfolder,
                    parameters=_count(module),
                    disk_bytes=on_disk * weight_bytes // _count(module),
                    weight_bytes=weight_bytes,
                    work_bytes=living.peak,
                )
            )
    return rows


def resident_bytes(rows: list[StagePlan]) -> int:
    """Peak of a clip where only the text and image encoder are dropped after use (``offload="encoders"``)."""
    loaded: dict[str, int] = {}
    peak = 0
    for row in rows:
        loaded[row.part] = row.weight_bytes
        peak = max(peak, sum(loaded.values()) + row.work_bytes)
        if row.part in {"text_encoder", "clip_image_encoder"}:
            del loaded[row.part]
    return peak


def _stages(
    config: Gen3rConfig, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> Iterator[tuple[str, str, Callable[[Any], object]]]:
    """(what happens, network, the call that does it on meta tensors of a clip's shapes)."""
    dit = config.transformer
    height, width = (side // SPATIAL_RATIO for side in image_size)
    frames = 1 + (num_frames - 1) // TEMPORAL_RATIO
    half = (1, dit.out_dim, frames, height, width)
    both = (*half[:-1], 2 * width)
    grid = tuple(side // config.vggt.patch_size for side in image_size)

    def denoise(module: Any) -> object:
        context = module.embed_context(torch.empty(1, dit.text_len, dit.text_dim), _image_features(config))
        cameras = module.embed_cameras(torch.empty(1, dit.camera_dim, frames, image_size[0], 2 * image_size[1]))
        condition = torch.empty(1, dit.in_dim - dit.out_dim, *both[2:], dtype=dtype)
        return module.flow(torch.empty(both), torch.empty(1), condition, context, cameras)

    def heads(module: Any) -> object:
        tokens = torch.empty(1, config.adapter.token_channels, num_frames, *grid, dtype=dtype)
        return module.decode(unpack_tokens(tokens, patch_start=config.vggt.patch_start), image_size, points=False)

    def latent() -> Tensor:
        return torch.empty(half, dtype=dtype)

    yield (
        "visible frames to latents",
        "vae",
        lambda m: m.encode(torch.empty(1, 3, num_frames, *image_size, dtype=dtype)),
    )
    # a text is encoded at its own length; this is the longest
    yield "prompts to features", "text", lambda m: m(torch.zeros(1, dit.text_len, dtype=torch.long))
    yield "first frame to features", "image", lambda m: m(torch.empty(1, 3, *image_size))
    yield "denoising", "transformer", denoise
    yield "latents to frames", "vae", lambda m: m.decode(latent())
    yield "latents to tokens", "adapter", lambda m: m.decode(latent())
    yield "tokens to depth and cameras", "vggt", heads


def _image_features(config: Gen3rConfig) -> Tensor:
    return torch.empty(1, config.image.num_tokens, config.image.dim)


def _count(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


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
