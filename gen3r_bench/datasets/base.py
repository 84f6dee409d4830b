"""What a dataset is: scene ids in a fixed order, and a reader that turns one id into a Scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from gen3r_bench.scene import Scale, Scene


@dataclass(frozen=True, slots=True)
class ClipProfile:
    """Which frames of a scene are read, and at what size: ``frames`` from ``start`` in steps of ``stride``."""

    frames: int
    image_size: tuple[int, int]
    stride: int = 1
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What a reader of a table must know about a dataset.

    Attributes:
        name: on the command line and in records.
        title: in tables.
        summary: one sentence.
        has_depth: whether geometry can be scored on it.
        scale: unit of its poses and depth.
        needs_root: whether it reads files that the user must point at with ``--data-root``.
        licence: of the data.
        reference: paper or page.
    """

    name: str
    title: str
    summary: str
    has_depth: bool
    scale: Scale
    needs_root: bool
    licence: str
    reference: str


class Dataset(ABC):
    """Reads one on-disk format into Scenes."""

    info: ClassVar[DatasetInfo]

    @classmethod
    @abstractmethod
    def open(cls, root: Path | None) -> Self:
        """Index the dataset below ``root`` without reading a picture.

        Raises:
            InputError: where the root is missing or does not hold this format; says what was looked for.
        """

    @abstractmethod
    def scene_ids(self) -> tuple[str, ...]:
        """Ids of the test scenes, in a fixed order."""

    @abstractmethod
    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of everything that decides what ``load`` returns; two equal hashes mean equal scenes.

        Raises:
            SceneError: where the scene's files cannot be read.
        """

    @abstractmethod
    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one scene.

        Raises:
            SceneError: where it cannot be read or is shorter than the profile; the text becomes the record's reason.
            UnknownNameError: where there is no such scene.
        """
