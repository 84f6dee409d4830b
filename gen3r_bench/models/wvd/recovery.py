"""Cameras and depth of a clip of point maps: every pixel says which world point it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.models.wvd.refinement import FloatArray, project, refine, refine_from_neighbours
from gen3r_bench.scene import Cameras, invert_rigid, nearest_rotations

LEAST_PIXELS: Final = 24
"""Usable pixels that a frame must have: six times what a pose takes, since some are wrong."""
_FOCAL_GRID: Final = np.geomspace(0.35, 4.0, 18)
"""Focal lengths that are tried, over the longer side of the image: fields of view from 110 to 14 degrees."""
_SEARCH_FRAMES: Final = 4
_FIRST_PIXELS: Final = 400
"""Pixels of a frame that first poses are made from."""
_FLATTEST: Final = 1e-4
"""Second over first extent of a frame's points: below it they lie on a line or in one place."""
_NOISE_FLOOR: Final = 1e-3
"""Of a point's place, over the scene's size: by it the focal length is judged to be open even in exact data."""


class RecoveryError(InputError):
    """Points that no shared pinhole camera explains, or that leave a camera open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryOptions:
    """How cameras are recovered.

    Attributes:
        pixels_per_frame: that are refined on, drawn at random; noise averages out over them.
        inlier_share: of the image's longer side: how far from its pixel a point may be projected and still support a
            pose.
        least_support: share of a frame's pixels that must support its pose.
        largest_focal_error: relative standard deviation of the focal length beyond which it counts as open.
        seed: of the random samples that first poses are made from.
    """

    pixels_per_frame: int = 1500
    inlier_share: float = 0.05
    least_support: float = 0.3
    largest_focal_error: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pixels_per_frame < LEAST_PIXELS:
            raise InputError(f"{self.pixels_per_frame} pixels a frame", expected=f"at least {LEAST_PIXELS}")
        for name in ("inlier_share", "least_support", "largest_focal_error"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}", expected="between 0 and 1")


@dataclass(frozen=True, slots=True, eq=False)
class Recovered:
    """Cameras and depth of point maps, in the world of the first recovered camera.

    Attributes:
        cameras: with one focal length for all frames and axes, the principal point in the image's centre.
        points_world: [F, H, W, 3] float32 the given points in that world.
        depth: [F, H, W] float32 their z coordinates in each camera; not finite where the point is not.
        valid: [F, H, W] bool: points in front of their camera and projected near their pixel.
        residual: robust standard deviation of a point's distance from its pixel's ray, a coordinate, in the points'
            unit.
        support: share of all usable pixels that are valid.
    """

    cameras: Cameras
    points_world: NDArray[np.float32]
    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    residual: float
    support: float


def recover_cameras(
    points: NDArray[np.floating],
    usable: NDArray[np.bool_] | None = None,
    options: RecoveryOptions | None = None,
) -> Recovered:
    """Cameras and depth of a clip of world points.

    The focal length is searched on a grid by RANSAC PnP (OpenCV) of a few frames; every frame gets a pose by RANSAC PnP
    under the best one; then focal length and all poses are refined together, outliers losing their weight. WVD (arXiv
    2412.01821) starts from PnP too, and then minimises distances of points over cameras and depths; see ``refine``.

    Args:
        points: [F, H, W, 3] in any world and unit; those that are not finite are left out.
        usable: [F, H, W] bool pixels that may be used; None: all.
        options: of the search.

    Raises:
        RecoveryError: where points of a frame are too few, lie in one place or on a line, are not those of a pinhole
            camera, or leave the focal length open (a single plane seen head-on).
        InputError: on other shapes.
    """
    options = options or RecoveryOptions()
    _check_shapes(points, usable)
    frames, height, width = points.shape[:3]
    side = max(height, width)
    finite = np.isfinite(points).all(axis=-1)
    good = finite if usable is None else finite & usable
    world, pixels = _sampled(points, good, options.pixels_per_frame)
    centre = np.median(world.reshape(-1, 3), axis=0)
    size = float(np.median(np.linalg.norm(world.reshape(-1, 3) - centre, axis=1)))
    if not (np.isfinite(size) and size > 0):
        raise RecoveryError("points that all lie in one place", expected="points of a scene")
    scaled = (world - centre) / size
    _check_extents(scaled)

    focal = _searched_focal(scaled, pixels, options)
    first = np.stack([_ransac_pose(scaled[i], pixels[i], focal, options) for i in range(frames)])
    refined = refine_from_neighbours(scaled, pixels, refine(scaled, pixels, focal, first))
    _check_support(scaled, pixels, refined.focal, refined.cam_from_world, options)
    noise = max(refined.sigma, _NOISE_FLOOR)
    focal_error = noise / np.sqrt(max(refined.focal_information, 1e-12))
    if focal_error > options.largest_focal_error:
        raise RecoveryError(
            f"points that leave the focal length open (standard deviation {min(focal_error, 9.99):.0%})",
            expected="points that do not lie in one plane seen head-on",
        )

    world_from_cam = invert_rigid(nearest_rotations(refined.cam_from_world))
    world_from_cam[:, :3, 3] = world_from_cam[:, :3, 3] * size + centre
    intrinsics = np.tile(np.eye(3), (frames, 1, 1))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = refined.focal * side
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    return _in_first_camera(
        points, good, Cameras(world_from_cam, intrinsics, (height, width)), refined.sigma * size, options
    )


def _in_first_camera(
    points: NDArray[np.floating],
    good: NDArray[np.bool_],
    cameras: Cameras,
    sigma: float,
    options: RecoveryOptions,
) -> Recovered:
    """Everything in the world of the first camera, and which pixels the cameras explain."""
    height, width = cameras.image_size
    first = cameras.world_from_cam[0]
    rebased = cameras.rebased()
    focal = float(cameras.intrinsics[0, 0, 0])
    moved = np.empty(points.shape, dtype=np.float32)
    depth = np.empty(points.shape[:3], dtype=np.float32)
    valid = np.zeros(points.shape[:3], dtype=bool)
    grid = _pixel_grid(height, width)
    for frame, pose in enumerate(invert_rigid(rebased.world_from_cam)):
        with np.errstate(invalid="ignore", over="ignore"):  # points that are not finite stay what they are
            world = (points[frame].astype(np.float64).reshape(1, -1, 3) - first[:3, 3]) @ first[:3, :3]
            seen, z = project(world, pose[None], focal)
            near = np.linalg.norm(seen[0] - grid, axis=-1) <= options.inlier_share * max(height, width)
        moved[frame] = world.reshape(height, width, 3)
        depth[frame] = z.reshape(height, width)
        valid[frame] = good[frame] & near.reshape(height, width)
    return Recovered(
        cameras=rebased,
        points_world=moved,
        depth=depth,
        valid=valid,
        residual=sigma,
        support=float(valid.sum() / max(good.sum(), 1)),
    )


def _check_shapes(points: NDArray[np.floating], usable: NDArray[np.bool_] | None) -> None:
    if points.ndim != 4 or points.shape[-1] != 3 or 0 in points.shape or points.dtype.kind != "f":
        raise InputError(f"points of shape {list(points.shape)} and type {points.dtype}", expected="[F, H, W, 3] real")
    if usable is not None and (usable.shape != points.shape[:3] or usable.dtype != np.bool_):
        raise InputError(f"a mask of shape {list(usable.shape)}", expected=f"{list(points.shape[:3])} bool")


def _pixel_grid(height: int, width: int) -> FloatArray:
    """[H * W, 2] column and row of pixel centres (+0.5), from the image's centre."""
    column, row = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return np.stack([column, row], axis=-1).reshape(-1, 2)


