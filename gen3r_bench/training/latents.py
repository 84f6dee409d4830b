"""What the recipes of autoencoders share: clips as tensors, noise for draws, and the statistics of latents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.models.causal3d import latent_frames
from gen3r_bench.training.augmentation import augmented


def as_clip(rgb: NDArray[np.uint8]) -> Tensor:
    """[3, F, H, W] in [-1, 1] of [F, H, W, 3] uint8."""
    return torch.from_numpy(np.array(rgb)).permute(3, 0, 1, 2).float() / 127.5 - 1


def as_images(clips: Tensor) -> Tensor:
    """[B, F, 3, H, W] in [0, 1], as VGGT takes them, of clips [B, 3, F, H, W] in [-1, 1]."""
    return (clips.transpose(1, 2) + 1) / 2


def drawn_clips(
    dataset: MiniDataset, profile: ClipProfile, draw: np.random.Generator, *, clips: int, batch: int
) -> Tensor:
    """[batch, 3, F, H, W]: any of the first ``clips`` training scenes, mirrored and backwards half the time."""
    drawn = []
    for _ in range(batch):
        scene = dataset.train_scene(int(draw.integers(clips)), profile)
        drawn.append(as_clip(augmented(scene, draw, colours=False).rgb))
    return torch.stack(drawn)


def first_clips(dataset: MiniDataset, profile: ClipProfile, count: int) -> Iterator[Tensor]:
    """The first ``count`` training scenes as they are, [3, F, H, W] each."""
    for index in range(count):
        yield as_clip(dataset.train_scene(index, profile).rgb)


def normal_noise(draw: np.random.Generator, batch: int, channels: int, frames: int, size: tuple[int, int]) -> Tensor:
    """[batch, channels, latent frames of ``frames``, *size] of a standard normal."""
    shape = (batch, channels, latent_frames(frames), *size)
    return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))


def statistics_of(latents: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of latents [B, c, f, h, w], over all else."""
    channels = latents.transpose(0, 1).flatten(1).double()
    mean, std = channels.mean(1), channels.std(1, correction=0)
    return tuple(mean.tolist()), tuple(std.tolist())
