from __future__ import annotations

import pytest

from gen3r_bench.baselines.official_weights import VGGT_TRAINING_SETS
from gen3r_bench.baselines.own_weights import of_own_training, own_contract
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.baselines.vggt_rgb_head import VggtRgbHead


def test_our_own_checkpoints_are_small_and_free() -> None:
    contract = own_contract(VggtMethod.contract)
    assert (contract.licence, contract.training_sets) == ("MIT", ())
    assert (contract.native_frames, contract.native_size) == (13, (64, 64))
    assert contract.method_id == "vggt"


@pytest.mark.parametrize(
    ("vggt", "sets"), [(None, ()), ("reference", ()), ("mine.safetensors", ()), ("official", VGGT_TRAINING_SETS)]
)
def test_a_trained_file_has_seen_what_its_vggt_has(vggt: str | None, sets: tuple[str, ...]) -> None:
    made = of_own_training(VggtRgbHead, vggt=vggt)
    assert issubclass(made, VggtRgbHead)
    assert (made.contract.training_sets, made.contract.licence) == (sets, "as its maker says")
    assert (made.__name__, made.__module__) == ("VggtRgbHead", VggtRgbHead.__module__)
    assert VggtRgbHead.contract.licence == "VGGT-1B is non-commercial"
