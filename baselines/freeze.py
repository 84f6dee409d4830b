"""Floor row: the first frame and its camera, repeated, on a wall at distance one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gen3r_bench.baselines.plane import flat_depth, given_or_assumed_intrinsics
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction


class Freeze(Method):
    """Nothing moves: what a method must beat to have generated anything."""

    contract: ClassVar[Contract] = Contract(
        method_id="freeze",
        title="freeze",
        summary="The first frame and its camera repeated, on a fronto-parallel plane.",
        settings=("1view", "2view", "allview"),
        cameras="optional",
        returns=("rgb", "depth", "cameras"),
        licence="MIT",
        reference="this suite",
        floor=True,
    )

    def predict(self, conditioning: Conditioning) -> Prediction:
        frames = conditioning.num_frames
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=np.repeat(conditioning.rgb[:1], frames, axis=0),
            depth=flat_depth(frames, conditioning.image_size),
            world_from_cam=np.repeat(np.eye(4)[None], frames, axis=0),
            intrinsics=given_or_assumed_intrinsics(conditioning),
            adaptations=() if len(conditioning.rgb) == 1 else ("looks at the first frame only",),
        )
