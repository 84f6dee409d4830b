"""This project's own networks as Table 3's WVD (VAE only): VGGT's points through the autoencoder of frames."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from three_scenes import answer, chamfer, three_scenes

from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.baselines.wvd_vae_only import WvdVaeOnly
from gen3r_bench.errors import InputError
from gen3r_bench.locations import shipped_weights
from gen3r_bench.models.patch_autoencoder import PatchVideoAutoencoder
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Scene


@pytest.fixture(scope="module")
def method() -> WvdVaeOnly:
    return WvdVaeOnly.load("reference", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return three_scenes()


def test_it_is_the_two_shipped_networks_at_their_size(method: WvdVaeOnly) -> None:
    digests = [hashlib.sha256(shipped_weights(name).read_bytes()).hexdigest() for name in ("vggt", "wan-vae")]
    assert method.checkpoint_sha256 == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert method.vggt.config == VggtConfig.reference()
    assert isinstance(method.vae, PatchVideoAutoencoder)
    assert (method.short_side, method.side_unit) == (64, 8)


def test_its_row_tells_its_own_licence_data_and_size(method: WvdVaeOnly) -> None:
    contract = method.contract
    assert (contract.licence, contract.training_sets) == ("MIT", ())
    assert (contract.native_frames, contract.native_size) == (13, (64, 64))
    row = make_row("wvd-vae-only@reference+box", device="cpu")
    assert (row.entry.label, row.entry.training_sets) == ("wvd-vae-only@reference+box", ())
    assert WvdVaeOnly.contract.training_sets != ()
    with pytest.raises(InputError, match=r"reference\+box or reference\+percentile"):
        WvdVaeOnly.load("reference+log", device="cpu")


def test_frames_are_reduced_and_the_other_autoencoder_is_named(method: WvdVaeOnly, scenes: list[Scene]) -> None:
    prediction = answer(method, scenes[0])
    assert prediction.points_world is not None
    assert prediction.points_world.shape == (13, 112, 112, 3)
    assert prediction.adaptations == (
        "points normalised by max-abs",
        "a patch autoencoder in place of the Wan VAE",
        "frames resized from 112 x 112 to 64 x 64, points back",
    )


def test_points_come_back_near_those_of_vggt(method: WvdVaeOnly, scenes: list[Scene]) -> None:
    """On three scenes; all forty are measured by benchmarks/reference_vae_only.py."""
    vggt = VggtMethod.load("reference", device="cpu")
    ours, upper, floor = (
        np.mean([chamfer(answer(which, scene), scene) for scene in scenes]) for which in (method, vggt, Freeze())
    )
    assert ours < 1.2 * upper
    assert ours < 0.75 * floor
