"""Which scenes are scored: this suite's split rule, manifests that pin a split to files, and published lists.

The paper publishes rules, not lists. Version 1 of this suite's rule: a scene's rank is
``sha256("gen3r-bench split 1/<dataset>/<scene id>")``; the test part is every scene whose rank lies in the lowest tenth
of all hashes, in order of rank. A scene is thus in or out by its own id alone: neither the order of a directory, nor
the machine, nor which part of a dataset was downloaded moves it. Datasets with an official test part (RealEstate10K)
are only ranked.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gen3r_bench.datasets.base import ClipProfile, OpenedDataset
from gen3r_bench.datasets.export import replace_text
from gen3r_bench.errors import BenchError, InputError, SceneError, UnknownNameError
from gen3r_bench.files import first_problem

RULE: Final = "gen3r-bench split 1"
_PUBLISHED: Final = "gen3r_bench.datasets.published"


def protocol_split(dataset: str, scene_ids: Iterable[str], *, test_fraction: float = 0.1) -> tuple[str, ...]:
    """The test scenes of a dataset, in the order in which a protocol draws them.

    Args:
        dataset: its name; the same id ranks differently in two datasets.
        scene_ids: every scene that is there, in any order.
        test_fraction: of all hashes; 1 ranks without leaving any out (an official test part).

    Returns:
        Ids whose hash lies in the lowest ``test_fraction``, by hash. Where a small root has none of those, every scene
        by hash, so that a sample of a dataset can still be used.

    Raises:
        InputError: where the fraction is not in (0, 1].
    """
    if not 0 < test_fraction <= 1:
        raise InputError(f"a test fraction of {test_fraction}", expected="a number above 0 and up to 1")
    # hexadecimal digits of one length sort like the numbers that they write
    ranked = sorted((hashlib.sha256(f"{RULE}/{dataset}/{scene}".encode()).hexdigest(), scene) for scene in {*scene_ids})
    bound = test_fraction * 2.0**256
    return tuple(scene for rank, scene in ranked if int(rank, 16) < bound) or tuple(scene for _, scene in ranked)


@runtime_checkable
class ListsExcluded(Protocol):
    """A reader that knows from its index alone which scenes are not to be drawn."""

    def excluded(self) -> Mapping[str, str]:
        """Reasons by scene id."""


@runtime_checkable
class MakesRemarks(Protocol):
    """A reader that has something to say of a clip that can be read."""

    def remarks(self, scene_id: str, profile: ClipProfile) -> tuple[str, ...]:
        """Sentences for the manifest and the doctor."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ManifestScene(_Strict):
    """One clip; ``sha256`` is the reader's fingerprint: of the files, the frames, the size and the options."""

    scene_id: str
    start: Annotated[int, Field(ge=0)]
    stride: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=1)]
    sha256: str
    remarks: tuple[str, ...] = ()


class ExcludedScene(_Strict):
    """A scene that would have been drawn, and why it was not."""

    scene_id: str
    reason: str


class ManifestCounts(_Strict):
    """How a draw went: ``listed`` scenes in the split, ``wanted`` of them (None: all), ``usable`` found."""

    listed: int
    wanted: int | None
    usable: int
    excluded: int


def _in_words(profile: ClipProfile) -> str:
    """A clip as messages say it: not its ``str``, which fingerprints are made of."""
    height, width = profile.image_size
    return f"{profile.frames} frames of {height}x{width}, from frame {profile.start} in steps of {profile.stride}"


