"""What the shipped checkpoints show on mini's 40 test scenes: ``python benchmarks/reference.py [--sheet FILE.png]``.

PSNR and SSIM of the frames that were not shown, for LVSM with one view and two, beside the floor rows; then LVSM with
the cameras of the next scene, whose drop is the honest sign that it follows cameras at all. Differences with their
paired intervals and p-values over scenes. ``--weights PATH`` measures another file instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reference_report import report

from gen3r_bench.baselines.crossfade import Crossfade
from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.lvsm import REFERENCE, LvsmMethod
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.method import Method
from gen3r_bench.metrics.image import psnr, ssim
from gen3r_bench.scene import Cameras, Conditioning, Scene, Setting, conditioning_indices

Scores = dict[str, dict[str, float]]


def shown(scene: Scene, cameras: Cameras, setting: Setting) -> Conditioning:
    indices = conditioning_indices(setting, scene.num_frames)
    return Conditioning(
        setting, indices, scene.rgb[list(indices)], cameras, scene.num_frames, scene.image_size, scene.prompt, 0
    )


def predicted(method: Method, scene: Scene, cameras: Cameras, setting: Setting) -> NDArray[np.uint8]:
    rgb = method.predict(shown(scene, cameras, setting)).rgb
    assert rgb is not None
    return rgb


def measure(method: Method, scenes: list[Scene], setting: Setting, *, other_cameras: bool = False) -> Scores:
    """Metric to scene to the mean over the frames that were not shown."""
    scores: Scores = {"psnr": {}, "ssim": {}}
    for place, scene in enumerate(scenes):
        cameras = scenes[(place + 1) % len(scenes)].cameras if other_cameras else scene.cameras
        rgb = predicted(method, scene, cameras, setting)
        novel = [i for i in range(scene.num_frames) if i not in conditioning_indices(setting, scene.num_frames)]
        scores["psnr"][scene.scene_id] = float(psnr(rgb[novel], scene.rgb[novel]).mean())
        scores["ssim"][scene.scene_id] = float(ssim(rgb[novel], scene.rgb[novel]).mean())
    return scores


def sheet(method: Method, scenes: list[Scene], path: Path) -> None:
    """Of each scene three rows (truth, one view, two views) of five frames."""
    rows = []
    for scene in scenes:
        views = [scene.rgb, *(predicted(method, scene, scene.cameras, setting) for setting in ("1view", "2view"))]
        rows += [np.concatenate(list(rgb[[0, 3, 6, 9, 12]]), axis=1) for rgb in views]
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=REFERENCE, help="checkpoint of lvsm")
    parser.add_argument("--sheet", type=Path, help="also draw the frames of the first scenes")
    options = parser.parse_args()
    dataset = MiniDataset()
    scenes = [dataset.load(name, DEFAULT_PROFILE) for name in dataset.scene_ids()]
    lvsm = LvsmMethod.load(options.weights, device="cpu")
    rows: dict[str, Scores] = {}
    for setting in ("1view", "2view"):
        rows[f"lvsm {setting}"] = measure(lvsm, scenes, setting)
        rows[f"lvsm {setting}, another scene's cameras"] = measure(lvsm, scenes, setting, other_cameras=True)
        rows[f"freeze {setting}"] = measure(Freeze(), scenes, setting)
    rows["crossfade 2view"] = measure(Crossfade(), scenes, "2view")
    report(
        rows,
        [
            ("lvsm 1view", "freeze 1view"),
            ("lvsm 2view", "crossfade 2view"),
            ("lvsm 2view", "lvsm 1view"),
            ("lvsm 1view", "lvsm 1view, another scene's cameras"),
            ("lvsm 2view", "lvsm 2view, another scene's cameras"),
        ],
    )
    if options.sheet is not None:
        sheet(lvsm, scenes[:4], options.sheet)


if __name__ == "__main__":
    main()
