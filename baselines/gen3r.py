"""The paper's model: one diffusion over appearance and geometry, from one, two or all frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self, cast

from gen3r_bench.baselines.frames import nearest_maps, resized_rgb, scaled_cameras
from gen3r_bench.baselines.joint_clips import LIBRARIES, TILED, JointMethod, split_tiled
from gen3r_bench.baselines.joint_files import FILE_LIBRARIES, folder_with, frozen_path, joint_file
from gen3r_bench.baselines.official_weights import (
    GEN3R_TRAINING_SETS,
    OFFICIAL,
    REFERENCE,
    require_libraries,
)
from gen3r_bench.baselines.own_weights import of_own_training, own_contract
from gen3r_bench.errors import InputError
from gen3r_bench.locations import GEN3R_HUB_ID, hub_command, weights_root
from gen3r_bench.method import Contract
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    import torch

    from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline
    from gen3r_bench.models.plan import ModelPlan

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


class Gen3r(JointMethod):
    """50 Euler steps at guidance 5 against "bad detailed", as in the released ``infer.py``.

    The released weights were trained on 49 frames of 560 x 560. Frames are resized to 560 on the short side (the long
    side to a multiple of 112) and everything back; a clip that is not 1 + 4 k frames is continued and cut again. Both
    are recorded, as is a length other than 49, which the weights were not trained for. Weights of other sizes than the
    released ones have no known native size, and see frames at the nearest legal one.

    A file, as ``train gen3r`` writes it, says itself at which size, length and sampling it is to be run.
    """

    pipeline: Gen3rPipeline
    rows_of_adapters: ClassVar[Mapping[str, str]] = {"without-kl": "gen3r-without-kl"}
    """Other rows, by the adapters whose latents they are trained on: their files would run under this name as well."""
    contract: ClassVar[Contract] = Contract(
        method_id="gen3r",
        title="Gen3R",
        summary="Wan 2.1 fine-tuned to denoise frames and VGGT's tokens together; depth and cameras by VGGT's heads.",
        settings=("1view", "2view", "allview"),
        cameras="optional",
        prompt="optional",
        returns=("rgb", "depth", "cameras"),
        checkpoints=(OFFICIAL, f"{OFFICIAL}{TILED}", REFERENCE),
        native_frames=49,
        native_size=(560, 560),
        licence="as Gen3R's model card says (code MIT); VGGT-1B inside it is non-commercial",
        training_sets=GEN3R_TRAINING_SETS,
        reference="Huang et al. 2026, arXiv 2601.04090",
    )

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The official folder, or another of its layout, or a file; every part is checked before anything is run.

        ``+tiled`` behind any makes the Wan VAE compute overlapping tiles.

        Raises:
            InputError: where weights are missing (with the command that fetches them) or do not fit.
        """
        name, tiled = split_tiled(checkpoint)
        file = joint_file(cls.contract.method_id, name)
        if file is not None:
            return cls._of_path(file, device=device, tiled=tiled, ours=name == REFERENCE)
        root = cls.folder(name)
        require_libraries(cls.contract.method_id, LIBRARIES)

        from gen3r_bench.models.gen3r.config import Gen3rConfig
        from gen3r_bench.models.gen3r.folder import PARTS, Gen3rFolder
        from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline

        folder = Gen3rFolder(root)
        return cls.of_checkpoint(
            Gen3rPipeline,
            folder,
            device=device,
            tiled=tiled,
            native_size=cls.contract.native_size if folder.config == Gen3rConfig.official() else None,
            weights=[root / part.subfolder for part in PARTS.values()],
        )

    @classmethod
    def _of_path(cls, file: Path, *, device: str, tiled: bool, ours: bool) -> Self:
        require_libraries(cls.contract.method_id, FILE_LIBRARIES)

        from gen3r_bench.models.gen3r.file import Gen3rFile
        from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline

        opened = Gen3rFile(file, frozen_path)
        frozen = {name: part.checkpoint for name, part in opened.content.facts.parts.items()}
        if frozen["geometry-adapter"] in cls.rows_of_adapters:
            raise InputError(
                f"{file} was trained on latents of the geometry adapter {frozen['geometry-adapter']!r}",
                expected=f"a file of {cls.contract.method_id}",
                fix=f"--method {cls.rows_of_adapters[frozen['geometry-adapter']]}@{file}",
            )
        made = cls.of_reference() if ours else of_own_training(cls, vggt=frozen["vggt"])
        return cast("Self", made.of_file(Gen3rPipeline, opened, device=device, tiled=tiled))

    @classmethod
    def folder(cls, checkpoint: str | None) -> Path:
        """See ``checkpoint_folder``."""
        return checkpoint_folder(checkpoint)

    @classmethod
    def of_reference(cls) -> type[Gen3r]:
        """Which class runs this project's own checkpoint."""
        return Gen3rReference

    def predict(self, conditioning: Conditioning) -> Prediction:
        frames, size = conditioning.num_frames, conditioning.image_size
        inputs, adaptations = self.shown(conditioning)
        clip = self.pipeline(inputs, self.sampling)
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


class Gen3rReference(Gen3r):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = own_contract(Gen3r.contract)


def checkpoint_folder(checkpoint: str | None, *, method_id: str = "gen3r") -> Path:
    """The folder that a checkpoint's name stands for.

    Args:
        checkpoint: "official" (or None), or a path.
        method_id: who asks, for messages.

    Raises:
        InputError: where it is not there, or parts are missing: which, and the command that fetches them.
    """
    official = checkpoint in {None, OFFICIAL}
    root = weights_root() / "gen3r" if official else Path(str(checkpoint)).expanduser()
    return folder_with(
        root,
        FOLDERS,
        row=f"{method_id}@{checkpoint or OFFICIAL}",
        expected=f"the Hugging Face model {GEN3R_HUB_ID}"
        if official
        else f"{OFFICIAL!r}, a folder of its layout, or a file of gen3r-bench train {method_id}",
        fix=hub_command(GEN3R_HUB_ID, root) if official else None,
    )


def plan_checkpoint(
    checkpoint: str | None,
    *,
    num_frames: int,
    image_size: tuple[int, int],
    dtype: torch.dtype,
    method_id: str = "gen3r",
) -> ModelPlan:
    """What a checkpoint needs for a clip; the official one need not be there.

    Frames are resized to a file's own size, and files run in float32: ``image_size`` and ``dtype`` are not read then.

    Raises:
        InputError: where the checkpoint is not there or does not fit, or the clip does not fit its networks.
    """
    import torch

    from gen3r_bench.models.gen3r.config import Gen3rConfig
    from gen3r_bench.models.gen3r.file import Gen3rFile
    from gen3r_bench.models.gen3r.folder import Gen3rFolder
    from gen3r_bench.models.gen3r.plan import plan

    file = joint_file(method_id, checkpoint)
    if file is not None:
        opened = Gen3rFile(file, frozen_path)
        return plan(opened.config, num_frames=num_frames, image_size=opened.image_size, dtype=torch.float32)
    official = checkpoint in {None, OFFICIAL}
    config = Gen3rConfig.official() if official else Gen3rFolder(Path(str(checkpoint)).expanduser()).config
    return plan(config, num_frames=num_frames, image_size=image_size, dtype=dtype)
