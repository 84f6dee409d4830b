"""Pictures of coloured point clouds from one fixed view: a z-buffer in NumPy, no window and no GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BACKGROUND: Final = 255
_BACK: Final = 0.55
"""How far the eye stands behind the first camera, in median depths of the scene."""
_UP: Final = 0.38
_FIELD: Final = 62.0
"""Field of view of the picture, in degrees."""
_NEAR: Final = 0.02
_LARGEST: Final = 1_500_000
"""Points drawn of one cloud; the rest are skipped evenly."""
_LARGEST_POINT: Final = 5
"""Side of the largest square a point is drawn as, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A pinhole eye: [4, 4] world from eye, OpenCV axes; focal length in picture widths; the scene's median depth."""

    world_from_eye: NDArray[np.float64]
    focal: float
    unit: float


def fixed_view(points: NDArray[Any]) -> View:
    """The view from behind and above the first camera, onto the middle of a cloud.

    Args:
        points: [N, 3] in the first camera's world (x right, y down, z forward), of the clip's first frame for choice;
            those that are not finite or not in front of it are left out.
    """
    usable = points[np.isfinite(points).all(axis=1) & (points[:, 2] > 0)].astype(np.float64)
    unit = float(np.median(usable[:, 2])) if len(usable) else 1.0
    target = np.median(usable, axis=0) if len(usable) else np.array([0.0, 0.0, unit])
    eye = np.array([0.0, -_UP * unit, -_BACK * unit])
    forward = target - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= max(float(np.linalg.norm(right)), 1e-9)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return View(pose, 0.5 / np.tan(np.radians(_FIELD / 2)), unit)


def draw_points(
    points: NDArray[Any], colours: NDArray[np.uint8], view: View, size: int, frame_width: int
) -> NDArray[np.uint8]:
    """Draw a cloud as small squares, the nearest in front.

    Args:
        points: [N, 3] in the view's world; points that are not finite are left out.
        colours: [N, 3] uint8.
        view: where it is seen from.
        size: height and width of the picture in pixels.
        frame_width: of the frames whose pixels the points are; it decides how large a point is drawn, so that a
            surface looks closed at any resolution.

    Returns:
        [size, size, 3] uint8 on white.
    """
    picture = np.full((size * size, 3), BACKGROUND, dtype=np.uint8)
    step = max(1, -(-len(points) // _LARGEST))
    while math.gcd(step, frame_width) > 1:  # else whole columns of every frame would be skipped
        step += 1
    points, colours = points[::step], colours[::step]
    finite = np.isfinite(points).all(axis=1)
    points, colours = points[finite].astype(np.float64), colours[finite]
    rotation, eye = view.world_from_eye[:3, :3], view.world_from_eye[:3, 3]
    seen = (points - eye) @ rotation
    in_front = seen[:, 2] > _NEAR * view.unit
    seen, colours = seen[in_front], colours[in_front]
    x = view.focal * size * seen[:, 0] / seen[:, 2] + size / 2
    y = view.focal * size * seen[:, 1] / seen[:, 2] + size / 2
    inside = (x > -2) & (x < size + 2) & (y > -2) & (y < size + 2)
    x, y, depth, colours = x[inside], y[inside], seen[inside, 2], colours[inside]
    # about the gap between the points of neighbouring pixels, seen from here
    side = int(np.clip(np.ceil(view.focal * size / frame_width), 1, _LARGEST_POINT))
    far_first = np.argsort(-depth, kind="stable")
    column, row = np.floor(x[far_first]).astype(np.int64), np.floor(y[far_first]).astype(np.int64)
    colours, depth = colours[far_first], depth[far_first]
    nearest = np.full(size * size, np.inf)
    for down in range(side):
        for across in range(side):
            here_row, here_column = row + down - side // 2, column + across - side // 2
            fits = (here_row >= 0) & (here_row < size) & (here_column >= 0) & (here_column < size)
            place = here_row[fits] * size + here_column[fits]
            # of equal places the last, nearest one wins; it must also win over the other corners' squares
            front = np.full(size * size, np.inf)
            front[place] = depth[fits]
            tone = np.zeros((size * size, 3), dtype=np.uint8)
            tone[place] = colours[fits]
            wins = front < nearest
            picture[wins] = tone[wins]
            nearest[wins] = front[wins]
    return picture.reshape(size, size, 3)
