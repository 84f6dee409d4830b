"""The four types that travel through the suite: Scene, Cameras, Conditioning and Prediction.

Conventions, everywhere: OpenCV cameras (x right, y down, z forward); poses are ``world_from_cam``; the world is the
first frame's camera; intrinsics are pixels of the frames they come with, and pixel ``i`` covers ``[i, i + 1)``, so its
centre is ``i + 0.5``; ``depth`` is the z coordinate in the camera, not the length of the ray.

Arrays are checked when an object is made and are read-only afterwards.
"""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gen3r_bench.errors import InputError

Setting = Literal["1view", "2view", "allview"]
Scale = Literal["metric", "sfm", "unit"]
SETTINGS: Final[tuple[Setting, ...]] = get_args(Setting)
SCALES: Final[tuple[str, ...]] = get_args(Scale)

RIGID_TOLERANCE: Final = 1e-4
"""Largest allowed entry of ``R @ R.T - I``: float32 storage stays far below it, a scaled or sheared pose far above."""


def _checked(
    value: Any, name: str, shape: tuple[int | None, ...], dtype: DTypeLike, *, finite: bool = True
) -> NDArray[Any]:
    """Return ``value`` as a read-only array of the given shape (``None``: any length) and type, or say why not."""
    wanted = np.dtype(dtype)
    if value is None:
        raise InputError(f"{name} is missing", expected=f"an array of {wanted}")
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} is not an array ({error})", expected=f"an array of {wanted}") from error
    text = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
    if given.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, given.shape, strict=True)):
        raise InputError(f"{name} has shape {list(given.shape)}", expected=f"shape {text}")
    if wanted.kind in "ub" and given.dtype != wanted:
        raise InputError(f"{name} has type {given.dtype}", expected=str(wanted), fix=f"convert it to {wanted} yourself")
    if wanted.kind == "f" and given.dtype.kind not in "fiu":
        raise InputError(f"{name} has type {given.dtype}", expected=f"real numbers ({wanted})")
    with np.errstate(over="ignore"):  # too large for the type becomes infinite, which the next lines judge
        array = np.asarray(given, dtype=wanted).view()
    if finite and wanted.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise InputError(f"{name} holds {bad} non-finite values of {array.size}", expected="finite numbers")
    array.flags.writeable = False
    return array


def _check_poses(world_from_cam: NDArray[Any], name: str) -> None:
    rotation = world_from_cam[:, :3, :3]
    error = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero((error > RIGID_TOLERANCE) | (np.linalg.det(rotation) < 0))
    if bad.size:
        frame = int(bad[0])
        kind = "a reflection" if np.linalg.det(rotation[frame]) < 0 else f"off by {error[frame]:.2g} from orthonormal"
        raise InputError(
            f"{name}: the rotation of frame {frame} is {kind}",
            expected=f"a rigid pose (R @ R.T = I within {RIGID_TOLERANCE:g}, det R = +1)",
            fix="project it to the nearest rotation when reading, or check the matrix layout",
        )
    if not np.allclose(world_from_cam[:, 3], [0.0, 0.0, 0.0, 1.0], atol=1e-8):
        raise InputError(f"{name}: a last row is not 0 0 0 1", expected="4x4 homogeneous poses", fix="transpose?")


