"""VGGT: a reconstruction network, the geometry reference of Tables 2, 3 and 8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.baselines.official_weights import REFERENCE, VGGT_TRAINING_SETS, sha256_of
from gen3r_bench.baselines.own_weights import of_own_training
from gen3r_bench.errors import InputError
from gen3r_bench.locations import shipped_weights, weights_root
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    import torch

    from gen3r_bench.models.plan import ModelPlan
    from gen3r_bench.models.vggt import Vggt

INPUT_SIZES: Final = (560, 518)
"""Sides in pixels of the network's square input: Gen3R's first, then the one that VGGT was trained at."""
WEIGHTS_FILE: Final = Path("vggt", "model.safetensors")
HUB_ID: Final = "facebook/VGGT-1B"
WEIGHTS_SIZE: Final = "5.0 GB"
FRAMES_AT_ONCE: Final = 8
"""How many frames the depth head holds in memory."""


class VggtMethod(Method):
    """Depth and cameras of the views that it is shown; it generates none, and so returns no frames.

    A checkpoint is ``official`` or a path, with ``+518`` behind it for VGGT's own input size instead of Gen3R's 560
    (the paper names none for this row): ``official+518``, ``path/to/model.safetensors+518``. ``reference`` is this
    project's own small one; it, and every file that says its sizes as that one does, sees frames at the size that it
    was trained on.

    Points are left to the suite, which unprojects the depth through the cameras as it does for every method, at pixel
    centres (+0.5): the principal point that VGGT assumes, half the width and height, is the image's centre in that
    convention. The released unprojection takes the same principal point on the integer grid, which turns every ray by
    half a pixel (0.06° at a focal length of 480 px). The paper and VGGT's authors both prefer unprojected depth to the
    network's point head, which does not run here.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="vggt",
        title="VGGT",
        summary="Feed-forward depth and cameras of the given views; generates nothing.",
        settings=("1view", "2view", "allview"),
        returns=("depth", "cameras"),
        checkpoints=("official", "official+518", REFERENCE),
        native_size=(518, 518),
        licence="CC BY-NC 4.0 (facebook/VGGT-1B); MIT (reference)",
        training_sets=VGGT_TRAINING_SETS,
        reference="Wang et al., VGGT: Visual Geometry Grounded Transformer, CVPR 2025 (arXiv 2503.11651)",
    )

    def __init__(
        self,
        network: Vggt,
        *,
        input_size: int,
        device: str,
        sha256: str | None = None,
        frames_at_once: int = FRAMES_AT_ONCE,
    ) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._input_size = input_size
        self._device = device
        self._sha256 = sha256
        self._frames_at_once = frames_at_once

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        name, path, side, told = _opened(checkpoint or cls.contract.checkpoints[0])
        if not path.exists():
            raise InputError(
                f"no weights of VGGT at {path}",
                expected=f"model.safetensors of {HUB_ID} ({WEIGHTS_SIZE}), or a path as in vggt@PATH",
                fix=f"hf download {HUB_ID} model.safetensors --local-dir {weights_root() / WEIGHTS_FILE.parent}",
            )
        try:
            import torch
        except ModuleNotFoundError as error:
            raise InputError("torch is not installed", expected="torch, for vggt", fix="pip install torch") from error
        from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
        from gen3r_bench.models.vggt import Vggt, VggtConfig

        config = VggtConfig.official() if told is None else VggtConfig.of_fields(told.config, str(path))
        with torch.device("meta"):
            network = Vggt(config)
        load_exactly(
            network,
            read_safetensors(path),
            what=f"VGGT from {path}",
            ignore=("track_head.*",),
            dtype=torch.float32,
        )
        made: type[VggtMethod] = cls if told is None else of_own_training(cls)
        if name == REFERENCE:
            made = VggtReference
        method = made(network, input_size=side, device=device, sha256=sha256_of([path]))
        return cast("Self", method)

    @property
    def checkpoint_sha256(self) -> str | None:
        return self._sha256

    def rounding_variants(self) -> Mapping[str, Callable[[], VggtMethod]]:
        def variant(frames_at_once: int, dtype: torch.dtype | None = None) -> VggtMethod:
            return VggtMethod(
                self._network if dtype is None else copy.deepcopy(self._network).to(dtype),
                input_size=self._input_size,
                device=self._device,
                sha256=self._sha256,
                frames_at_once=frames_at_once,
            )

        def in_float64() -> VggtMethod:
            import torch

            return variant(self._frames_at_once, torch.float64)

        return {
            "one frame at a time": lambda: variant(1),
            "all frames at once": lambda: variant(2**16),
            "float64": in_float64,
        }

    def predict(self, conditioning: Conditioning) -> Prediction:
        import torch

        from gen3r_bench.models.vggt import cameras_from_pose_encoding

        side, size = self._input_size, conditioning.image_size
        if size[0] != size[1]:
            raise InputError(f"frames of {size[0]} x {size[1]} pixels", expected="square frames, for vggt")
        images = torch.from_numpy(_resized_frames(conditioning.rgb, side)).to(self._device)
        with torch.inference_mode():
            dtype = next(self._network.parameters()).dtype
            tokens = self._network.encode(images.permute(0, 3, 1, 2)[None].to(dtype) / 255)
            output = self._network.decode(tokens, (side, side), frames_at_once=self._frames_at_once, points=False)
        cameras = cameras_from_pose_encoding(output.pose_encoding[0], (side, side))
        intrinsics = cameras.intrinsics.copy()
        intrinsics[:, :2] *= size[0] / side  # pixel i covers [i, i + 1), so scaling has no offset
        adaptations: tuple[str, ...] = ()
        if side != size[0]:
            adaptations = (
                f"frames resized from {size[0]} to {side} pixels (bicubic); depth comes back by nearest neighbour",
            )
        return Prediction(
            frame_indices=conditioning.frame_indices,
            depth=_nearest(output.depth[0].cpu().numpy(), size[0]),
            confidence=_nearest(output.depth_confidence[0].cpu().numpy(), size[0]),
            world_from_cam=cameras.world_from_cam,
            intrinsics=intrinsics,
            adaptations=adaptations,
        )


