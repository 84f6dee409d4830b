"""What the shipped RGB autoencoder keeps of mini's 40 test scenes: ``python benchmarks/rgb_autoencoder.py``.

PSNR and SSIM of all frames, drawn from the posterior as the suite does, beside the linear code of the training clips'
principal components that it began as, and two floors: the first frame throughout, and the clip's mean frame. Each with
its 95 % interval over scenes, and paired with the floors. ``--side`` is that of the frames (112: ``mini``'s profile;
64: what it was trained on). ``--sheet`` draws truth, what comes back, and the difference times four.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reference_report import report

from gen3r_bench.baselines.official_weights import REFERENCE
from gen3r_bench.baselines.wan_vae import WanVaeMethod
from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.metrics.image import psnr, ssim
from gen3r_bench.scene import Conditioning, Scene
from gen3r_bench.training.wan_vae import REFERENCE as RECIPE

Frames = NDArray[np.uint8]


def returned(method: WanVaeMethod, scene: Scene) -> Frames:
    every = tuple(range(scene.num_frames))
    conditioning = Conditioning("allview", every, scene.rgb, None, scene.num_frames, scene.image_size, scene.prompt, 0)
    rgb = method.predict(conditioning).rgb
    assert rgb is not None
    return rgb


def answers(method: WanVaeMethod, linear: WanVaeMethod | None, scene: Scene) -> dict[str, Frames]:
    """Row to frames."""
    mean = scene.rgb.mean(0, keepdims=True).round().astype(np.uint8)
    rows = {"wan-vae": returned(method, scene)}
    if linear is not None:
        rows["principal components"] = returned(linear, scene)
    return rows | {
        "freeze": np.repeat(scene.rgb[:1], scene.num_frames, axis=0),
        "mean frame": np.repeat(mean, scene.num_frames, axis=0),
    }


def sheet(method: WanVaeMethod, scenes: list[Scene], path: Path) -> None:
    rows = []
    for scene in scenes:
        frames = [0, 3, 6, 9, 12]
        truth, found = scene.rgb[frames].astype(int), returned(method, scene)[frames].astype(int)
        for picture in (truth, found, np.abs(truth - found) * 4):
            rows.append(np.concatenate(list(picture.clip(0, 255).astype(np.uint8)), axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=REFERENCE, help="checkpoint of wan-vae")
    parser.add_argument("--side", type=int, default=112, help="of the frames, pixels")
    parser.add_argument("--linear", action="store_true", help="also what the training began as (renders 256 clips)")
    parser.add_argument("--sheet", type=Path, help="also draw frames of the first scenes")
    options = parser.parse_args()
    dataset, profile = MiniDataset(), ClipProfile(frames=13, image_size=(options.side, options.side))
    scenes = [dataset.load(name, profile) for name in dataset.scene_ids()]
    method = WanVaeMethod.load(options.weights, device="cpu")
    linear = WanVaeMethod(RECIPE.network().eval()) if options.linear else None
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for scene in scenes:
        for row, rgb in answers(method, linear, scene).items():
            for metric, function in (("psnr", psnr), ("ssim", ssim)):
                values = np.minimum(function(rgb, scene.rgb), 60) if metric == "psnr" else function(rgb, scene.rgb)
                scores.setdefault(row, {}).setdefault(metric, {})[scene.scene_id] = float(values.mean())
    report(scores, [("wan-vae", row) for row in scores if row != "wan-vae"])
    if options.sheet is not None:
        sheet(method, scenes[:4], options.sheet)


if __name__ == "__main__":
    main()