def _check_intrinsics(intrinsics: NDArray[Any], name: str) -> None:
    focal = np.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]])
    if (focal <= 0).any():
        raise InputError(f"{name}: a focal length is {focal.min():.4g} px", expected="positive focal lengths in pixels")
    if not np.allclose(intrinsics[:, 2], [0.0, 0.0, 1.0], atol=1e-8):
        raise InputError(f"{name}: a last row is not 0 0 1", expected="3x3 pinhole matrices", fix="transpose?")


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """Pinhole cameras of F frames.

    Attributes:
        world_from_cam: [F, 4, 4] float64, rigid, OpenCV axes.
        intrinsics: [F, 3, 3] float64, pixels of ``image_size``, pixel centres at +0.5.
        image_size: (height, width).

    Raises:
        InputError: on wrong shapes, non-finite values, non-rigid poses or focal lengths that are not positive.
    """

    world_from_cam: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        poses = _checked(self.world_from_cam, "world_from_cam", (None, 4, 4), np.float64)
        intrinsics = _checked(self.intrinsics, "intrinsics", (len(poses), 3, 3), np.float64)
        if len(poses) == 0:
            raise InputError("cameras of 0 frames", expected="at least one frame")
        _check_poses(poses, "world_from_cam")
        _check_intrinsics(intrinsics, "intrinsics")
        object.__setattr__(self, "world_from_cam", poses)
        object.__setattr__(self, "intrinsics", intrinsics)
        object.__setattr__(self, "image_size", _checked_size(self.image_size))

    def __len__(self) -> int:
        return len(self.world_from_cam)

    def rebased(self) -> Cameras:
        """The same cameras in the world of the first one: ``inv(world_from_cam[0]) @ world_from_cam``."""
        first = self.world_from_cam[0]
        world = invert_rigid(first[None])[0] @ self.world_from_cam
        world[0] = np.eye(4)
        return Cameras(world, self.intrinsics, self.image_size)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(f"image size {size}", expected="(height, width) in whole pixels")
    return height, width