def _sampled(points: NDArray[np.floating], good: NDArray[np.bool_], count: int) -> tuple[FloatArray, FloatArray]:
    """World points [F, N, 3] of pixels [F, N, 2] (over the longer side), N of each frame, in random order.

    A frame with fewer good pixels repeats some, so that all frames weigh the same.
    """
    frames, height, width = good.shape
    pixels = _pixel_grid(height, width) / max(height, width)
    worlds, seen = [], []
    for frame in range(frames):
        places = np.flatnonzero(good[frame])
        if len(places) < LEAST_PIXELS:
            raise RecoveryError(
                f"frame {frame} has {len(places)} usable points", expected=f"at least {LEAST_PIXELS} in every frame"
            )
        chosen = np.resize(np.random.default_rng(frame).permutation(places), count)
        worlds.append(points[frame].reshape(-1, 3)[chosen].astype(np.float64))
        seen.append(pixels[chosen])
    return np.stack(worlds), np.stack(seen)


def _check_extents(points: FloatArray) -> None:
    """Raise RecoveryError where most points of a frame lie in one place or on a line."""
    for frame, cloud in enumerate(points):
        centred = cloud - np.median(cloud, axis=0)
        distance = np.linalg.norm(centred, axis=1)
        core = centred[distance <= np.quantile(distance, 0.9)]  # a few stray points do not make a scene
        extents = np.linalg.svd(core, compute_uv=False)
        if extents[1] <= _FLATTEST * max(extents[0], 1e-9) or extents[0] < 1e-6:
            raise RecoveryError(
                f"points of frame {frame} that lie on a line or in one place", expected="points of surfaces"
            )


