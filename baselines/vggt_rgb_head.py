"""Table 9's VGGT + RGB head: what VGGT's tokens still hold of the frames that it was shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self, cast

import numpy as np

from gen3r_bench.baselines.frames import resized_rgb
from gen3r_bench.baselines.joint_files import frozen_path
from gen3r_bench.baselines.official_weights import OFFICIAL, REFERENCE, sha256_of
from gen3r_bench.baselines.own_weights import of_own_training
from gen3r_bench.baselines.vggt_clips import load_vggt, resized_images, working_size
from gen3r_bench.errors import InputError
from gen3r_bench.locations import shipped_weights
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    from gen3r_bench.models.vggt import Vggt
    from gen3r_bench.models.vggt.heads import RgbHead

FRAMES_AT_ONCE: Final = 8
"""How many frames the head holds in memory."""
UNPUBLISHED: Final = "no weights of the paper's RGB head were ever published"


class VggtRgbHead(Method):
    """All frames through VGGT's aggregator, and back by a dense head that reads RGB from its tokens.

    A checkpoint is "reference", this project's own, or the path of a head in one file, as ``train vggt-rgb-head``
    writes it, with the VGGT that the file names. Frames are resized to the side that it was trained at (the long side
    to whole patches) and back; recorded.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="vggt-rgb-head",
        title="VGGT + RGB head",
        summary="All frames through VGGT's tokens and an RGB head: what the tokens still hold of the frames.",
        settings=("allview",),
        returns=("rgb",),
        checkpoints=(REFERENCE,),
        licence="VGGT-1B is non-commercial",
        reference="Huang et al. 2026, arXiv 2601.04090, Table 9; Wang et al. 2025, arXiv 2503.11651",
    )

    def __init__(self, vggt: Vggt, head: RgbHead, *, side: int, sha256: str | None = None) -> None:
        self.vggt = vggt
        self.head = head
        self.side = side
        self._sha256 = sha256

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The head in a file, and the VGGT whose tokens it was trained on.

        Raises:
            InputError: where there is none, or the two do not belong together.
        """
        if checkpoint in {None, OFFICIAL}:
            raise InputError(
                f"vggt-rgb-head without a path: {UNPUBLISHED}",
                expected="vggt-rgb-head@reference (this project's own) or vggt-rgb-head@PATH of a trained head; the "
                "paper's values stand in the tables beside it",
                fix="gen3r-bench train vggt-rgb-head",
            )
        path = shipped_weights("vggt-rgb-head") if checkpoint == REFERENCE else Path(str(checkpoint)).expanduser()
        if not path.is_file():
            raise InputError(f"no head at {path}", expected="a file as `gen3r-bench train vggt-rgb-head` writes it")

        from gen3r_bench.models.folder import VGGT_KEY, told, told_side
        from gen3r_bench.models.vggt_checkpoint import load_rgb_head

        head = load_rgb_head(path, device=device)
        side = told_side(path)
        named = told(path, VGGT_KEY)
        if side is None or named is None:
            raise InputError(f"{path} does not say its side and its VGGT", expected="a file as `train` writes it")
        place = frozen_path("vggt", named)
        vggt = load_vggt(place, device)
        if vggt.config != head.config:
            raise InputError(f"{path} was trained on another VGGT than {place}", expected="the VGGT that it names")
        del vggt.camera_head, vggt.depth_head, vggt.point_head
        made: type[VggtRgbHead] = of_own_training(cls, vggt=named)
        if checkpoint == REFERENCE:
            made = VggtRgbHeadReference
        return cast("Self", made(vggt, head, side=side, sha256=sha256_of([path, place])))

    @property
    def checkpoint_sha256(self) -> str | None:
        return self._sha256

    def predict(self, conditioning: Conditioning) -> Prediction:
        import torch

        size = conditioning.image_size
        work_size = working_size(size, self.side, self.vggt.config.patch_size)
        weights = next(self.head.parameters())
        with torch.inference_mode():
            rgb = torch.from_numpy(np.array(conditioning.rgb)).to(weights.device)
            tokens = self.vggt.encode(resized_images(rgb, work_size)[None])
            patches = [layer[0, :, tokens.patch_start :].to(weights.dtype) for layer in tokens.layers]
            frames = torch.cat(
                [
                    self.head([layer[start : start + FRAMES_AT_ONCE] for layer in patches], tokens.grid)
                    for start in range(0, conditioning.num_frames, FRAMES_AT_ONCE)
                ]
            )
        adaptations: tuple[str, ...] = ()
        if work_size != size:
            adaptations = (f"frames resized from {size[0]} x {size[1]} to {work_size[0]} x {work_size[1]}, and back",)
        return Prediction(
            frame_indices=tuple(range(conditioning.num_frames)),
            rgb=resized_rgb(frames.mul(255).round().byte().cpu().numpy(), size),
            adaptations=adaptations,
        )


class VggtRgbHeadReference(VggtRgbHead):
    """On this project's own VGGT, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = replace(VggtRgbHead.contract, licence="MIT")
