"""TartanAir v1, as the official zips unpack, and the writer of the same layout.

::

    ROOT/ENV/LEVEL/Pxxx/image_left/000000_left.png        LEVEL is Easy or Hard; also ROOT/ENV/ENV/LEVEL/Pxxx
                       /depth_left/000000_left_depth.npy  float32 z-depth in metres; sky is a large number
                       /pose_left.txt                     a line a picture: tx ty tz qx qy qz qw, camera to world, NED

Conventions: NED is x forward, y right, z down, for world and camera alike. The official cameras are all the same: 640 x
480, focal length 320, principal point (320, 240). Our own exports have other cameras and say so in one more file,
``gen3r_bench_camera.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from gen3r_bench.datasets.base import ClipProfile, DatasetInfo, DatasetOption
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    intrinsics_at,
    read_depth_npy,
    read_picture,
    read_prompt,
    read_text,
)
from gen3r_bench.datasets.export import SceneWriter, shared_intrinsics
from gen3r_bench.datasets.official import (
    CLIP_FRAMES,
    OfficialDataset,
    checked_root,
    chosen_number,
    chosen_value,
    file_names,
    subfolders,
)
from gen3r_bench.errors import InputError, SceneError
from gen3r_bench.scene import Scene

LEVELS: Final = ("Easy", "Hard")
OFFICIAL_CAMERA: Final = np.array([[320.0, 0.0, 320.0], [0.0, 320.0, 240.0], [0.0, 0.0, 1.0]])
OFFICIAL_SIZE: Final = (480, 640)
CAMERA_FILE: Final = "gen3r_bench_camera.json"

_OPENCV_FROM_NED: Final = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
_MAX_QUATERNION_ERROR: Final = 1e-2


class TartanAirDataset(OfficialDataset):
    """TartanAir v1 trajectories; ids are ``ENV/LEVEL/Pxxx``, whichever way the zips were unpacked.

    Depth is valid where it is finite, positive and at most ``depth_cap``; everything beyond is taken for sky.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="tartanair",
        title="TartanAir",
        summary="Synthetic trajectories through 18 environments, with exact depth and cameras (v1).",
        has_depth=True,
        scale="metric",
        needs_root=True,
        licence="see https://theairlab.org/tartanair-dataset",
        reference="https://arxiv.org/abs/2003.14338",
    )
    options: ClassVar[tuple[DatasetOption, ...]] = (
        DatasetOption("depth_cap", "80", "metres above 0 and up to 10000", "Depth beyond this is not valid."),
        DatasetOption("level", "all", "all, easy or hard", "Draw only trajectories of this level of motion."),
    )

    def __init__(self, folders: Mapping[str, Path], *, depth_cap: float = 80.0, level: str = "all") -> None:
        super().__init__(folders)
        self._depth_cap = depth_cap
        self._level = level

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index the trajectories below ``root``; only folders are listed.

        Raises:
            InputError: where an option is not legal, or there is no trajectory in either layout, or one is there twice.
        """
        depth_cap = chosen_number(options, "depth_cap", above=0, up_to=10_000, unit="metres")
        level = chosen_value(options, "level", ("all", "easy", "hard"))
        root = checked_root(cls.info.name, root)
        folders: dict[str, Path] = {}
        for scene_id, folder in _trajectories(root):
            if scene_id in folders:
                raise InputError(
                    f"trajectory {scene_id} twice, in {folders[scene_id]} and {folder}", expected="one copy of it"
                )
            folders[scene_id] = folder
        if not folders:
            raise InputError(
                f"no trajectory in {root}",
                expected="ENV/Easy/Pxxx or ENV/ENV/Easy/Pxxx with pose_left.txt (TartanAir V2 is another format)",
            )
        return cls(folders, depth_cap=depth_cap, level=level)

    def excluded(self) -> Mapping[str, str]:
        """Trajectories of another level than the option asks for."""
        if self._level == "all":
            return {}
        wanted = self._level.capitalize()
        return {s: f"option level={self._level}" for s in self._folders if s.split("/")[1] != wanted}

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the profile, the depth cap, the poses, and pictures and depth of the profile's frames.

        Raises:
            UnknownNameError: where there is no such trajectory.
            SceneError: where a file is missing or the trajectory is shorter than the profile.
        """
        folder = self._folder(scene_id)
        names = chosen_frames(_frame_names(folder), profile, f"tartanair {scene_id}")
        extra = [path for path in (read_prompt(folder)[1], folder / CAMERA_FILE) if path is not None and path.exists()]
        files = [file for name in names for file in (_picture(folder, name), _depth(folder, name))]
        return files_fingerprint(
            [folder / "pose_left.txt", *extra, *files], "tartanair 1", scene_id, str(profile), f"{self._depth_cap:g}"
        )

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one clip.

        Raises:
            UnknownNameError: where there is no such trajectory.
            SceneError: where a file is missing or damaged, poses and pictures differ in number, or the trajectory is
                shorter than the profile.
        """
        folder = self._folder(scene_id)
        names = _frame_names(folder)
        poses = _pose_lines(folder, len(names))
        camera, size = _camera(folder)
        chosen = chosen_frames(list(zip(names, poses, strict=True)), profile, f"tartanair {scene_id}")
        frames = [
            FrameSource(
                name=str(_picture(folder, name)),
                read_rgb=partial(read_picture, _picture(folder, name)),
                intrinsics=partial(intrinsics_at, camera, size, name=str(_picture(folder, name))),
                world_from_cam=opencv_from_ned(_ned_pose(folder / "pose_left.txt", number, line)),
                read_depth=partial(_read_depth, _depth(folder, name), self._depth_cap),
            )
            for name, (number, line) in chosen
        ]
        return assemble_clip(
            frames,
            replace(profile, start=0, stride=1),
            dataset=self.info.name,
            scene_id=scene_id,
            prompt=read_prompt(folder)[0],
            scale="metric",
        )

    def _pictures(self, scene_id: str) -> int:
        return len(file_names(self._folders[scene_id] / "image_left", "_left.png", CLIP_FRAMES))


def opencv_from_ned(world_from_cam: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., 4, 4] camera-to-world poses with NED axes on both sides give those with OpenCV axes on both sides."""
    turn = np.eye(4)
    turn[:3, :3] = _OPENCV_FROM_NED
    return turn @ world_from_cam @ turn.T


