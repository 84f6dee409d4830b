"""What the shipped VGGT shows on mini's 40 test scenes: ``python benchmarks/reference_vggt.py``.

Chamfer distance, AUC@30 and depth error with every frame shown (``geom-recon``, ``pose-recon``) and the Chamfer
distance with one (``geom-1view``), beside the floor row and beside what a part of the truth alone would give.
Differences with their paired intervals and p-values over scenes. ``--weights PATH`` measures another file instead.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

import numpy as np
from reference_report import ABS_REL, AUC, CHAMFER, SEED, report

from gen3r_bench.baselines.diagnostics import DIAGNOSTICS
from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.official_weights import REFERENCE
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.method import Method
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.conditioning import condition
from gen3r_bench.protocols.geometry import GEOM_1VIEW, SceneTruth
from gen3r_bench.protocols.reconstruction import GEOM_RECON, POSE_RECON
from gen3r_bench.protocols.scoring import score
from gen3r_bench.registry import metrics
from gen3r_bench.scene import Prediction, Scene

Row = Callable[[Scene, Card], Prediction]


def answer_of(method: Method) -> Row:
    return lambda scene, card: method.predict(condition(scene, card, SEED))


def standing_still(scene: Scene, card: Card) -> Prediction:
    """True depth, and every camera where the first one is."""
    del card
    still = np.repeat(scene.cameras.world_from_cam[:1], scene.num_frames, axis=0)
    return dataclasses.replace(DIAGNOSTICS["oracle"].predict(scene, 0), world_from_cam=still)


def wall(scene: Scene, card: Card) -> Prediction:
    """True cameras, and the clip's median depth everywhere."""
    del card
    assert scene.depth is not None
    depth = np.full_like(scene.depth, np.median(scene.depth[scene.valid]))
    return dataclasses.replace(DIAGNOSTICS["oracle"].predict(scene, 0), depth=depth, valid=None)


def relative_depth_error(scene: Scene, prediction: Prediction) -> float:
    """Mean relative error of known pixels after one factor a clip, the ratio of the medians."""
    assert scene.depth is not None
    assert prediction.depth is not None
    valid = scene.valid[list(prediction.frame_indices)]
    truth, found = scene.depth[list(prediction.frame_indices)][valid], prediction.depth[valid]
    scale = np.median(truth) / np.median(found)
    return float(np.mean(np.abs(scale * found - truth) / truth))


def measure(
    scenes: list[Scene], rows: dict[str, tuple[Card, Row]], more: tuple[str, ...] = ()
) -> dict[str, dict[str, dict[str, float]]]:
    """Row to metric to scene to value; ``more`` metrics beside those of the module."""
    registered = metrics()
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in rows}
    for scene in scenes:
        truth = SceneTruth(scene)
        for name, (card, predict) in rows.items():
            prediction = predict(scene, card)
            wanted = (CHAMFER, AUC) if card.setting == "allview" else (CHAMFER,)
            card = card.model_copy(update={"metrics": (*more, *wanted)})
            values = score(card, truth, prediction, registered).values
            if prediction.depth is not None:
                values = {**values, ABS_REL: relative_depth_error(scene, prediction)}
            for metric, value in values.items():
                found[name].setdefault(metric, {})[scene.scene_id] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=REFERENCE, help="checkpoint of vggt")
    parser.add_argument("--scenes", type=int, default=40, help="how many")
    options = parser.parse_args()
    assert AUC in POSE_RECON.metrics
    dataset = MiniDataset()
    scenes = [dataset.load(name, DEFAULT_PROFILE) for name in dataset.scene_ids()[: options.scenes]]
    vggt, freeze = answer_of(VggtMethod.load(options.weights, device="cpu")), answer_of(Freeze())
    every, one = "all views: ", "one view: "
    found = measure(
        scenes,
        {
            f"{every}vggt": (GEOM_RECON, vggt),
            f"{every}freeze": (GEOM_RECON, freeze),
            f"{every}true cameras, median depth": (GEOM_RECON, wall),
            f"{every}true depth, cameras still": (GEOM_RECON, standing_still),
            f"{one}vggt": (GEOM_1VIEW, vggt),
            f"{one}freeze": (GEOM_1VIEW, freeze),
        },
    )
    pairs = [
        (f"{every}vggt", f"{every}freeze"),
        (f"{every}vggt", f"{every}true cameras, median depth"),
        (f"{every}vggt", f"{every}true depth, cameras still"),
        (f"{one}vggt", f"{one}freeze"),
        (f"{every}vggt", f"{one}vggt"),
    ]
    report(found, pairs)


if __name__ == "__main__":
    main()
