"""A tiny ground truth for tests of everything around the metrics: a few small frames of a wavy wall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from gen3r_bench.datasets.base import ClipProfile, Dataset, DatasetInfo
from gen3r_bench.errors import SceneError
from gen3r_bench.method import Contract, Method
from gen3r_bench.protocols.card import Card, ClipPlan, GeometryOptions
from gen3r_bench.scene import Cameras, Conditioning, Prediction, Scene, conditioning_indices

SIZE = (24, 32)
FRAMES = 4


def tiny_scene(scene_id: str = "a", *, frames: int = FRAMES, size: tuple[int, int] = SIZE, depth: bool = True) -> Scene:
    """A wavy wall seen by a camera that moves sideways and turns; the same for the same id."""
    random = np.random.default_rng(sum(scene_id.encode()))
    height, width = size
    angle = np.linspace(0, 0.2, frames)
    poses = np.repeat(np.eye(4)[None], frames, axis=0)
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angle)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angle), -np.sin(angle)
    poses[:, 0, 3] = np.linspace(0, 0.5, frames)
    poses[:, 1, 3] = np.linspace(0, 0.1, frames)
    intrinsics = np.repeat(np.array([[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]])[None], frames, axis=0)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    wave = 2 + 0.2 * np.sin(column / 3 + angle[:, None, None] * 9) + 0.1 * np.cos(row / 2)
    valid = np.ones((frames, height, width), dtype=bool)
    valid[:, :3] = False
    return Scene(
        dataset="tiny",
        scene_id=scene_id,
        rgb=random.integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
        cameras=Cameras(poses, intrinsics, size),
        depth=wave.astype(np.float32) if depth else None,
        valid=valid if depth else np.zeros_like(valid),
        prompt=f"a wavy wall {scene_id}",
        scale="metric",
    )


class TinyDataset(Dataset):
    """Scenes by name; those in ``broken`` cannot be read."""

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="tiny",
        title="Tiny",
        summary="Wavy walls.",
        has_depth=True,
        scale="metric",
        needs_root=False,
        licence="MIT",
        reference="tests",
    )

    def __init__(self, ids: Iterable[str] = ("a", "b", "c"), broken: Iterable[str] = ()) -> None:
        self._ids = tuple(ids)
        self.broken = set(broken)
        self.loads: list[str] = []

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        return cls()

    def scene_ids(self) -> tuple[str, ...]:
        return self._ids

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        return f"tiny-{scene_id}-{profile}"

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        self.loads.append(scene_id)
        if scene_id in self.broken:
            raise SceneError(f"scene {scene_id}: frame 2 is missing")
        return tiny_scene(scene_id, frames=profile.frames, size=profile.image_size)


def conditioned(scene: Scene, setting: str = "1view", *, cameras: bool = True, seed: int = 3) -> Conditioning:
    """What a setting shows of a scene."""
    indices = conditioning_indices(setting, scene.num_frames)  # type: ignore[arg-type]
    return Conditioning(
        setting=setting,  # type: ignore[arg-type]
        frame_indices=indices,
        rgb=scene.rgb[list(indices)],
        cameras=scene.cameras if cameras else None,
        num_frames=scene.num_frames,
        image_size=scene.image_size,
        prompt=scene.prompt,
        seed=seed,
    )


def tiny_card(name: str = "tiny-geom", **changes: object) -> Card:
    """A card for the tiny dataset: geometry, poses and frames at once."""
    fields: dict[str, object] = {
        "name": name,
        "title": "Tiny",
        "summary": "For tests.",
        "paper_tables": (2,),
        "family": "geometry",
        "setting": "1view",
        "cameras": "given",
        "datasets": {"tiny": ClipPlan(scenes=3, frames=FRAMES, image_size=SIZE)},
        "metrics": ("chamfer@fps20k", "auc30@hist1deg", "psnr@8bit", "lpips@vgg"),
        "frames_scored": ("all", "novel"),
        "geometry": GeometryOptions(num_points=500),
    }
    return Card.model_validate({**fields, **changes})


class Shifted(Method):
    """A method for tests: repeats the first frame, with a wall in front, and counts its calls."""

    contract: ClassVar[Contract] = Contract(
        method_id="shifted",
        title="Shifted",
        summary="For tests.",
        settings=("1view", "2view"),
        returns=("rgb", "depth", "cameras"),
        cameras="required",
    )
    fails_on: ClassVar[str] = ""

    def __init__(self) -> None:
        self.seen: list[Conditioning] = []

    def predict(self, conditioning: Conditioning) -> Prediction:
        self.seen.append(conditioning)
        if self.fails_on and self.fails_on in conditioning.prompt:
            raise RuntimeError("out of\nluck")
        assert conditioning.cameras is not None
        random = np.random.default_rng(conditioning.seed)
        frames, (height, width) = conditioning.num_frames, conditioning.image_size
        return Prediction(
            frame_indices=tuple(range(frames)),
            rgb=np.repeat(conditioning.rgb[:1], frames, axis=0),
            depth=(2 + 0.01 * random.standard_normal((frames, height, width))).astype(np.float32),
            world_from_cam=conditioning.cameras.world_from_cam,
            intrinsics=conditioning.cameras.intrinsics,
        )