class VggtReference(VggtMethod):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = replace(VggtMethod.contract, licence="MIT", training_sets=())


def plan_checkpoint(
    checkpoint: str | None,
    *,
    num_frames: int,
    image_size: tuple[int, int],  # noqa: ARG001  # every plan takes it
    dtype: torch.dtype,  # noqa: ARG001
) -> ModelPlan:
    """What a checkpoint needs for a clip; frames of any size are resized to its own, so ``image_size`` is not read.

    Nor is ``dtype``: the weights are kept in float32. The official ones need not be there.
    """
    from gen3r_bench.models.vggt import VggtConfig
    from gen3r_bench.models.vggt.plan import plan

    name, path, side, told = _opened(checkpoint or VggtMethod.contract.checkpoints[0])
    if name not in VggtMethod.contract.checkpoints and not path.exists():
        raise InputError(f"{path} does not exist", expected="weights of VGGT, or official or reference")
    config = VggtConfig.official() if told is None else VggtConfig.of_fields(told.config, str(path))
    return plan(config, num_frames=num_frames, side=side, frames_at_once=FRAMES_AT_ONCE)


def _place_and_size(checkpoint: str) -> tuple[str, Path, int | None]:
    """A checkpoint's name, the file or folder that it stands for, and the input size behind it, if there is one."""
    name, plus, size_text = checkpoint.rpartition("+")
    size = int(size_text) if plus and size_text.isdecimal() else None
    if size is None:
        name = checkpoint
    if name == "official":
        return name, weights_root() / WEIGHTS_FILE, size
    if name == REFERENCE:
        return name, shipped_weights("vggt"), size
    return name, Path(name).expanduser(), size


class _Opened(NamedTuple):
    name: str
    path: Path
    side: int
    told: _Told | None


def _opened(checkpoint: str) -> _Opened:
    """A checkpoint's name, the file or folder that it stands for, its frames' side, and what a file says of its sizes.

    Raises:
        InputError: where it is asked for a side that it has not.
    """
    name, path, wanted_size = _place_and_size(checkpoint)
    told = _told_sizes(path)
    sizes = INPUT_SIZES if told is None else (told.side,)
    if wanted_size not in {None, *sizes}:
        raise InputError(
            f"input size {wanted_size} of vggt@{checkpoint}",
            expected=" or ".join(str(size) for size in sorted(sizes)),
            fix=" or ".join([f"vggt@{name}", *(f"vggt@{name}+{size}" for size in sizes[1:])]),
        )
    return _Opened(name, path, wanted_size or sizes[0], told)


class _Told(NamedTuple):
    config: dict[str, Any]
    side: int


def _told_sizes(path: Path) -> _Told | None:
    """Sizes of the network and side of its frames, as a safetensors file's metadata tells them; None where none does.

    Raises:
        InputError: where the sizes are no JSON object, or the side is missing or not positive.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    from gen3r_bench.models.folder import holds_config, read_config, told_side

    if not holds_config(path):
        return None
    side = told_side(path)
    if side is None:
        raise InputError(f"{path} says its sizes and not its side", expected="a file as `gen3r-bench train` writes it")
    return _Told(read_config(path), side)


def _resized_frames(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A writable [n, side, side, 3] copy, by the bicubic filter of VGGT's own preprocessing."""
    if rgb.shape[1] == side:
        return rgb.copy()
    return np.stack([np.asarray(Image.fromarray(f).resize((side, side), Image.Resampling.BICUBIC)) for f in rgb])


def _nearest(maps: NDArray[Any], side: int) -> NDArray[Any]:
    """[n, h, h] maps at [n, side, side]: each pixel's centre takes the value of the pixel that it falls in."""
    place = ((np.arange(side) + 0.5) * (maps.shape[1] / side)).astype(np.intp)
    return maps[:, place[:, None], place]
