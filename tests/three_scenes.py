"""Three test scenes of mini, and what a shipped network makes of one: enough to see that it beats a floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.method import Method
from gen3r_bench.metrics.geometry import score_points
from gen3r_bench.scene import Conditioning, Prediction, Scene, Setting, conditioning_indices


def three_scenes() -> list[Scene]:
    return [MiniDataset().load(name, DEFAULT_PROFILE) for name in ("test/001", "test/008", "test/014")]


def answer(method: Method, scene: Scene, setting: Setting = "allview") -> Prediction:
    """Without cameras and prompt."""
    indices = conditioning_indices(setting, 13)
    return method.predict(Conditioning(setting, indices, scene.rgb[list(indices)], None, 13, (112, 112), "", 0))


def chamfer(prediction: Prediction, scene: Scene) -> float:
    """With a tenth of the protocol's points."""
    points = prediction.world_points()
    assert points is not None
    return score_points(points, scene.points_world(), scene.valid, num_points=2000, voxel_size=0.03).chamfer


def mean_chamfer(answers: Sequence[Prediction], scenes: Sequence[Scene]) -> float:
    """Over scenes and the answers to them."""
    return float(np.mean([chamfer(*pair) for pair in zip(answers, scenes, strict=True)]))
