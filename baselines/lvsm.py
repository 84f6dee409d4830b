"""LVSM: a transformer that renders views from posed views, without any geometry (Tables 1 and 6)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.baselines.official_weights import sha256_of
from gen3r_bench.baselines.own_weights import of_own_training
from gen3r_bench.errors import InputError
from gen3r_bench.locations import weights_root
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    import torch

    from gen3r_bench.models.lvsm import Lvsm
    from gen3r_bench.models.plan import ModelPlan

HUB_ID: Final = "coast01/LVSM"
FILES: Final = {
    "official": "scene_decoder_only_256.pt",
    "official+512": "lvsm_scene_decoder_only_res512.pt",
    "encoder-decoder": "scene_encoder_decoder_256.pt",
    "encoder-decoder+512": "lvsm_scene_encoder_decoder_res512.pt",
}
"""The authors' checkpoints, and their files below ``weights_root()/lvsm``."""
REFERENCE: Final = "reference"
TARGETS_AT_ONCE: Final = 4


class LvsmMethod(Method):
    """Every frame of the clip, the given ones included, rendered from the given ones and all cameras.

    A checkpoint is one of the contract's names or a path of a ``.pt`` or safetensors file, with ``+SIDE`` behind it for
    another size of input than the file itself or its name tells (256 pixels where neither does). Kind and patch size
    are read from the weights.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="lvsm",
        title="LVSM",
        summary="Renders frames from posed frames by one transformer, without geometry.",
        settings=("1view", "2view"),
        cameras="required",
        returns=("rgb",),
        checkpoints=(*FILES, REFERENCE),
        native_size=(256, 256),
        licence="CC BY-NC-SA 4.0 (the authors' weights); MIT (reference)",
        training_sets=("realestate10k",),
        reference="Jin et al., LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias, ICLR 2025 "
        "(arXiv 2410.17242)",
    )

    def __init__(
        self,
        network: Lvsm,
        *,
        side: int,
        device: str,
        one_view_trained: bool = False,
        sha256: str | None = None,
        targets_at_once: int = TARGETS_AT_ONCE,
    ) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._side = side
        self._device = device
        self._one_view_trained = one_view_trained
        self._sha256 = sha256
        self._targets_at_once = targets_at_once

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        place = _place(checkpoint or cls.contract.checkpoints[0])
        if not place.path.exists():
            official = place.path.parent == weights_root() / "lvsm"
            raise InputError(
                f"no weights of LVSM at {place.path}",
                expected=f"one of {HUB_ID}'s files, or a path as in lvsm@PATH",
                fix=f"hf download {HUB_ID} {place.path.name} --local-dir {place.path.parent}" if official else None,
            )
        import torch

        from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
        from gen3r_bench.models.lvsm import LvsmConfig, build

        tensors = {
            name: tensor
            for name, tensor in read_safetensors(place.path, inside="model").items()
            if not name.startswith("loss_computer.")  # the perceptual loss's own network, which rendering never uses
        }
        with torch.device("meta"):
            network = build(LvsmConfig.of_weights(tensors))
        load_exactly(network, tensors, what=f"LVSM from {place.path}", dtype=torch.float32)
        if place.side % network.config.patch_size:
            raise InputError(
                f"input size {place.side} of lvsm@{checkpoint}",
                expected=f"a multiple of its patch size {network.config.patch_size}",
            )
        made: type[LvsmMethod] = cls if _side_in(place.path) is None else of_own_training(cls)
        if checkpoint == REFERENCE:
            made = LvsmReference
        method = made(
            network,
            side=place.side,
            device=device,
            one_view_trained=place.one_view_trained,
            sha256=sha256_of([place.path]),
        )
        return cast("Self", method)

    @property
    def checkpoint_sha256(self) -> str | None:
        return self._sha256

    def rounding_variants(self) -> Mapping[str, Callable[[], LvsmMethod]]:
        def variant(targets_at_once: int, dtype: torch.dtype | None = None) -> LvsmMethod:
            return LvsmMethod(
                self._network if dtype is None else copy.deepcopy(self._network).to(dtype),
                side=self._side,
                device=self._device,
                one_view_trained=self._one_view_trained,
                sha256=self._sha256,
                targets_at_once=targets_at_once,
            )

        def in_float64() -> LvsmMethod:
            import torch

            return variant(self._targets_at_once, torch.float64)

        return {
            "one target at a time": lambda: variant(1),
            "all targets at once": lambda: variant(2**16),
            "float64": in_float64,
        }

    def predict(self, conditioning: Conditioning) -> Prediction:
        import torch

        from gen3r_bench.models.lvsm import normalised_poses, pluecker_rays

        (height, width), side, cameras = conditioning.image_size, self._side, conditioning.cameras
        if cameras is None:
            raise InputError("a conditioning without cameras", expected="cameras of all frames, for lvsm")
        if height != width:
            raise InputError(f"frames of {height} x {width} pixels", expected="square frames, for lvsm")
        shown = list(conditioning.frame_indices)
        images = torch.from_numpy(_resized_frames(conditioning.rgb, side)).permute(0, 3, 1, 2).float() / 255
        rays = pluecker_rays(normalised_poses(cameras.world_from_cam), cameras, side)
        rgb = np.empty((conditioning.num_frames, height, width, 3), dtype=np.uint8)
        at_once, dtype = self._targets_at_once, next(self._network.parameters()).dtype
        with torch.inference_mode():
            scene = self._network.encode(*(part.to(self._device, dtype)[None] for part in (images, rays[shown])))
            for start in range(0, len(rgb), at_once):
                some = rays[start : start + at_once].to(self._device, dtype)[None]
                rgb[start : start + at_once] = _pixels(self._network.render(scene, some)[0], height)
        adaptations = []
        if side != height:
            adaptations.append(
                f"frames resized from {height} to {side} pixels (Lanczos), the rendered ones back (bicubic)"
            )
        if len(shown) == 1 and not self._one_view_trained:
            adaptations.append("one view, where LVSM was trained with two")
        return Prediction(frame_indices=tuple(range(len(rgb))), rgb=rgb, adaptations=tuple(adaptations))


class LvsmReference(LvsmMethod):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = replace(LvsmMethod.contract, licence="MIT", training_sets=())


class _Place(NamedTuple):
    path: Path
    side: int
    one_view_trained: bool = False


def _place(checkpoint: str) -> _Place:
    """Where a checkpoint's weights lie, and at what size they see frames."""
    if checkpoint in FILES:
        return _Place(weights_root() / "lvsm" / FILES[checkpoint], 512 if checkpoint.endswith("+512") else 256)
    if checkpoint == REFERENCE:
        path = Path(__file__).parent / "weights" / "lvsm-reference.safetensors"
        return _Place(path, _side_in(path) or 64, one_view_trained=True)
    name, plus, side = checkpoint.rpartition("+")
    if plus and side.isdecimal() and int(side) > 0:
        return _Place(Path(name).expanduser(), int(side))
    path = Path(checkpoint).expanduser()
    return _Place(path, _side_in(path) or (512 if "512" in path.stem else 256))


