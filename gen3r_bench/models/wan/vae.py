"""The VAE of Wan 2.1 (Wan Team, arXiv 2503.20314): clips in [-1, 1] to latents of 1/4 of the frames, 1/8 of the size.

diffusers' ``AutoencoderKLWan`` computes the same, under other parameter names; it is an oracle of our tests. Ours takes
the public keys as they are, and shares its blocks with the geometry adapter, which was built from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import torch

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import CausalAutoencoder, CausalDecoder, CausalEncoder
from gen3r_bench.models.folder import CONFIG_FILE, read_config, refuse_unknown, require_ratios
from gen3r_bench.models.video_autoencoder import SPATIAL_RATIO, VideoAutoencoder

CLASS_NAME: Final = "AutoencoderKLWan"
"""What the public ``config.json`` calls this network."""

# Of the public latents, as every loader of Wan 2.1 has them; the weights' files do not hold them.
LATENT_MEAN: Final = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD: Final = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WanVaeConfig:
    """Size of a Wan VAE.

    Attributes:
        dim: base width; a stage has ``dim`` times its multiplier.
        width_multipliers: of the encoder's four stages; the decoder takes them in reverse.
        blocks_per_stage: residual blocks of an encoder stage.
        latent_mean: of each latent channel before normalisation.
        latent_std: the same, standard deviation.
    """

    dim: int
    width_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks_per_stage: int = 2
    latent_mean: tuple[float, ...] = LATENT_MEAN
    latent_std: tuple[float, ...] = LATENT_STD

    def __post_init__(self) -> None:
        if len(self.width_multipliers) != 4:
            raise InputError(f"width_multipliers {self.width_multipliers}", expected="four stages, for 1/8 of the size")
        if len(self.latent_mean) != len(self.latent_std) or min(self.latent_std, default=0) <= 0:
            raise InputError("latent_mean and latent_std", expected="one mean and one positive deviation a channel")

    @classmethod
    def official(cls) -> Self:
        """The public size."""
        return cls(dim=96)

    @classmethod
    def tiny(cls) -> Self:
        """A size for tests, of the same structure."""
        return cls(dim=4)

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """What a ``config.json`` says, of Gen3R's ``wan_vae/`` or of `WanVae.save`.

        The official file names the latent channels only: the public VAE has one size.

        Raises:
            InputError: where it is missing, unreadable, or says something that this network does not do.
        """
        given = read_config(path)
        if "latent_channels" not in given:
            raise InputError(f"{path} lacks 'latent_channels'", expected="the config.json of Gen3R's wan_vae/")
        latent = given.pop("latent_channels")
        # the official name of the second one is misspelt
        require_ratios(given, path, ("temporal_compression_ratio", "spacial_compression_ratio"))
        own: dict[str, Any] = {"dim": given.pop("dim", cls.official().dim)}
        for name in ("width_multipliers", "latent_mean", "latent_std"):
            if name in given:
                own[name] = tuple(given.pop(name))
        if "blocks_per_stage" in given:
            own["blocks_per_stage"] = given.pop("blocks_per_stage")
        refuse_unknown(given, path)
        config = cls(**own)
        if latent != config.latent_channels:
            raise InputError(
                f"{path}: {latent} latent channels", expected=f"{config.latent_channels}, one a latent statistic"
            )
        return config

    def to_json(self) -> dict[str, Any]:
        """Content of a ``config.json``: the official names, and ours for what the official file leaves out."""
        return {
            "_class_name": CLASS_NAME,
            "latent_channels": self.latent_channels,
            "temporal_compression_ratio": 4,
            "spacial_compression_ratio": SPATIAL_RATIO,
            "dim": self.dim,
            "width_multipliers": self.width_multipliers,
            "blocks_per_stage": self.blocks_per_stage,
            "latent_mean": self.latent_mean,
            "latent_std": self.latent_std,
        }

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)


class WanVae(VideoAutoencoder):
    """The public network; see ``VideoAutoencoder`` for what goes in and comes out."""

    title: ClassVar[str] = "Wan VAE"
    config: WanVaeConfig

    def __init__(self, config: WanVaeConfig) -> None:
        super().__init__()
        self.config = config
        widths = tuple(config.dim * factor for factor in config.width_multipliers)
        latent, blocks = config.latent_channels, config.blocks_per_stage
        self.model = CausalAutoencoder(
            CausalEncoder(3, widths, 2 * latent, blocks=blocks, halve_time=(False, True, True), space="half"),
            CausalDecoder(latent, widths[::-1], 3, blocks=blocks, double_time=(True, True, False), space="double"),
            mean=config.latent_mean,
            std=config.latent_std,
        )

    @classmethod
    def from_folder(cls, folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Self:
        """The VAE in a folder with ``config.json`` and weights, such as Gen3R's ``wan_vae/``, in evaluation mode.

        Keys may begin with ``model.`` or not. A single file (the public ``Wan2.1_VAE.pth``) has no configuration beside
        it, and is read as the public size.

        Raises:
            InputError: where a file is missing, or the weights are not exactly those of the configured size.
        """
        config = WanVaeConfig.official() if folder.is_file() else WanVaeConfig.from_json(folder / CONFIG_FILE)
        with torch.device("meta"):
            vae = cls(config)
        return vae.read_weights(folder, device=device, dtype=dtype)
