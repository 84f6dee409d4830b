"""Cameras in nerfstudio's ``transforms.json``, which DL3DV and Gen3R share in everything but the axes."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.datasets.clip import intrinsics_at, read_text
from gen3r_bench.errors import SceneError

_OPENCV_FROM_OPENGL: Final = np.diag([1.0, -1.0, -1.0, 1.0])
_INTRINSICS: Final = ("fl_x", "fl_y", "cx", "cy", "w", "h")
_DISTORTION: Final = ("k1", "k2", "p1", "p2")
_PINHOLE_WITH_DISTORTION: Final = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One entry of a ``transforms.json``.

    Attributes:
        name: base name of its picture, as listed.
        world_from_cam: OpenCV axes; as listed, so that a damaged pose is seen by whoever uses it.
        intrinsics: [3, 3] float64, pixels of ``size``, origin at the picture's corner.
        size: (height, width) that the intrinsics are for, usually not that of the pictures at hand.
        distortion: k1, k2, p1, p2 of OpenCV's model; all 0 for a pinhole.
    """

    name: str
    world_from_cam: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    size: tuple[float, float]
    distortion: tuple[float, float, float, float]

    def intrinsics_at(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Intrinsics in pixels of a picture of the same field of view and ``size`` (height, width).

        Raises:
            SceneError: where the picture has another shape than the one that the intrinsics are for.
        """
        return intrinsics_at(self.intrinsics, self.size, size, self.name)


def frame_number(name: str) -> tuple[tuple[int, ...], str]:
    """Sort key of a picture's name: by the numbers in it, so that ``frame_10`` comes after ``frame_9``."""
    return tuple(int(n) for n in re.findall(r"\d+", name)), name


def read_transforms(file: Path, *, axes: Literal["opengl", "opencv"]) -> tuple[CameraFrame, ...]:
    """Every listed frame, in the order of the numbers in the pictures' names.

    Global values are defaults of the per-frame ones. ``applied_transform`` is a turn of the world that is already in
    the matrices, so it is left alone.

    Args:
        file: a ``transforms.json``.
        axes: of the cameras in it; the file itself does not say ("opengl": x right, y up, z back).

    Raises:
        SceneError: where the file cannot be read, has no frames, lists a picture twice, lacks intrinsics, or has a
            camera model other than OpenCV's.
    """
    try:
        content = json.loads(read_text(file))
    except ValueError as error:
        raise SceneError(f"{file}: not valid JSON ({error}); restore the file") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list) or not content["frames"]:
        raise SceneError(f'{file}: no frames; expected nerfstudio\'s {{"fl_x": …, "frames": [{{"file_path": …}}, …]}}')
    to_opencv = np.eye(4) if axes == "opencv" else _OPENCV_FROM_OPENGL
    frames = [_frame(file, content, entry, to_opencv) for entry in content["frames"]]
    frames.sort(key=lambda frame: frame_number(frame.name))
    for one, two in itertools.pairwise(frames):
        if one.name == two.name:
            raise SceneError(f"{file}: {one.name} is listed twice; which of its poses is right cannot be told")
    return tuple(frames)


def _frame(file: Path, content: dict[str, Any], entry: Any, to_opencv: NDArray[np.float64]) -> CameraFrame:
    path = entry.get("file_path") if isinstance(entry, dict) else None
    if not isinstance(path, str) or not path:
        raise SceneError(f"{file}: a frame without file_path; expected every frame to name its picture")
    model = entry.get("camera_model", content.get("camera_model", "OPENCV"))
    if model not in _PINHOLE_WITH_DISTORTION:
        raise SceneError(f"{file}: camera model {model!r}; expected one of {', '.join(_PINHOLE_WITH_DISTORTION)}")
    values = {key: entry.get(key, content.get(key)) for key in _INTRINSICS}
    values.update({key: entry.get(key, content.get(key, 0.0)) for key in _DISTORTION})
    for key, value in values.items():
        usable = isinstance(value, int | float) and np.isfinite(value)
        if not usable or (key in ("fl_x", "fl_y", "w", "h") and value <= 0):
            raise SceneError(f"{file}: {path} has {key} = {value!r}; expected a number of pixels")
    fx, fy, cx, cy, width, height, k1, k2, p1, p2 = (float(value) for value in values.values())
    try:
        pose = np.array(entry.get("transform_matrix"), dtype=np.float64)
    except (TypeError, ValueError):
        pose = np.empty(0)
    if pose.shape != (4, 4):
        raise SceneError(f"{file}: transform_matrix of {path} is not a 4x4 matrix of numbers")
    return CameraFrame(
        name=path.replace("\\", "/").rsplit("/", 1)[-1],
        world_from_cam=pose @ to_opencv,
        intrinsics=np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]),
        size=(height, width),
        distortion=(k1, k2, p1, p2),
    )
