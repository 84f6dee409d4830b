"""World-consistent Video Diffusion, as the paper re-implemented it for its tables: frames and point maps together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self, cast

from gen3r_bench.baselines.frames import nearest_maps, resized_rgb, scaled_cameras
from gen3r_bench.baselines.joint_clips import LIBRARIES, JointMethod, split_tiled
from gen3r_bench.baselines.joint_files import FILE_LIBRARIES, folder_with, frozen_path, joint_file
from gen3r_bench.baselines.official_weights import GEN3R_TRAINING_SETS, OFFICIAL, REFERENCE, require_libraries
from gen3r_bench.baselines.own_weights import of_own_training, own_contract
from gen3r_bench.errors import InputError
from gen3r_bench.method import Contract
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    import torch

    from gen3r_bench.models.plan import ModelPlan
    from gen3r_bench.models.wvd.pipeline import WvdPipeline

FOLDERS: Final = ("transformer", "wan_vae", "text_encoder", "clip_image_encoder", "tokenizer", "scheduler")
UNPUBLISHED: Final = (
    "no weights of WVD were ever published, neither its authors' nor those of the paper's re-implementation"
)


class Wvd(JointMethod):
    """Sampled as Gen3R is; the same autoencoder decodes frames and points.

    A checkpoint is "reference", this project's own; the path of a folder in the layout of Gen3R's, without adapter and
    VGGT, with ``wvd.json`` beside the parts; or that of a file, as ``train wvd`` writes it, which says itself at which
    size, length and sampling it is to be run. Cameras and depth are recovered from the points (see
    ``recover_cameras``), at the size at which they were generated. Where no shared pinhole camera explains the points,
    the prediction holds frames and points alone, and says why.
    """

    pipeline: WvdPipeline
    contract: ClassVar[Contract] = Contract(
        method_id="wvd",
        title="WVD",
        summary="Wan 2.1 denoising frames and point maps together; depth and cameras by PnP on the points.",
        settings=("1view", "2view", "allview"),
        cameras="optional",
        prompt="optional",
        returns=("rgb", "depth", "points", "cameras"),
        checkpoints=(REFERENCE,),
        native_frames=49,
        native_size=(560, 560),
        training_sets=GEN3R_TRAINING_SETS,
        reference="Zhang et al. 2025, arXiv 2412.01821; as re-implemented by Huang et al. 2026, arXiv 2601.04090",
    )

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The folder or file at a path; every part is checked before anything is run.

        ``+tiled`` behind it makes the Wan VAE compute overlapping tiles.

        Raises:
            InputError: where there is none, parts are missing, or weights do not fit.
        """
        name, tiled = split_tiled(checkpoint)
        file = joint_file("wvd", name)
        if file is not None:
            made = WvdReference if name == REFERENCE else of_own_training(cls)
            return cast("Self", made._of_path(file, device=device, tiled=tiled))
        root = checkpoint_folder(name)
        require_libraries("wvd", LIBRARIES)

        from gen3r_bench.models.wvd.config import WvdConfig
        from gen3r_bench.models.wvd.folder import PARTS, WvdFolder
        from gen3r_bench.models.wvd.pipeline import WvdPipeline

        folder = WvdFolder(root)
        official = WvdConfig.official(folder.config.axis)
        return cls.of_checkpoint(
            WvdPipeline,
            folder,
            device=device,
            tiled=tiled,
            native_size=cls.contract.native_size if folder.config.transformer == official.transformer else None,
            weights=[root / part.subfolder for part in PARTS.values()],
        )

    @classmethod
    def _of_path(cls, file: Path, *, device: str, tiled: bool) -> Self:
        require_libraries("wvd", FILE_LIBRARIES)

        from gen3r_bench.models.wvd.file import WvdFile
        from gen3r_bench.models.wvd.pipeline import WvdPipeline

        return cls.of_file(WvdPipeline, WvdFile(file, frozen_path), device=device, tiled=tiled)

    def predict(self, conditioning: Conditioning) -> Prediction:
        from gen3r_bench.models.wvd.recovery import RecoveryError, recover_cameras

        frames, size = conditioning.num_frames, conditioning.image_size
        inputs, adaptations = self.shown(conditioning)
        clip = self.pipeline(inputs, self.sampling)
        config = self.pipeline.config
        adaptations = (
            f"frames and points joined along the {config.axis} of the latents; points of training normalised by "
            f"{config.normalisation}",
            *adaptations,
        )
        rgb, points = resized_rgb(clip.rgb[:frames], size), clip.points[:frames]
        try:
            found = recover_cameras(points)
        except RecoveryError as error:
            return Prediction(
                frame_indices=tuple(range(frames)),
                rgb=rgb,
                points_world=nearest_maps(points, size),
                adaptations=(*adaptations, f"no cameras and depth: {error.given}"),
            )
        cameras = scaled_cameras(found.cameras, size)
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=rgb,
            depth=nearest_maps(found.depth, size),
            points_world=nearest_maps(found.points_world, size),
            valid=nearest_maps(found.valid, size),
            world_from_cam=cameras.world_from_cam,
            intrinsics=cameras.intrinsics,
            adaptations=adaptations,
        )


class WvdReference(Wvd):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = own_contract(Wvd.contract)


def checkpoint_folder(checkpoint: str | None) -> Path:
    """The folder at a path.

    Raises:
        InputError: where none is named, it is not there, or parts are missing: which.
    """
    if checkpoint in {None, OFFICIAL}:
        raise InputError(
            f"wvd without a path: {UNPUBLISHED}",
            expected="wvd@reference (this project's own) or wvd@PATH of a trained folder or file; the paper's values "
            "stand in every table beside ours",
        )
    return folder_with(
        Path(str(checkpoint)).expanduser(),
        FOLDERS,
        row=f"wvd@{checkpoint}",
        expected="a folder of Gen3R's layout, with wvd.json, or a file of gen3r-bench train wvd",
    )


def plan_checkpoint(
    checkpoint: str | None, *, num_frames: int, image_size: tuple[int, int], dtype: torch.dtype
) -> ModelPlan:
    """What the official size ("official" or None), or the folder or file at a path, needs for a clip.

    Frames are resized to a file's own size, and files run in float32: ``image_size`` and ``dtype`` are not read then.

    Raises:
        InputError: where the checkpoint is not there or does not fit, or the clip does not fit its networks.
    """
    import torch

    from gen3r_bench.models.wvd.config import WvdConfig
    from gen3r_bench.models.wvd.file import WvdFile
    from gen3r_bench.models.wvd.folder import WvdFolder
    from gen3r_bench.models.wvd.plan import plan

    file = joint_file("wvd", checkpoint)
    if file is not None:
        opened = WvdFile(file, frozen_path)
        return plan(opened.config, num_frames=num_frames, image_size=opened.image_size, dtype=torch.float32)
    official = checkpoint in {None, OFFICIAL}
    config = WvdConfig.official() if official else WvdFolder(Path(str(checkpoint)).expanduser()).config
    return plan(config, num_frames=num_frames, image_size=image_size, dtype=dtype)
