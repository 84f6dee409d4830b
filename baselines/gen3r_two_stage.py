"""Tables 4 and 5's 2-Stage: frames by a diffusion of frames alone, then VGGT's reading of them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

from gen3r_bench.baselines.frames import nearest_maps, resized_rgb, scaled_cameras
from gen3r_bench.baselines.joint_clips import JointMethod, split_tiled
from gen3r_bench.baselines.joint_files import FILE_LIBRARIES, frozen_path, joint_file
from gen3r_bench.baselines.official_weights import GEN3R_TRAINING_SETS, OFFICIAL, REFERENCE, require_libraries
from gen3r_bench.baselines.own_weights import of_own_training, own_contract
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.baselines.vggt import plan_checkpoint as plan_reader
from gen3r_bench.errors import InputError
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Cameras, Conditioning, Prediction, conditioning_indices

if TYPE_CHECKING:
    import torch

    from gen3r_bench.models.plan import ModelPlan
    from gen3r_bench.models.video.pipeline import VideoPipeline

UNPUBLISHED: Final = "no weights of the diffusion of frames alone were ever published"
READER: Final = "+vggt="
"""Behind a file: which checkpoint of ``vggt`` reads the frames."""


class Gen3rTwoStage(JointMethod):
    """A diffusion of frames alone, sampled as Gen3R is; then depth and cameras of its frames, as ``vggt`` gives them.

    A checkpoint is "reference", this project's own, or the path of a file, as ``train gen3r-two-stage`` writes it. This
    project's own VGGT reads the frames; ``FILE+vggt=official``, or any other checkpoint of ``vggt``, names another.
    ``+tiled`` stands last.

    VGGT sees the frames at the size at which they were generated, and all of them, the given ones as the diffusion
    gives them back. So it is with every frame given too, which the paper does not do with this row: there is nothing to
    generate then, and ``vggt`` is what reads the given frames themselves.
    """

    pipeline: VideoPipeline
    contract: ClassVar[Contract] = Contract(
        method_id="gen3r-two-stage",
        title="2-Stage",
        summary="Gen3R's diffusion over frames alone, then VGGT's depth and cameras of the frames that it made.",
        settings=("1view", "2view", "allview"),
        cameras="optional",
        prompt="optional",
        returns=("rgb", "depth", "cameras"),
        checkpoints=(REFERENCE,),
        native_frames=49,
        native_size=(560, 560),
        training_sets=GEN3R_TRAINING_SETS,
        reference="Huang et al. 2026, arXiv 2601.04090",
    )

    def __init__(self, *arguments: Any, reader: VggtMethod, **known: Any) -> None:
        super().__init__(*arguments, **known)
        self.reader = reader

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The file at a path, and VGGT; every part is checked before anything is run.

        Raises:
            InputError: where there is none, or something does not fit.
        """
        stem, tiled = split_tiled(checkpoint)
        name, _, reader = (stem or OFFICIAL).partition(READER)
        file = joint_file("gen3r-two-stage", name)
        if file is None:
            raise InputError(
                f"gen3r-two-stage without a file: {UNPUBLISHED}"
                if name == OFFICIAL
                else f"gen3r-two-stage@{name} is no file of weights",
                expected="gen3r-two-stage@reference (this project's own) or gen3r-two-stage@PATH of a file that was "
                "trained; the paper's values stand in every table beside ours",
                fix="gen3r-bench train gen3r-two-stage",
            )
        require_libraries("gen3r-two-stage", FILE_LIBRARIES)

        from gen3r_bench.models.video.file import VideoFile
        from gen3r_bench.models.video.pipeline import VideoPipeline

        opened = VideoFile(file, frozen_path)
        reader = reader or REFERENCE
        ours = (name, reader) == (REFERENCE, REFERENCE)
        made = Gen3rTwoStageReference if ours else of_own_training(cls, vggt=reader.partition("+")[0])
        read_by = VggtMethod.load(reader, device=device)
        return cast("Self", made.of_file(VideoPipeline, opened, device=device, tiled=tiled, reader=read_by))

    @property
    def checkpoint_sha256(self) -> str | None:
        both = (super().checkpoint_sha256, self.reader.checkpoint_sha256)
        return hashlib.sha256("\n".join(map(str, both)).encode()).hexdigest() if any(both) else None

    def rounding_variants(self) -> Mapping[str, Callable[[], Method]]:
        """Of either stage; ``float64`` is both."""
        frames, read = super().rounding_variants(), self.reader.rounding_variants()

        def variant(name: str) -> Method:
            other = cast("Gen3rTwoStage", frames[name]()) if name in frames else copy.copy(self)
            other.reader = read[name]() if name in read else self.reader
            return other

        return {name: partial(variant, name) for name in (*frames, *(name for name in read if name not in frames))}

    def predict(self, conditioning: Conditioning) -> Prediction:
        frames, size = conditioning.num_frames, conditioning.image_size
        inputs, adaptations = self.shown(conditioning)
        rgb = self.pipeline(inputs, self.sampling)[:frames]
        seen = (rgb.shape[1], rgb.shape[2])
        places = conditioning_indices("allview", frames)
        read = self.reader.predict(Conditioning("allview", places, rgb, None, frames, seen, "", conditioning.seed))
        assert read.depth is not None
        assert read.confidence is not None
        assert read.world_from_cam is not None
        assert read.intrinsics is not None
        cameras = scaled_cameras(Cameras(read.world_from_cam, read.intrinsics, seen), size)
        if conditioning.setting == "allview":
            adaptations = (*adaptations, "every frame given, and VGGT still reads what the diffusion makes of them")
        return Prediction(
            frame_indices=places,
            rgb=resized_rgb(rgb, size),
            depth=nearest_maps(read.depth, size),
            confidence=nearest_maps(read.confidence, size),
            world_from_cam=cameras.world_from_cam,
            intrinsics=cameras.intrinsics,
            adaptations=(*adaptations, *(f"VGGT: {note}" for note in read.adaptations)),
        )


class Gen3rTwoStageReference(Gen3rTwoStage):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = own_contract(Gen3rTwoStage.contract)


def plan_checkpoint(
    checkpoint: str | None, *, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> ModelPlan:
    """What the official size ("official" or None), or the file at a path, needs for a clip, VGGT's reading included.

    Frames are resized to a file's own size, and files run in float32: ``image_size`` and ``dtype`` are not read then.

    Raises:
        InputError: where the checkpoint is not there or does not fit, or the clip does not fit its networks.
    """
    import torch

    from gen3r_bench.models.plan import ModelPlan
    from gen3r_bench.models.video.config import VideoConfig
    from gen3r_bench.models.video.file import VideoFile
    from gen3r_bench.models.video.plan import plan

    name, _, reader = (checkpoint or OFFICIAL).partition(READER)
    file = joint_file("gen3r-two-stage", name)
    if file is not None:
        opened = VideoFile(file, frozen_path)
        made = plan(opened.config, num_frames=num_frames, image_size=opened.image_size, dtype=torch.float32)
        read = plan_reader(reader or REFERENCE, num_frames=num_frames, image_size=opened.image_size, dtype=dtype)
    elif name == OFFICIAL:
        made = plan(VideoConfig.official(), num_frames=num_frames, image_size=image_size, dtype=dtype)
        read = plan_reader(reader or OFFICIAL, num_frames=num_frames, image_size=image_size, dtype=dtype)
    else:
        raise InputError(
            f"gen3r-two-stage@{name} is no file of weights", expected="the path of a file that was trained"
        )
    return ModelPlan(stages=[*made.stages, *read.stages], dropped=made.dropped)
