"""Aether: a video model that denoises frames, disparity and camera rays together (Tables 1 to 3, 5 to 8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.baselines.frames import nearest_maps, resized_rgb, scaled_cameras
from gen3r_bench.baselines.official_weights import (
    AETHER_HUB_ID,
    COGVIDEOX_HUB_ID,
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
    import torch

    from gen3r_bench.models.aether.pipeline import AetherPipeline, Sampling
    from gen3r_bench.models.aether.trajectory import Window
    from gen3r_bench.models.plan import ModelPlan, StagePlan

COGVIDEOX_FOLDERS: Final = ("vae", "text_encoder", "scheduler")
FOLDERS: Final = ("transformer", *COGVIDEOX_FOLDERS)
LIBRARIES: Final = ("torch", "diffusers", "transformers")
CHOICES: Final = {
    "letterbox": "frames stand between black bars at the native aspect ratio",
    "joint": "depth and cameras as generated, without a reconstruction of the generated frames",
    "unsmoothed": "cameras as decoded, without the released smoothing",
    "released-fit": "windows joined by the released fit of poses",
    "dmax-vggt": "camera centres in nearest depths, as VGGT sees them between the two given frames",
}
"""What may stand behind a checkpoint's name, each after a "+": every one is a row of its own."""
NEAREST_SHARE: Final = 0.01
"""The nearest depth is the one that this share of the pixels falls short of: estimated depth has outliers."""


