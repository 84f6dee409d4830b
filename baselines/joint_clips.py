"""What the adapters of Gen3R and WVD share: a Conditioning as the inputs of a joint pipeline."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from gen3r_bench.baselines.frames import resized_rgb, scaled_cameras
from gen3r_bench.baselines.official_weights import OFFLOAD_VARIABLE, sha256_of
from gen3r_bench.method import Method
from gen3r_bench.scene import Cameras, Conditioning

if TYPE_CHECKING:
    from gen3r_bench.models.joint.checkpoint import JointCheckpoint
    from gen3r_bench.models.joint.file import JointFile
    from gen3r_bench.models.joint.pipeline import ClipInputs, JointPipeline, Sampling

LIBRARIES: Final = ("torch", "diffusers", "transformers")
TEMPORAL_RATIO: Final = 4
TILED: Final = "+tiled"
"""Behind a checkpoint's name: the Wan VAE computes overlapping tiles, for less memory and slightly other numbers."""


class JointMethod(Method):
    """A method whose pipeline generates joint latents on Wan 2.1.

    Frames are resized to the native size on the short side (the long side to a legal multiple); a clip that is not 1 +
    4 k frames is continued. Both are recorded, as is a length that the weights were not trained for.

    Args:
        pipeline: the networks.
        native_size: (height, width) that the weights were trained on; None: unknown, so frames are shown at the nearest
            legal size.
        native_frames: length of the clips that they were trained on, where the size is known; None: the contract's.
        sampling: None: the pipeline's default.
        weights: files and folders that are hashed.
        tiled: whether the pipeline's VAE computes tiles.
        remade: by name, makes a pipeline that gives the same clips up to rounding.
    """

    def __init__(
        self,
        pipeline: JointPipeline[Any],
        *,
        native_size: tuple[int, int] | None = None,
        native_frames: int | None = None,
        sampling: Sampling | None = None,
        weights: Sequence[Path] = (),
        tiled: bool = False,
        remade: Mapping[str, Callable[[], JointPipeline[Any]]] | None = None,
    ) -> None:
        self.pipeline: JointPipeline[Any] = pipeline
        self.native_size = native_size
        self.native_frames = native_frames or self.contract.native_frames
        self.sampling = sampling
        self.tiled = tiled
        self._weights = tuple(weights)
        self._remade = remade or {}
        self._sha256: str | None = None

    @classmethod
    def of_checkpoint(
        cls,
        pipeline: type[JointPipeline[Any]],
        checkpoint: JointCheckpoint[Any],
        *,
        device: str,
        tiled: bool,
        dtype: Any = None,
        **known: Any,
    ) -> Self:
        """The method of an opened checkpoint.

        Args:
            pipeline: the class.
            checkpoint: opened.
            device: where networks run.
            tiled: whether the VAE computes tiles.
            dtype: of the weights; None: the pipeline's default.
            **known: what else the constructor takes.
        """
        import torch

        from gen3r_bench.models.video_autoencoder import Tiling

        offload: Any = os.environ.get(OFFLOAD_VARIABLE, "encoders")
        made = partial(
            pipeline.from_checkpoint, checkpoint, device=device, offload=offload, tiling=Tiling() if tiled else None
        )
        remade = {"all latent frames at once": partial(made, dtype=dtype, latents_per_chunk=2**16)}
        if dtype == torch.float32 or torch.device(device).type == "cpu":
            remade["float64"] = partial(made, dtype=torch.float64)
        return cls(made(dtype=dtype), tiled=tiled, remade=remade, **known)

    @classmethod
    def of_file(
        cls, pipeline: type[JointPipeline[Any]], file: JointFile[Any], *, device: str, tiled: bool, **known: Any
    ) -> Self:
        """The method of an opened file: in float32 on any device, and at the size, length and sampling that it says."""
        import torch

        content = file.content
        return cls.of_checkpoint(
            pipeline,
            file,
            device=device,
            tiled=tiled,
            dtype=torch.float32,
            native_size=file.image_size,
            native_frames=content.frames,
            sampling=content.facts.sampling,
            weights=file.files,
            **known,
        )

    @property
    def checkpoint_sha256(self) -> str | None:
        if self._sha256 is None and self._weights:
            self._sha256 = sha256_of(self._weights)
        return self._sha256

    def rounding_variants(self) -> Mapping[str, Callable[[], Method]]:
        def variant(make: Callable[[], JointPipeline[Any]]) -> Method:
            other = copy.copy(self)
            other.pipeline = make()
            return other

        return {name: partial(variant, make) for name, make in self._remade.items()}

    def shown(self, conditioning: Conditioning) -> tuple[ClipInputs, tuple[str, ...]]:
        """The pipeline's inputs, at its own size and length, and what was adapted for that."""
        from gen3r_bench.models.joint.pipeline import ClipInputs

        frames, size = conditioning.num_frames, conditioning.image_size
        work_size = working_size(size, self.native_size, self.pipeline.config.size_step)
        more = -(frames - 1) % TEMPORAL_RATIO
        rgb, indices = conditioning.rgb, conditioning.frame_indices
        if conditioning.setting == "allview" and more:
            rgb = np.concatenate([rgb, np.repeat(rgb[-1:], more, axis=0)])
            indices = tuple(range(frames + more))
        cameras = conditioning.cameras
        if conditioning.setting == "allview":
            cameras = None  # the released infer.py drops them too, and the paper reconstructs without
        inputs = ClipInputs(
            rgb=resized_rgb(rgb, work_size),
            frame_indices=indices,
            num_frames=frames + more,
            cameras=None if cameras is None else _extended(scaled_cameras(cameras, work_size), more),
            prompt=conditioning.prompt,
            seed=conditioning.seed % 2**63,
        )
        return inputs, self._adaptations(conditioning, work_size, more)

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
        if self.native_size is not None and conditioning.num_frames != self.native_frames:
            notes.append(f"{conditioning.num_frames} frames; the weights were trained on {self.native_frames}")
        if conditioning.setting == "allview" and conditioning.cameras is not None:
            title = self.contract.title
            notes.append(f"cameras not used: with every frame given, {title} reconstructs without them")
        return tuple(notes)


def split_tiled(checkpoint: str | None) -> tuple[str | None, bool]:
    """A checkpoint's name without ``+tiled``, and whether that stood behind it."""
    if checkpoint is None or not checkpoint.endswith(TILED):
        return checkpoint, False
    return checkpoint.removesuffix(TILED), True


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
