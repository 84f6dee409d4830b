"""DL3DV-10K: nerfstudio captures with COLMAP cameras, from the ALL sets and from DL3DV-Benchmark.

::

    <batch>/<hash>/transforms.json          DL3DV-ALL: images_8 (480P), images_4 (960P) or images (4K) beside it
    <hash>/nerfstudio/transforms.json       DL3DV-Benchmark; its gaussian_splat/ is read where nerfstudio/ is missing
    <hash>/transforms.json                  one batch, or one scene's own folder as root

Poses are world-from-camera with OpenGL axes. ``file_path`` says ``images/…`` whatever was downloaded, so pictures are
found by their base name; intrinsics are those of the original video and are scaled to the pictures' real size.

A clip takes consecutive *registered* frames: those that ``transforms.json`` lists, by the number in their names. Frames
that COLMAP could not place are not listed, so numbers may jump; `Dl3dvDataset.remarks` says where. A frame that is
listed and whose picture is missing is another matter: it depends on the download, so the clip is refused.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from gen3r_bench.datasets.base import ClipProfile, Dataset, DatasetInfo, DatasetOption
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    read_picture,
    read_prompt,
)
from gen3r_bench.datasets.export import SceneWriter, shared_intrinsics
from gen3r_bench.datasets.nerfstudio import CameraFrame, frame_number, read_transforms
from gen3r_bench.datasets.official import checked_root, chosen_value, file_names, subfolders
from gen3r_bench.datasets.splits import protocol_split
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Scene

RESOLUTIONS: Final = ("images_4", "images_8", "images")
"""Folders of pictures, in the order in which ``resolution=auto`` takes them: 960P is nearest to the paper's 560."""

MAX_ZOOM: Final = 1.5
"""Largest zoom that undistortion may need to fill the picture; real lenses need a few per cent."""

_APPLIED_TRANSFORM: Final = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
_VARIANTS: Final = ("nerfstudio", "gaussian_splat")
_DEPTH: Final = 3  # ALL/<batch>/<hash>, or Benchmark/<hash>/nerfstudio with one folder around it


