"""The paper's model: one diffusion over appearance and geometry, from one, two or all frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from gen3r_bench.baselines.frames import nearest_maps, resized_rgb, scaled_cameras
from gen3r_bench.baselines.official_weights import (
    GEN3R_HUB_ID,
    GEN3R_TRAINING_SETS,
    OFFICIAL,
    OFFLOAD_VARIABLE,
    require_libraries,
    sha256_of,
)
from gen3r_bench.errors import InputError
from gen3r_bench.locations import weights_root
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Cameras, Conditioning, Prediction

if TYPE_CHECKING:
    from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline, Sampling

FOLDERS: Final = (
    "transformer",
    "wan_vae",
    "geo_adapter",
    "vggt",
    "text_encoder",
    "clip_image_encoder",
    "tokenizer",
    "scheduler",
)
LIBRARIES: Final = ("torch", "diffusers", "transformers")
TEMPORAL_RATIO: Final = 4
TILED: Final = "+tiled"
"""Behind a checkpoint's name: the Wan VAE computes overlapping tiles, for less memory and slightly other numbers."""


class Gen3r(Method):
    """50 Euler steps at guidance 5 against "bad detailed", as in the released ``infer.py``.

    The released weights were trained on 49 frames of 560 x 560. Frames are resized to 560 on the short side (the long
    side to a multiple of 112) and everything back; a clip that is not 1 + 4 k frames is continued and cut again. Both
    are recorded, as is a length other than 49, which the weights were not trained for. Weights of other sizes than the
    released ones have no known native size, and see frames at the nearest legal one.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="gen3r",
        title="Gen3R",
        summary="Wan 2.1 fine-tuned to denoise frames and VGGT's tokens together; depth and cameras by VGGT's heads.",
        settings=("1view", "2view", "allview"),
        cameras="optional",
        prompt="optional",
        returns=("rgb", "depth", "cameras"),
        checkpoints=(OFFICIAL, f"{OFFICIAL}{TILED}"),
        native_frames=49,
        native_size=(560, 560),
        licence="as Gen3R's model card says (code MIT); VGGT-1B inside it is non-commercial",
        training_sets=GEN3R_TRAINING_SETS,
        reference="Huang et al. 2026, arXiv 2601.04090",
    )

    def __init__(
        self,
        pipeline: Gen3rPipeline,
        *,
        native_size: tuple[int, int] | None = None,
        sampling: Sampling | None = None,
        weights: Sequence[Path] = (),
        tiled: bool = False,
    ) -> None:
        self.pipeline = pipeline
        self.native_size = native_size
        self.sampling = sampling
        self.tiled = tiled
        self._weights = tuple(weights)
        self._sha256: str | None = None

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The official folder, or another of its layout; every part is checked before anything is run.

        ``+tiled`` behind either makes the Wan VAE compute overlapping tiles.

        Raises:
            InputError: where weights are missing (with the command that fetches them) or do not fit.
        """
        tiled = checkpoint is not None and checkpoint.endswith(TILED)
        root = checkpoint_folder(checkpoint.removesuffix(TILED) if checkpoint is not None else None)
        require_libraries("gen3r", LIBRARIES)

        from gen3r_bench.models.gen3r.config import Gen3rConfig
        from gen3r_bench.models.gen3r.folder import PARTS, Gen3rFolder
        from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline
        from gen3r_bench.models.video_autoencoder import Tiling

        folder = Gen3rFolder(root)
        offload: Any = os.environ.get(OFFLOAD_VARIABLE, "encoders")
        return cls(
            Gen3rPipeline.from_folder(folder, device=device, offload=offload, tiling=Tiling() if tiled else None),
            native_size=cls.contract.native_size if folder.config == Gen3rConfig.official() else None,
            weights=[root / part.subfolder for part in PARTS.values()],
            tiled=tiled,
        )

    @property
    def checkpoint_sha256(self) -> str | None:
        if self._sha256 is None and self._weights:
            self._sha256 = sha256_of(self._weights)
        return self._sha256

    def predict(self, conditioning: Conditioning) -> Prediction:
        from gen3r_bench.models.gen3r.pipeline import ClipInputs

        frames, size = conditioning.num_frames, conditioning.image_size
        work_size = working_size(size, self.native_size, self.pipeline.config.size_step)
        more = -(frames - 1) % TEMPORAL_RATIO
        adaptations = self._adaptations(conditioning, work_size, more)
        rgb, indices = conditioning.rgb, conditioning.frame_indices
        if conditioning.setting == "allview" and more:
            rgb = np.concatenate([rgb, np.repeat(rgb[-1:], more, axis=0)])
            indices = tuple(range(frames + more))
        cameras = conditioning.cameras
        if conditioning.setting == "allview":
            cameras = None  # the released infer.py drops them too, and the paper reconstructs without
        clip = self.pipeline(
            ClipInputs(
                rgb=resized_rgb(rgb, work_size),
                frame_indices=indices,
                num_frames=frames + more,
                cameras=None if cameras is None else _extended(scaled_cameras(cameras, work_size), more),
                prompt=conditioning.prompt,
                seed=conditioning.seed % 2**63,
            ),
            self.sampling,
        )
        predicted = scaled_cameras(clip.cameras, size)
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=resized_rgb(clip.rgb[:frames], size),
            depth=nearest_maps(clip.depth[:frames], size),
            confidence=nearest_maps(clip.depth_confidence[:frames], size),
            world_from_cam=predicted.world_from_cam[:frames],
            intrinsics=predicted.intrinsics[:frames],
            adaptations=adaptations,
        )

    def _adaptations(self, conditioning: Conditioning, work_size: tuple[int, int], more: int) -> tuple[str, ...]:
        notes, size = [], conditioning.image_size
        if work_size != size:
            notes.append(
                f"frames resized from {size[0]} x {size[1]} to {work_size[0]} x {work_size[1]}, and everything back"
            )
        if self.tiled:
            notes.append("frames pass the Wan VAE in overlapping tiles")
        if more:
            notes.append(f"{more} frames generated behind the last one and cut off, for 1 + 4 k frames")
        if self.native_size is not None and conditioning.num_frames != self.contract.native_frames:
            notes.append(f"{conditioning.num_frames} frames; the weights were trained on {self.contract.native_frames}")
        if conditioning.setting == "allview" and conditioning.cameras is not None:
            notes.append("cameras not used: with every frame given, Gen3R reconstructs without them")
        return tuple(notes)


