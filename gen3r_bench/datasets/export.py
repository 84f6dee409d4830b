"""Scenes written in the layouts of the official downloads, for tests without one and to show what each looks like."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import BenchError, InputError, UnknownNameError
from gen3r_bench.scene import Scene

MARKER: Final = ".gen3r-bench-export.json"

WRITERS: Final[dict[str, str]] = {
    "co3dv2": "gen3r_bench.datasets.co3dv2:Co3dv2Writer",
    "dl3dv": "gen3r_bench.datasets.dl3dv:Dl3dvWriter",
    "realestate10k": "gen3r_bench.datasets.realestate10k:RealEstate10kWriter",
    "tartanair": "gen3r_bench.datasets.tartanair:TartanAirWriter",
    "wildrgbd": "gen3r_bench.datasets.wildrgbd:WildRgbdWriter",
}
"""``module:class`` of the writer of each format; a writer stands beside the reader of its format."""


class SceneWriter(ABC):
    """Writes scenes in one format; one object writes one export.

    Attributes:
        needs_depth: whether the format has depth, so that a scene without cannot be written.
        metric: whether the format's unit is the metre, so that no other scene can be written.
    """

    needs_depth: ClassVar[bool] = False
    metric: ClassVar[bool] = False

    @abstractmethod
    def place(self, scene: Scene) -> Path:
        """The scene's folder, relative to the export's."""

    @abstractmethod
    def write(self, scene: Scene, folder: Path) -> None:
        """Write the scene's own files into ``folder``, which is there and empty; it is moved to its place after."""

    def finish(self, out: Path) -> None:  # noqa: B027 - most formats have no file above the scenes
        """Write or update the files that describe several scenes, after the last one."""

    @staticmethod
    def slug(*names: str) -> str:
        """One path component out of names that may hold ``/``: ``mini`` and ``test/000`` give ``mini_test_000``."""
        return re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(names)).strip("_.")

    @staticmethod
    def known_depth(scene: Scene, frame: int) -> NDArray[np.float32]:
        """[H, W] float32 depth of a frame, 0 where it is not valid."""
        assert scene.depth is not None
        return np.where(scene.valid[frame], scene.depth[frame], np.float32(0))


def shared_intrinsics(scene: Scene) -> tuple[float, float, float, float]:
    """The (fx, fy, cx, cy) of all frames, in pixels, for formats that keep one camera a scene.

    Raises:
        InputError: where frames differ, or the pixels are skewed.
    """
    intrinsics = scene.cameras.intrinsics
    if not np.allclose(intrinsics, intrinsics[0], rtol=0, atol=1e-6) or abs(intrinsics[0, 0, 1]) > 1e-9:
        raise InputError(
            f"scene {scene.scene_id} of {scene.dataset}: intrinsics change between frames or have skew",
            expected="one pinhole camera a scene: this format has no place for more",
        )
    k = intrinsics[0]
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def export_scenes(scenes: Iterable[Scene], format: str, out: Path) -> list[Path]:  # noqa: A002 - its name elsewhere
    """Write scenes below ``out`` in an official layout; returns the folder of each.

    A scene appears in one step, so a kill leaves whole scenes only. A second export of the same format into the same
    folder adds scenes and replaces those that are there.

    Args:
        scenes: read one at a time, so they may be rendered on the way.
        format: a key of `WRITERS`.
        out: made where it does not exist.

    Raises:
        UnknownNameError: where there is no such format.
        InputError: where ``out`` holds anything that no export of this format made, a scene does not fit the format,
            or two scenes would lie in one place.
        BenchError: where a file cannot be written.
    """
    if format not in WRITERS:
        raise UnknownNameError("export format", format, WRITERS)
    module, name = WRITERS[format].split(":")
    writer: SceneWriter = getattr(import_module(module), name)()
    try:
        _claim(out, format)
        places: dict[Path, str] = {}
        for scene in scenes:
            place = writer.place(scene)
            if place in places:
                raise InputError(f"scenes {places[place]} and {scene.scene_id}", expected=f"one scene for {place}")
            places[place] = scene.scene_id
            _write_scene(writer, scene, out, place)
        writer.finish(out)
    except OSError as error:
        raise BenchError(f"cannot write the export in {out}: {error.strerror} (fix: choose another --out)") from error
    return [out / place for place in places]


def replace_text(path: Path, text: str | bytes) -> None:
    """Write a file in one step: readers see the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.encode() if isinstance(text, str) else text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _claim(out: Path, format: str) -> None:  # noqa: A002
    marker = out / MARKER
    content = json.dumps({"made_by": "gen3r-bench data export", "format": format}) + "\n"
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != content:
            raise InputError(f"the target {out}, an export in another format", expected=f"a new folder for {format}")
        return
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise InputError(
            f"the target {out}, which is not empty", expected="a new or empty folder, or an export of ours"
        )
    replace_text(marker, content)


def _write_scene(writer: SceneWriter, scene: Scene, out: Path, place: Path) -> None:
    where = f"scene {scene.scene_id} of {scene.dataset}"
    if writer.needs_depth and scene.depth is None:
        raise InputError(f"{where} has no depth", expected="depth: this format has it")
    if writer.metric and scene.scale != "metric":
        raise InputError(f"{where} has scale {scene.scale}", expected="metres: this format's unit")
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=out))
    try:
        made = temporary / "scene"
        made.mkdir()
        writer.write(scene, made)
        if scene.prompt:
            (made / "prompt.txt").write_text(" ".join(scene.prompt.splitlines()) + "\n", encoding="utf-8")
        target = out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            os.replace(target, temporary / "old")
        os.replace(made, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