def _side_in(path: Path) -> int | None:
    """The side that a safetensors file's metadata tells, or None.

    Raises:
        InputError: as ``told_side``.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    from gen3r_bench.models.folder import told_side

    return told_side(path)


def _resized_frames(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A writable [n, side, side, 3] copy, by the Lanczos filter of LVSM's own preprocessing."""
    if rgb.shape[1] == side:
        return rgb.copy()
    return np.stack([np.asarray(Image.fromarray(f).resize((side, side), Image.Resampling.LANCZOS)) for f in rgb])


def _pixels(rendered: torch.Tensor, side: int) -> NDArray[np.uint8]:
    """[n, side, side, 3] of [n, 3, h, h] in [0, 1]: enlarged before it is rounded, so that it is rounded once."""
    from torch.nn.functional import interpolate

    if rendered.shape[-1] != side:
        rendered = interpolate(rendered, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    whole: NDArray[np.uint8] = (rendered.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return whole


def plan_checkpoint(
    checkpoint: str | None,
    *,
    num_frames: int,
    image_size: tuple[int, int],  # noqa: ARG001  # every plan takes it
    dtype: torch.dtype,  # noqa: ARG001
) -> ModelPlan:
    """What a checkpoint needs for a clip; frames of any size are resized to its own, so ``image_size`` is not read.

    Nor is ``dtype``: LVSM is kept in float32 on every device. The authors' files need not be there: their sizes are
    known, but for the patch size of the two at 512 pixels, which is taken to be that at 256 until the file says so.
    """
    import torch

    from gen3r_bench.models.checkpoint import read_safetensors
    from gen3r_bench.models.lvsm import LvsmConfig
    from gen3r_bench.models.lvsm.plan import plan

    name = checkpoint or LvsmMethod.contract.checkpoints[0]
    place = _place(name)
    if name in FILES and not place.path.exists():
        config = LvsmConfig.official("encoder-decoder" if "encoder-decoder" in name else "decoder-only")
    else:
        config = LvsmConfig.of_weights(read_safetensors(place.path, inside="model"))
    return plan(config, num_frames=num_frames, side=place.side, targets_at_once=TARGETS_AT_ONCE, dtype=torch.float32)
