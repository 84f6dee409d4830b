"""The checkpoint that ships: it belongs to its card and recipe, and it does what a view synthesiser must do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shipped_card import checked_card

import gen3r_bench.baselines
from gen3r_bench.baselines.crossfade import Crossfade
from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.lvsm import LvsmMethod
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.method import Method
from gen3r_bench.metrics.image import psnr
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Cameras, Conditioning, Scene, Setting, conditioning_indices

FOLDER = Path(gen3r_bench.baselines.__file__).parent / "weights"
SCENES = ("test/001", "test/008", "test/014")


@pytest.fixture(scope="module")
def method() -> LvsmMethod:
    return LvsmMethod.load("reference", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [MiniDataset().load(name, DEFAULT_PROFILE) for name in SCENES]


def test_files_card_and_recipe_belong_together(method: LvsmMethod) -> None:
    card = checked_card("lvsm", most_bytes=8_000_000)
    assert card["weights"]["sha256"] == method.checkpoint_sha256
    assert len(card["origin"]["commit"]) == 40
    assert (FOLDER / card["curves"]).stat().st_size <= 100_000


def test_it_has_seen_one_view_and_says_no_more_than_its_size(method: LvsmMethod, scenes: list[Scene]) -> None:
    prediction = method.predict(shown(scenes[0], scenes[0].cameras, "1view"))
    assert prediction.adaptations == (
        "frames resized from 112 to 64 pixels (Lanczos), the rendered ones back (bicubic)",
    )


def test_its_row_has_its_own_licence_and_training_sets() -> None:
    entry = make_row("lvsm@reference", device="cpu").entry
    assert (entry.label, entry.licence, entry.training_sets) == ("lvsm@reference", "MIT", ())
    assert LvsmMethod.contract.training_sets == ("realestate10k",)


def shown(scene: Scene, cameras: Cameras, setting: Setting) -> Conditioning:
    indices = conditioning_indices(setting, scene.num_frames)
    return Conditioning(setting, indices, scene.rgb[list(indices)], cameras, 13, (112, 112), "", 0)


def decibel(method: Method, scene: Scene, setting: Setting, cameras: Cameras | None = None) -> float:
    """Mean PSNR of the frames that were not shown."""
    novel = [i for i in range(13) if i not in conditioning_indices(setting, 13)]
    rgb = method.predict(shown(scene, cameras or scene.cameras, setting)).rgb
    return float(psnr(rgb[novel], scene.rgb[novel]).mean())


def test_it_beats_the_floors_and_follows_cameras(method: LvsmMethod, scenes: list[Scene]) -> None:
    """On three scenes; all forty are measured by benchmarks/reference.py."""
    one, two = (np.mean([decibel(method, scene, setting) for scene in scenes]) for setting in ("1view", "2view"))
    assert one > np.mean([decibel(Freeze(), scene, "1view") for scene in scenes])
    assert two > np.mean([decibel(Crossfade(), scene, "2view") for scene in scenes])
    assert two > one
    misled = np.mean(
        [decibel(method, a, "1view", b.cameras) for a, b in zip(scenes, scenes[1:] + scenes[:1], strict=True)]
    )
    assert one > misled + 0.5
