"""Joint refinement of one focal length and a pose a frame, from world points that pixels are known to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]

_REJECTION: Final = 3.0
"""Residuals of this many standard deviations have a quarter of the weight of small ones; larger ones soon none."""
_SMALLEST_SIGMA: Final = 1e-9
_LARGEST_SIGMA: Final = 0.2
"""Of a residual, in the unit of the points; the first keeps exact data from a division by zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What the refinement found.

    Attributes:
        focal: in the unit of the pixels.
        cam_from_world: [F, 4, 4] rigid.
        sigma: robust standard deviation of a point's distance from its pixel's ray, a coordinate, in the points' unit.
        focal_information: curvature of half the weighted sum of squared residuals along the logarithm of the focal
            length, after the poses have followed: near zero where they can make up for any focal length.
    """

    focal: float
    cam_from_world: FloatArray
    sigma: float
    focal_information: float


def project(points: FloatArray, cam_from_world: FloatArray, focal: float) -> tuple[FloatArray, FloatArray]:
    """Centred pixels [F, N, 2] and z-depths [F, N] of world points [F, N, 3].

    Pixels of points behind their camera are infinitely far off.
    """
    local = points @ cam_from_world[:, :3, :3].transpose(0, 2, 1) + cam_from_world[:, None, :3, 3]
    depth = local[..., 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pixels = focal * local[..., :2] / depth[..., None]
    pixels[depth <= 0] = np.inf
    return pixels, depth


def refine(
    points: FloatArray, pixels: FloatArray, focal: float, cam_from_world: FloatArray, *, iterations: int = 100
) -> Refined:
    """Damped Gauss-Newton on the points' distances from their pixels' rays, where outliers lose their weight.

    The distance is measured across the camera's axis. It is what remains of WVD's own objective (the distance of a
    point from where camera and depth put it) once each pixel's depth is the best one; errors in pixels would weigh near
    points more, though a point map errs alike near and far. The poses are eliminated frame by frame (Schur complement),
    so a step costs no more than its residuals.

    Args:
        points: [F, N, 3] world points, of about unit size.
        pixels: [F, N, 2] where they are seen, from the image's centre, in units of about the image's side.
        focal: first guess, in the unit of ``pixels``.
        cam_from_world: [F, 4, 4] first guess.
        iterations: at most.
    """
    poses = cam_from_world.copy()
    damping = 1e-4
    log_focal = float(np.log(focal))
    residuals = _residuals(points, pixels, poses, log_focal)
    sigma = _scale(residuals)
    cost = _cost(residuals, sigma)
    for _ in range(iterations):
        normal = _normal_equations(points, pixels, residuals, poses, log_focal, sigma)
        accepted = False
        while not accepted and damping < 1e8:
            focal_step, pose_step = normal.step(damping)
            trial_focal = log_focal + float(np.clip(focal_step, -0.3, 0.3))
            trial_poses = _moved(poses, pose_step)
            trial = _residuals(points, pixels, trial_poses, trial_focal)
            accepted = _cost(trial, sigma) <= cost
            damping *= 0.1 if accepted else 10.0
        if not accepted:
            break
        size = max(abs(focal_step), float(np.abs(pose_step).max()))
        log_focal, poses, residuals = trial_focal, trial_poses, trial
        sigma, last_sigma = _scale(residuals), sigma
        cost = _cost(residuals, sigma)
        damping = max(damping, 1e-9)
        if size < 1e-10 or (size < 1e-6 and abs(sigma - last_sigma) <= 1e-6 * last_sigma):
            break
    final = _normal_equations(points, pixels, residuals, poses, log_focal, sigma)
    return Refined(float(np.exp(log_focal)), poses, sigma, final.focal_curvature())


def refine_from_neighbours(points: FloatArray, pixels: FloatArray, found: Refined) -> Refined:
    """``refine`` again, each frame from where the frame before it ended, if that explains any frame's points better.

    A plane far away or seen nearly head-on has two poses, and PnP may choose the wrong one; its neighbours rarely share
    the error.
    """
    if len(points) < 2:
        return found
    moved = np.concatenate([found.cam_from_world[1:2], found.cam_from_world[:-1]])
    other = refine(points, pixels, found.focal, moved)
    costs = [
        _frame_costs(_residuals(points, pixels, one.cam_from_world, float(np.log(one.focal))), found.sigma)
        for one in (found, other)
    ]
    better = costs[1] < costs[0] - 1e-3 * points.shape[1]
    if not better.any():
        return found
    return refine(
        points, pixels, found.focal, np.where(better[:, None, None], other.cam_from_world, found.cam_from_world)
    )


def _residuals(points: FloatArray, pixels: FloatArray, poses: FloatArray, log_focal: float) -> FloatArray:
    local = points @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    depth = local[..., 2:]
    beside: FloatArray = local[..., :2] - pixels * (depth / np.exp(log_focal))
    beside[depth[..., 0] <= 0] = np.inf
    return beside


def _scale(residuals: FloatArray) -> float:
    """Robust standard deviation of a coordinate: the median length over that of a standard normal pair, √(2 ln 2)."""
    length = np.linalg.norm(residuals, axis=-1)
    return float(np.clip(np.median(length) / np.sqrt(2 * np.log(2)), _SMALLEST_SIGMA, _LARGEST_SIGMA))


def _squares(residuals: FloatArray, sigma: float) -> FloatArray:
    """Squared length over squared rejection length; infinite behind the camera."""
    squares: FloatArray = (residuals**2).sum(axis=-1) / (_REJECTION * sigma) ** 2
    return squares


def _cost(residuals: FloatArray, sigma: float) -> float:
    """Geman and McClure's: s / (1 + s), at most 1 for any residual."""
    return float(_frame_costs(residuals, sigma).sum())


