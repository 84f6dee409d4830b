"""Real captures from the shared samples, laid out as the dataset `folder` reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np


def redkitchen_folder(shared_dir: Path, out: Path) -> Path:
    """49 real RGB-D frames of 7-Scenes' red kitchen as one capture below ``out``: metric, millimetre depth.

    The colour camera is not registered to the depth camera (SOURCE.md), so intrinsics are the depth camera's.
    """
    source = shared_dir / "data" / "rgbd_redkitchen"
    capture = out / "redkitchen"
    for name in ("images", "depth"):
        (capture / name).mkdir(parents=True)
    matrix = np.loadtxt(source / "camera-intrinsics.txt")
    frames = []
    for color in sorted(source.glob("frame-*.color.jpg")):
        stem = color.name.removesuffix(".color.jpg")
        (capture / "images" / f"{stem}.jpg").symlink_to(color)
        (capture / "depth" / f"{stem}.png").symlink_to(source / f"{stem}.depth.png")
        pose = np.loadtxt(source / f"{stem}.pose.txt")
        frames.append({"file_path": f"images/{stem}.jpg", "transform_matrix": pose.tolist()})
    content = {
        "axes": "opencv",
        "fl_x": matrix[0, 0],
        "fl_y": matrix[1, 1],
        "cx": matrix[0, 2],
        "cy": matrix[1, 2],
        "w": 640,
        "h": 480,
        "prompt": "A kitchen counter with a red cabinet, seen by a hand-held camera.",
        "frames": frames,
    }
    (capture / "transforms.json").write_text(json.dumps(content))
    return capture


def fox_folder(shared_dir: Path, out: Path) -> Path:
    """24 real phone pictures with COLMAP poses as one capture below ``out``: arbitrary scale, OpenGL axes, no depth."""
    source = shared_dir / "data" / "nerfstudio_fox"
    capture = out / "fox"
    capture.mkdir(parents=True)
    shutil.copytree(source / "images", capture / "images", copy_function=lambda a, b: Path(b).symlink_to(a))
    content = json.loads((source / "transforms.json").read_text())
    # the pictures are distorted by up to a few pixels, which a test of conventions can bear
    content |= {"axes": "opengl", "distortion": "ignore", "prompt": "A stuffed fox on a shelf."}
    (capture / "transforms.json").write_text(json.dumps(content))
    return capture