def ned_from_opencv(world_from_cam: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `opencv_from_ned`."""
    turn = np.eye(4)
    turn[:3, :3] = _OPENCV_FROM_NED
    return turn.T @ world_from_cam @ turn


def _trajectories(root: Path) -> Iterator[tuple[str, Path]]:
    for env in subfolders(root):
        for base in (root / env, root / env / env):  # the zips hold ENV/ENV; some people move it up
            for level in LEVELS:
                if (base / level).is_dir():
                    for name in subfolders(base / level):
                        if re.fullmatch(r"P\d+", name):
                            yield f"{env}/{level}/{name}", base / level / name


def _frame_names(folder: Path) -> list[str]:
    """Frame numbers as they are written, ``000000`` and on; the poses count them from 0, so none may be missing."""
    pictures = folder / "image_left"
    names = file_names(pictures, "_left.png")
    if not names:
        raise SceneError(f"{pictures}: no pictures *_left.png; unpack the image_left zip of this environment")
    stems = sorted((name.removesuffix("_left.png") for name in names), key=lambda s: (len(s), s))
    for i, stem in enumerate(stems):
        if not stem.isdecimal() or int(stem) != i:
            raise SceneError(f"{pictures}: expected frame {i:06d}, found {stem}; frames are missing from the recording")
    return stems


def _picture(folder: Path, name: str) -> Path:
    return folder / "image_left" / f"{name}_left.png"


def _depth(folder: Path, name: str) -> Path:
    return folder / "depth_left" / f"{name}_left_depth.npy"


def _read_depth(path: Path, cap: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    depth = read_depth_npy(path)
    return depth, (depth > 0) & (depth <= cap)  # false for non-finite values too


def _pose_lines(folder: Path, pictures: int) -> list[tuple[int, str]]:
    path = folder / "pose_left.txt"
    lines = [(i, line) for i, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if len(lines) != pictures:
        raise SceneError(f"{path}: {len(lines)} poses for {pictures} pictures; expected one line a picture")
    return lines


def _ned_pose(path: Path, number: int, line: str) -> NDArray[np.float64]:
    try:
        values = np.array([float(word) for word in line.split()])
    except ValueError:
        values = np.empty(0)
    if values.shape != (7,) or not np.isfinite(values).all():
        raise SceneError(f"{path}: line {number} is not 7 finite numbers tx ty tz qx qy qz qw")
    norm = float(np.linalg.norm(values[3:]))
    if abs(norm - 1.0) > _MAX_QUATERNION_ERROR:
        raise SceneError(f"{path}: the quaternion in line {number} has length {norm:.4g}; expected 1")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(values[3:]).as_matrix()
    pose[:3, 3] = values[:3]
    return pose


def _camera(folder: Path) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Intrinsics of a trajectory and the (height, width) that they are for."""
    path = folder / CAMERA_FILE
    if not path.exists():
        return OFFICIAL_CAMERA, OFFICIAL_SIZE
    try:
        content = json.loads(read_text(path))
        fx, fy, cx, cy = (float(content[key]) for key in ("fx", "fy", "cx", "cy"))
        size = (int(content["height"]), int(content["width"]))
    except (ValueError, TypeError, KeyError) as error:
        raise SceneError(f"{path}: expected numbers for fx, fy, cx, cy, width and height") from error
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), size


class TartanAirWriter(SceneWriter):
    """Writes ``ENV/Easy/P000`` with an environment a scene; lossless. Unknown depth is 0, where TartanAir has sky."""

    needs_depth = True
    metric = True

    def place(self, scene: Scene) -> Path:
        return Path(self.slug(scene.dataset, scene.scene_id), "Easy", "P000")

    def write(self, scene: Scene, folder: Path) -> None:
        fx, fy, cx, cy = shared_intrinsics(scene)
        for name in ("image_left", "depth_left"):
            (folder / name).mkdir()
        poses = ned_from_opencv(scene.cameras.world_from_cam)
        quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
        lines = [" ".join(f"{n:.12g}" for n in (*t, *q)) for t, q in zip(poses[:, :3, 3], quaternions, strict=True)]
        (folder / "pose_left.txt").write_text("\n".join(lines) + "\n")
        for i, rgb in enumerate(scene.rgb):
            Image.fromarray(rgb).save(_picture(folder, f"{i:06d}"))
            np.save(_depth(folder, f"{i:06d}"), self.known_depth(scene, i))
        height, width = scene.image_size
        camera = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}
        (folder / CAMERA_FILE).write_text(json.dumps(camera) + "\n")
