"""What every autoencoder around normalised latents has, whatever goes in: a configuration, and weights in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import nn

from gen3r_bench.models.causal3d import CausalAutoencoder
from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
from gen3r_bench.models.folder import save_folder


class LatentConfig(Protocol):
    """Size of an autoencoder."""

    @property
    def latent_mean(self) -> tuple[float, ...]:
        """Of each latent channel before normalisation."""

    @property
    def latent_std(self) -> tuple[float, ...]:
        """The same, standard deviation."""

    @property
    def latent_channels(self) -> int:
        """One a latent statistic."""

    def to_json(self) -> dict[str, Any]:
        """Content of a ``config.json``."""


class LatentAutoencoder(nn.Module):
    """An autoencoder and its files.

    Attributes:
        title: what an error calls it.
        config: sizes and latent statistics.
        model: the network; official files name its parameters, with ``model.`` before each or not.
    """

    title: ClassVar[str]
    config: LatentConfig
    model: CausalAutoencoder

    def read_weights(self, path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Self:
        """Take the weights in a folder or file, and return itself on the device, in evaluation mode.

        Build it on the meta device, and nothing is held twice.

        Raises:
            InputError: where a file is missing, or the weights are not exactly those of the configured size.
        """
        load_exactly(
            self.model,
            read_safetensors(path),
            what=f"{self.title} in {path}",
            ignore=("mean", "std"),  # of a trainer's export: the configuration has them
            strip_prefix="model.",
            dtype=dtype,
        )
        return self.to(device).eval()

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the weights into a folder, under the official keys where there are any."""
        save_folder(self, self.config.to_json(), folder)
