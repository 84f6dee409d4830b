"""What the shipped Gen3R and its rivals show on mini's 40 test scenes: ``python benchmarks/reference_joint.py``.

With one view, one view under another scene's cameras, two views and all: PSNR and SSIM of the frames that were not
shown, errors of the points (metres), AUC@30 of the method's own cameras; beside the floor rows, and beside VGGT on the
views that it is shown. Differences with their paired intervals and p-values over scenes. ``--method ROW`` (again and
again) measures other rows, such as ``gen3r@PATH``.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Final

import numpy as np
from reference_report import AUC, SEED, report

from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.method import Method
from gen3r_bench.metrics.image import psnr, ssim
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.conditioning import condition
from gen3r_bench.protocols.geometry import GEOM_1VIEW, GEOM_2VIEW, POINT_METRICS, SceneTruth
from gen3r_bench.protocols.reconstruction import GEOM_RECON
from gen3r_bench.protocols.scoring import score
from gen3r_bench.registry import methods, metrics
from gen3r_bench.scene import Prediction, Scene, conditioning_indices

ROWS: Final = (
    "gen3r@reference",
    "gen3r-without-kl@reference",
    "gen3r-two-stage@reference",
    "wvd@reference",
    "vggt@reference",
    "freeze",
)
CARDS: Final = {"1view": GEOM_1VIEW, "2view": GEOM_2VIEW, "allview": GEOM_RECON}
OTHER: Final = "1view, another scene's cameras"
CAP_DB: Final = 60.0
Scores = dict[str, dict[str, float]]
"""Metric to scene to value."""


def loaded(row: str) -> Method:
    name, _, checkpoint = row.partition("@")
    return methods().load(name).load(checkpoint or None, device="cpu")


def scores_of(scene: Scene, truth: SceneTruth, card: Card, prediction: Prediction) -> dict[str, float]:
    novel = [i for i in range(scene.num_frames) if i not in conditioning_indices(card.setting, scene.num_frames)]
    found: dict[str, float] = {}
    if prediction.rgb is not None and len(prediction.rgb) == scene.num_frames:
        places = novel or list(range(scene.num_frames))
        # a copied frame counts as in the suite's own mean
        found["psnr"] = float(np.minimum(psnr(prediction.rgb[places], scene.rgb[places]), CAP_DB).mean())
        found["ssim"] = float(ssim(prediction.rgb[places], scene.rgb[places]).mean())
    whole = prediction.world_from_cam is not None and len(prediction.frame_indices) == scene.num_frames
    wanted = (*POINT_METRICS, AUC) if whole else POINT_METRICS
    values = score(card.model_copy(update={"metrics": wanted}), truth, prediction, metrics()).values
    return {**found, **{name: value for name, value in values.items() if np.isfinite(value)}}


def measure(rows: dict[str, Method], scenes: list[Scene]) -> dict[str, Scores]:
    """Row and what it was shown, to its scores."""
    found: dict[str, Scores] = {}
    for place, scene in enumerate(scenes):
        truth = SceneTruth(scene)
        elsewhere = scenes[(place + 1) % len(scenes)].cameras
        for name, method in rows.items():
            shown = [(setting, setting, scene.cameras) for setting in CARDS if setting in method.contract.settings]
            if method.contract.cameras == "optional":
                shown.append((OTHER, "1view", elsewhere))
            for title, setting, cameras in shown:
                card = CARDS[setting]
                given = condition(scene, card, SEED)
                if given.cameras is not None:
                    given = dataclasses.replace(given, cameras=cameras)
                for metric, value in scores_of(scene, truth, card, method.predict(given)).items():
                    found.setdefault(f"{name} {title}", {}).setdefault(metric, {})[scene.scene_id] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", help="row to measure, such as gen3r@PATH; again for more")
    parser.add_argument("--scenes", type=int, default=40, help="how many")
    options = parser.parse_args()
    dataset = MiniDataset()
    scenes = [dataset.load(name, DEFAULT_PROFILE) for name in dataset.scene_ids()[: options.scenes]]
    rows = options.method or list(ROWS)
    found = measure({row: loaded(row) for row in rows}, scenes)
    generators = [row for row in rows if row.startswith(("gen3r", "wvd"))]
    pairs = [
        pair
        for row in generators
        for pair in (
            *((f"{row} {setting}", f"freeze {setting}") for setting in CARDS),
            *((f"{row} {setting}", f"vggt@reference {setting}") for setting in CARDS),
            (f"{row} 1view", f"{row} {OTHER}"),
            (f"{row} 2view", f"{row} 1view"),
        )
    ]
    first = generators[0] if generators else ""
    pairs += [(f"{first} {setting}", f"{row} {setting}") for row in generators[1:] for setting in CARDS]
    report(found, [(a, b) for a, b in pairs if a in found and b in found])


if __name__ == "__main__":
    main()
