"""The checkpoint that ships: it belongs to its card and recipe, and it does what a reconstruction network must do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shipped_card import checked_card
from three_scenes import answer, chamfer, three_scenes

import gen3r_bench.baselines
from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.metrics.cameras import pose_auc, relative_pose_errors
from gen3r_bench.models.vggt import VggtConfig
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Scene
from gen3r_bench.training.vggt import REFERENCE

FOLDER = Path(gen3r_bench.baselines.__file__).parent / "weights"


@pytest.fixture(scope="module")
def method() -> VggtMethod:
    return VggtMethod.load("reference", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return three_scenes()


def test_files_card_and_recipe_belong_together(method: VggtMethod) -> None:
    card = checked_card("vggt", most_bytes=10_000_000)
    assert card["weights"]["sha256"] == method.checkpoint_sha256
    assert len(card["origin"]["commit"]) == 40


def test_its_name_and_its_path_are_the_same_network(method: VggtMethod) -> None:
    by_path = VggtMethod.load(str(FOLDER / "vggt-reference.safetensors"), device="cpu")
    assert by_path.checkpoint_sha256 == method.checkpoint_sha256
    assert by_path._network.config == REFERENCE.model == VggtConfig.reference()
    assert "reference" in VggtMethod.contract.checkpoints


def test_its_row_tells_its_own_licence_and_data(method: VggtMethod) -> None:
    assert (method.contract.licence, method.contract.training_sets) == ("MIT", ())
    assert make_row("vggt@reference", device="cpu").entry.training_sets == ()
    assert VggtMethod.contract.training_sets == ("co3dv2", "dl3dv", "wildrgbd")


def test_frames_are_reduced_to_what_it_was_trained_on(method: VggtMethod, scenes: list[Scene]) -> None:
    prediction = answer(method, scenes[0], "1view")
    assert prediction.adaptations == (
        "frames resized from 112 to 64 pixels (bicubic); depth comes back by nearest neighbour",
    )


def test_it_reconstructs_scenes_better_than_the_floor(method: VggtMethod, scenes: list[Scene]) -> None:
    """On three scenes; all forty are measured by benchmarks/reference_vggt.py."""
    ours, floor = (
        np.mean([chamfer(answer(which, scene, "allview"), scene) for scene in scenes]) for which in (method, Freeze())
    )
    assert ours < 0.7 * floor


def test_its_cameras_move(method: VggtMethod, scenes: list[Scene]) -> None:
    poses = [answer(method, scene, "allview").world_from_cam for scene in scenes]
    aucs = [
        pose_auc(relative_pose_errors(found, scene.cameras.world_from_cam))
        for found, scene in zip(poses, scenes, strict=True)
    ]
    assert np.mean(aucs) > 0.15  # cameras that stand still get 0
    mixed = [
        pose_auc(relative_pose_errors(found, scene.cameras.world_from_cam))
        for found, scene in zip(poses[1:] + poses[:1], scenes, strict=True)
    ]
    assert np.mean(mixed) < np.mean(aucs)
