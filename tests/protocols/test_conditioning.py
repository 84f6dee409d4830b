from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_card, tiny_scene

from gen3r_bench.protocols.conditioning import condition, conditioning_name, scene_seed


@pytest.mark.parametrize(("setting", "indices"), [("1view", (0,)), ("2view", (0, 3)), ("allview", (0, 1, 2, 3))])
@pytest.mark.parametrize("cameras", ["given", "none"])
def test_a_setting_shows_its_frames(setting: str, indices: tuple[int, ...], cameras: str) -> None:
    scene = tiny_scene()
    card = tiny_card(setting=setting, cameras=cameras, frames_scored=("all",))
    shown = condition(scene, card, 42)
    assert shown.frame_indices == indices
    np.testing.assert_array_equal(shown.rgb, scene.rgb[list(indices)])
    assert (shown.cameras is None) == (cameras == "none")
    assert (shown.num_frames, shown.image_size, shown.prompt) == (4, (24, 32), scene.prompt)
    assert conditioning_name(card) == f"{setting}-cameras-{cameras}"


def test_what_is_shown_does_not_share_memory_with_the_scene() -> None:
    scene = tiny_scene()
    for setting in ("1view", "2view", "allview"):
        shown = condition(scene, tiny_card(setting=setting, frames_scored=("all",)), 42)
        assert not np.shares_memory(shown.rgb, scene.rgb)


@given(st.integers(0, 2**31), st.text(max_size=8), st.text(max_size=8))
def test_scene_seeds_are_63_bits_and_reproducible(seed: int, dataset: str, scene_id: str) -> None:
    value = scene_seed(seed, dataset, scene_id)
    assert 0 <= value < 2**63
    assert value == scene_seed(seed, dataset, scene_id)


def test_scene_seeds_differ() -> None:
    values = {scene_seed(seed, "mini", f"test/{i:03d}") for seed in range(5) for i in range(40)}
    assert len(values) == 200
