"""WildRGB-D, as the official zips unpack, and the writer of the same layout.

::

    ROOT/CATEGORY/scenes/scene_<id>/rgb/00000.png   depth/00000.png   masks/00000.png
                                   /metadata        JSON without an extension: w, h, K (9 numbers, COLUMN by column)
                                   /cam_poses.txt   a line a frame: its number, then the 4x4 camera to world, row by row
    ROOT/CATEGORY/types.json, nvs_list.json, camera_eval_list.json

Conventions: OpenCV axes; 16-bit depth in millimetres, registered to the picture, 0 where there is none. Where K has its
origin is not documented; it is taken for the picture's corner, which is at most half a pixel off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.datasets.base import ClipProfile, DatasetInfo, DatasetOption
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    intrinsics_at,
    masked,
    read_depth_png16,
    read_picture,
    read_prompt,
    read_text,
)
from gen3r_bench.datasets.export import SceneWriter, replace_text, shared_intrinsics
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

KNOWN_BAD: Final[Mapping[str, str]] = {
    "box/scene_257": "known to be damaged (CUT3R leaves it out too)",
}
LISTS: Final = ("none", "nvs", "camera_eval")
_MASK_ABOVE: Final = 127


class WildRgbdDataset(OfficialDataset):
    """WildRGB-D recordings; ids are ``CATEGORY/scene_<id>``, since scene names repeat in every category.

    Depth is valid where it is above 0 and at most ``max_depth``; 65535 never is. Object masks say what the object is,
    not where depth is known, so they are used only with ``foreground=yes``.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="wildrgbd",
        title="WildRGB-D",
        summary="Phone recordings around objects of 46 categories, with sensor depth and SLAM cameras.",
        has_depth=True,
        scale="metric",
        needs_root=True,
        licence="tools MIT; none stated for the data",
        reference="https://arxiv.org/abs/2401.12592",
    )
    options: ClassVar[tuple[DatasetOption, ...]] = (
        DatasetOption("foreground", "no", "yes or no", "Only depth on the object is valid."),
        DatasetOption(
            "max_depth", "5", "metres above 0 and up to 65.534", "Depth beyond this is not valid, as officially fused."
        ),
        DatasetOption(
            "lists",
            "none",
            "none, nvs or camera_eval",
            "Draw from the val part of an official list instead of our 10 %.",
        ),
    )

    def __init__(
        self, folders: Mapping[str, Path], *, foreground: bool = False, max_depth: float = 5.0, lists: str = "none"
    ) -> None:
        super().__init__(folders)
        self._foreground = foreground
        self._max_depth = max_depth
        self._lists = lists

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index the recordings below ``root``; only folders are listed.

        Raises:
            InputError: where an option is not legal, or there is no recording.
        """
        foreground = chosen_value(options, "foreground", ("yes", "no")) == "yes"
        max_depth = chosen_number(options, "max_depth", above=0, up_to=65.534, unit="metres")
        lists = chosen_value(options, "lists", LISTS)
        root = checked_root(cls.info.name, root)
        folders = {
            f"{category}/{name}": scenes / name
            for category in subfolders(root)
            if (scenes := root / category / "scenes").is_dir()
            for name in subfolders(scenes)
            if name.startswith("scene")
        }
        if not folders:
            raise InputError(
                f"no recording in {root}", expected="CATEGORY/scenes/scene_<id>/ with rgb/ and cam_poses.txt"
            )
        return cls(folders, foreground=foreground, max_depth=max_depth, lists=lists)

    def excluded(self) -> Mapping[str, str]:
        """Recordings with a moving hand, known bad ones, and those outside the official list that was asked for.

        Raises:
            InputError: where a category's list is damaged, or missing although the options ask for it.
        """
        reasons = {scene: reason for scene, reason in KNOWN_BAD.items() if scene in self._folders}
        categories: dict[str, list[str]] = {}
        for scene in self._folders:
            categories.setdefault(scene.split("/")[0], []).append(scene)
        for scenes in categories.values():
            folder = self._folders[scenes[0]].parent.parent
            types = _by_name(_json_object(folder / "types.json", needed=False))
            listed = None
            if self._lists != "none":
                content = _json_object(folder / f"{self._lists}_list.json", needed=True)
                listed = _by_name(dict.fromkeys(content.get("val", ())))
            for scene in scenes:
                name = scene.split("/")[1]
                if types.get(name) == "hand":
                    reasons.setdefault(scene, "a moving hand holds the object (types.json)")
                elif listed is not None and name not in listed:
                    reasons.setdefault(scene, f"not in val of {self._lists}_list.json")
        return reasons

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the profile, the options, cameras, and pictures, depth and masks of the profile's frames.

        Raises:
            UnknownNameError: where there is no such recording.
            SceneError: where a file is missing or the recording is shorter than the profile.
        """
        folder = self._folder(scene_id)
        prompt = read_prompt(folder)[1]
        kinds = ("rgb", "depth", *(["masks"] if self._foreground else []))
        chosen = chosen_frames(_frame_names(folder), profile, f"wildrgbd {scene_id}")
        return files_fingerprint(
            [
                *(folder / name for name in ("metadata", "cam_poses.txt")),
                *([prompt] if prompt else []),
                *(folder / kind / name for name in chosen for kind in kinds),
            ],
            "wildrgbd 1",
            scene_id,
            str(profile),
            f"{self._foreground} {self._max_depth:g}",
        )

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one clip.

        Raises:
            UnknownNameError: where there is no such recording.
            SceneError: where a file is missing or damaged, poses and pictures do not match, or the recording is shorter
                than the profile.
        """
        folder = self._folder(scene_id)
        names = _frame_names(folder)
        camera, size = _camera(folder)
        poses = _poses(folder, len(names))
        frames = [
            FrameSource(
                name=str(folder / "rgb" / name),
                read_rgb=partial(read_picture, folder / "rgb" / name),
                intrinsics=partial(intrinsics_at, camera, size, name=str(folder / "rgb" / name)),
                world_from_cam=pose,
                read_depth=partial(self._read_depth, folder, name),
            )
            for name, pose in chosen_frames(list(zip(names, poses, strict=True)), profile, f"wildrgbd {scene_id}")
        ]
        return assemble_clip(
            frames,
            replace(profile, start=0, stride=1),
            dataset=self.info.name,
            scene_id=scene_id,
            prompt=read_prompt(folder)[0],
            scale="metric",
        )

    @property
    def _test_fraction(self) -> float:
        return 0.1 if self._lists == "none" else 1.0

    def _pictures(self, scene_id: str) -> int:
        return len(file_names(self._folders[scene_id] / "rgb", ".png", CLIP_FRAMES))

    def _read_depth(self, folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        raw = read_depth_png16(folder / "depth" / name)
        depth = raw.astype(np.float32) / np.float32(1000)
        valid = (raw > 0) & (raw < np.iinfo(np.uint16).max) & (depth <= np.float32(self._max_depth))
        if self._foreground:
            valid = masked(valid, folder / "masks" / name, above=_MASK_ABOVE)
        return depth, valid


def _by_name(content: dict[str, Any]) -> dict[str, Any]:
    """Lists write ``scenes/scene_012``; folders and ids end in ``scene_012``."""
    return {key.rsplit("/", 1)[-1]: value for key, value in content.items()}


def _json_object(path: Path, *, needed: bool) -> dict[str, Any]:
    if not path.exists() and not needed:
        return {}
    try:
        content = json.loads(read_text(path))
    except (SceneError, ValueError) as error:
        raise InputError(f"{path}: {error}", expected="the category's file as downloaded") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}", expected="a JSON object")
    return content


def _frame_names(folder: Path) -> list[str]:
    """Names of the pictures; ``cam_poses.txt`` counts them from 0, so none may be missing."""
    pictures = folder / "rgb"
    names = sorted(file_names(pictures, ".png"), key=lambda name: (len(name), name))
    if not names:
        raise SceneError(f"{pictures}: no pictures; unpack all parts of this category's zip")
    for i, name in enumerate(names):
        stem = name.removesuffix(".png")
        if not stem.isdecimal() or int(stem) != i:
            raise SceneError(f"{pictures}: expected frame {i:05d}, found {stem}; frames are missing from the recording")
    return names


def _poses(folder: Path, pictures: int) -> list[NDArray[np.float64]]:
    """[4, 4] camera-to-world of every frame; finiteness and rigidity are judged for the frames that are used."""
    path = folder / "cam_poses.txt"
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if len(lines) != pictures:
        raise SceneError(f"{path}: {len(lines)} poses for {pictures} pictures; expected one line a picture")
    poses: dict[int, NDArray[np.float64]] = {}
    for number, words in enumerate(lines, 1):
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.empty(0)
        if values.shape != (17,):
            raise SceneError(f"{path}: line {number} is not 17 numbers (the frame's, then a 4x4 matrix)")
        frame = values[0]
        if frame not in range(pictures) or int(frame) in poses:
            raise SceneError(
                f"{path}: line {number} is for frame {words[0]}; expected each of 0 to {pictures - 1} once"
            )
        poses[int(frame)] = values[1:].reshape(4, 4)
    return [poses[frame] for frame in range(pictures)]


def _camera(folder: Path) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Intrinsics of a recording and the (height, width) that they are for."""
    path = folder / "metadata"
    try:
        content = json.loads(read_text(path))
        # K is written column by column
        camera = np.array([float(n) for n in content["K"]]).reshape(3, 3).T
        size = (int(content["h"]), int(content["w"]))
    except (ValueError, TypeError, KeyError) as error:
        raise SceneError(f"{path}: expected JSON with w, h and 9 numbers of K") from error
    if not np.allclose(camera[2], [0, 0, 1], atol=1e-6) or min(size) < 1:
        raise SceneError(f"{path}: K or w, h are no camera's; expected K column by column (was it transposed?)")
    return camera, size