class Aether(Method):
    """Prediction from one frame, planning between two, reconstruction of all, with the released steps and guidance.

    As in the released demo, depth and cameras of generated frames come from a reconstruction (4 steps) of those frames,
    and cameras are smoothed. 49 frames are more than the weights were trained on: 41 of them, evenly spaced with the
    first and last, are generated and scored; reconstruction covers all in two windows of 41, joined by a similarity.
    Frames keep their aspect ratio, at 480 pixels on the short side. What the paper leaves open is a choice
    (``CHOICES``) behind the checkpoint's name, as in ``official+joint``.

    Camera centres should be in nearest depths of the clip. Nothing that a method is shown tells these from one frame,
    so they keep their unit (dmax 1, the released default). The ground truth's depth would tell; no row is given it.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="aether",
        title="Aether",
        summary="CogVideoX fine-tuned on synthetic scenes to denoise frames, disparity and camera rays together.",
        settings=("1view", "2view", "allview"),
        cameras="optional",
        returns=("rgb", "depth", "cameras"),
        checkpoints=(OFFICIAL, *(f"{OFFICIAL}+{choice}" for choice in CHOICES)),
        native_frames=41,
        native_size=(480, 720),
        licence="as AetherV1's model card says (code MIT); VAE and text encoder: CogVideoX licence",
        reference="Aether Team 2025, arXiv 2503.18945",
    )

    def __init__(
        self,
        pipeline: AetherPipeline,
        *,
        choices: Sequence[str] = (),
        sampling: Sampling | None = None,
        weights: Sequence[Path] = (),
        known_depth: Method | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.choices = frozenset(choices)
        self.sampling = sampling
        self.known_depth = known_depth
        self._weights = tuple(weights)
        self._sha256: str | None = None

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The official folder, or another of its layout; every part is checked before anything is run.

        Raises:
            InputError: where weights are missing (with the commands that fetch them) or do not fit.
        """
        name, choices = split_choices(checkpoint or OFFICIAL)
        root = checkpoint_folder(name)
        require_libraries("aether", LIBRARIES)
        from gen3r_bench.models.aether.folder import PARTS, AetherFolder
        from gen3r_bench.models.aether.pipeline import AetherPipeline

        folder = AetherFolder(root)
        offload: Any = os.environ.get(OFFLOAD_VARIABLE, "encoders")
        pipeline = AetherPipeline.from_folder(folder, device=device, offload=offload)
        weights = [root / part.subfolder for part in PARTS.values()]
        if "dmax-vggt" not in choices:
            return cls(pipeline, choices=choices, weights=weights)
        from gen3r_bench.baselines.vggt import WEIGHTS_FILE, VggtMethod

        weights.append(weights_root() / WEIGHTS_FILE)
        vggt = VggtMethod.load(None, device=device)
        return cast("Self", AetherBetweenViews(pipeline, choices=choices, weights=weights, known_depth=vggt))

    @property
    def checkpoint_sha256(self) -> str | None:
        if self._sha256 is None and self._weights:
            self._sha256 = sha256_of(self._weights)
        return self._sha256

    def predict(self, conditioning: Conditioning) -> Prediction:
        size = conditioning.image_size
        config = self.pipeline.config
        placing = placed(size, config.native_size, config.size_step, letterbox="letterbox" in self.choices)
        notes = [placing.note(size)] if placing.note(size) else []
        seed = conditioning.seed % 2**63
        rgb = placing.framed(conditioning.rgb)
        cameras = None if conditioning.cameras is None else placing.framed_cameras(conditioning.cameras)
        if conditioning.setting == "allview":
            window, frames, joined = self._reconstructed(rgb, cameras, seed, notes)
        else:
            window, frames = self._generated(rgb, cameras, seed, conditioning, notes)
            joined = False
        from gen3r_bench.models.aether.raymap import centred_cameras, depth_from_disparity

        depth = depth_from_disparity(window.disparity, nearest=None if joined else 1.0)
        predicted = placing.unframed_cameras(
            centred_cameras(window.world_from_cam, window.focal_px, placing.work_size), size
        )
        generated = np.rint(np.asarray(window.rgb) * 255).astype(np.uint8)
        return Prediction(
            frame_indices=tuple(frames),
            rgb=resized_rgb(placing.cropped(generated), size),
            depth=nearest_maps(placing.cropped(depth), size),
            world_from_cam=predicted.world_from_cam,
            intrinsics=predicted.intrinsics,
            adaptations=tuple(notes),
        )

    def _reconstructed(
        self, rgb: NDArray[np.float32], cameras: Cameras | None, seed: int, notes: list[str]
    ) -> tuple[Window, list[int], bool]:
        """Geometry of all frames, their places, and whether it comes from several windows."""
        from gen3r_bench.models.aether.reconstruction import clip_length, reconstruct

        frames, length = len(rgb), clip_length(len(rgb))
        joining: Any = "released" if "released-fit" in self.choices else "similarity"
        window, starts = reconstruct(
            self.pipeline, rgb, cameras=cameras, seed=seed, smooth="unsmoothed" not in self.choices, joining=joining
        )
        if length > frames:
            notes.append(f"{frames} frames shown as {length}, some of them more than once")
        windows = ""
        if len(starts) > 1:
            fit = "the released fit" if joining == "released" else "a similarity"
            windows = f"windows of {length} frames from {', '.join(map(str, starts))}, joined by {fit}; "
        notes.append(f"{windows}{self._smoothing}")
        return window, list(range(frames)), len(starts) > 1

    def _generated(
        self,
        rgb: NDArray[np.float32],
        cameras: Cameras | None,
        seed: int,
        conditioning: Conditioning,
        notes: list[str],
    ) -> tuple[Window, list[int]]:
        """Generated frames with their geometry, and their places."""
        from gen3r_bench.models.aether.pipeline import Clip, ClipInputs
        from gen3r_bench.models.aether.reconstruction import clip_length, selected, shown_frames, window_of

        frames = conditioning.num_frames
        length = clip_length(frames)
        shown = shown_frames(frames, length)
        if length < frames:
            notes.append(f"{length} of {frames} frames generated and scored, evenly spaced from first to last")
        if length > frames:
            notes.append(f"{length} frames generated, and {frames} of them taken")
        dmax = 1.0
        if cameras is not None:
            cameras = Cameras(cameras.world_from_cam[shown], cameras.intrinsics[shown], cameras.image_size)
            dmax = self._dmax(conditioning)
        given = ClipInputs(rgb=rgb, num_frames=length, cameras=cameras, seed=seed, dmax=dmax)
        clip = self.pipeline(given, self.sampling)
        source = "depth and cameras as generated"
        if "joint" not in self.choices:
            again = self.pipeline(ClipInputs(rgb=clip.rgb, num_frames=length, cameras=None, seed=seed))
            clip = Clip(rgb=clip.rgb, disparity=again.disparity, raymap=again.raymap)
            source = "depth and cameras from a reconstruction of the generated frames"
        # one note of what does not change from clip to clip, so that tables need one line for it
        unit = "" if cameras is None else "; dmax 1" if self.known_depth is None else "; dmax by VGGT"
        notes.append(f"{source}; {self._smoothing}{unit}")
        window = window_of(clip, smooth="unsmoothed" not in self.choices)
        if length > frames:
            return selected(window, shown_frames(length, frames)), list(range(frames))
        return window, shown

    @property
    def _smoothing(self) -> str:
        return "cameras not smoothed" if "unsmoothed" in self.choices else "cameras smoothed as released"

    def _dmax(self, conditioning: Conditioning) -> float:
        """1, or the largest disparity that the method of ``known_depth`` sees, in the unit of the given cameras."""
        if self.known_depth is None or conditioning.cameras is None:
            return 1.0
        seen = self.known_depth.predict(conditioning)
        assert seen.depth is not None
        assert seen.world_from_cam is not None
        given = conditioning.cameras.world_from_cam[list(conditioning.frame_indices)]
        baselines = [
            float(np.linalg.norm(poses[-1, :3, 3] - poses[0, :3, 3])) for poses in (given, seen.world_from_cam)
        ]
        nearest = float(np.quantile(seen.depth[np.isfinite(seen.depth)], NEAREST_SHARE))
        if min(*baselines, nearest) < 1e-9:
            return 1.0  # a camera that stands still has no unit
        return baselines[1] / (baselines[0] * nearest)


