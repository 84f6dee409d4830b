"""Which video autoencoder a checkpoint holds, and how it is read: the Wan VAE, or one that stands in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gen3r_bench.models import patch_autoencoder
from gen3r_bench.models.folder import CONFIG_FILE, config_of_class, holds_config
from gen3r_bench.models.patch_autoencoder import PatchAutoencoderConfig, PatchVideoAutoencoder
from gen3r_bench.models.video_autoencoder import VideoAutoencoder
from gen3r_bench.models.wan import vae
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig

KnownConfig = WanVaeConfig | PatchAutoencoderConfig


def autoencoder_config(path: Path) -> KnownConfig:
    """Sizes of the autoencoder in a folder with ``config.json``, or in a file of weights.

    The ``_class_name`` says which one it is; where there is none it is the Wan VAE. A file of weights that says nothing
    of itself, such as the public ``Wan2.1_VAE.pth``, is the Wan VAE at its public size.

    Raises:
        InputError: where the configuration is missing, unreadable, or that of another network.
    """
    if path.is_file() and not holds_config(path):
        return WanVaeConfig.official()
    readers: dict[str, Callable[[Path], KnownConfig]] = {
        vae.CLASS_NAME: WanVaeConfig.from_json,
        patch_autoencoder.CLASS_NAME: PatchAutoencoderConfig.from_json,
    }
    return config_of_class(path / CONFIG_FILE if path.is_dir() else path, readers, nameless="the Wan VAE")


def build_autoencoder(config: KnownConfig) -> VideoAutoencoder:
    """The autoencoder of a configuration, on the current default device."""
    return PatchVideoAutoencoder(config) if isinstance(config, PatchAutoencoderConfig) else WanVae(config)


def load_autoencoder(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> VideoAutoencoder:
    """The autoencoder in a folder or file, in evaluation mode.

    Raises:
        InputError: as ``autoencoder_config``, and where the weights are not exactly those of the configured size.
    """
    config = autoencoder_config(path)
    with torch.device("meta"):
        autoencoder = build_autoencoder(config)
    return autoencoder.read_weights(path, device=device, dtype=dtype)