def _frame_costs(residuals: FloatArray, sigma: float) -> FloatArray:
    costs: FloatArray = (1 - 1 / (1 + _squares(residuals, sigma))).sum(axis=-1)
    return costs


@dataclass(frozen=True, slots=True, eq=False)
class _NormalEquations:
    """Second derivatives and gradients of the weighted squares: poses [F, 6, 6], [F, 6]; focal; mixed [F, 6]."""

    pose_hessian: FloatArray
    pose_gradient: FloatArray
    mixed: FloatArray
    focal_hessian: float
    focal_gradient: float

    def step(self, damping: float) -> tuple[float, FloatArray]:
        """Changes of the focal length's logarithm, and of the poses [F, 6]."""
        hessian = self.pose_hessian.copy()
        diagonal = np.einsum("fii->fi", hessian)
        diagonal *= 1 + damping
        diagonal += 1e-12
        solved = np.linalg.solve(hessian, np.stack([self.pose_gradient, self.mixed], axis=-1))
        curvature = self.focal_hessian * (1 + damping) + 1e-12 - float((self.mixed * solved[..., 1]).sum())
        focal = -(self.focal_gradient - float((self.mixed * solved[..., 0]).sum())) / max(curvature, 1e-12)
        return focal, -(solved[..., 0] + solved[..., 1] * focal)

    def focal_curvature(self) -> float:
        # a pose that its own points leave open has no say in the focal length either
        inverse = np.linalg.pinv(self.pose_hessian, rcond=1e-13, hermitian=True)
        return self.focal_hessian - float(np.einsum("fi,fij,fj->", self.mixed, inverse, self.mixed))


def _normal_equations(
    points: FloatArray, pixels: FloatArray, residuals: FloatArray, poses: FloatArray, log_focal: float, sigma: float
) -> _NormalEquations:
    focal = float(np.exp(log_focal))
    local = points @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    x, y, z = np.moveaxis(local, -1, 0)
    # the derivative of Geman and McClure's cost is that of squares with these weights
    weight = 1 / (1 + _squares(residuals, sigma)) ** 2
    seen = (z > 0) & (weight > 0)
    weight = np.where(seen, weight, 0.0)
    z = np.where(seen, z, 1.0)
    residual = np.where(seen[..., None], residuals, 0.0)
    # pixels over the focal length: where the ray of the pixel pierces the plane one unit ahead
    u, v = np.moveaxis(pixels / focal, -1, 0)
    one, zero = np.ones_like(x), np.zeros_like(x)
    # turning by w and shifting by t moves a point by w x p + t
    jacobian = np.stack(
        [
            np.stack([-u * y, z + u * x, -y, one, zero, -u], axis=-1),
            np.stack([-z - v * y, v * x, x, zero, one, -v], axis=-1),
        ],
        axis=-2,
    )
    along_focal = np.stack([u * z, v * z], axis=-1)
    weighted = jacobian * weight[..., None, None]
    return _NormalEquations(
        pose_hessian=np.einsum("fnci,fncj->fij", weighted, jacobian),
        pose_gradient=np.einsum("fnci,fnc->fi", weighted, residual),
        mixed=np.einsum("fnci,fnc->fi", weighted, along_focal),
        focal_hessian=float((weight[..., None] * along_focal**2).sum()),
        focal_gradient=float((weight[..., None] * along_focal * residual).sum()),
    )


def _moved(poses: FloatArray, step: FloatArray) -> FloatArray:
    """Poses followed by a small turn and shift [F, 6] in their own camera."""
    turn = Rotation.from_rotvec(step[:, :3]).as_matrix()
    moved = poses.copy()
    moved[:, :3, :3] = turn @ poses[:, :3, :3]
    moved[:, :3, 3] = (turn @ poses[:, :3, 3:])[..., 0] + step[:, 3:]
    return moved
