"""What the catalogue says of one download, and whether it is here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gen3r_bench.locations import hub_command, weights_root

State = Literal["present", "partial", "missing"]
_WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightEntry:
    """A file, an archive that is unpacked, or a folder whose file names the publisher chose.

    It comes from a URL, or from a Hugging Face model. Built from plain data; nothing is looked up.

    Attributes:
        name: what it is called on the command line; by default, its place with "-" between the parts.
        title: what it is, in words.
        methods: that read it.
        metrics: that read it, as keys such as ``lpips@vgg`` or names.
        place: below ``weights_root()``; ends with "/" for a folder, or where an archive is unpacked.
        url: of a single file or a zip archive.
        hub_id: Hugging Face model.
        hub_path: file, or folder with "/" at its end, in that model.
        archive_root: of an archive: the folder in it whose content goes into ``place``, "" for all of it; None where
            the download is no archive.
        size: in words, where known.
        licence: of the weights.
        non_commercial: whether the licence forbids commercial use.
        needs: files that a folder must hold besides weights, or that an archive brings.
        weights: whether a folder must hold files of weights.
        sha256: of a single file or an archive, in full or its first digits, where known.
        size_bytes: of a single file or an archive, where known.
    """

    place: str
    licence: str
    name: str = ""
    title: str = ""
    methods: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    url: str = ""
    hub_id: str = ""
    hub_path: str = ""
    archive_root: str | None = None
    size: str | None = None
    non_commercial: bool = False
    needs: tuple[str, ...] = ()
    weights: bool = True
    sha256: str | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.name:
            folder, _, last = self.place.removesuffix("/").rpartition("/")
            last = Path(last).stem if last.endswith(_WEIGHT_SUFFIXES) else last
            name = f"{folder}-{last.removeprefix(f'{folder}_')}" if folder else last
            object.__setattr__(self, "name", name.replace("/", "-").replace("_", "-"))

    @property
    def path(self) -> Path:
        """Where it belongs on this machine."""
        return weights_root() / self.place

    @property
    def is_archive(self) -> bool:
        return self.archive_root is not None

    @property
    def needed_by(self) -> tuple[str, ...]:
        """Methods and metrics that read it."""
        return (*self.methods, *self.metrics)

    @property
    def source(self) -> str | None:
        """The URL of a single download; None for a folder of the hub, which has many."""
        if self.url:
            return self.url
        if self.place.endswith("/"):
            return None
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        return f"{endpoint}/{self.hub_id}/resolve/main/{self.hub_path}"

    def files(self) -> list[Path]:
        """The files of it that are there, sorted; of an archive, those that must be there."""
        if self.is_archive:
            return sorted(file for name in self.needs if (file := self.path / name).is_file())
        if self.path.is_file():
            return [self.path]
        return sorted(file for file in self.path.glob("*") if file.is_file()) if self.path.is_dir() else []

    def state(self) -> State:
        """Whether it is there; "partial" where a folder or an archive lacks a file that it needs."""
        files = self.files()
        if not files:
            return "missing"
        if not self.place.endswith("/"):
            return "present"
        if self.is_archive:
            return "present" if len(files) == len(self.needs) else "partial"
        names = {file.name for file in files}
        whole = names.issuperset(self.needs) and (
            not self.weights or any(name.endswith(_WEIGHT_SUFFIXES) for name in names)
        )
        return "present" if whole else "partial"

    def command(self) -> str:
        """The shell command that fetches it to its place."""
        if self.url:
            return f"gen3r-bench weights fetch {self.name}"
        root = weights_root() / self.place.removesuffix(self.hub_path)
        return hub_command(self.hub_id, root, chosen=self.hub_path)