class AetherBetweenViews(Aether):
    """Aether with ``+dmax-vggt``: only two views and their cameras tie estimated depth to the cameras' unit."""

    contract: ClassVar[Contract] = replace(Aether.contract, settings=("2view",), cameras="required")


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a clip's frames lie in those that the networks see.

    Attributes:
        work_size: (height, width) that the networks see.
        inner: (top, left, height, width) of the clip's frame in it; the rest is black.
    """

    work_size: tuple[int, int]
    inner: tuple[int, int, int, int]

    def note(self, size: tuple[int, int]) -> str:
        """What happens to frames of ``size``, or "" where nothing does."""
        _, _, height, width = self.inner
        if self.work_size == size:
            return ""
        note = f"frames resized from {size[0]} x {size[1]} to {height} x {width}"
        if (height, width) != self.work_size:
            note += f" between black bars at {self.work_size[0]} x {self.work_size[1]}"
        return f"{note}, and everything back"

    def framed(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[n, *work_size, 3] float32 in [0, 1] of uint8 frames."""
        top, left, height, width = self.inner
        frames = np.zeros((len(rgb), *self.work_size, 3), dtype=np.float32)
        frames[:, top : top + height, left : left + width] = resized_rgb(rgb, (height, width)).astype(np.float32) / 255
        return frames

    def framed_cameras(self, cameras: Cameras) -> Cameras:
        """Cameras of the framed frames."""
        top, left, height, width = self.inner
        scaled = scaled_cameras(cameras, (height, width))
        intrinsics = scaled.intrinsics.copy()
        intrinsics[:, :2, 2] += left, top
        return Cameras(scaled.world_from_cam, intrinsics, self.work_size)

    def unframed_cameras(self, cameras: Cameras, size: tuple[int, int]) -> Cameras:
        """Cameras of the clip's frames, ``size``, from those of the framed ones."""
        top, left, height, width = self.inner
        intrinsics = cameras.intrinsics.copy()
        intrinsics[:, :2, 2] -= left, top
        return scaled_cameras(Cameras(cameras.world_from_cam, intrinsics, (height, width)), size)

    def cropped(self, maps: NDArray[Any]) -> NDArray[Any]:
        """The part of [n, *work_size, ...] that shows the clip."""
        top, left, height, width = self.inner
        return np.ascontiguousarray(maps[:, top : top + height, left : left + width])


