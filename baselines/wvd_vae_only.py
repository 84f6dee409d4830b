"""Table 3's WVD (VAE only): VGGT's point maps through the RGB video autoencoder and back, as if they were frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

import numpy as np

from gen3r_bench.baselines.frames import nearest_maps
from gen3r_bench.baselines.official_weights import (
    GEN3R_TRAINING_SETS,
    OFFICIAL,
    REFERENCE,
    gen3r_parts,
    sha256_of,
)
from gen3r_bench.baselines.own_weights import own_contract
from gen3r_bench.baselines.vggt_clips import (
    RELEASED_SIDE,
    check_short_side,
    in_float64,
    load_vggt,
    resized_images,
    working_size,
)
from gen3r_bench.errors import InputError
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction, unproject_depth

if TYPE_CHECKING:
    from gen3r_bench.models.vggt import Vggt
    from gen3r_bench.models.video_autoencoder import VideoAutoencoder
    from gen3r_bench.models.wvd.normalisation import Normalisation

DEFAULT_NORMALISATION: Final = "max-abs"
VARIANTS: Final = ("box", "percentile")
"""Behind a checkpoint's name: another normalisation of the points than the default."""


class WvdVaeOnly(Method):
    """What reconstruction loses where points pass an autoencoder of frames; nothing is generated.

    Points are VGGT's depth unprojected through its cameras, as the paper does for every other row of VGGT. They are
    normalised over the whole clip, since one number a clip is all that a generated clip could be given back; ``+box``
    and ``+percentile`` behind the checkpoint's name normalise otherwise (see ``fit_normaliser``). The latent is drawn
    from the posterior with the scene's seed, as for Gen3R (VAE only); weights are float32. Sizes and lengths are
    adapted as there: other networks than the released ones see the side that VGGT's file says, else the nearest that is
    whole patches and whole latents. This project's own autoencoder has seen frames alone, as the authors' has.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="wvd-vae-only",
        title="WVD (VAE only)",
        summary="VGGT's point maps through the Wan 2.1 VAE of frames and back.",
        settings=("allview",),
        returns=("points",),
        checkpoints=(
            *(OFFICIAL, *(f"{OFFICIAL}+{variant}" for variant in VARIANTS)),
            *(REFERENCE, *(f"{REFERENCE}+{variant}" for variant in VARIANTS)),
        ),
        native_frames=49,
        native_size=(560, 560),
        licence="Wan VAE Apache-2.0; VGGT-1B is non-commercial; MIT (reference)",
        training_sets=GEN3R_TRAINING_SETS,
        reference="Zhang et al. 2025, arXiv 2412.01821; as re-implemented by Huang et al. 2026, arXiv 2601.04090",
    )

    def __init__(
        self,
        vggt: Vggt,
        vae: VideoAutoencoder,
        *,
        normalisation: Normalisation = DEFAULT_NORMALISATION,
        short_side: int | None = None,
        sha256: str | None = None,
    ) -> None:
        from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO

        self.side_unit = math.lcm(vggt.config.patch_size, SPATIAL_RATIO)
        check_short_side(short_side, self.side_unit)
        self.vggt = vggt
        self.vae = vae
        self.normalisation: Normalisation = normalisation
        self.short_side = short_side
        self._sha256 = sha256

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """VGGT and the autoencoder from ``vggt/`` and ``wan_vae/`` of Gen3R's checkpoint, or of a folder like it.

        Or this project's own.
        """
        name, normalisation = _split(checkpoint)
        parts = gen3r_parts(cls.contract.method_id, name, ("vggt", "wan_vae"), shipped=("vggt", "wan-vae"))

        import torch

        from gen3r_bench.models.autoencoder_checkpoint import load_autoencoder
        from gen3r_bench.models.folder import told_side
        from gen3r_bench.models.vggt import VggtConfig
        from gen3r_bench.models.wan.vae import WanVaeConfig

        vggt = load_vggt(parts[0], device)
        vae = load_autoencoder(parts[1], device=device, dtype=torch.float32)
        released = (VggtConfig.official(), WanVaeConfig.official())
        made: type[WvdVaeOnly] = WvdVaeOnlyReference if name == REFERENCE else cls
        method = made(
            vggt,
            vae,
            normalisation=normalisation,
            short_side=RELEASED_SIDE if (vggt.config, vae.config) == released else told_side(parts[0]),
            sha256=sha256_of(parts),
        )
        return cast("Self", method)

    @property
    def checkpoint_sha256(self) -> str | None:
        return self._sha256

    def rounding_variants(self) -> Mapping[str, Callable[[], WvdVaeOnly]]:
        def variant() -> WvdVaeOnly:
            return WvdVaeOnly(
                in_float64(self.vggt),
                in_float64(self.vae),
                normalisation=self.normalisation,
                short_side=self.short_side,
                sha256=self._sha256,
            )

        return {"float64": variant}

    def predict(self, conditioning: Conditioning) -> Prediction:
        import torch

        from gen3r_bench.models.causal3d import FRAMES_PER_LATENT
        from gen3r_bench.models.vggt import cameras_from_pose_encoding
        from gen3r_bench.models.wan.vae import WanVae
        from gen3r_bench.models.wvd.normalisation import fit_normaliser
        from gen3r_bench.models.wvd.pipeline import decode_points, encode_points

        frames, size = conditioning.num_frames, conditioning.image_size
        work_size = working_size(size, self.short_side, self.side_unit)
        more = -(frames - 1) % FRAMES_PER_LATENT
        adaptations = [f"points normalised by {self.normalisation}"]
        if not isinstance(self.vae, WanVae):
            adaptations.append(f"a {self.vae.title} in place of the Wan VAE")
        if work_size != size:
            adaptations.append(
                f"frames resized from {size[0]} x {size[1]} to {work_size[0]} x {work_size[1]}, points back"
            )
        if more:
            adaptations.append(f"last frame repeated {more} more times, for 1 + 4 k frames")
        weights = next(self.vae.parameters())
        with torch.inference_mode():
            images = resized_images(torch.from_numpy(np.array(conditioning.rgb)).to(weights.device), work_size)
            tokens = self.vggt.encode(images[None].to(weights.dtype))
            output = self.vggt.decode(tokens, work_size, points=False)
            cameras = cameras_from_pose_encoding(output.pose_encoding[0].float(), work_size)
            points = unproject_depth(output.depth[0].float().cpu().numpy(), cameras)
            normaliser = fit_normaliser(points, self.normalisation)
            padded = np.pad(normaliser.to_range(points), [(0, more), (0, 0), (0, 0), (0, 0)], mode="edge")
            generator = torch.Generator().manual_seed(conditioning.seed % 2**63)
            decoded = decode_points(self.vae, encode_points(self.vae, padded, generator=generator))
        return Prediction(
            frame_indices=tuple(range(frames)),
            points_world=nearest_maps(normaliser.to_world(decoded[:frames]), size),
            adaptations=tuple(adaptations),
        )


class WvdVaeOnlyReference(WvdVaeOnly):
    """This project's own VGGT and autoencoder of frames, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = own_contract(WvdVaeOnly.contract)


def _split(checkpoint: str | None) -> tuple[str | None, Normalisation]:
    """A checkpoint's name, and the normalisation that stands behind it."""
    name, plus, variant = (checkpoint or "").rpartition("+")
    if not plus:
        return checkpoint, DEFAULT_NORMALISATION
    chosen: Any = variant
    if variant in VARIANTS:
        return name, chosen
    if name in {OFFICIAL, REFERENCE}:
        raise InputError(f"wvd-vae-only@{checkpoint}", expected=" or ".join(f"{name}+{known}" for known in VARIANTS))
    return checkpoint, DEFAULT_NORMALISATION  # a path may hold a plus
