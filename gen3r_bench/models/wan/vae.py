"""The VAE of Wan 2.1 (Wan Team, arXiv 2503.20314): clips in [-1, 1] to latents of 1/4 of the frames, 1/8 of the size.

diffusers' ``AutoencoderKLWan`` computes the same, under other parameter names; it is an oracle of our tests. Ours takes
the public keys as they are, and shares its blocks with the geometry adapter, which was built from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import (
    CausalAutoencoder,
    CausalDecoder,
    CausalEncoder,
    DiagonalGaussian,
    check_clip,
    latent_frames,
)
from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
from gen3r_bench.models.folder import CONFIG_FILE, read_config, refuse_unknown, require_ratios, save_folder

SPATIAL_RATIO: Final = 8

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


@dataclass(frozen=True, slots=True)
class Tiling:
    """Compute overlapping tiles of the frames one by one and blend them: less memory, slightly other numbers.

    Attributes:
        size_px: side of a tile in pixels, a multiple of 8.
        overlap_px: pixels that neighbours share, a multiple of 8; blended by linear ramps.
    """

    size_px: int = 256
    overlap_px: int = 64

    def __post_init__(self) -> None:
        legal = 0 < self.overlap_px < self.size_px
        if not legal or self.size_px % SPATIAL_RATIO or self.overlap_px % SPATIAL_RATIO:
            raise InputError(
                f"tiles of {self.size_px} px that overlap by {self.overlap_px} px",
                expected="multiples of 8, the overlap smaller than the tile and not 0",
            )


class WanVae(nn.Module):
    """Between clips [B, 3, F, H, W] in [-1, 1] and normalised latents [B, c, 1 + (F - 1) / 4, H / 8, W / 8]."""

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

    def encode(self, clip: Tensor, *, latents_per_chunk: int = 1, tiling: Tiling | None = None) -> DiagonalGaussian:
        """Posterior of a clip.

        Args:
            clip: [B, 3, F, H, W] in [-1, 1]; F is 1 + 4 k, H and W are multiples of 8.
            latents_per_chunk: latent frames computed at once; trades memory for speed, never changes the result.
            tiling: tiles for frames that do not fit into memory; mean and log variance are blended.

        Returns:
            mean and logvar [B, c, 1 + (F - 1) / 4, H / 8, W / 8]; the mean is normalised by the configured statistics,
            logvar is not.

        Raises:
            InputError: on another shape.
        """
        check_clip(clip, 3, "clip")
        latent_frames(clip.shape[2])
        height, width = clip.shape[3:]
        if height % SPATIAL_RATIO or width % SPATIAL_RATIO:
            raise InputError(f"frames of {height} x {width}", expected="multiples of 8", fix="crop or pad them")

        def moments(part: Tensor) -> Tensor:
            posterior = self.model.encode(part, latents_per_chunk)
            return torch.cat([posterior.mean, posterior.logvar], dim=1)

        if tiling is None:
            return self.model.encode(clip, latents_per_chunk)
        mean, logvar = _in_tiles(
            clip, moments, tiling.size_px, tiling.overlap_px, lambda pixels: pixels // SPATIAL_RATIO
        ).chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar)

    def decode(
        self, latent: Tensor, *, latents_per_chunk: int = 1, tiling: Tiling | None = None, clamp: bool = True
    ) -> Tensor:
        """Clip [B, 3, 1 + 4 (f - 1), 8 h, 8 w] of a normalised latent [B, c, f, h, w].

        Args:
            latent: in the encoder's normalisation.
            latents_per_chunk: as in `encode`.
            tiling: as in `encode`.
            clamp: keep the clip in [-1, 1]; turn it off in training, where the clamp would stop gradients.

        Raises:
            InputError: on another number of channels.
        """
        check_clip(latent, self.config.latent_channels, "latent")
        if tiling is None:
            clip = self.model.decode(latent, latents_per_chunk)
        else:
            clip = _in_tiles(
                latent,
                lambda part: self.model.decode(part, latents_per_chunk),
                tiling.size_px // SPATIAL_RATIO,
                tiling.overlap_px // SPATIAL_RATIO,
                lambda positions: positions * SPATIAL_RATIO,
            )
        return clip.clamp(-1, 1) if clamp else clip

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
        load_exactly(
            vae.model,
            read_safetensors(folder),
            what=f"Wan VAE in {folder}",
            ignore=("mean", "std"),
            strip_prefix="model.",
            dtype=dtype,
        )
        return vae.to(device).eval()

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the weights, under the official keys, into a folder."""
        save_folder(self, self.config.to_json(), folder)


def _in_tiles(
    clip: Tensor, function: Callable[[Tensor], Tensor], size: int, overlap: int, scaled: Callable[[int], int]
) -> Tensor:
    """``function`` of overlapping tiles of [B, C, F, H, W], blended; ``scaled`` maps input positions to output ones."""
    rows, columns = (_tile_starts(length, size, overlap) for length in clip.shape[3:])
    total: Tensor | None = None
    weights = torch.zeros(())
    for row in rows:
        for column in columns:
            part = function(clip[..., row : row + size, column : column + size])
            if total is None:
                height, width = (scaled(length) for length in clip.shape[3:])
                # float32: sums of many bfloat16 tiles would lose digits
                total = torch.zeros(*part.shape[:3], height, width, dtype=torch.float32, device=part.device)
                weights = total.new_zeros(height, width)
            weight = torch.outer(
                _ramps(part.shape[3], scaled(overlap), total), _ramps(part.shape[4], scaled(overlap), total)
            )
            place = (
                slice(scaled(row), scaled(row) + part.shape[3]),
                slice(scaled(column), scaled(column) + part.shape[4]),
            )
            total[(..., *place)] += part * weight
            weights[place] += weight
            dtype = part.dtype
    assert total is not None
    return (total / weights).to(dtype)


def _tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Starts of tiles that cover ``length``; the last one is moved back so that every tile is whole."""
    if length <= size:
        return [0]
    step = size - overlap
    return [*range(0, length - size, step), length - size]


def _ramps(length: int, overlap: int, like: Tensor) -> Tensor:
    """Weights of a tile's positions: rising from its border over the overlap, one in the middle."""
    position = torch.arange(length, dtype=like.dtype, device=like.device) + 0.5
    return torch.minimum(position, length - position).div(overlap).clamp(max=1.0)
