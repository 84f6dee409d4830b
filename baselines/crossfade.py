"""Floor row for two views: the first frame fades into the last while the camera moves straight between them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.baselines.plane import flat_depth, given_or_assumed_intrinsics
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Conditioning, Prediction


class Crossfade(Method):
    """Linear blend of the two given frames; given cameras are interpolated, so that their path is not copied."""

    contract: ClassVar[Contract] = Contract(
        method_id="crossfade",
        title="crossfade",
        summary="A linear blend of the first and last frame, on a fronto-parallel plane.",
        settings=("2view",),
        cameras="optional",
        returns=("rgb", "depth", "cameras"),
        licence="MIT",
        reference="this suite",
        floor=True,
    )

    def predict(self, conditioning: Conditioning) -> Prediction:
        frames = conditioning.num_frames
        weight = np.linspace(0.0, 1.0, frames)[:, None, None, None]
        first, last = conditioning.rgb.astype(np.float64)
        blend = np.rint(first * (1 - weight) + last * weight).astype(np.uint8)
        world_from_cam = np.repeat(np.eye(4)[None], frames, axis=0)
        if conditioning.cameras is not None:
            given = conditioning.cameras.world_from_cam
            world_from_cam = interpolated_poses(given[0], given[-1], frames)
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=blend,
            depth=flat_depth(frames, conditioning.image_size),
            world_from_cam=world_from_cam,
            intrinsics=given_or_assumed_intrinsics(conditioning),
        )


def interpolated_poses(first: NDArray[np.float64], last: NDArray[np.float64], num_frames: int) -> NDArray[np.float64]:
    """[F, 4, 4] poses from one to another: centres on a line, rotations at constant angular speed (slerp)."""
    from scipy.spatial.transform import Rotation, Slerp

    at = np.linspace(0.0, 1.0, num_frames)
    poses = np.repeat(np.eye(4)[None], num_frames, axis=0)
    poses[:, :3, :3] = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([first[:3, :3], last[:3, :3]])))(at).as_matrix()
    poses[:, :3, 3] = first[:3, 3] * (1 - at[:, None]) + last[:3, 3] * at[:, None]
    return poses
