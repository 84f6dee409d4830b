"""The nine numbers of a camera, read in double precision."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Cameras, invert_rigid


def cameras_from_pose_encoding(pose_encoding: Tensor, image_size: tuple[int, int]) -> Cameras:
    """Cameras of F frames from VGGT's encoding, in VGGT's own unit of length.

    Args:
        pose_encoding: [F, 9]: translation of ``cam_from_world`` (3), its rotation as a quaternion x, y, z, w of any
            length (4), vertical and horizontal field of view in radians (2).
        image_size: (height, width) in pixels of the frames that the intrinsics are for.

    Returns:
        Poses as ``world_from_cam``; the first is near the identity, not equal to it. The principal point is the
        image's centre. Follows the released ``pose_encoding_to_extri_intri``, in float64.

    Raises:
        InputError: on another shape, non-finite numbers, a quaternion of length 0, or a field of view outside
            (0, π).
    """
    if pose_encoding.ndim != 2 or pose_encoding.shape[1] != 9:
        raise InputError(f"pose encoding of shape {list(pose_encoding.shape)}", expected="[frames, 9]")
    code = pose_encoding.detach().double().cpu().numpy()
    if not np.isfinite(code).all():
        raise InputError("a pose encoding that is not finite", expected="finite numbers")
    quaternion, field_of_view = code[:, 3:7], code[:, 7:]
    if (np.linalg.norm(quaternion, axis=1) == 0).any():
        raise InputError("a rotation quaternion of length 0", expected="any other length")
    if (field_of_view <= 0).any() or (field_of_view >= np.pi).any():
        raise InputError(
            f"fields of view from {field_of_view.min():.4g} to {field_of_view.max():.4g} rad",
            expected="between 0 and π",
            fix="check the weights; an untrained camera head may answer 0",
        )
    height, width = image_size
    cam_from_world = np.tile(np.eye(4), (len(code), 1, 1))
    cam_from_world[:, :3, :3] = Rotation.from_quat(quaternion).as_matrix()
    cam_from_world[:, :3, 3] = code[:, :3]
    intrinsics = np.tile(np.eye(3), (len(code), 1, 1))
    intrinsics[:, 0, 0] = width / 2 / np.tan(field_of_view[:, 1] / 2)
    intrinsics[:, 1, 1] = height / 2 / np.tan(field_of_view[:, 0] / 2)
    intrinsics[:, 0, 2] = width / 2
    intrinsics[:, 1, 2] = height / 2
    return Cameras(invert_rigid(cam_from_world), intrinsics, (height, width))