class SplitManifest(_Strict):
    """A split pinned to the files of one disk: the content of a manifest file.

    Attributes:
        rule: "gen3r-bench split 1", what the reader's ``scene_ids`` gives under its options, or "published NAME" for a
            list of `published_split`.
        options: of the reader, every one of them named.
        image_size: (height, width) that the clips are read at.
        scenes: in the order in which a protocol takes them.
        excluded: scenes that were passed over, with the reason.
    """

    schema_version: Literal[1] = 1
    dataset: str
    rule: str
    options: dict[str, str]
    image_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    scenes: tuple[ManifestScene, ...]
    excluded: tuple[ExcludedScene, ...]
    counts: ManifestCounts
    created: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        ids = [*self.scene_ids(), *(scene.scene_id for scene in self.excluded)]
        twice = next((scene for scene in ids if ids.count(scene) > 1), None) if len(set(ids)) < len(ids) else None
        if twice is not None:
            raise ValueError(f"scene {twice!r} stands in it twice")
        if (self.counts.usable, self.counts.excluded) != (len(self.scenes), len(self.excluded)):
            raise ValueError(
                f"counts say {self.counts.usable} usable and {self.counts.excluded} excluded scenes, "
                f"and {len(self.scenes)} and {len(self.excluded)} are listed"
            )
        return self

    def scene_ids(self) -> tuple[str, ...]:
        """Ids of the scenes to run, in order."""
        return tuple(scene.scene_id for scene in self.scenes)

    def profile(self, scene: ManifestScene) -> ClipProfile:
        """The clip that was pinned for a scene."""
        return ClipProfile(scene.frames, self.image_size, stride=scene.stride, start=scene.start)

    def check_clip(self, profile: ClipProfile) -> None:
        """Make sure that a protocol reads the very clips that were pinned.

        Raises:
            InputError: where it asks for other frames or another size.
        """
        for scene in self.scenes:
            if self.profile(scene) != profile:
                raise InputError(
                    f"a clip of {_in_words(profile)}, with a manifest of {_in_words(self.profile(scene))}",
                    expected="the clips that the manifest pins",
                    fix="write one for this protocol with `gen3r-bench data split`",
                )

    def fingerprint(self, scene_id: str) -> str:
        """What the reader's fingerprint of a scene must be.

        Raises:
            UnknownNameError: where the manifest has no such scene.
        """
        found = {scene.scene_id: scene.sha256 for scene in self.scenes}
        if scene_id not in found:
            raise UnknownNameError("scene of the manifest", scene_id, found)
        return found[scene_id]

    @property
    def sha256(self) -> str:
        """Hash of everything that decides what is run; two disks with the same files give the same one."""
        content = self.model_dump(mode="json", include={"dataset", "rule", "options", "image_size", "scenes"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest as JSON in one step: readers see the old or the new file, never a part.

        Raises:
            BenchError: where it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise BenchError(f"cannot write {path}: {error.strerror} (fix: choose another --out)") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a manifest.

        Raises:
            BenchError: where it cannot be read, is damaged, or has another schema version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BenchError(f"cannot read the manifest {path}: {error.strerror}") from error
        except ValidationError as error:
            raise BenchError(
                f"{path} is not a manifest of version 1: {first_problem(error)} "
                "(fix: write it anew with `gen3r-bench data split`)"
            ) from error


class PublishedSplit(_Strict):
    """A list of scenes that a published evaluation used; ``licence`` is the list's, not the data's."""

    name: str
    dataset: str
    summary: str
    source: str
    licence: str
    scene_ids: tuple[str, ...]


def published_names() -> tuple[str, ...]:
    """Names of the published splits."""
    names = (entry.name for entry in files(_PUBLISHED).iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def published_split(name: str) -> PublishedSplit:
    """A published split by its name.

    Raises:
        UnknownNameError: where there is none of that name.
    """
    if name not in published_names():
        raise UnknownNameError("published split", name, published_names())
    return PublishedSplit.model_validate_json(files(_PUBLISHED).joinpath(f"{name}.json").read_text(encoding="utf-8"))


def make_manifest(
    dataset_name: str,
    opened: OpenedDataset,
    profile: ClipProfile,
    count: int | None = None,
    *,
    published: PublishedSplit | None = None,
    progress: Callable[[str], None] | None = None,
) -> SplitManifest:
    """Draw the first ``count`` usable scenes of a dataset, each read in full once, so that none fails in a run.

    Args:
        dataset_name: as on the command line.
        opened: the dataset and its options.
        profile: the clip of every scene.
        count: how many scenes; None takes every usable one.
        published: a published list to draw from, in its order; None draws from the reader's own split.
        progress: called with each scene's id before it is read.

    Raises:
        InputError: where the count is below 1, or the published list belongs to another dataset.
    """
    if count is not None and count < 1:
        raise InputError(f"a count of {count}", expected="1 or more scenes")
    if published is not None and published.dataset != dataset_name:
        raise InputError(f"the published split {published.name} with {dataset_name}", expected=published.dataset)
    reader = opened.reader
    listed = reader.scene_ids() if published is None else published.scene_ids
    # a published list is taken at its word: only what cannot be read is left out of it
    known = reader.excluded() if isinstance(reader, ListsExcluded) and published is None else {}
    excluded = {scene: known[scene] for scene in listed if scene in known}
    scenes: list[ManifestScene] = []
    for scene_id in listed:
        if len(scenes) == count:
            break
        if scene_id in excluded:
            continue
        if progress is not None:
            progress(scene_id)
        try:
            reader.load(scene_id, profile)
            sha256 = reader.fingerprint(scene_id, profile)
            remarks = reader.remarks(scene_id, profile) if isinstance(reader, MakesRemarks) else ()
        except SceneError as error:
            excluded[scene_id] = str(error)
        except UnknownNameError:
            excluded[scene_id] = "not found below the data root"
        else:
            scenes.append(
                ManifestScene(
                    scene_id=scene_id,
                    start=profile.start,
                    stride=profile.stride,
                    frames=profile.frames,
                    sha256=sha256,
                    remarks=remarks,
                )
            )
    return SplitManifest(
        dataset=dataset_name,
        rule=RULE if published is None else f"published {published.name}",
        options=dict(opened.options),
        image_size=profile.image_size,
        scenes=tuple(scenes),
        excluded=tuple(ExcludedScene(scene_id=scene, reason=reason) for scene, reason in excluded.items()),
        counts=ManifestCounts(listed=len(listed), wanted=count, usable=len(scenes), excluded=len(excluded)),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def verify_manifest(
    manifest: SplitManifest, opened: OpenedDataset, progress: Callable[[str], None] | None = None
) -> list[str]:
    """Every way in which a disk does not hold what a manifest pins; empty where all is well."""
    problems = []
    for name in sorted({*manifest.options, *opened.options}):
        pinned, given = manifest.options.get(name), opened.options.get(name)
        if pinned != given:
            problems.append(f"option {name}: the manifest has {pinned}, the dataset was opened with {given}")
    for scene in manifest.scenes:
        if progress is not None:
            progress(scene.scene_id)
        try:
            found = opened.reader.fingerprint(scene.scene_id, manifest.profile(scene))
        except BenchError as error:
            problems.append(f"{scene.scene_id}: {error}")
            continue
        if found != scene.sha256:
            problems.append(
                f"{scene.scene_id}: its files or the reader changed (sha256 {found[:12]}…, the manifest has "
                f"{scene.sha256[:12]}…)"
            )
    return problems
