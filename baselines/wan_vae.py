"""Table 9's RGB VAE: every frame through the Wan 2.1 VAE and back, the ceiling of Gen3R's appearance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.baselines.official_weights import OFFICIAL, REFERENCE, gen3r_parts, sha256_of
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction

if TYPE_CHECKING:
    from gen3r_bench.models.video_autoencoder import VideoAutoencoder


class WanVaeMethod(Method):
    """Encode all frames, draw a latent from the posterior with the scene's seed, decode it; in float32.

    The project's own small checkpoint is a patch autoencoder, which has latents of the same shape; the record says so.
    A clip that is not 1 + 4 k frames is continued with its last frame, and one whose sides are not multiples of 8 with
    its border pixels; both are cut off again, and recorded.
    """

    contract: ClassVar[Contract] = Contract(
        method_id="wan-vae",
        title="Wan RGB VAE",
        summary="All frames through the Wan 2.1 VAE and back: the ceiling of what Gen3R can show.",
        settings=("allview",),
        returns=("rgb",),
        checkpoints=(OFFICIAL, REFERENCE),
        licence="Apache-2.0 (official); MIT (reference)",
        reference="Wan Team 2025, arXiv 2503.20314",
    )

    def __init__(self, vae: VideoAutoencoder, *, sha256: str | None = None) -> None:
        self.vae = vae
        self._sha256 = sha256

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """The one in ``wan_vae/`` of Gen3R's checkpoint, the project's own, or that at a path.

        A path is a folder, a file of the Wan VAE's public size, or a file that says its sizes, as ``train`` writes it.
        """
        parts = gen3r_parts(cls.contract.method_id, checkpoint, ("wan_vae",), shipped=("wan-vae",))

        import torch

        from gen3r_bench.models.autoencoder_checkpoint import load_autoencoder

        made: type[WanVaeMethod] = WanVaeReference if checkpoint == REFERENCE else cls
        method = made(load_autoencoder(parts[0], device=device, dtype=torch.float32), sha256=sha256_of(parts))
        return cast("Self", method)

    @property
    def checkpoint_sha256(self) -> str | None:
        return self._sha256

    def predict(self, conditioning: Conditioning) -> Prediction:
        import torch

        from gen3r_bench.models.causal3d import FRAMES_PER_LATENT
        from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO
        from gen3r_bench.models.wan.vae import WanVae

        frames, (height, width) = conditioning.num_frames, conditioning.image_size
        more = (-(frames - 1) % FRAMES_PER_LATENT, -height % SPATIAL_RATIO, -width % SPATIAL_RATIO)
        adaptations = []
        if not isinstance(self.vae, WanVae):
            adaptations.append(f"a {self.vae.title} in place of the Wan VAE")
        if more[0]:
            adaptations.append(f"last frame repeated {more[0]} more times, for 1 + 4 k frames")
        if more[1] or more[2]:
            adaptations.append(f"border repeated to {height + more[1]} x {width + more[2]}, for multiples of 8")
        padded = np.pad(conditioning.rgb, [(0, count) for count in (*more, 0)], mode="edge")
        weights = next(self.vae.parameters())
        with torch.inference_mode():
            clip = torch.from_numpy(padded).to(weights.device).permute(3, 0, 1, 2)[None].to(weights.dtype)
            posterior = self.vae.encode(clip / 127.5 - 1)
            generator = torch.Generator().manual_seed(conditioning.seed % 2**63)
            decoded = self.vae.decode(posterior.sample(generator))[0]
            rgb: NDArray[np.uint8] = (
                ((decoded.permute(1, 2, 3, 0).float() + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
            )
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=rgb[:frames, :height, :width],
            adaptations=tuple(adaptations),
        )


class WanVaeReference(WanVaeMethod):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = replace(WanVaeMethod.contract, licence="MIT", training_sets=())
