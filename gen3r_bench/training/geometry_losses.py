"""VGGT's losses (arXiv 2503.11651, section 3.4), and those that make a small one learn where cameras are.

Lengths are in the sample's own unit, see ``scene_unit``. Each answers a scalar, 0 where nothing is known.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import huber_loss

from gen3r_bench.scene import Cameras, Scene, invert_rigid

HUBER_DELTA: Final = 0.01
"""Error of a pose encoding from which on the Huber error is linear, there with a slope of 1."""
DIRECTION_WEIGHT: Final = 0.25
"""Of the direction between two cameras beside their rotation and displacement."""
REFINEMENT_DISCOUNT: Final = 0.6
"""Weight of a camera head's answer beside that of the next one, as the released training has it."""
FIELD_OF_VIEW_WEIGHT: Final = 0.5
"""Of the field of view beside translation and rotation, as the released training has it."""
_SHORTEST: Final = 0.02
"""Distance of two cameras below which the direction between them counts less and less."""


def scene_unit(scene: Scene) -> float:
    """Mean distance of the clip's known points from the first camera, which VGGT's unit of length is.

    Raises:
        InputError: where the scene has no depth.
    """
    distances = np.linalg.norm(scene.points_world()[scene.valid].astype(np.float64), axis=-1)
    return float(distances.mean()) if len(distances) else 1.0


def pose_encoding(cameras: Cameras, unit: float) -> NDArray[np.float32]:
    """[F, 9] what ``cameras_from_pose_encoding`` reads back, with lengths divided by ``unit`` and quaternions w ≥ 0."""
    cam_from_world = invert_rigid(cameras.world_from_cam)
    height, width = cameras.image_size
    half = np.array([height, width]) / 2
    focal = cameras.intrinsics[:, [1, 0], [1, 0]]
    quaternion = Rotation.from_matrix(cam_from_world[:, :3, :3]).as_quat(canonical=True)
    code = [cam_from_world[:, :3, 3] / unit, quaternion, 2 * np.arctan(half / focal)]
    return np.concatenate(code, axis=1).astype(np.float32)


def camera_loss(answers: Tensor, truth: Tensor) -> Tensor:
    """Huber error of the encoding, over all answers of the camera head.

    Args:
        answers: [iterations, B, F, 9]; later ones weigh more.
        truth: [B, F, 9].
    """
    error = huber_loss(answers.float(), truth.expand_as(answers), reduction="none", delta=HUBER_DELTA) / HUBER_DELTA
    parts = error[..., :3].mean((1, 2, 3)) + error[..., 3:7].mean((1, 2, 3))
    parts = parts + FIELD_OF_VIEW_WEIGHT * error[..., 7:].mean((1, 2, 3))
    weights = REFINEMENT_DISCOUNT ** torch.arange(len(answers) - 1, -1, -1, device=answers.device)
    mean: Tensor = (weights * parts).sum() / len(answers)
    return mean


def confident_loss(found: Tensor, truth: Tensor, confidence: Tensor, valid: Tensor, *, alpha: float) -> Tensor:
    """``|C e| + |C grad e| - alpha log C`` over known pixels, VGGT's loss of depth and of points.

    Args:
        found: [N, H, W, channels].
        truth: the same.
        confidence: C [N, H, W], at least 1.
        valid: [N, H, W] bool.
        alpha: how dear it is to doubt.
    """
    error = torch.where(valid[..., None], found - truth, 0)
    value = _mean(confidence * error.norm(dim=-1) - alpha * confidence.log(), valid)
    for axis in (1, 2):
        size = error.shape[axis] - 1
        ends = [(error.narrow(axis, at, size), valid.narrow(axis, at, size)) for at in (0, 1)]
        both = ends[0][1] & ends[1][1]
        value = value + _mean(confidence.narrow(axis, 0, size) * (ends[1][0] - ends[0][0]).norm(dim=-1), both)
    return value


def relative_pose_loss(found: Tensor, truth: Tensor) -> Tensor:
    """How wrong the motion between any two cameras is: rotation, displacement and its direction.

    The direction keeps its weight however small the motion is that is answered, so that standing still is no way out.

    Args:
        found: [B, F, 9] pose encodings.
        truth: the same.
    """
    frames = found.shape[1]
    if frames < 2:
        return found.new_zeros(())
    first, second = torch.triu_indices(frames, frames, 1, device=found.device)
    (rotation, motion), (true_rotation, true_motion) = (_relative(code, first, second) for code in (found, truth))
    length = true_motion.norm(dim=-1)
    cosine = (motion * true_motion).sum(-1) / (motion.square().sum(-1) + _SHORTEST**2).sqrt() / length.clamp(min=1e-6)
    weight = length / (length + _SHORTEST)
    direction = (weight * (1 - cosine)).mean()
    turn, move = (rotation - true_rotation).abs().mean(), (motion - true_motion).abs().mean()
    loss: Tensor = turn + move + DIRECTION_WEIGHT * direction
    return loss


def masked_l1(found: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error over the known entries: [..., C], [..., C] and bool [...]."""
    return _mean((found.float() - truth).abs().mean(-1), known)


def _relative(code: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation [B, P, 3, 3] and translation [B, P, 3] of ``cam_first from cam_second`` of pairs."""
    rotation, translation = rotation_matrices(code[..., 3:7]), code[..., :3]
    turned = rotation[:, first] @ rotation[:, second].transpose(-1, -2)
    return turned, translation[:, first] - (turned @ translation[:, second, :, None])[..., 0]


def rotation_matrices(quaternion: Tensor) -> Tensor:
    """[..., 3, 3] of quaternions [..., 4] x, y, z, w of any length but 0."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True).clamp(min=1e-6)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    mean: Tensor = torch.where(known, values, 0).sum() / known.sum().clamp(min=1)
    return mean