def checkpoint_folder(checkpoint: str | None) -> Path:
    """The folder that a checkpoint's name stands for.

    Raises:
        InputError: where it is not there, or parts are missing: which, and the command that fetches them.
    """
    official = checkpoint in {None, OFFICIAL}
    root = weights_root() / "gen3r" if official else Path(str(checkpoint)).expanduser()
    missing = [name for name in FOLDERS if not (root / name).is_dir()]
    if not missing:
        return root
    what = f"{', '.join(missing)} missing in {root}" if root.is_dir() else f"{root} does not exist"
    raise InputError(
        f"gen3r@{checkpoint or OFFICIAL}: {what}",
        expected=f"the Hugging Face model {GEN3R_HUB_ID}" if official else f"{OFFICIAL!r}, or a folder of its layout",
        fix=f"hf download {GEN3R_HUB_ID} --local-dir {root}" if official else None,
    )


def working_size(size: tuple[int, int], native: tuple[int, int] | None, step: int) -> tuple[int, int]:
    """(height, width) that the networks see of frames of ``size``: multiples of ``step``, the short side native."""
    scale = 1.0 if native is None else min(native) / min(size)
    height, width = (max(step, round(side * scale / step) * step) for side in size)
    return height, width


def _extended(cameras: Cameras, more: int) -> Cameras:
    """The cameras with the last one repeated."""
    poses, intrinsics = (
        np.concatenate([part, np.repeat(part[-1:], more, axis=0)])
        for part in (cameras.world_from_cam, cameras.intrinsics)
    )
    return Cameras(poses, intrinsics, cameras.image_size)
