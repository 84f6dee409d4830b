"""Checks of one scene that need no matching: cameras, pictures and depth, each for itself and against each other.

Every function takes a Scene, returns its findings, and never raises for what it finds.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.datasets.doctor.findings import Finding, Level
from gen3r_bench.scene import RIGID_TOLERANCE, Cameras, Scene

MAX_JUMP: Final = 12.0
"""A step longer than this many median steps is a jump."""
MIN_JUMP_DEG: Final = 20.0
"""A turn between neighbours below this is no jump, however steady the others are."""
FIELD_OF_VIEW: Final = (20.0, 120.0)
"""Degrees over the picture's width and height that a video camera plausibly has."""
MAX_OFF_CENTRE: Final = 0.1
"""How far the principal point may lie from the picture's centre, as a share of the picture's size."""
MAX_INVALID: Final = 0.6
"""A larger share of pixels without depth is worth a look."""
METRIC_DEPTH: Final = (0.05, 200.0)
"""Metres between which a scene's median depth plausibly lies."""
PATH_PER_DEPTH: Final = (0.003, 300.0)
"""Length of the camera's path over the median depth: outside, poses and depth are not in one unit."""

_SAMPLED_DEPTHS: Final = 200_000
_STILL: Final = 1e-6  # share of the scene's size below which a camera has not moved


def camera_checks(scene: Scene) -> list[Finding]:
    """Rigid poses, jumps, a camera that never moves, and intrinsics that do not suit the pictures."""
    return [_rigid(scene.cameras), *_motion(scene), _principal_point(scene.cameras), _field_of_view(scene.cameras)]


def picture_checks(scene: Scene) -> list[Finding]:
    """Frames that show the same picture, or stand at the same pose, as another one."""
    poses = scene.cameras.world_from_cam
    first: dict[bytes, int] = {}
    same: list[tuple[int, int]] = []
    for frame, picture in enumerate(scene.rgb):
        earlier = first.setdefault(hashlib.sha256(picture.tobytes()).digest(), frame)
        if earlier != frame:
            same.append((earlier, frame))
    moved = [(a, b) for a, b in same if not np.allclose(poses[a], poses[b], rtol=0, atol=_still(scene))]
    measured = f"{len(same)} of {scene.num_frames} frames"
    expected = "every picture once"
    if moved:
        a, b = moved[0]
        text = f"frame {b} shows the picture of frame {a} from another pose: pictures and poses do not belong together"
        return [Finding("duplicate pictures", "error", measured, expected, text)]
    if same:
        text = f"frame {same[0][1]} repeats frame {same[0][0]}, with its pose"
        return [Finding("duplicate pictures", "warning", measured, expected, text)]
    return [Finding("duplicate pictures", "ok", measured, expected)]