def _searched_focal(points: FloatArray, pixels: FloatArray, options: RecoveryOptions) -> float:
    """The focal length of the grid under which poses of a few frames explain most pixels best."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(_SEARCH_FRAMES, len(points))).round().astype(int))
    costs = []
    for focal in _FOCAL_GRID:
        total = 0.0
        for frame in chosen:
            pose = _found_pose(points[frame], pixels[frame], float(focal), options)
            total += (
                1.0 if pose is None else _truncated_error(points[frame], pixels[frame], float(focal), pose, options)
            )
        costs.append(total)
    return float(_FOCAL_GRID[int(np.argmin(costs))])


def _truncated_error(
    points: FloatArray, pixels: FloatArray, focal: float, pose: FloatArray, options: RecoveryOptions
) -> float:
    """Mean squared distance from the pixels over the squared inlier distance, each at most 1."""
    projected, _ = project(points[None], pose[None], focal)
    squares = ((projected[0] - pixels) ** 2).sum(axis=-1) / options.inlier_share**2
    return float(np.minimum(squares, 1).mean())


def _ransac_pose(points: FloatArray, pixels: FloatArray, focal: float, options: RecoveryOptions) -> FloatArray:
    pose = _found_pose(points, pixels, focal, options)
    if pose is None:
        raise RecoveryError(
            "points that are not those of a pinhole camera", expected="a point map of one camera a frame"
        )
    return pose


def _found_pose(points: FloatArray, pixels: FloatArray, focal: float, options: RecoveryOptions) -> FloatArray | None:
    """``cam_from_world`` [4, 4] of OpenCV's RANSAC PnP, or None where it finds none."""
    import cv2

    cv2.setRNGSeed(options.seed)
    matrix = np.diag([focal, focal, 1.0])
    try:
        found, turn, shift, _ = cv2.solvePnPRansac(
            points[:_FIRST_PIXELS],
            pixels[:_FIRST_PIXELS],
            matrix,
            None,
            iterationsCount=150,
            reprojectionError=options.inlier_share,
            confidence=0.999,
            flags=cv2.SOLVEPNP_P3P,
        )
    except cv2.error:  # its solvers refuse some sets of points instead of answering that there is no pose
        return None
    if not found or not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return None
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(turn)[0]
    pose[:3, 3] = shift[:, 0]
    return pose


def _check_support(
    points: FloatArray, pixels: FloatArray, focal: float, poses: FloatArray, options: RecoveryOptions
) -> None:
    projected, _ = project(points, poses, focal)
    support = (np.linalg.norm(projected - pixels, axis=-1) <= options.inlier_share).mean(axis=1)
    worst = int(np.argmin(support))
    if support[worst] < options.least_support:
        raise RecoveryError(
            f"frame {worst}: {support[worst]:.0%} of its points agree with any pinhole camera",
            expected=f"at least {options.least_support:.0%}",
        )
