"""Draws the README's picture of `mini`: run `python docs/make_pictures.py` after its scenes change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MiniDataset

SCENES = ("test/001", "test/004", "test/009", "test/011")


def strip(scene_id: str) -> np.ndarray:
    """First, middle and last frame of a scene, and the depth of the middle one (near is dark, sky is black)."""
    scene = MiniDataset.open(None, {}).load(scene_id, ClipProfile(frames=13, image_size=(224, 224)))
    assert scene.depth is not None
    near_to_far = scene.depth[6] / np.quantile(scene.depth[6][scene.valid[6]], 0.98)
    grey = np.uint8(255 * np.clip(near_to_far, 0, 1) * scene.valid[6])
    return np.hstack([*scene.rgb[[0, 6, 12]], np.repeat(grey[..., None], 3, axis=2)])


if __name__ == "__main__":
    strips = [strip(scene_id) for scene_id in SCENES]
    picture = np.vstack([np.hstack(strips[:2]), np.hstack(strips[2:])])
    target = Path(__file__).with_name("images") / "mini.jpg"
    Image.fromarray(picture).save(target, quality=88)
    print(target, picture.shape)