def placed(size: tuple[int, int], native: tuple[int, int], step: int, *, letterbox: bool) -> Placing:
    """How frames of ``size`` are shown to networks that were trained at ``native``.

    Args:
        size: (height, width).
        native: (height, width).
        step: sides must be multiples of it.
        letterbox: put the whole frame, as large as it fits, in the middle of a native one; else take a frame of its
            own aspect ratio whose short side is the native one.
    """
    if letterbox:
        scale = min(whole / side for whole, side in zip(native, size, strict=True))
        height, width = (max(1, min(whole, round(side * scale))) for whole, side in zip(native, size, strict=True))
        return Placing(native, ((native[0] - height) // 2, (native[1] - width) // 2, height, width))
    scale = min(native) / min(size)
    height, width = (max(step, round(side * scale / step) * step) for side in size)
    return Placing((height, width), (0, 0, height, width))


def split_choices(checkpoint: str) -> tuple[str, tuple[str, ...]]:
    """A checkpoint's name and the choices behind it, sorted.

    Raises:
        InputError: where the official name is followed by something that is no choice, or by one twice.
    """
    name, found = checkpoint, []
    while (last := name.rpartition("+"))[2] in CHOICES:
        name = last[0]
        found.append(last[2])
    if len(set(found)) < len(found) or name.startswith(f"{OFFICIAL}+"):
        raise InputError(
            f"checkpoint {checkpoint!r} for aether",
            expected=f"{OFFICIAL!r} or a path, then any of {', '.join(f'+{choice}' for choice in CHOICES)}",
        )
    return name, tuple(sorted(found))


def checkpoint_folder(name: str) -> Path:
    """The folder that a checkpoint's name stands for.

    Raises:
        InputError: where it is not there, or parts are missing: which, and the commands that fetch them.
    """
    root = weights_root() / "aether" if name == OFFICIAL else Path(name).expanduser()
    missing = [folder for folder in FOLDERS if not (root / folder).is_dir()]
    if not missing:
        return root
    what = f"{', '.join(missing)} missing in {root}" if root.is_dir() else f"{root} does not exist"
    if name != OFFICIAL:
        raise InputError(f"aether@{name}: {what}", expected=f"{OFFICIAL!r}, or a folder of its layout")
    raise InputError(
        f"aether@{OFFICIAL}: {what}",
        expected=f"transformer/ of {AETHER_HUB_ID} beside {', '.join(COGVIDEOX_FOLDERS)} of {COGVIDEOX_HUB_ID}",
        fix=download_command(root, missing),
    )


def plan_checkpoint(
    checkpoint: str | None, *, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> ModelPlan:
    """What a checkpoint needs for one window of a clip, placed as the method places it.

    Args:
        checkpoint: as for ``Aether.load``; the official sizes are known without the files.
        num_frames: of the clip.
        image_size: (height, width) of the clip's frames.
        dtype: of the weights.
    """
    from gen3r_bench.models.aether.config import AetherConfig
    from gen3r_bench.models.aether.folder import AetherFolder
    from gen3r_bench.models.aether.plan import plan
    from gen3r_bench.models.aether.reconstruction import clip_length

    name, choices = split_choices(checkpoint or OFFICIAL)
    config = AetherConfig.official() if name == OFFICIAL else AetherFolder(Path(name).expanduser()).config
    placing = placed(image_size, config.native_size, config.size_step, letterbox="letterbox" in choices)
    made = plan(config, num_frames=clip_length(num_frames), image_size=placing.work_size, dtype=dtype)
    if "dmax-vggt" not in choices:
        return made
    stage = _vggt_stage()
    return replace(made, stages=[stage, *made.stages], pinned=(stage.part,))


def _vggt_stage() -> StagePlan:
    """What VGGT needs for the two given frames, in float32 as it is kept."""
    import torch

    from gen3r_bench.baselines.vggt import INPUT_SIZES
    from gen3r_bench.models.plan import stage_plan
    from gen3r_bench.models.vggt import Vggt, VggtConfig

    size = (INPUT_SIZES[0], INPUT_SIZES[0])
    with torch.device("meta"), torch.inference_mode():
        return stage_plan(
            Vggt(VggtConfig.official()).eval(),
            "two frames to depth and cameras",
            "vggt",
            lambda module: module.decode(module.encode(torch.empty(1, 2, 3, *size)), size, points=False),
        )


def download_command(root: Path, names: Sequence[str]) -> str:
    """The shell command that fetches the named subfolders of Aether's checkpoint into ``root``."""
    return " && ".join(
        f'hf download {COGVIDEOX_HUB_ID if name in COGVIDEOX_FOLDERS else AETHER_HUB_ID} --include "{name}/*" '
        f"--local-dir {root}"
        for name in names
    )
