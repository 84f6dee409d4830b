"""Faults that a gate must see: each patches one place of the suite, as a bad commit would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gen3r_bench import scene
from gen3r_bench.baselines import lvsm
from gen3r_bench.datasets import preprocess
from gen3r_bench.metrics import alignment
from gen3r_bench.scene import Cameras, invert_rigid

Fault = Callable[[pytest.MonkeyPatch], None]


def swapped_axes(patch: pytest.MonkeyPatch) -> None:
    """x and y of the camera change places when depth is unprojected: of the truth and of the prediction alike."""
    true_unproject = scene.unproject_depth

    def unproject(depth: np.ndarray, cameras: Cameras) -> np.ndarray:
        points = true_unproject(depth, cameras).astype(np.float64)
        world = cameras.world_from_cam[:, None, None]
        camera = np.einsum(
            "fabij,fhwj->fhwi", invert_rigid(cameras.world_from_cam)[:, None, None, :3, :3], points - world[..., :3, 3]
        )
        back = np.einsum("fabij,fhwj->fhwi", world[..., :3, :3], camera[..., [1, 0, 2]]) + world[..., :3, 3]
        return back.astype(np.float32)

    patch.setattr(scene, "unproject_depth", unproject)


def wrong_scale(patch: pytest.MonkeyPatch) -> None:
    """The alignment's scale is one per cent too large."""
    solve = alignment._solve

    def solved(*arguments: object) -> alignment.Similarity:
        similarity = solve(*arguments)
        return replace(similarity, scale=similarity.scale * 1.01)

    patch.setattr(alignment, "_solve", solved)


def other_scale_rule(patch: pytest.MonkeyPatch) -> None:
    """Umeyama's scale under a card that says variance-ratio."""
    solve = alignment._solve
    patch.setattr(alignment, "_solve", lambda count, shift, sums, scale: solve(count, shift, sums, "umeyama"))


def noisy_weights(patch: pytest.MonkeyPatch, size: float = 0.01) -> None:
    """Every weight is off by Gaussian noise of one per cent of its size, though the file and its hash are right."""
    initialise = lvsm.LvsmMethod.__init__

    def with_noise(self: lvsm.LvsmMethod, network: torch.nn.Module, **options: object) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 + size * torch.randn(parameter.shape, generator=generator))
        initialise(self, network, **options)

    patch.setattr(lvsm.LvsmMethod, "__init__", with_noise)


def shifted_frames(patch: pytest.MonkeyPatch) -> None:
    """The network sees its frames one pixel too far to the right."""
    resized = lvsm._resized_frames
    patch.setattr(lvsm, "_resized_frames", lambda rgb, side: np.roll(resized(rgb, side), 1, axis=2))


def shifted_crop(patch: pytest.MonkeyPatch) -> None:
    """The centre crop of frames on disk starts one pixel too far to the right; intrinsics and depth stay."""

    def crop(self: preprocess.ResizeCrop, picture: np.ndarray) -> np.ndarray:
        return np.roll(rgb(self, picture), -1, axis=1)

    rgb = preprocess.ResizeCrop.rgb
    patch.setattr(preprocess.ResizeCrop, "rgb", crop)


def half_network(patch: pytest.MonkeyPatch) -> None:
    """The network computes in float16; only the resize of its picture, which knows no float16, does not."""
    initialise, pixels = lvsm.LvsmMethod.__init__, lvsm._pixels
    patch.setattr(
        lvsm.LvsmMethod, "__init__", lambda self, network, **options: initialise(self, network.half(), **options)
    )
    patch.setattr(lvsm, "_pixels", lambda rendered, side: pixels(rendered.float(), side))


def half_points(patch: pytest.MonkeyPatch) -> None:
    """Points are kept in float16."""
    true_unproject = scene.unproject_depth
    patch.setattr(
        scene,
        "unproject_depth",
        lambda depth, cameras: true_unproject(depth, cameras).astype(np.float16).astype(np.float32),
    )
