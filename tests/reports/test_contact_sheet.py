from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.doctor import Diagnosis, Finding, examine
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.reports.contact_sheet import MAP, coloured_depth, path_from_above, scene_panel, stacked
from gen3r_bench.scene import Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return MiniDataset.open(None, {}).load("test/000", ClipProfile(5, (64, 64)))


def test_a_panel_shows_frames_depth_and_path(scene: Scene) -> None:
    panel = np.asarray(scene_panel(examine(scene, ()), scene))
    without = np.asarray(scene_panel(examine(scene, ()), None))
    assert panel.shape[1] == without.shape[1]
    assert panel.shape[0] > without.shape[0] + 300
    assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 1000


def test_scenes_without_depth_and_with_any_shape_are_drawn(scene: Scene) -> None:
    wide = MiniDataset.open(None, {}).load("test/001", ClipProfile(2, (48, 96)))
    flat = replace(wide, depth=None, valid=np.zeros_like(wide.valid))
    panels = [scene_panel(examine(flat, ()), flat), scene_panel(examine(scene, ()), scene)]
    sheet = stacked(panels)
    assert sheet.size == (panels[0].width, panels[0].height + panels[1].height + 1)


def test_findings_are_written_in_their_colour() -> None:
    bad = Diagnosis("mini", "test/000", (Finding("frames", "error", "0 readable", "13", "x.png: missing × …"),))
    pixels = np.asarray(scene_panel(bad, None)).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - [190, 30, 40]).sum(axis=1) < 30).any()


def test_near_is_bright_unknown_is_grey_and_one_depth_is_no_error() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 0.0]], dtype=np.float32)
    colours = coloured_depth(depth, depth > 0, (1.0, 4.0)).astype(int)
    light = colours.sum(axis=-1)[0]
    assert light[0] > light[1] > light[2]
    assert colours[0, 3].tolist() == [225, 225, 225]
    assert coloured_depth(depth, depth > 0, (1.0, 1.0)).shape == (1, 4, 3)


def test_the_map_has_its_size_even_for_a_camera_that_stands_still(scene: Scene) -> None:
    one = MiniDataset.open(None, {}).load("test/000", ClipProfile(1, (64, 64)))
    for picture in (path_from_above(scene, [0, 4]), path_from_above(one, [0])):
        assert picture.size == (MAP, MAP)
        assert len(picture.getcolors(1 << 20) or []) > 5


def test_the_same_scene_gives_the_same_sheet(scene: Scene) -> None:
    diagnosis = examine(scene, ())
    assert scene_panel(diagnosis, scene).tobytes() == scene_panel(diagnosis, scene).tobytes()