def depth_checks(scene: Scene) -> list[Finding]:
    """Share of unknown depth, its range, sky that was taken for depth, and units that do not fit together."""
    if scene.depth is None:
        return []
    known = scene.depth[scene.valid]
    if not len(known):
        return [Finding("depth coverage", "error", "0 % valid", "some", "the depth has no valid pixel")]
    low, median, high, top = np.percentile(known[:: len(known) // _SAMPLED_DEPTHS + 1], [1, 50, 99, 100])
    return [
        _coverage(scene),
        _range(scene, float(low), float(high)),
        _sky(float(median), float(high), float(top)),
        *_units(scene, float(median)),
    ]


def _rigid(cameras: Cameras) -> Finding:
    rotation = cameras.world_from_cam[:, :3, :3]
    error = float(np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max())
    level: Level = "ok" if error <= RIGID_TOLERANCE else "error"
    text = "" if level == "ok" else "a rotation is scaled or sheared"
    return Finding("rigid poses", level, f"{error:.1g} off orthonormal", f"≤ {RIGID_TOLERANCE:g}", text)


def _motion(scene: Scene) -> list[Finding]:
    poses = scene.cameras.world_from_cam
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turns = _turns(poses)
    if len(steps) == 0:
        return [Finding("camera motion", "warning", "1 frame", "several frames", "one frame has no motion to check")]
    still = (steps <= _still(scene)) & (turns < 1e-3)
    path = f"path {steps.sum():.3g}, turns {turns.sum():.0f}° in {len(poses)} frames"
    if still.all():
        return [Finding("camera motion", "error", path, "a moving camera", "every pose is the same")]
    if still.any():
        frame = int(np.flatnonzero(still)[0]) + 1
        text = f"{still.sum()} poses repeat the one before, first at frame {frame}"
        moving = Finding("camera motion", "warning", path, "a moving camera", text)
    else:
        moving = Finding("camera motion", "ok", path, "a moving camera")
    return [moving, _jumps(steps, turns, still)]


def _jumps(steps: NDArray[np.float64], turns: NDArray[np.float64], still: NDArray[np.bool_]) -> Finding:
    """Steps far above the typical one; still frames say nothing about what is typical."""
    typical_step, typical_turn = float(np.median(steps[~still])), float(np.median(turns[~still]))
    jumped = (steps > MAX_JUMP * typical_step) & (len(steps) > 3)
    turned = (turns > np.maximum(MAX_JUMP * typical_turn, MIN_JUMP_DEG)) & (len(steps) > 3)
    largest = float(steps.max()) / typical_step if typical_step > 0 else 0.0
    measured = f"largest {largest:.1f} × median, {turns.max():.1f}°"
    expected = f"≤ {MAX_JUMP:g} × median"
    bad = np.flatnonzero(jumped | turned)
    if not bad.size:
        return Finding("pose jumps", "ok", measured, expected)
    frame = int(bad[0])
    text = (
        f"the camera jumps between frames {frame} and {frame + 1} ({steps[frame]:.3g}, {turns[frame]:.0f}°): a cut, a "
        "lost track, or poses of other frames"
    )
    return Finding("pose jumps", "error", measured, expected, text)


def _turns(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees between neighbours."""
    relative = poses[:-1, :3, :3].transpose(0, 2, 1) @ poses[1:, :3, :3]
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    degrees: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return degrees


def _still(scene: Scene) -> float:
    """Distance below which a camera has not moved, in the unit of the poses."""
    extent = float(np.linalg.norm(scene.cameras.world_from_cam[:, :3, 3], axis=1).max())
    return _STILL * extent + 1e-12


def _principal_point(cameras: Cameras) -> Finding:
    height, width = cameras.image_size
    offset = np.abs(cameras.intrinsics[:, :2, 2] / [width, height] - 0.5).max(axis=1)
    frame = int(offset.argmax())
    x, y = cameras.intrinsics[frame, :2, 2]
    measured = f"({x:.1f}, {y:.1f}) of {width}x{height}"
    expected = f"within {MAX_OFF_CENTRE:.0%} of the centre"
    if offset[frame] > 0.5:
        text = "the principal point lies outside the picture: K is for another picture size, normalised or transposed"
        return Finding("principal point", "error", measured, expected, text)
    if offset[frame] > MAX_OFF_CENTRE:
        text = "far off the centre: K may be for another picture size, or the picture was cropped after calibration"
        return Finding("principal point", "warning", measured, expected, text)
    return Finding("principal point", "ok", measured, expected)


def _field_of_view(cameras: Cameras) -> Finding:
    height, width = cameras.image_size
    focal = cameras.intrinsics[:, [0, 1], [0, 1]]
    degrees = np.degrees(2 * np.arctan(np.array([width, height]) / (2 * focal)))
    low, high = FIELD_OF_VIEW
    measured = f"{degrees.min():.0f}–{degrees.max():.0f}°"
    if degrees.min() < low / 3 or degrees.max() > (180 + high) / 2:
        text = "no video camera has it: the focal length is for another picture size, or not in pixels"
        return Finding("field of view", "error", measured, f"{low:g}–{high:g}°", text)
    if degrees.min() < low or degrees.max() > high:
        text = "unusual: the focal length may be for another picture size"
        return Finding("field of view", "warning", measured, f"{low:g}–{high:g}°", text)
    return Finding("field of view", "ok", measured, f"{low:g}–{high:g}°")


def _coverage(scene: Scene) -> Finding:
    share = scene.valid.mean(axis=(1, 2))
    invalid = 1.0 - float(share.mean())
    measured, expected = f"{invalid:.1%} invalid", f"≤ {MAX_INVALID:.0%}"
    empty = np.flatnonzero(share == 0)
    if empty.size:
        text = f"{empty.size} frames have no depth at all, first frame {empty[0]}"
        return Finding("depth coverage", "warning", measured, expected, text)
    if invalid > MAX_INVALID:
        return Finding("depth coverage", "warning", measured, expected, "most pixels have no depth")
    return Finding("depth coverage", "ok", measured, expected)


def _range(scene: Scene, low: float, high: float) -> Finding:
    unit = " m" if scene.scale == "metric" else ""
    measured, expected = f"{low:.3g}–{high:.3g}{unit} (1–99 %)", "more than one distance"
    if high <= low * (1 + 1e-4):
        return Finding("depth range", "error", measured, expected, "the depth is the same everywhere")
    return Finding("depth range", "ok", measured, expected)


def _sky(median: float, high: float, top: float) -> Finding:
    measured, expected = f"farthest {top / median:.0f} × median", "sky is not valid"
    if high > 30 * median:
        text = "more than 1 % of valid depth is so far away that it is sky: cap the depth"
        return Finding("sky", "warning", measured, expected, text)
    return Finding("sky", "ok", measured, expected)


def _units(scene: Scene, median: float) -> list[Finding]:
    poses = scene.cameras.world_from_cam
    path = float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())
    found = []
    if scene.scale == "metric":
        low, high = METRIC_DEPTH
        measured, expected = f"median depth {median:.3g} m", f"{low:g}–{high:g} m"
        hint = "millimetres taken for metres?" if median > high else "metres divided by 1000?"
        level: Level = "ok" if low <= median <= high else "error"
        found.append(Finding("depth unit", level, measured, expected, "" if level == "ok" else f"implausible: {hint}"))
    if path > _still(scene):
        low, high = PATH_PER_DEPTH
        ratio = path / median
        measured, expected = f"path {ratio:.2g} × median depth", f"{low:g}–{high:g}"
        hint = "depth in millimetres with poses in metres" if ratio < low else "poses in millimetres, depth in metres"
        level = "ok" if low <= ratio <= high else "error"
        text = "" if level == "ok" else f"poses and depth are not in one unit ({hint}?)"
        found.append(Finding("pose unit", level, measured, expected, text))
    return found