def invert_rigid(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of [..., 4, 4] rigid poses in closed form (exact where a general inverse loses digits)."""
    rotation_t = np.swapaxes(poses[..., :3, :3], -1, -2)
    inverse = np.zeros_like(poses)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ poses[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def nearest_rotations(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, 4, 4] poses with each rotation replaced by the nearest one (polar decomposition by SVD)."""
    fixed = np.array(poses, dtype=np.float64)
    u, _, vt = np.linalg.svd(fixed[:, :3, :3])
    sign = np.linalg.det(u @ vt)
    u[:, :, 2] *= sign[:, None]
    fixed[:, :3, :3] = u @ vt
    return fixed


def unproject_depth(depth: NDArray[Any], cameras: Cameras) -> NDArray[np.float32]:
    """World points of every pixel: [F, H, W] z-depth and cameras of F frames give [F, H, W, 3] float32.

    Pixel (row, column) is seen through (column + 0.5, row + 0.5). Non-finite depths give non-finite points.
    """
    if depth.shape != (len(cameras), *cameras.image_size):
        raise InputError(
            f"depth of shape {list(depth.shape)} with cameras of {len(cameras)} frames at {cameras.image_size}",
            expected="the same frames and size for both",
        )
    frames, height, width = depth.shape
    column = np.arange(width, dtype=np.float64) + 0.5
    row = np.arange(height, dtype=np.float64) + 0.5
    points = np.empty((frames, height, width, 3), dtype=np.float32)
    for frame in range(frames):
        world_from_pixel = cameras.world_from_cam[frame, :3, :3] @ np.linalg.inv(cameras.intrinsics[frame])
        rays = (
            column[None, :, None] * world_from_pixel[:, 0]
            + row[:, None, None] * world_from_pixel[:, 1]
            + world_from_pixel[:, 2]
        )
        with np.errstate(invalid="ignore", over="ignore"):  # non-finite depths are legal, and not worth a warning
            points[frame] = rays * depth[frame, :, :, None] + cameras.world_from_cam[frame, :3, 3]
    return points


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One ground-truth clip.

    Attributes:
        dataset: name of the dataset it was read from.
        scene_id: its id there; may contain ``/``.
        rgb: [F, H, W, 3] uint8.
        cameras: of the F frames, in the world of the first one.
        depth: [F, H, W] float32, in the unit of the poses; None where the dataset has no geometry.
        valid: [F, H, W] bool, pixels whose depth is known (all False without depth).
        prompt: text that describes the scene, or "".
        scale: "metric" (metres), "sfm" (arbitrary, fixed per scene) or "unit".

    Raises:
        InputError: on wrong shapes or types, and where a valid pixel's depth is not finite and positive.
    """

    dataset: str
    scene_id: str
    rgb: NDArray[np.uint8]
    cameras: Cameras
    depth: NDArray[np.float32] | None
    valid: NDArray[np.bool_]
    prompt: str
    scale: Scale

    def __post_init__(self) -> None:
        height, width = self.cameras.image_size
        shape = (len(self.cameras), height, width)
        if self.scale not in SCALES:
            raise InputError(f"scale {self.scale!r}", expected=" or ".join(SCALES))
        object.__setattr__(self, "rgb", _checked(self.rgb, "rgb", (*shape, 3), np.uint8))
        valid = _checked(self.valid, "valid", shape, np.bool_)
        object.__setattr__(self, "valid", valid)
        if not np.allclose(self.cameras.world_from_cam[0], np.eye(4), atol=1e-6):
            raise InputError(
                "the first camera is not the world", expected="world_from_cam[0] = I", fix="pass cameras.rebased()"
            )
        if self.depth is None:
            if valid.any():
                raise InputError("valid pixels without depth", expected="valid all False where depth is None")
            return
        depth = _checked(self.depth, "depth", shape, np.float32, finite=False)
        seen = depth[valid]
        if not (np.isfinite(seen).all() and (seen > 0).all()):
            raise InputError("depth at valid pixels is not finite and positive", expected="valid to exclude them")
        object.__setattr__(self, "depth", depth)

    @property
    def num_frames(self) -> int:
        return len(self.cameras)

    @property
    def image_size(self) -> tuple[int, int]:
        return self.cameras.image_size

    def points_world(self) -> NDArray[np.float32]:
        """Ground-truth world points [F, H, W, 3]; meaningful where ``valid``, zero elsewhere.

        Raises:
            InputError: where the scene has no depth.
        """
        if self.depth is None:
            raise InputError(
                f"scene {self.scene_id} of {self.dataset} has no depth", expected="a dataset with geometry"
            )
        points = unproject_depth(self.depth, self.cameras)
        points[~self.valid] = 0  # a depth of 0 would be the camera's centre
        return points


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What a setting lets a method see of a scene, and nothing else.

    Attributes:
        setting: "1view" (frame 0), "2view" (first and last) or "allview" (every frame).
        frame_indices: [n] which target frames ``rgb`` holds.
        rgb: [n, H, W, 3] uint8, the visible frames only.
        cameras: cameras of ALL target frames where the protocol gives them, else None.
        num_frames: F, how many frames to predict.
        image_size: (height, width) of the target frames.
        prompt: text, or "".
        seed: seed of this scene's sampling; depends on the scene, never on the order of the run.

    Raises:
        InputError: where the fields contradict each other or the setting.
    """

    setting: Setting
    frame_indices: tuple[int, ...]
    rgb: NDArray[np.uint8]
    cameras: Cameras | None
    num_frames: int
    image_size: tuple[int, int]
    prompt: str
    seed: int

    def __post_init__(self) -> None:
        expected = conditioning_indices(self.setting, self.num_frames)
        if tuple(self.frame_indices) != expected:
            raise InputError(
                f"frame indices {list(self.frame_indices)} for {self.setting}", expected=f"{list(expected)}"
            )
        object.__setattr__(self, "frame_indices", expected)
        height, width = _checked_size(self.image_size)
        object.__setattr__(self, "image_size", (height, width))
        object.__setattr__(self, "rgb", _checked(self.rgb, "rgb", (len(expected), height, width, 3), np.uint8))
        cameras = self.cameras
        if cameras is not None and (len(cameras) != self.num_frames or cameras.image_size != (height, width)):
            raise InputError(
                f"cameras of {len(cameras)} frames at {cameras.image_size}",
                expected=f"{self.num_frames} frames at {(height, width)}",
            )


def conditioning_indices(setting: Setting, num_frames: int) -> tuple[int, ...]:
    """Indices of the frames that a setting shows, out of ``num_frames``."""
    if num_frames < 1:
        raise InputError(f"a clip of {num_frames} frames", expected="at least one frame")
    if setting == "1view":
        return (0,)
    if setting == "2view":
        if num_frames < 2:
            raise InputError(f"2view of a clip of {num_frames} frame", expected="at least 2 frames")
        return (0, num_frames - 1)
    if setting == "allview":
        return tuple(range(num_frames))
    raise InputError(f"setting {setting!r}", expected=" or ".join(SETTINGS))


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a method returns; every part but ``frame_indices`` may be absent.

    Attributes:
        frame_indices: [n] which target frames the parts cover, strictly increasing.
        rgb: [n, H, W, 3] uint8.
        depth: [n, H, W] float32 z-depth, in the method's own unit.
        points_world: [n, H, W, 3] float32, in the method's own world.
        world_from_cam: [n, 4, 4] float64, rigid, in that world.
        intrinsics: [n, 3, 3] float64, pixels.
        valid: [n, H, W] bool, pixels that the method stands by; protocols score all pixels and report this share.
        confidence: [n, H, W] float32.
        adaptations: every resize, subsampling and repeat that the adapter did, in words.
        seconds: wall time of the prediction, filled in by the suite.
        peak_memory_bytes: filled in by the suite.

    Raises:
        InputError: on contradicting shapes, wrong types, non-rigid poses, or an empty prediction. Non-finite depths
            and points are legal here; the metrics drop and count them.
    """

    frame_indices: tuple[int, ...]
    rgb: NDArray[np.uint8] | None = None
    depth: NDArray[np.float32] | None = None
    points_world: NDArray[np.float32] | None = None
    world_from_cam: NDArray[np.float64] | None = None
    intrinsics: NDArray[np.float64] | None = None
    valid: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None
    adaptations: tuple[str, ...] = ()
    seconds: float | None = None
    peak_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        try:
            indices = tuple(operator.index(i) for i in self.frame_indices)
        except TypeError as error:
            raise InputError(f"frame_indices {self.frame_indices}", expected="whole numbers") from error
        if not indices or any(b <= a for a, b in itertools.pairwise(indices)) or indices[0] < 0:
            raise InputError(f"frame_indices {list(indices)}", expected="strictly increasing indices from 0 on")
        object.__setattr__(self, "frame_indices", indices)
        n = len(indices)
        size: tuple[int | None, int | None] = (None, None)
        for name, tail, dtype in (
            ("rgb", (3,), np.uint8),
            ("depth", (), np.float32),
            ("points_world", (3,), np.float32),
            ("valid", (), np.bool_),
            ("confidence", (), np.float32),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            array = _checked(value, f"prediction.{name}", (n, *size, *tail), dtype, finite=False)
            size = (array.shape[1], array.shape[2])
            object.__setattr__(self, name, array)
        if self.world_from_cam is not None:
            poses = _checked(self.world_from_cam, "prediction.world_from_cam", (n, 4, 4), np.float64)
            _check_poses(poses, "prediction.world_from_cam")
            object.__setattr__(self, "world_from_cam", poses)
        if self.intrinsics is not None:
            intrinsics = _checked(self.intrinsics, "prediction.intrinsics", (n, 3, 3), np.float64)
            _check_intrinsics(intrinsics, "prediction.intrinsics")
            object.__setattr__(self, "intrinsics", intrinsics)
        if not self.parts():
            raise InputError("a prediction without any part", expected="at least one of rgb, depth, points, cameras")

    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are present: of rgb, depth, points_world, world_from_cam, intrinsics."""
        names = ("rgb", "depth", "points_world", "world_from_cam", "intrinsics")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the pixel parts, or None where there is none."""
        for part in (self.rgb, self.depth, self.points_world):
            if part is not None:
                return part.shape[1], part.shape[2]
        return None

    def world_points(self) -> NDArray[np.float32] | None:
        """``points_world``, or depth unprojected through the predicted cameras, or None where neither is there."""
        if self.points_world is not None:
            return self.points_world
        if self.depth is None or self.world_from_cam is None or self.intrinsics is None:
            return None
        size = (self.depth.shape[1], self.depth.shape[2])
        return unproject_depth(self.depth, Cameras(self.world_from_cam, self.intrinsics, size))
