"""What the readers of official downloads share: an index of scene folders, options, and this suite's split."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from gen3r_bench.datasets.base import Dataset
from gen3r_bench.datasets.listing_cache import shared_listing
from gen3r_bench.datasets.splits import protocol_split
from gen3r_bench.errors import InputError, UnknownNameError

CLIP_FRAMES: Final = 49
"""Length of the paper's clips: scenes with fewer pictures are drawn last."""


class OfficialDataset(Dataset):
    """Scenes that lie one a folder below a root, and the test part that this suite draws from them."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(sorted(folders.items()))

    @abstractmethod
    def excluded(self) -> Mapping[str, str]:
        """Scenes that are there but not drawn, by id, with the reason; ``load`` reads them all the same."""

    @abstractmethod
    def _pictures(self, scene_id: str) -> int:
        """How many pictures a scene has by their names; may stop counting at `CLIP_FRAMES`."""

    @property
    def _test_fraction(self) -> float:
        """1 where the options name an official list, which is then taken whole."""
        return 0.1

    def all_scene_ids(self) -> tuple[str, ...]:
        """Every scene that was found, sorted; ``load`` takes each of them."""
        return tuple(self._folders)

    def scene_ids(self) -> tuple[str, ...]:
        """The test scenes in the order of `splits.protocol_split`, those shorter than the paper's clips last.

        A tenth of the scenes that are not excluded, by a hash of their ids; where a small root (a sample, an export)
        has none of that tenth, all of them. Scenes with fewer than 49 pictures stay in, so that a run that reaches them
        records why they could not be scored.
        """
        return self._drawn

    @cached_property
    def _drawn(self) -> tuple[str, ...]:
        excluded = self.excluded()
        drawn = protocol_split(
            self.info.name, (s for s in self._folders if s not in excluded), test_fraction=self._test_fraction
        )
        return tuple(sorted(drawn, key=lambda scene: self._pictures(scene) < CLIP_FRAMES))  # the sort is stable

    def _folder(self, scene_id: str) -> Path:
        if scene_id not in self._folders:
            raise UnknownNameError(f"scene of {self.info.name}", scene_id, self._folders)
        return self._folders[scene_id]


def checked_root(name: str, root: Path | None) -> Path:
    """The folder that a dataset lies in.

    Raises:
        InputError: where none was given or it does not exist.
    """
    if root is None:
        raise InputError(f"the dataset {name} without a root", expected="the folder of its download", fix="--data-root")
    if not root.is_dir():
        raise InputError(f"the data root {root}", expected="an existing folder")
    return root


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, hidden ones left out; links count as what they point at.

    Remembered between commands by the folder's modification time.

    Raises:
        InputError: where the folder cannot be read.
    """

    def scan() -> list[str]:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())

    try:
        return shared_listing().names(folder, "folders", scan)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})", expected="a readable folder") from error


def file_names(folder: Path, ending: str, limit: int | None = None) -> list[str]:
    """Sorted names of the files in a folder that end in ``ending``; only the first ``limit`` met, in no set order.

    A folder that is missing has no files. Where there is a limit, as for an index, the names are remembered between
    commands by the folder's modification time; a clip's own files are listed anew each time.
    """

    def scan() -> list[str]:
        names: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(ending) and not entry.name.startswith("."):
                    names.append(entry.name)
                    if len(names) == limit:
                        break
        return sorted(names)

    try:
        return scan() if limit is None else shared_listing().names(folder, f"{limit} of *{ending}", scan)
    except (FileNotFoundError, NotADirectoryError):
        return []


def chosen_value(options: Mapping[str, str], name: str, legal: tuple[str, ...]) -> str:
    """An option's value.

    Raises:
        InputError: where it is not one of ``legal``.
    """
    if options[name] not in legal:
        raise InputError(f"option {name}={options[name]}", expected=" or ".join(legal))
    return options[name]


def chosen_number(options: Mapping[str, str], name: str, *, above: float, up_to: float, unit: str) -> float:
    """An option's value as a number in (above, up_to].

    Raises:
        InputError: where it is no number, or outside.
    """
    try:
        value = float(options[name])
    except ValueError:
        value = math.nan
    if not above < value <= up_to:
        raise InputError(f"option {name}={options[name]}", expected=f"{unit} above {above:g} and up to {up_to:g}")
    return value
