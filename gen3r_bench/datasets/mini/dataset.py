"""The embedded dataset `mini`: procedural scenes with exact ground truth, rendered on demand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.datasets.base import ClipProfile, Dataset, DatasetInfo
from gen3r_bench.datasets.mini.cache import Arrays, ClipCache, cache_folder
from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.scene import Cameras, Scene, invert_rigid

if TYPE_CHECKING:  # numba and the layouts load with the first scene, not with the module
    from gen3r_bench.datasets.mini.paths import CameraPath
    from gen3r_bench.datasets.mini.world import World

MINI_VERSION: Final = "2"
"""Bumped whenever a pixel, a depth or a camera of any scene changes."""

TEST_SCENES: Final = 40
MAX_FRAMES: Final = 49
MAX_SIDE: Final = 560
DEFAULT_PROFILE: Final = ClipProfile(frames=13, image_size=(112, 112))

_TEST_IDS: Final = tuple(f"test/{i:03d}" for i in range(TEST_SCENES))
_TRAIN_ID: Final = re.compile(r"train/(0|[1-9][0-9]{0,8})")


class MiniDataset(Dataset):
    """40 fixed test scenes and an unbounded training stream, deterministic in (split, index).

    Rooms, tables and courts of textured solids; sky is invalid and has depth 0, everything else is valid. Units are
    metres. The same scene exists at every profile: the camera path runs over the whole clip, so more frames sample it
    more densely (the first and last cameras stay), and larger frames show the same textures with more detail. A frame's
    field of view spans its SHORTER side. Test scenes use pictures, patterns and layout plans that training never does.

    Clips up to 64 MB are cached below ``$GEN3R_BENCH_CACHE`` (or the user's cache folder), at most 4 GB in all.
    Pixels are the same on every run of one machine; another processor's libm may move a value by its last digit.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="mini",
        title="mini",
        summary="Procedural rooms, tables and courts with exact depth and cameras; nothing to download.",
        has_depth=True,
        scale="metric",
        needs_root=False,
        licence="MIT; textures from scikit-image's bundled pictures (public domain or CC0)",
        reference="https://github.com/scikit-image/scikit-image/tree/main/src/skimage/data",
    )

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = ClipCache((cache or cache_folder()) / "mini" / MINI_VERSION)

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Open the dataset; it needs no root and has no options.

        Raises:
            InputError: where a root is given.
        """
        if root is not None:
            raise InputError(f"a data root for mini: {root}", expected="none: mini makes its own scenes")
        return cls()

    def scene_ids(self) -> tuple[str, ...]:
        """``test/000`` to ``test/039``. ``load`` also takes ``train/<n>`` for any n from 0 on."""
        return _TEST_IDS

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the dataset's version, the scene and the profile; nothing is rendered.

        Raises:
            UnknownNameError: where there is no such scene.
            InputError: where the profile is not supported.
        """
        _check(scene_id, profile)
        height, width = profile.image_size
        text = f"mini {MINI_VERSION} {scene_id} {profile.frames} {height} {width}"
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Render one scene, or read it from the cache.

        Raises:
            UnknownNameError: where there is no such scene.
            InputError: where the profile has more than 49 frames, a side beyond 8 to 560 pixels, or a stride or start
                (a path is sampled over its whole length, so neither has a meaning here).
            SceneError: where scikit-image's pictures are missing or altered.
        """
        fingerprint = self.fingerprint(scene_id, profile)
        height, width = profile.image_size
        name = f"{scene_id}-{profile.frames}x{height}x{width}"
        arrays = self._cache.read(name, fingerprint)
        if arrays is None:
            arrays = _render(scene_id, profile)
            self._cache.write(name, fingerprint, arrays)
        depth = arrays["depth"]
        return Scene(
            dataset=self.info.name,
            scene_id=scene_id,
            rgb=arrays["rgb"],
            cameras=Cameras(arrays["world_from_cam"], arrays["intrinsics"], (height, width)),
            depth=depth,
            valid=depth > 0,
            prompt=arrays["prompt"].tobytes().decode(),
            scale="metric",
        )

    def train_scene(self, index: int, profile: ClipProfile = DEFAULT_PROFILE) -> Scene:
        """Training scene ``index`` (0, 1, 2, …): the same as ``load(f"train/{index}", profile)``."""
        return self.load(f"train/{index}", profile)


def _check(scene_id: str, profile: ClipProfile) -> None:
    if scene_id not in _TEST_IDS and not _TRAIN_ID.fullmatch(scene_id):
        raise UnknownNameError("scene of mini", scene_id, (*_TEST_IDS, "train/0", "train/<n>"))
    if not 1 <= profile.frames <= MAX_FRAMES:
        raise InputError(f"{profile.frames} frames of mini", expected=f"1 to {MAX_FRAMES} frames")
    if not all(8 <= side <= MAX_SIDE for side in profile.image_size):
        raise InputError(f"mini at {profile.image_size}", expected=f"sides of 8 to {MAX_SIDE} pixels")
    if (profile.stride, profile.start) != (1, 0):
        raise InputError(
            f"mini with stride {profile.stride} and start {profile.start}",
            expected="stride 1 and start 0: a clip always spans the whole camera path",
        )


def compose(scene_id: str) -> tuple[World, CameraPath]:
    """The scene before it is rendered: its world (exposure still 1) and its camera path.

    Raises:
        UnknownNameError: where there is no such scene.
    """
    from gen3r_bench.datasets.mini.draws import Draw
    from gen3r_bench.datasets.mini.layouts import FAMILIES, PLANS, build_world
    from gen3r_bench.datasets.mini.paths import KINDS, draw_path

    _check(scene_id, DEFAULT_PROFILE)
    split, number = scene_id.split("/")
    draw = Draw(f"mini/{scene_id}")
    # the 40 test scenes go through families, plans and paths in turn, so that all of them occur; training draws them
    index = int(number)
    family = FAMILIES[index % 3] if split == "test" else draw.choice(FAMILIES)
    plans = PLANS[split][family]
    plan = plans[index // 3 % len(plans)] if split == "test" else draw.choice(plans)
    kind = KINDS[index // 3 % 4] if split == "test" else draw.choice(KINDS)
    world = build_world(draw, split, family, plan)
    return world, draw_path(draw, world, kind)


def _render(scene_id: str, profile: ClipProfile) -> Arrays:
    from gen3r_bench.datasets.mini.prompts import describe
    from gen3r_bench.datasets.mini.textures import master_texture

    world, path = compose(scene_id)
    height, width = profile.image_size
    last = max(profile.frames - 1, 1)
    poses = path.poses([i / last for i in range(profile.frames)])
    focal = 0.5 * min(height, width) / path.half_view
    masters = [master_texture(spec) for spec in world.textures]
    texels, entries = _texels(world, masters, min(height, width))
    sky = world.sky.copy()
    sky[12] = _exposure(world, path, masters)
    rgb = np.empty((profile.frames, height, width, 3), dtype=np.uint8)
    depth = np.empty((profile.frames, height, width), dtype=np.float32)
    _shoot(world, poses, focal, texels, entries, sky, rgb, depth)
    # rounded rotations of the z-up world are rebased in float64: rigid far below the tolerance of Cameras
    world_from_cam = invert_rigid(poses[:1]) @ poses
    world_from_cam[0] = np.eye(4)
    intrinsics = np.tile(np.array([[focal, 0, 0.5 * width], [0, focal, 0.5 * height], [0, 0, 1.0]]), (len(poses), 1, 1))
    prompt = np.frombuffer(describe(world, path.kind).encode(), dtype=np.uint8)
    return {"rgb": rgb, "depth": depth, "world_from_cam": world_from_cam, "intrinsics": intrinsics, "prompt": prompt}


def _shoot(
    world: World,
    poses: NDArray[np.float64],
    focal: float,
    texels: NDArray[np.float32],
    entries: NDArray[np.int64],
    sky: NDArray[np.float64],
    rgb: NDArray[np.uint8],
    depth: NDArray[np.float32],
) -> None:
    from gen3r_bench.datasets.mini.raycast import render

    height, width = depth.shape[1:]
    for frame, pose in enumerate(poses):
        render(
            world.kinds,
            world.data,
            world.skins,
            world.spheres,
            world.ranges,
            texels,
            entries,
            world.lights,
            sky,
            pose,
            focal,
            0.5 * width,
            0.5 * height,
            rgb[frame],
            depth[frame],
        )


def _texels(
    world: World, masters: list[NDArray[np.float64]], side: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All textures in one [N, 3] array, and [T, 2] (offset, side) of each."""
    from gen3r_bench.datasets.mini.textures import texture_at

    pictures = [texture_at(master, spec, side) for master, spec in zip(masters, world.textures, strict=True)]
    sides = [len(picture) for picture in pictures]
    offsets = np.concatenate([[0], np.cumsum([n * n for n in sides])[:-1]])
    texels = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
    return texels, np.stack([offsets, np.array(sides)], axis=1).astype(np.int64)


def _exposure(world: World, path: CameraPath, masters: list[NDArray[np.float64]]) -> float:
    """Exposure that brings the clip's mean display value near 0.45, the same at every profile."""
    texels, entries = _texels(world, masters, 28)
    poses = path.poses([0.0, 0.5, 1.0])
    rgb = np.empty((len(poses), 24, 24, 3), dtype=np.uint8)
    depth = np.empty((len(poses), 24, 24), dtype=np.float32)
    sky = world.sky.copy()
    for _ in range(3):
        _shoot(world, poses, 12.0 / path.half_view, texels, entries, sky, rgb, depth)
        sky[12] *= (0.45 * 255.0 / float(rgb.mean())) ** 2.5
    return float(np.clip(sky[12], 0.2, 8.0))