class Dl3dvDataset(Dataset):
    """Scenes of DL3DV-10K; ids are the folders' hashes, without their batch. See the module for layouts and rules.

    The dataset has no official test part: the suite's rule takes a tenth of the ids. ``load`` reads any scene of the
    root, as published lists need.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="dl3dv",
        title="DL3DV-10K",
        summary="Walks through 65 kinds of places, with COLMAP cameras and no depth.",
        has_depth=False,
        scale="sfm",
        needs_root=True,
        licence="DL3DV-10K terms of use and CC BY-NC 4.0",
        reference="https://dl3dv-10k.github.io/DL3DV-10K/",
    )
    options: ClassVar[tuple[DatasetOption, ...]] = (
        DatasetOption("resolution", "auto", f"auto, {', '.join(RESOLUTIONS)}", "Which folder of pictures is read."),
        DatasetOption(
            "undistort",
            "no",
            "no or yes",
            "Whether lens distortion is taken out; published evaluations ignore it (up to 4 px on wide pairs).",
        ),
    )

    def __init__(self, folders: Mapping[str, Path], resolution: str, undistort: bool) -> None:
        self._folders = folders
        self._resolution = resolution
        self._undistort = undistort
        self._excluded = {
            scene: f"{folder}: no transforms.json; the scene was not registered, or the download is not complete"
            for scene, folder in folders.items()
            if not (folder / "transforms.json").is_file()
        }

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index the scene folders up to three levels below ``root``.

        Raises:
            InputError: where an option's value is not legal, the root is missing or holds no scene, or a scene lies in
                two places (two resolutions downloaded side by side).
        """
        root = checked_root(cls.info.name, root)
        resolution = chosen_value(options, "resolution", ("auto", *RESOLUTIONS))
        undistort = chosen_value(options, "undistort", ("no", "yes"))
        folders: dict[str, Path] = {}
        for folder in _scene_folders(root, _DEPTH):
            named = folder.parent if folder.name in _VARIANTS else folder
            scene = named.resolve().name
            if scene in folders:
                raise InputError(
                    f"scene {scene} lies in {folders[scene]} and in {folder}",
                    expected="each scene once",
                    fix="point --data-root at one of the downloads",
                )
            folders[scene] = folder
        if not folders:
            raise InputError(
                f"no DL3DV scene in {root}",
                expected="<batch>/<hash>/transforms.json, <hash>/transforms.json or <hash>/nerfstudio/transforms.json",
            )
        return cls(folders, resolution, undistort == "yes")

    def scene_ids(self) -> tuple[str, ...]:
        """The suite's test part of the scenes, ranked; those without cameras last."""
        test = protocol_split(self.info.name, self._folders)
        return tuple(sorted(test, key=lambda scene: scene in self._excluded))

    def all_scene_ids(self) -> tuple[str, ...]:
        """Every scene that was found, sorted; ``load`` takes each of them."""
        return tuple(sorted(self._folders))

    def excluded(self) -> Mapping[str, str]:
        """Scenes of the root without a ``transforms.json``, each with that reason."""
        return self._excluded

    def remarks(self, scene_id: str, profile: ClipProfile) -> tuple[str, ...]:
        """What a reader of numbers should know of a clip that can be read: its pictures, lens and jumps.

        Raises:
            UnknownNameError: where there is no such scene.
            SceneError: where its cameras cannot be read, or it is shorter than the profile.
        """
        capture = self._read(scene_id)
        chosen = chosen_frames(capture.frames, profile, str(capture.file))
        notes = [f"pictures from {capture.pictures.name}"]
        if any(any(frame.distortion) for frame in chosen):
            notes.append("lens distortion taken out" if self._undistort else "lens distortion ignored")
        jumps = [
            f"{one.name} to {two.name}"
            for one, two in itertools.pairwise(chosen)
            if frame_number(two.name)[0][-1:] != tuple(n + profile.stride for n in frame_number(one.name)[0][-1:])
        ]
        if jumps:
            notes.append(f"{len(jumps)} jumps in the numbers of registered frames, first from {jumps[0]}")
        return tuple(notes)

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the profile, the undistortion, ``transforms.json`` and the clip's pictures.

        Raises:
            UnknownNameError: where there is no such scene.
            SceneError: where its files cannot be read, or it is shorter than the profile.
        """
        capture = self._read(scene_id)
        pictures = [capture.pictures / frame.name for frame in capture.chosen(profile)]
        key = ("dl3dv 1", scene_id, str(profile), f"undistort={self._undistort}")
        prompt = read_prompt(capture.file.parent)[1]
        return files_fingerprint([capture.file, *([prompt] if prompt else []), *pictures], *key)

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one scene: listed frames ``start``, ``start + stride``, … by the numbers in their names.

        Raises:
            UnknownNameError: where there is no such scene.
            SceneError: where a picture of the clip is missing or damaged, a camera is unusable, or the scene is shorter
                than the profile.
        """
        capture = self._read(scene_id)
        capture.chosen(profile)
        lens = _Lens()
        frames = []
        for frame in capture.frames:
            path = capture.pictures / frame.name
            read_rgb: Callable[[], NDArray[np.uint8]] = partial(read_picture, path)
            intrinsics: Callable[[tuple[int, int]], NDArray[np.float64]] = frame.intrinsics_at
            if self._undistort and any(frame.distortion):
                read_rgb, intrinsics = partial(lens.picture, frame, path), partial(lens.intrinsics, frame)
            frames.append(FrameSource(str(path), read_rgb, intrinsics, frame.world_from_cam))
        return assemble_clip(
            frames,
            profile,
            dataset=self.info.name,
            scene_id=scene_id,
            prompt=read_prompt(capture.file.parent)[0],
            scale=self.info.scale,
        )

    def _read(self, scene_id: str) -> _Capture:
        if scene_id not in self._folders:
            raise UnknownNameError("scene of dl3dv", scene_id, self._folders)
        if scene_id in self._excluded:
            raise SceneError(self._excluded[scene_id])
        folder = self._folders[scene_id]
        names = RESOLUTIONS if self._resolution == "auto" else (self._resolution,)
        pictures = next((path for name in names if (path := folder / name).is_dir()), None)
        if pictures is None:
            raise SceneError(f"{folder}: no pictures; expected a folder {' or '.join(names)}")
        file = folder / "transforms.json"
        return _Capture(file, pictures, read_transforms(file, axes="opengl"))


