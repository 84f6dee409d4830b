"""Official layouts for tests: real samples laid out as downloads, options, and the errors of a scene's geometry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gen3r_bench.datasets.base import Dataset, chosen_options
from gen3r_bench.scene import Scene


def opened(dataset: type[Dataset], root: Path, **options: str) -> Any:
    """A dataset opened as the command line does it: options that are not given take their defaults."""
    return dataset.open(root, chosen_options(dataset, options))


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def read_jgz(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as file:
        return json.load(file)


def write_jgz(path: Path, content: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress(json.dumps(content).encode()))


def redkitchen_as_wildrgbd(shared_dir: Path, root: Path) -> Path:
    """49 real RGB-D frames as recording kitchen/scene_000; the depth camera's intrinsics (SOURCE.md says why)."""
    source = shared_dir / "data" / "rgbd_redkitchen"
    scene = root / "kitchen" / "scenes" / "scene_000"
    for name in ("rgb", "depth"):
        (scene / name).mkdir(parents=True)
    matrix = np.loadtxt(source / "camera-intrinsics.txt")
    (scene / "metadata").write_text(json.dumps({"w": 640, "h": 480, "K": matrix.T.ravel().tolist()}))
    lines = []
    for i, color in enumerate(sorted(source.glob("frame-*.color.jpg"))):
        stem = color.name.removesuffix(".color.jpg")
        (scene / "rgb" / f"{i:05d}.png").symlink_to(color)  # a JPEG by its content, which is what a reader looks at
        (scene / "depth" / f"{i:05d}.png").symlink_to(source / f"{stem}.depth.png")
        pose = np.loadtxt(source / f"{stem}.pose.txt")
        lines.append(f"{i} " + " ".join(f"{n:.9g}" for n in pose.ravel()))
    (scene / "cam_poses.txt").write_text("\n".join(lines) + "\n")
    return root


def apple_as_co3d(shared_dir: Path, root: Path) -> Path:
    """20 real Co3D frames as sequence apple/110_13051_23361, annotations written from the sample's npz; no depth."""
    source = shared_dir / "data" / "co3d_apple_posediffusion"
    name = "110_13051_23361"
    images = root / "apple" / name / "images"
    images.mkdir(parents=True)
    cameras = np.load(source / "gt_cameras.npz")
    frames = []
    for i, picture in enumerate(sorted(source.glob("frame*.jpg"))):
        (images / picture.name).symlink_to(picture)
        with Image.open(picture) as image:
            width, height = image.size
        viewpoint = {
            "R": cameras["gtR"][i].tolist(),
            "T": cameras["gtT"][i].tolist(),
            "focal_length": cameras["gtFL"][i].tolist(),
            "principal_point": [0.0, 0.0],
            "intrinsics_format": "ndc_isotropic",
        }
        frames.append(
            {
                "sequence_name": name,
                "frame_number": i,
                "frame_timestamp": i / 10,
                "image": {"path": f"apple/{name}/images/{picture.name}", "size": [height, width]},
                "depth": None,
                "mask": None,
                "viewpoint": viewpoint,
                "meta": None,
            }
        )
    frames.reverse()  # the reader has to sort
    write_jgz(root / "apple" / "frame_annotations.jgz", frames)
    sequence = {"sequence_name": name, "category": "apple", "viewpoint_quality_score": 0.9}
    write_jgz(root / "apple" / "sequence_annotations.jgz", [sequence])
    return root


def reprojection_errors(scene: Scene, one: int, two: int) -> np.ndarray:
    """Relative depth errors of frame ``one``'s valid pixels looked up (nearest) in frame ``two``."""
    assert scene.depth is not None
    height, width = scene.image_size
    rows, columns = np.nonzero(scene.valid[one])
    z = scene.depth[one][rows, columns].astype(np.float64)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(z))]) * z
    local = np.linalg.inv(scene.cameras.intrinsics[one]) @ pixels
    two_from_one = np.linalg.inv(scene.cameras.world_from_cam[two]) @ scene.cameras.world_from_cam[one]
    u, v, w = scene.cameras.intrinsics[two] @ (two_from_one[:3, :3] @ local + two_from_one[:3, 3:])
    ahead = w > 1e-6
    column, row, w = np.floor(u[ahead] / w[ahead]), np.floor(v[ahead] / w[ahead]), w[ahead]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    row, column, w = row[inside].astype(int), column[inside].astype(int), w[inside]
    seen = scene.valid[two][row, column]
    return np.abs(scene.depth[two][row, column][seen] / w[seen] - 1)


def epipolar_errors(scene: Scene, one: int, two: int) -> np.ndarray:
    """Symmetric epipolar distances in pixels of SIFT matches between two frames."""
    from skimage.color import rgb2gray
    from skimage.feature import SIFT, match_descriptors

    points, descriptors = [], []
    for frame in (one, two):
        sift = SIFT(upsampling=1)
        sift.detect_and_extract(rgb2gray(scene.rgb[frame]))
        points.append(sift.keypoints[:, ::-1] + 0.5)
        descriptors.append(sift.descriptors)
    matches = match_descriptors(*descriptors, max_ratio=0.7, cross_check=True)
    x = np.concatenate([points[0][matches[:, 0]], np.ones((len(matches), 1))], axis=1)
    y = np.concatenate([points[1][matches[:, 1]], np.ones((len(matches), 1))], axis=1)
    relative = np.linalg.inv(scene.cameras.world_from_cam[two]) @ scene.cameras.world_from_cam[one]
    (tx, ty, tz), rotation = relative[:3, 3], relative[:3, :3]
    essential = np.array([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]]) @ rotation
    inverse = [np.linalg.inv(scene.cameras.intrinsics[frame]) for frame in (one, two)]
    fundamental = inverse[1].T @ essential @ inverse[0]
    lines_two, lines_one = x @ fundamental.T, y @ fundamental
    algebraic = np.abs(np.sum(y * lines_two, axis=1))
    distances = [algebraic / np.linalg.norm(lines[:, :2], axis=1) for lines in (lines_one, lines_two)]
    return (distances[0] + distances[1]) / 2
