"""Predictions made anywhere, as plain folders: PNG frames, point or depth arrays, and cameras as Gen3R writes them.

One folder a scene, ``DIR/SCENE_ID/``, with any of: ``*.png`` or ``rgb/*.png`` (sorted by the number in their names),
``points.npy`` or ``points.ply`` (one point a pixel, frame by frame, row by row), ``depth.npy``, ``cameras.json``
(``extrinsics`` world-to-camera [F, 4, 4] or [F, 3, 4], ``intrinsics`` [F, 3, 3] in pixels) and, where the frames are
not all of the clip's, ``frame_indices.json`` (a list). A folder with a ``bundle.json`` is read as a bundle.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError, SceneError
from gen3r_bench.runs.bundle import BUNDLE_NAME, read_bundle, stack_frames
from gen3r_bench.scene import RIGID_TOLERANCE, Prediction, invert_rigid, nearest_rotations

ROUNDING_TOLERANCE: Final = 0.02
"""A rotation this far from orthonormal is rounding (Gen3R writes bfloat16, good to 0.004) and is projected back."""
_LEGAL: Final = "*.png, rgb/*.png, points.npy, points.ply, depth.npy, cameras.json or bundle.json"


def scene_folder(root: Path, scene_id: str, *, only_scene: bool) -> Path:
    """The folder of a scene below ``root``; ``root`` itself where it is the only scene and has no folder of its own.

    Raises:
        SceneError: where there is none.
    """
    folder = root / scene_id
    if folder.is_dir():
        return folder
    if only_scene and root.is_dir() and _files(root):
        return root
    raise SceneError(f"no predictions for scene {scene_id}: {folder} does not exist")


def _number(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else -1, path.name)


def _frame_paths(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.png"), *(folder / "rgb").glob("*.png")], key=_number)


def _files(folder: Path) -> list[Path]:
    names = (BUNDLE_NAME, "points.npy", "points.ply", "depth.npy", "cameras.json", "frame_indices.json")
    return [*(folder / name for name in names if (folder / name).is_file()), *_frame_paths(folder)]


def folder_fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that count; a bundle's manifest stands for its files."""
    digest = hashlib.sha256()
    files = _files(folder)
    for path in files[:1] if files and files[0].name == BUNDLE_NAME else files:
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _load_npy(path: Path, ndim: int) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error})", expected="a NumPy file of plain numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(f"{path} does not hold real numbers", expected="a float array")
    if array.ndim == ndim + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return np.asarray(array, dtype=np.float32)


def _load_ply(path: Path, num_frames: int, image_size: tuple[int, int]) -> NDArray[np.float32]:
    from plyfile import PlyData, PlyParseError

    try:
        vertex = PlyData.read(str(path))["vertex"]
        points = np.stack([np.asarray(vertex[axis], dtype=np.float32) for axis in "xyz"], axis=-1)
    except (PlyParseError, KeyError, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error})", expected="a PLY file with vertices x, y, z") from error
    height, width = image_size
    if len(points) != num_frames * height * width:
        raise InputError(
            f"{path} holds {len(points)} points",
            expected=f"{num_frames * height * width}: one a pixel of {num_frames} frames of {height}x{width}",
            fix="save the point map before any filtering; alignment needs to know which pixel a point belongs to",
        )
    return points.reshape(num_frames, height, width, 3)


def _load_cameras(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """World-from-camera poses and intrinsics of Gen3R's ``cameras.json``, and what was done to them."""
    try:
        content = json.loads(path.read_text())
        cam_from_world = np.asarray(content["extrinsics"], dtype=np.float64)
        intrinsics = np.asarray(content["intrinsics"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            expected="JSON with `extrinsics` (world-to-camera) and `intrinsics` (pixels)",
        ) from error
    if cam_from_world.ndim != 3 or cam_from_world.shape[1:] not in {(3, 4), (4, 4)}:
        raise InputError(f"{path}: extrinsics of shape {list(cam_from_world.shape)}", expected="[F, 4, 4] or [F, 3, 4]")
    if not np.isfinite(cam_from_world).all():
        raise InputError(f"{path}: extrinsics hold non-finite values", expected="finite numbers")
    poses = np.repeat(np.eye(4)[None], len(cam_from_world), axis=0)
    poses[:, :3] = cam_from_world[:, :3]
    rotation = poses[:, :3, :3]
    error_from_rigid = float(np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max())
    done: tuple[str, ...] = ()
    if RIGID_TOLERANCE < error_from_rigid <= ROUNDING_TOLERANCE:
        poses = nearest_rotations(poses)
        done = (f"rotations projected to the nearest rigid ones (off by up to {error_from_rigid:.1g})",)
    return invert_rigid(poses), intrinsics, done


def read_predictions(folder: Path, num_frames: int, image_size: tuple[int, int]) -> Prediction:
    """Read one scene's folder as a Prediction for a clip of ``num_frames`` at ``image_size``.

    Raises:
        InputError: where a file cannot be read or the parts do not fit each other or the clip.
        SceneError: where the folder holds nothing that could be scored.
    """
    if (folder / BUNDLE_NAME).is_file():
        return read_bundle(folder)
    parts: dict[str, Any] = {}
    adaptations: tuple[str, ...] = ()
    paths = _frame_paths(folder)
    if paths:
        parts["rgb"] = stack_frames([_load_picture(path) for path in paths], folder)
    if (folder / "depth.npy").is_file():
        parts["depth"] = _load_npy(folder / "depth.npy", 3)
    if (folder / "cameras.json").is_file():
        parts["world_from_cam"], parts["intrinsics"], adaptations = _load_cameras(folder / "cameras.json")
    if (folder / "points.npy").is_file():
        parts["points_world"] = _load_npy(folder / "points.npy", 4)
    indices = _frame_indices(folder, parts, num_frames)
    if "points_world" not in parts and (folder / "points.ply").is_file():
        parts["points_world"] = _load_ply(folder / "points.ply", len(indices), image_size)
    if not parts:
        raise SceneError(f"{folder} holds no prediction (looked for {_LEGAL})")
    return Prediction(frame_indices=indices, adaptations=adaptations, **parts)


def _load_picture(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read ({error})", expected="an 8-bit PNG") from error


def _frame_indices(folder: Path, parts: dict[str, Any], num_frames: int) -> tuple[int, ...]:
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{folder}: parts of different lengths ({counts})", expected="the same frames in every part")
    length = next(iter(lengths.values()), num_frames)
    path = folder / "frame_indices.json"
    if path.is_file():
        try:
            indices = tuple(int(index) for index in json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error})", expected="a JSON list of frame numbers") from error
        if parts and len(indices) != length:
            raise InputError(f"{path} lists {len(indices)} frames", expected=f"{length}, as the other files hold")
        return indices
    if length != num_frames:
        raise InputError(
            f"{folder} holds {length} frames",
            expected=f"{num_frames}, the clip's length",
            fix="add frame_indices.json with the list of frames that they are",
        )
    return tuple(range(num_frames))