class Dl3dvWriter(SceneWriter):
    """Writes ``1K/<scene>`` with pictures in ``images_4`` and intrinsics of a video four times as large; lossless."""

    def place(self, scene: Scene) -> Path:
        return Path("1K", self.slug(scene.dataset, scene.scene_id))

    def write(self, scene: Scene, folder: Path) -> None:
        names = [f"frame_{i:05d}.png" for i in range(1, scene.num_frames + 1)]
        (folder / "images_4").mkdir()
        for name, rgb in zip(names, scene.rgb, strict=True):
            Image.fromarray(rgb).save(folder / "images_4" / name)
        fx, fy, cx, cy = (4 * value for value in shared_intrinsics(scene))
        height, width = scene.image_size
        world = np.vstack([_APPLIED_TRANSFORM, [0.0, 0.0, 0.0, 1.0]])
        poses = world @ scene.cameras.world_from_cam @ np.diag([1.0, -1.0, -1.0, 1.0])
        content = {
            "w": 4 * width,
            "h": 4 * height,
            "fl_x": fx,
            "fl_y": fy,
            "cx": cx,
            "cy": cy,
            "k1": 0.0,
            "k2": 0.0,
            "p1": 0.0,
            "p2": 0.0,
            "camera_model": "OPENCV",
            "frames": [
                {"file_path": f"images/{name}", "transform_matrix": pose.tolist(), "colmap_im_id": i}
                for i, (name, pose) in enumerate(zip(names, poses, strict=True), start=1)
            ],
            "applied_transform": _APPLIED_TRANSFORM.tolist(),
        }
        (folder / "transforms.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Capture:
    file: Path
    pictures: Path
    frames: tuple[CameraFrame, ...]

    def chosen(self, profile: ClipProfile) -> list[CameraFrame]:
        """Frames of a clip, every one with its picture."""
        chosen = chosen_frames(self.frames, profile, str(self.file))
        there = set(file_names(self.pictures, ""))
        missing = [frame.name for frame in chosen if frame.name not in there]
        if missing:
            of_all = sum(frame.name not in there for frame in self.frames)
            raise SceneError(
                f"{self.pictures}: {missing[0]} is listed and missing, as are {len(missing)} of the clip's "
                f"{len(chosen)} frames and {of_all} of all {len(self.frames)}; restore the pictures"
            )
        return chosen


def _scene_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a ``transforms.json`` or with pictures only; never looks into a folder of pictures."""
    if (folder / "transforms.json").is_file():
        yield folder
        return
    below = subfolders(folder)
    variant = next((name for name in _VARIANTS if name in below), None)
    if variant is not None:
        yield folder / variant
    elif any(name in below for name in RESOLUTIONS):
        yield folder
    elif depth > 0:
        for name in below:
            yield from _scene_folders(folder / name, depth - 1)


@dataclass(frozen=True, slots=True)
class Undistortion:
    """How the pictures of one lens are straightened.

    Attributes:
        intrinsics: [3, 3] of the straight picture: the lens's own with both focal lengths times ``zoom``.
        zoom: from 1 on; the least at which every pixel of the straight picture was seen by the lens.
        source: [2, h, w] (row, column), array indices in the distorted picture.
    """

    intrinsics: NDArray[np.float64]
    zoom: float
    source: NDArray[np.float64]

    def picture(self, distorted: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bilinear: [h, w, 3] uint8 gives [h, w, 3] uint8."""
        channels = [
            map_coordinates(distorted[..., i].astype(np.float32), self.source, order=1, mode="nearest")
            for i in range(3)
        ]
        return np.rint(np.stack(channels, axis=-1)).clip(0, 255).astype(np.uint8)


def undistortion(
    intrinsics: NDArray[np.float64], distortion: tuple[float, float, float, float], size: tuple[int, int]
) -> Undistortion:
    """Straightening for OpenCV's lens model.

    The new picture has the size and the principal point of the old one. It shows no border that the lens did not see:
    where the lens's picture is too narrow, the focal lengths grow by ``zoom``, which stands in the new intrinsics.

    Args:
        intrinsics: [3, 3], pixels of ``size``, origin at the corner.
        distortion: k1, k2, p1, p2.
        size: (height, width).

    Raises:
        SceneError: where no zoom up to `MAX_ZOOM` fills the picture: the coefficients are not those of a lens.
    """
    height, width = size
    columns, rows = np.arange(width, dtype=np.float64) + 0.5, np.arange(height, dtype=np.float64) + 0.5
    border = np.concatenate(
        [np.stack([columns, np.full(width, y)]) for y in (0.5, height - 0.5)]
        + [np.stack([np.full(height, x), rows]) for x in (0.5, width - 0.5)],
        axis=1,
    )

    def seen(zoom: float) -> bool:
        x, y = _distorted(border[0], border[1], intrinsics, distortion, zoom)
        return bool(((x >= 0) & (x <= width) & (y >= 0) & (y <= height)).all())

    zoom = 1.0
    if not seen(zoom):
        low, zoom = 1.0, MAX_ZOOM
        if not seen(zoom):
            raise SceneError(f"distortion {distortion} leaves no picture of {width}x{height}; restore the cameras")
        while zoom - low > 1e-6:
            middle = (low + zoom) / 2
            low, zoom = (low, middle) if seen(middle) else (middle, zoom)
    x, y = _distorted(columns[None, :], rows[:, None], intrinsics, distortion, zoom)
    straight = intrinsics.copy()
    straight[[0, 1], [0, 1]] *= zoom
    return Undistortion(straight, zoom, np.stack([y - 0.5, x - 0.5]))


def _distorted(
    column: NDArray[np.float64],
    row: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    distortion: tuple[float, float, float, float],
    zoom: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the lens puts what a pinhole of ``zoom`` times the focal lengths puts at (column, row)."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    k1, k2, p1, p2 = distortion
    x, y = (column - cx) / (fx * zoom), (row - cy) / (fy * zoom)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * k2)
    return (
        fx * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) + cx,
        fy * (y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y) + cy,
    )


class _Lens:
    """Straightens the frames of one clip; frames of one lens and size share their map."""

    def __init__(self) -> None:
        self._maps: dict[bytes, Undistortion] = {}
        self._lock = threading.Lock()  # frames are read side by side

    def picture(self, frame: CameraFrame, path: Path) -> NDArray[np.uint8]:
        distorted = read_picture(path)
        return self._map(frame, (distorted.shape[0], distorted.shape[1])).picture(distorted)

    def intrinsics(self, frame: CameraFrame, size: tuple[int, int]) -> NDArray[np.float64]:
        return self._map(frame, size).intrinsics

    def _map(self, frame: CameraFrame, size: tuple[int, int]) -> Undistortion:
        matrix = frame.intrinsics_at(size)
        key = matrix.tobytes() + repr((frame.distortion, size)).encode()
        with self._lock:
            if key not in self._maps:
                self._maps[key] = undistortion(matrix, frame.distortion, size)
            return self._maps[key]
