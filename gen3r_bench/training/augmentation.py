"""Other clips made of a clip: each is a scene that could have been filmed, with its own exact cameras and depth."""

from __future__ import annotations

import dataclasses

import numpy as np

from gen3r_bench.scene import Cameras, Scene


def mirrored(scene: Scene) -> Scene:
    """The scene in a mirror: frames flipped left to right, poses reflected in the first camera's plane x = 0."""
    world_from_cam = scene.cameras.world_from_cam.copy()
    # the reflection on both sides of a pose: twice a reflection is a rotation again
    world_from_cam[:, 0] *= -1
    world_from_cam[:, :, 0] *= -1
    intrinsics = scene.cameras.intrinsics.copy()
    intrinsics[:, 0, 2] = scene.image_size[1] - intrinsics[:, 0, 2]
    intrinsics[:, 0, 1] *= -1
    return dataclasses.replace(
        scene,
        rgb=scene.rgb[:, :, ::-1],
        depth=None if scene.depth is None else scene.depth[:, :, ::-1],
        valid=scene.valid[:, :, ::-1],
        cameras=Cameras(world_from_cam, intrinsics, scene.image_size),
    )


def reordered(scene: Scene, frames: np.ndarray) -> Scene:
    """The chosen frames in their order; the first of them becomes the world."""
    cameras = scene.cameras
    return dataclasses.replace(
        scene,
        rgb=scene.rgb[frames],
        depth=None if scene.depth is None else scene.depth[frames],
        valid=scene.valid[frames],
        cameras=Cameras(cameras.world_from_cam[frames], cameras.intrinsics[frames], cameras.image_size).rebased(),
    )


def augmented(scene: Scene, draw: np.random.Generator, *, colours: bool = True) -> Scene:
    """Mirrored half the time, backwards half the time, the colour channels in any of their six orders.

    Args:
        scene: the clip.
        draw: of the choices.
        colours: whether the colour channels change places.
    """
    if draw.random() < 0.5:
        scene = mirrored(scene)
    if draw.random() < 0.5:
        scene = reordered(scene, np.arange(scene.num_frames)[::-1])
    return dataclasses.replace(scene, rgb=scene.rgb[..., draw.permutation(3)]) if colours else scene
