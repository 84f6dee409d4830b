"""What a dataset is: scene ids in a fixed order, and a reader that turns one id into a Scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from gen3r_bench.errors import UnknownNameError
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


@dataclass(frozen=True, slots=True)
class DatasetOption:
    """A choice that a reader offers and that changes what is read; it is written into the run's header.

    Attributes:
        name: as in ``--dataset-option NAME=VALUE``.
        default: what is used where the user says nothing.
        legal: in words, for the error message.
        summary: one sentence.
    """

    name: str
    default: str
    legal: str
    summary: str


class Dataset(ABC):
    """Reads one on-disk format into Scenes."""

    info: ClassVar[DatasetInfo]
    options: ClassVar[tuple[DatasetOption, ...]] = ()

    @classmethod
    @abstractmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index the dataset below ``root`` without reading a picture.

        Args:
            root: where the dataset lies; None where the user named no place.
            options: a value for every one of ``cls.options``; see `chosen_options`.

        Raises:
            InputError: where the root is missing or does not hold this format, or an option's value is not legal;
                says what was looked for.
        """

    @abstractmethod
    def scene_ids(self) -> tuple[str, ...]:
        """Ids of the test scenes in a fixed order; a protocol takes the first so many."""

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


@dataclass(frozen=True, slots=True)
class OpenedDataset:
    """A dataset with the options that it was opened with, every one of them named."""

    reader: Dataset
    options: Mapping[str, str] = field(default_factory=dict)


def chosen_options(dataset: type[Dataset], given: Mapping[str, str]) -> dict[str, str]:
    """Every option of a dataset with the value given for it, or its default.

    Raises:
        UnknownNameError: where the dataset has no such option.
    """
    known = {option.name: option.default for option in dataset.options}
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of dataset {dataset.info.name}", name, known or ["none"])
    return {**known, **given}