class WildRgbdWriter(SceneWriter):
    """Writes ``DATASET/scenes/scene_<id>``; depth is rounded to millimetres.

    Every scene is of type "single", in val of both lists, and its mask covers the whole picture: what is an object is
    not known.
    """

    needs_depth = True
    metric = True

    def __init__(self) -> None:
        self._categories: set[str] = set()

    def place(self, scene: Scene) -> Path:
        return Path(self.slug(scene.dataset), "scenes", f"scene_{self.slug(scene.scene_id)}")

    def write(self, scene: Scene, folder: Path) -> None:
        fx, fy, cx, cy = shared_intrinsics(scene)
        height, width = scene.image_size
        for name in ("rgb", "depth", "masks"):
            (folder / name).mkdir()
        whole = Image.new("L", (width, height), 255)
        for i, rgb in enumerate(scene.rgb):
            millimetres = np.rint(self.known_depth(scene, i) * 1000.0)
            if millimetres.max() >= np.iinfo(np.uint16).max:
                raise InputError(
                    f"scene {scene.scene_id} of {scene.dataset}: depth of {millimetres.max() / 1000:.1f} m",
                    expected="up to 65.534 m: this format has 16-bit millimetres",
                )
            Image.fromarray(rgb).save(folder / "rgb" / f"{i:05d}.png")
            Image.fromarray(millimetres.astype(np.uint16)).save(folder / "depth" / f"{i:05d}.png")
            whole.save(folder / "masks" / f"{i:05d}.png")
        columns = [fx, 0.0, 0.0, 0.0, fy, 0.0, cx, cy, 1.0]
        (folder / "metadata").write_text(json.dumps({"w": width, "h": height, "K": columns}))
        lines = [
            f"{i} " + " ".join(f"{n:.12g}" for n in pose.ravel()) for i, pose in enumerate(scene.cameras.world_from_cam)
        ]
        (folder / "cam_poses.txt").write_text("\n".join(lines) + "\n")
        self._categories.add(self.slug(scene.dataset))

    def finish(self, out: Path) -> None:
        for category in sorted(self._categories):
            # all that lie there, so that a second export keeps what the first one listed
            names = [f"scenes/{name}" for name in subfolders(out / category / "scenes")]
            replace_text(out / category / "types.json", json.dumps(dict.fromkeys(names, "single"), indent=1))
            for name in ("nvs_list.json", "camera_eval_list.json"):
                replace_text(out / category / name, json.dumps({"train": [], "val": names}, indent=1))
