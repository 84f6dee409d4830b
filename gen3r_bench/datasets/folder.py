"""The dataset `folder`: any capture laid out as pictures, a transforms.json and, where there is one, depth.

::

    CAPTURE/transforms.json   "axes": "opencv" or "opengl", intrinsics (global or per frame: fl_x, fl_y, cx, cy, w, h),
                              "frames": [{"file_path", "transform_matrix"}, …] with camera-to-world matrices,
                              optional "prompt", optional "scale": "metric" or "sfm"
    CAPTURE/images/           PNG or JPEG; read in the order of the numbers in their names
    CAPTURE/depth/            optional, same base names: 16-bit PNG in millimetres, or float NPY in the poses' unit
    CAPTURE/prompt.txt        optional (or captions.txt): the first line is the prompt
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.datasets.base import ClipProfile, Dataset, DatasetInfo
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    intrinsics_at,
    read_depth_npy,
    read_depth_png16,
    read_picture,
    read_prompt,
    read_text,
)
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Scale, Scene

_OPENCV_FROM_OPENGL: Final = np.diag([1.0, -1.0, -1.0, 1.0])
_INTRINSICS: Final = ("fl_x", "fl_y", "cx", "cy")
_DISTORTION: Final = ("k1", "k2", "k3", "k4", "p1", "p2")


@dataclass(frozen=True, slots=True)
class _Frame:
    picture: Path
    depth: Path | None
    world_from_cam: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    size: tuple[float, float] | None  # (height, width) that the intrinsics are for; None: the picture's own


@dataclass(frozen=True, slots=True)
class _Capture:
    file: Path
    frames: tuple[_Frame, ...]
    prompt: str
    prompt_file: Path | None
    scale: Scale


class FolderDataset(Dataset):
    """Your own captures: a folder that is one capture, or a folder of captures; see the module for the layout.

    The first frame read becomes the world. Pictures go through Gen3R's input rule (short side to the target, centre
    crop), intrinsics and depth with them. Depth of 0, 65535 (PNG) or a non-finite number is invalid.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="folder",
        title="folder",
        summary="Any capture laid out as images/, transforms.json with explicit axes, and optional depth/.",
        has_depth=True,
        scale="metric",
        needs_root=True,
        licence="the capture's own",
        reference="https://docs.nerf.studio/quickstart/data_conventions.html",
    )

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index a capture, or a folder of captures, by its ``transforms.json`` files.

        Raises:
            InputError: where there is no root, or no transforms.json in it or one level below.
        """
        if root is None:
            raise InputError(
                "the dataset folder without a root", expected="a folder with transforms.json", fix="--data-root DIR"
            )
        if not root.is_dir():
            raise InputError(f"the data root {root}", expected="an existing folder")
        if (root / "transforms.json").is_file():
            return cls({root.resolve().name: root})
        folders = {file.parent.name: file.parent for file in sorted(root.glob("*/transforms.json"))}
        if not folders:
            raise InputError(
                f"no transforms.json in {root} or one level below",
                expected="a capture (images/, transforms.json) or a folder of captures",
            )
        return cls(folders)

    def scene_ids(self) -> tuple[str, ...]:
        """Names of the capture folders, sorted."""
        return tuple(sorted(self._folders))

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the profile and of names and contents of every file that ``load`` reads.

        Raises:
            UnknownNameError: where there is no such capture.
            SceneError: where a file is missing or the capture is shorter than the profile.
        """
        capture = self._read(scene_id)
        files = [capture.file, *([capture.prompt_file] if capture.prompt_file else [])]
        for frame in chosen_frames(capture.frames, profile, str(capture.file)):
            files += [frame.picture, *([frame.depth] if frame.depth else [])]
        return files_fingerprint(files, "folder 2", scene_id, str(profile))

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one capture; frames ``start``, ``start + stride``, … of its list sorted by number.

        Raises:
            UnknownNameError: where there is no such capture.
            SceneError: where a file is missing, damaged or contradicts another, or the capture is shorter than the
                profile (it is never padded); names the file and the fix.
        """
        capture = self._read(scene_id)
        return assemble_clip(
            [_source(frame) for frame in capture.frames],
            profile,
            dataset=self.info.name,
            scene_id=scene_id,
            prompt=capture.prompt,
            scale=capture.scale,
        )

    def _read(self, scene_id: str) -> _Capture:
        if scene_id not in self._folders:
            raise UnknownNameError("scene of folder", scene_id, self._folders)
        return _read_capture(self._folders[scene_id])


def _read_capture(folder: Path) -> _Capture:
    file = folder / "transforms.json"
    try:
        content = json.loads(read_text(file))
    except ValueError as error:
        raise SceneError(f"{file}: not valid JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list) or not content["frames"]:
        raise SceneError(f'{file}: no frames; expected {{"axes": …, "frames": [{{"file_path": …}}, …]}}')
    to_opencv = _axes(file, content)
    if content.get("distortion") != "ignore" and any(content.get(k) for k in _DISTORTION):
        given = ", ".join(f"{k}={content[k]:.3g}" for k in _DISTORTION if content.get(k))
        raise SceneError(
            f"{file}: the pictures are distorted ({given}) and this reader is pinhole only; undistort them (COLMAP "
            'image_undistorter), or accept the error with "distortion": "ignore"'
        )
    has_depth = (folder / "depth").is_dir()
    frames = [_frame(file, content, entry, to_opencv, has_depth) for entry in content["frames"]]
    frames.sort(key=lambda frame: _numbers(frame.picture.name))
    for one, two in itertools.pairwise(frames):
        if one.picture == two.picture:
            raise SceneError(f"{file}: {one.picture.name} is listed twice; list each picture once")
    millimetres = any(frame.depth is not None and frame.depth.suffix == ".png" for frame in frames)
    scale = content.get("scale", "metric" if millimetres else "sfm")
    if scale not in ("metric", "sfm"):
        raise SceneError(f'{file}: scale {scale!r}; expected "metric" or "sfm"')
    if millimetres and scale != "metric":
        raise SceneError(
            f"{file}: scale {scale!r} with depth in millimetres; write the depth as float NPY in the poses' unit"
        )
    prompt, prompt_file = _prompt(file, content)
    return _Capture(file, tuple(frames), prompt, prompt_file, scale)


def _axes(file: Path, content: dict[str, Any]) -> NDArray[np.float64]:
    axes = content.get("axes")
    if axes == "opencv":
        return np.eye(4)
    if axes == "opengl":
        return _OPENCV_FROM_OPENGL
    given = 'no "axes" field' if axes is None else f"axes {axes!r}"
    raise SceneError(
        f'{file}: {given}; add "axes": "opengl" (x right, y up, z back: nerfstudio, Blender, instant-ngp, DL3DV) or '
        '"axes": "opencv" (x right, y down, z forward: Gen3R, COLMAP inverted); the same file name is used for both, '
        "and a wrong guess would pass unnoticed"
    )


def _numbers(name: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(n) for n in re.findall(r"\d+", name)), name


def _frame(file: Path, content: dict[str, Any], entry: Any, to_opencv: NDArray[np.float64], has_depth: bool) -> _Frame:
    path = entry.get("file_path") if isinstance(entry, dict) else None
    if not isinstance(path, str) or not path:
        raise SceneError(f"{file}: a frame without file_path; give each frame its picture's path")
    candidates = [file.parent / path, file.parent / "images" / Path(path).name]
    picture = next((candidate for candidate in candidates if candidate.is_file()), None)
    if picture is None:
        raise SceneError(f"{file}: {path} is listed but missing; restore the picture or remove its frame")
    pose = _pose(file, path, entry.get("transform_matrix")) @ to_opencv
    values = {key: entry.get(key, content.get(key)) for key in (*_INTRINSICS, "w", "h")}
    if values["fl_y"] is None:
        values["fl_y"] = values["fl_x"]
    for key, value in values.items():
        optional = key in ("w", "h") and value is None
        if not optional and (not isinstance(value, int | float) or not np.isfinite(value)):
            raise SceneError(
                f"{file}: {path} has {key} = {value!r}; expected numbers for {', '.join(_INTRINSICS)} in pixels"
            )
        if key not in ("cx", "cy") and value is not None and value <= 0:
            raise SceneError(f"{file}: {path} has {key} = {value}; expected a positive number of pixels")
    fx, fy, cx, cy = (float(values[key]) for key in _INTRINSICS)
    size = None if values["w"] is None or values["h"] is None else (float(values["h"]), float(values["w"]))
    matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return _Frame(picture, _depth_file(file.parent, picture) if has_depth else None, pose, matrix, size)


def _pose(file: Path, path: str, value: Any) -> NDArray[np.float64]:
    try:
        pose = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        pose = np.empty(0)
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6):
        raise SceneError(
            f"{file}: transform_matrix of {path} is not a finite 4x4 camera-to-world matrix with last row 0 0 0 1; "
            "remove the frame or repair its pose"
        )
    return pose


def _depth_file(folder: Path, picture: Path) -> Path:
    found = [path for s in (".png", ".npy") if (path := folder / "depth" / f"{picture.stem}{s}").is_file()]
    if len(found) == 1:
        return found[0]
    problem = "is missing" if not found else "is there as PNG and as NPY"
    raise SceneError(
        f"{folder / 'depth'}: depth of {picture.name} {problem}; expected one of {picture.stem}.png (16 bit, "
        f"millimetres) and {picture.stem}.npy (float) for every picture, or no depth folder"
    )


def _prompt(file: Path, content: dict[str, Any]) -> tuple[str, Path | None]:
    if "prompt" in content:
        if not isinstance(content["prompt"], str):
            raise SceneError(f"{file}: prompt is {content['prompt']!r}; expected a text")
        return content["prompt"].strip(), None
    return read_prompt(file.parent)


def _source(frame: _Frame) -> FrameSource:
    def intrinsics(size: tuple[int, int]) -> NDArray[np.float64]:
        return intrinsics_at(frame.intrinsics, frame.size or size, size, str(frame.picture))

    return FrameSource(
        name=str(frame.picture),
        read_rgb=partial(read_picture, frame.picture),
        intrinsics=intrinsics,
        world_from_cam=frame.world_from_cam,
        read_depth=None if frame.depth is None else partial(_read_depth, frame.depth),
    )


def _read_depth(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """[h, w] float32 depth in the poses' unit, and where there is any."""
    if path.suffix == ".npy":
        depth = read_depth_npy(path)
        return depth, np.isfinite(depth) & (depth > 0)
    raw = read_depth_png16(path)
    return raw.astype(np.float32) / np.float32(1000), (raw > 0) & (raw < np.iinfo(np.uint16).max)
