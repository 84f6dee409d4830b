"""Table 3's Gen3R (VAE only): VGGT's tokens through the geometry adapter and back, then VGGT's heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np

from gen3r_bench.baselines.joint_files import frozen_path
from gen3r_bench.baselines.official_weights import (
    GEN3R_TRAINING_SETS,
    OFFICIAL,
    REFERENCE,
    gen3r_parts,
    sha256_of,
)
from gen3r_bench.baselines.own_weights import of_own_training, own_contract
from gen3r_bench.baselines.vggt_clips import (
    RELEASED_SIDE,
    check_short_side,
    in_float64,
    load_vggt,
    nearest,
    resized_images,
    working_size,
)
from gen3r_bench.errors import InputError
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    from gen3r_bench.models.token_adapter import TokenAdapter
    from gen3r_bench.models.vggt import Vggt


class Gen3rVaeOnly(Method):
    """What reconstruction loses in the adapter's latents; nothing is generated.

    Frames are resized to 560 on the short side (the long side to the nearest multiple of 56), and depth and intrinsics
    back. Networks of other sizes see the side that the adapter's file says it was trained at, else the nearest legal
    size; legal are whole cells of the adapter's grid: VGGT's patch times the adapter's ``grid_unit``, 8 pixels for this
    project's own. A clip that is not 1 + 4 k frames is continued with its last frame. Both are recorded. The latent is
    drawn from the posterior with the scene's seed, as the released ``infer_geo_adapter`` does; weights are float32,
    where the released code runs in bfloat16 throughout (on CUDA, VGGT's aggregator here does too).
    """

    contract: ClassVar[Contract] = Contract(
        method_id="gen3r-vae-only",
        title="Gen3R (VAE only)",
        summary="VGGT's tokens through Gen3R's geometry adapter and back, then VGGT's heads.",
        settings=("allview",),
        returns=("depth", "cameras"),
        checkpoints=(OFFICIAL, REFERENCE),
        native_frames=49,
        native_size=(560, 560),
        licence="adapter as Gen3R's model card says; VGGT-1B is non-commercial; MIT (reference)",
        training_sets=GEN3R_TRAINING_SETS,
        reference="Huang et al. 2026, arXiv 2601.04090",
    )

    def __init__(
        self, vggt: Vggt, adapter: TokenAdapter, *, short_side: int | None = None, sha256: str | None = None
    ) -> None:
        self.side_unit = vggt.config.patch_size * adapter.config.grid_unit
        check_short_side(short_side, self.side_unit)
        self.vggt = vggt
        self.adapter = adapter
        self.short_side = short_side
        self._sha256 = sha256

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """VGGT and the adapter from ``vggt/`` and ``geo_adapter/`` of Gen3R's checkpoint, or of a folder like it.

        Or this project's own; or an adapter in one file, as ``train geometry-adapter`` writes it, and the VGGT that the
        file names: this project's own where it names none.
        """
        parts = _parts(cls.contract.method_id, checkpoint)

        import torch

        from gen3r_bench.models.adapter_checkpoint import load_adapter
        from gen3r_bench.models.folder import VGGT_KEY, told, told_side
        from gen3r_bench.models.geometry_adapter import GeometryAdapterConfig
        from gen3r_bench.models.vggt import VggtConfig

        adapter = load_adapter(parts[1], device=device, dtype=torch.float32)
        vggt = load_vggt(parts[0], device)
        if vggt.config.token_width * 5 != adapter.config.token_channels:
            raise InputError(
                f"{parts[0]} has tokens of {vggt.config.token_width} channels, and {parts[1]} takes "
                f"{adapter.config.token_channels}",
                expected="five tokens' channels",
                fix="a folder with vggt/ and geo_adapter/ that belong together",
            )
        released = (VggtConfig.official(), GeometryAdapterConfig.official())
        short_side = RELEASED_SIDE if (vggt.config, adapter.config) == released else told_side(parts[1])
        made: type[Gen3rVaeOnly] = Gen3rVaeOnlyReference if checkpoint == REFERENCE else cls
        if made is cls and parts[1].is_file():
            made = of_own_training(cls, vggt=told(parts[1], VGGT_KEY))
        return cast("Self", made(vggt, adapter, short_side=short_side, sha256=sha256_of(parts)))

    @property
    def checkpoint_sha256(self) -> str | None:
        return self._sha256

    def rounding_variants(self) -> Mapping[str, Callable[[], Gen3rVaeOnly]]:
        def variant() -> Gen3rVaeOnly:
            networks = in_float64(self.vggt), in_float64(self.adapter)
            return Gen3rVaeOnly(*networks, short_side=self.short_side, sha256=self._sha256)

        return {"float64": variant}

    def predict(self, conditioning: Conditioning) -> Prediction:
        import torch

        from gen3r_bench.models.causal3d import FRAMES_PER_LATENT
        from gen3r_bench.models.geometry_adapter import pack_tokens, unpack_tokens
        from gen3r_bench.models.vggt import cameras_from_pose_encoding

        frames, size = conditioning.num_frames, conditioning.image_size
        work_size = working_size(size, self.short_side, self.side_unit)
        more = -(frames - 1) % FRAMES_PER_LATENT
        adaptations = []
        if work_size != size:
            adaptations.append(
                f"frames resized from {size[0]} x {size[1]} to {work_size[0]} x {work_size[1]}, depth and cameras back"
            )
        if more:
            adaptations.append(f"last frame repeated {more} more times, for 1 + 4 k frames")
        padded = np.pad(conditioning.rgb, [(0, more), (0, 0), (0, 0), (0, 0)], mode="edge")
        weights = next(self.adapter.parameters())
        with torch.inference_mode():
            images = resized_images(torch.from_numpy(padded).to(weights.device), work_size).to(weights.dtype)
            token_map = pack_tokens(self.vggt.encode(images[None])).to(weights.dtype)
            generator = torch.Generator().manual_seed(conditioning.seed % 2**63)
            latent = self.adapter.encode(token_map).sample(generator)
            del token_map  # 3 GB of 49 frames
            tokens = unpack_tokens(self.adapter.decode(latent), patch_start=self.vggt.config.patch_start)
            output = self.vggt.decode(tokens, work_size, points=False)
            depth, confidence = (
                nearest(part[0, :frames].float(), size) for part in (output.depth, output.depth_confidence)
            )
            cameras = cameras_from_pose_encoding(output.pose_encoding[0, :frames].float(), work_size)
        intrinsics = cameras.intrinsics.copy()
        intrinsics[:, 0] *= size[1] / work_size[1]
        intrinsics[:, 1] *= size[0] / work_size[0]
        return Prediction(
            frame_indices=tuple(range(frames)),
            depth=depth.cpu().numpy(),
            confidence=confidence.cpu().numpy(),
            world_from_cam=cameras.world_from_cam,
            intrinsics=intrinsics,
            adaptations=tuple(adaptations),
        )


class Gen3rVaeOnlyReference(Gen3rVaeOnly):
    """This project's own VGGT and adapter, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = own_contract(Gen3rVaeOnly.contract)


def _parts(method_id: str, checkpoint: str | None) -> tuple[Path, ...]:
    """Where VGGT and the adapter lie.

    Raises:
        InputError: where one of them is not there, or a file of weights says nothing of its sizes.
    """
    file = Path(checkpoint or OFFICIAL).expanduser()
    if checkpoint in {OFFICIAL, REFERENCE} or not file.is_file():
        return gen3r_parts(method_id, checkpoint, ("vggt", "geo_adapter"), shipped=("vggt", "geometry-adapter"))

    from gen3r_bench.models.folder import VGGT_KEY, holds_config, told

    if not holds_config(file):
        raise InputError(
            f"checkpoint {checkpoint!r} for {method_id} says no sizes of an adapter",
            expected="a safetensors file as `gen3r-bench train geometry-adapter` writes it",
            fix="a folder with vggt/ and geo_adapter/, each with a config.json",
        )
    return frozen_path("vggt", told(file, VGGT_KEY) or REFERENCE), file
