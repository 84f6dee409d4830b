"""RealEstate10K: Google's camera files with frames in any of the layouts that people have them in.

Cameras: ``[RealEstate10K/]{test,train}/<clip>.txt`` below the root: a line with the video's URL, then for each frame
``timestamp fx fy cx cy 0 0`` and a row-major 3x4 matrix camera-from-world (OpenCV axes). fx and cx are normalised by
the frame's width, fy and cy by its height, so pixels come from the real size of the frames, square or not.

Frames (Google gives none), below the root or its folders ``RealEstate10K``, ``frames``, ``videos``, ``clips``, with or
without a folder ``test`` or ``train`` between:

=========  ==============================================  ==========================================================
layout     on disk                                         written by
=========  ==============================================  ==========================================================
frames     ``<clip>/<timestamp>.png`` or ``.jpg``          RealEstate10K_Downloader, CUT3R, PoseDiffusion
youtube    ``<video id>/<video id>_<timestamp>.jpg``       stereo-magnification
video      ``[<video id>/]<clip>.mp4``                     CameraCtrl; frame k belongs to line k of the cameras
=========  ==============================================  ==========================================================

Two layouts carry their own cameras: ``chunks``, pixelSplat's ``{test,train}/index.json`` with ``NNNNNN.torch``; and
``gen3r``, ``[{test,train}/]<clip>/`` with ``images/frame00000.png``, a ``transforms.json`` with OpenCV axes and a
``captions.txt`` whose first line is the prompt.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import pickle
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.datasets.base import ClipProfile, Dataset, DatasetInfo, DatasetOption
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    read_picture,
    read_prompt,
    read_text,
)
from gen3r_bench.datasets.export import SceneWriter, replace_text
from gen3r_bench.datasets.nerfstudio import read_transforms
from gen3r_bench.datasets.official import checked_root, chosen_value, file_names
from gen3r_bench.datasets.splits import protocol_split
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Scene, invert_rigid

if TYPE_CHECKING:
    from av.container import InputContainer

LAYOUTS: Final = ("frames", "youtube", "video", "chunks", "gen3r")
SPLITS: Final = ("test", "train")

_COLUMNS: Final = 19
_SUFFIXES: Final = (".png", ".jpg", ".jpeg")
_BASES: Final = ("", "RealEstate10K", "frames", "videos", "clips")
_MIN_TORCH: Final = (2, 6)  # before it, a crafted file could run code even under weights_only (CVE-2025-32434)


class RealEstate10kDataset(Dataset):
    """Clips of RealEstate10K in the official split, in the order of the suite's rank; see the module for layouts.

    Scene ids are the clips' 16 hexadecimal digits. A clip whose cameras are there and whose frames are not comes last
    and fails with that reason. No frame is sought by its time and none is replaced by a neighbour: a frame of the clip
    that is missing makes the clip unusable.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="realestate10k",
        title="RealEstate10K",
        summary="Indoor and outdoor walks from YouTube videos, with SfM cameras and no depth.",
        has_depth=False,
        scale="sfm",
        needs_root=True,
        licence="cameras CC BY 4.0 (Google); frames belong to the videos' uploaders",
        reference="https://google.github.io/realestate10k/",
    )
    options: ClassVar[tuple[DatasetOption, ...]] = (
        DatasetOption("layout", "auto", f"auto, {', '.join(LAYOUTS)}", "How the frames lie on disk."),
        DatasetOption("split", "test", " or ".join(SPLITS), "Which official part is read."),
    )

    def __init__(self, clips: Mapping[str, _Clip], excluded: Mapping[str, str]) -> None:
        self._clips = clips
        self._excluded = excluded

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index the clips below ``root``; with layout auto, what has txt cameras, else chunks, else Gen3R's layout.

        Raises:
            InputError: where an option's value is not legal, or the root is missing or holds none of the layouts.
        """
        root = checked_root(cls.info.name, root)
        layout = chosen_value(options, "layout", ("auto", *LAYOUTS))
        split = chosen_value(options, "split", SPLITS)
        if layout in ("auto", "frames", "youtube", "video") and (cameras := _camera_folder(root, split)):
            return cls(*_index_cameras(root, cameras, split, layout))
        if layout in ("auto", "chunks") and (index := _first_file(root, split, "index.json")):
            return cls(_index_chunks(index), {})
        if layout in ("auto", "gen3r") and (clips := _index_gen3r(root, split)):
            return cls(clips, {})
        looked = {
            "chunks": f"{split}/index.json",
            "gen3r": f"<clip>/transforms.json or {split}/<clip>/transforms.json",
            "auto": f"{split}/<clip>.txt, {split}/index.json or <clip>/transforms.json",
        }
        raise InputError(
            f"no RealEstate10K of layout {layout} in {root}",
            expected=looked.get(layout, f"{split}/<clip>.txt") + ", there or in a folder RealEstate10K",
        )

    def scene_ids(self) -> tuple[str, ...]:
        """Clips of the official part, ranked by the suite's rule; those without frames last."""
        return tuple(
            scene
            for part in (self._clips, self._excluded)
            for scene in protocol_split(self.info.name, part, test_fraction=1)
        )

    def all_scene_ids(self) -> tuple[str, ...]:
        """Every clip that was found, with frames or without, sorted."""
        return tuple(sorted((*self._clips, *self._excluded)))

    def excluded(self) -> Mapping[str, str]:
        """Clips whose cameras are there and whose frames are not, each with that reason."""
        return self._excluded

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the profile, the cameras and the frames (chunks: of the clip alone, not of its neighbours).

        Raises:
            UnknownNameError: where there is no such clip.
            SceneError: where its files cannot be read, or it is shorter than the profile.
        """
        return self._clip(scene_id).fingerprint(scene_id, profile)

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one clip: lines ``start``, ``start + stride``, … of its cameras with their frames.

        Raises:
            UnknownNameError: where there is no such clip.
            SceneError: where its frames or cameras are missing, damaged or contradict each other, its timestamps do
                not increase, or it is shorter than the profile.
        """
        clip = self._clip(scene_id)
        with clip.frames(profile) as frames:
            return assemble_clip(
                frames,
                profile,
                dataset=self.info.name,
                scene_id=scene_id,
                prompt=clip.prompt(),
                scale=self.info.scale,
            )

    def _clip(self, scene_id: str) -> _Clip:
        if scene_id in self._excluded:
            raise SceneError(self._excluded[scene_id])
        if scene_id not in self._clips:
            raise UnknownNameError("clip of realestate10k", scene_id, self._clips)
        return self._clips[scene_id]


class RealEstate10kWriter(SceneWriter):
    """Writes layout ``frames`` as PNG at 30 frames a second, cameras in ``RealEstate10K/test``; lossless."""

    def __init__(self) -> None:
        self._cameras: dict[str, str] = {}

    def place(self, scene: Scene) -> Path:
        return Path("test", self.slug(scene.dataset, scene.scene_id))

    def write(self, scene: Scene, folder: Path) -> None:
        height, width = scene.image_size
        lines = [f"{scene.dataset}/{scene.scene_id}, written by gen3r-bench: this clip has no video"]
        cam_from_world = invert_rigid(scene.cameras.world_from_cam)[:, :3]
        for i, (rgb, k) in enumerate(zip(scene.rgb, scene.cameras.intrinsics, strict=True)):
            if abs(k[0, 1]) > 1e-9:
                raise InputError(f"scene {scene.scene_id} has skewed pixels", expected="a camera without skew")
            timestamp = i * 1_000_000 // 30
            normalised = (k[0, 0] / width, k[1, 1] / height, k[0, 2] / width, k[1, 2] / height, 0.0, 0.0)
            lines.append(" ".join([str(timestamp), *(f"{n:.12f}" for n in (*normalised, *cam_from_world[i].ravel()))]))
            Image.fromarray(rgb).save(folder / f"{timestamp}.png")
        self._cameras[self.place(scene).name] = "\n".join(lines) + "\n"

    def finish(self, out: Path) -> None:
        folder = out / "RealEstate10K" / "test"
        folder.mkdir(parents=True, exist_ok=True)
        for clip, text in self._cameras.items():
            replace_text(folder / f"{clip}.txt", text)


@dataclass(frozen=True, slots=True, eq=False)
class CameraLines:
    """Cameras of one clip as published: ``timestamps`` [N] microseconds, ``columns`` [N, 18] float64 after them."""

    timestamps: tuple[int, ...]
    columns: NDArray[np.float64]

    def world_from_cam(self, line: int) -> NDArray[np.float64]:
        """[4, 4] pose of a line, OpenCV axes."""
        cam_from_world = np.vstack([self.columns[line, 6:].reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
        return invert_rigid(cam_from_world)

    def intrinsics(self, line: int, size: tuple[int, int]) -> NDArray[np.float64]:
        """[3, 3] intrinsics of a line, in pixels of a whole frame of ``size`` (height, width)."""
        (height, width), (fx, fy, cx, cy) = size, self.columns[line, :4]
        return np.array([[fx * width, 0.0, cx * width], [0.0, fy * height, cy * height], [0.0, 0.0, 1.0]])

    def sources(
        self, where: str, profile: ClipProfile, read_rgb: Sequence[Callable[[], NDArray[np.uint8]]]
    ) -> list[FrameSource]:
        """One source a line, with the reader of its frame.

        Raises:
            SceneError: where the profile's lines are too few, or their timestamps do not increase.
        """
        chosen = chosen_frames(range(len(self.timestamps)), profile, where)
        for one, two in itertools.pairwise(chosen):
            if self.timestamps[two] <= self.timestamps[one]:
                raise SceneError(
                    f"{where}: timestamps {self.timestamps[one]} and {self.timestamps[two]} of frames {one} and {two} "
                    "do not increase; which picture belongs to which camera cannot be told"
                )
        return [
            FrameSource(
                name=f"{where} frame {line} ({timestamp})",
                read_rgb=read_rgb[line],
                intrinsics=partial(self.intrinsics, line),
                world_from_cam=self.world_from_cam(line),
            )
            for line, timestamp in enumerate(self.timestamps)
        ]


def read_camera_file(path: Path) -> tuple[str, CameraLines]:
    """The video's id and the cameras of a ``<clip>.txt``.

    Raises:
        SceneError: where it cannot be read, or a line is not 19 numbers; names the line.
    """
    lines = read_text(path).splitlines()
    timestamps, columns = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != _COLUMNS:
            raise SceneError(f"{path}: line {number} has {len(fields)} columns of {_COLUMNS}; the file is cut off")
        try:
            timestamps.append(int(fields[0]))
            columns.append([float(field) for field in fields[1:]])
        except ValueError as error:
            raise SceneError(f"{path}: line {number} is not 19 numbers ({error}); restore the file") from error
    if not timestamps:
        raise SceneError(f"{path}: no cameras after the line of the URL; restore the file")
    return _video_id(lines[0]), _checked_lines(str(path), timestamps, columns)


def _checked_lines(where: str, timestamps: Sequence[int], columns: Any) -> CameraLines:
    table = np.array(columns, dtype=np.float64)
    if (table[:, 4:6] != 0).any():
        raise SceneError(f"{where}: columns 6 and 7 are not 0; expected no distortion, as everywhere in RealEstate10K")
    return CameraLines(tuple(timestamps), table)


def _video_id(url: str) -> str:
    return url.strip().rsplit("=", 1)[-1]


class _Clip(ABC):
    """Where one clip's frames and cameras come from."""

    @abstractmethod
    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str: ...

    @contextmanager
    @abstractmethod
    def frames(self, profile: ClipProfile) -> Iterator[list[FrameSource]]: ...

    def prompt(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class _PictureClip(_Clip):
    """Layouts ``frames`` and ``youtube``: pictures named by ``prefix`` and timestamp."""

    cameras: Path
    folder: Path
    prefix: str

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        pictures = self._wanted(read_camera_file(self.cameras)[1], profile)
        prompt = None if self.prefix else read_prompt(self.folder)[1]
        return files_fingerprint([self.cameras, *([prompt] if prompt else []), *pictures], *_key(scene_id, profile))

    def prompt(self) -> str:
        return "" if self.prefix else read_prompt(self.folder)[0]  # a video's folder belongs to several clips

    @contextmanager
    def frames(self, profile: ClipProfile) -> Iterator[list[FrameSource]]:
        lines = read_camera_file(self.cameras)[1]
        self._wanted(lines, profile)
        # those outside the clip are never read, so a name that does not exist does no harm there
        found = self._pictures()
        paths = (found.get(timestamp, self.folder / f"{self.prefix}{timestamp}.png") for timestamp in lines.timestamps)
        yield lines.sources(str(self.cameras), profile, [partial(read_picture, path) for path in paths])

    def _pictures(self) -> dict[int, Path]:
        """Pictures by timestamp; PNG before JPEG where both are there."""
        found: dict[int, Path] = {}
        for path in sorted(_entries(self.folder), key=lambda path: (path.suffix.lower() != ".png", path.name)):
            stamp = path.stem.removeprefix(self.prefix)
            if path.suffix.lower() in _SUFFIXES and path.stem.startswith(self.prefix) and stamp.isdecimal():
                found.setdefault(int(stamp), path)
        return found

    def _wanted(self, lines: CameraLines, profile: ClipProfile) -> list[Path]:
        found = self._pictures()
        wanted = chosen_frames(lines.timestamps, profile, str(self.cameras))
        missing = [timestamp for timestamp in wanted if timestamp not in found]
        if missing:
            raise SceneError(
                f"{self.folder}: {len(missing)} of {len(wanted)} frames are missing, first "
                f"{self.prefix}{missing[0]}.png or .jpg ({len(found)} pictures for {len(lines.timestamps)} cameras)"
            )
        return [found[timestamp] for timestamp in wanted]


@dataclass(frozen=True, slots=True)
class _VideoClip(_Clip):
    """Layout ``video``: frame k of the file belongs to line k of the cameras."""

    cameras: Path
    video: Path

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        chosen_frames(read_camera_file(self.cameras)[1].timestamps, profile, str(self.cameras))
        return files_fingerprint([self.cameras, self.video], *_key(scene_id, profile))

    @contextmanager
    def frames(self, profile: ClipProfile) -> Iterator[list[FrameSource]]:
        lines = read_camera_file(self.cameras)[1]
        with _Video.open(self.video) as video:
            count = video.rewind(set(chosen_frames(range(len(lines.timestamps)), profile, str(self.cameras))))
            if count != len(lines.timestamps):
                raise SceneError(
                    f"{self.video}: {count} frames, and {self.cameras.name} has {len(lines.timestamps)} cameras; "
                    "frame k must belong to line k"
                )
            yield lines.sources(
                str(self.video), profile, [partial(video.read, line) for line in range(len(lines.timestamps))]
            )


class _Video:
    """Frames of a video, decoded one after the other: no seek can miss by a frame. Several threads may ask at once."""

    def __init__(self, path: Path, container: InputContainer) -> None:
        self._path = path
        self._container = container
        self._lock = threading.Lock()
        self._decoded: Iterator[tuple[int, Any]] = iter(())
        self._waiting: dict[int, Any] = {}  # decoded on the way to a frame that was asked for earlier

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        try:
            import av
        except ImportError as error:
            raise SceneError(f"{path}: reading video needs PyAV (fix: pip install av)") from error
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    raise SceneError(f"{path}: no video in it")
                yield cls(path, container)
        except av.FFmpegError as error:
            raise SceneError(f"{path}: damaged video ({error}); restore the file") from error

    def rewind(self, wanted: Collection[int]) -> int:
        """How many coded frames the file has; only the ``wanted`` ones can be read, each once."""
        count = sum(packet.size > 0 for packet in self._container.demux(video=0))
        self._container.seek(0)
        last = max(wanted)
        self._decoded = (
            (i, picture)
            for i, picture in zip(range(last + 1), self._container.decode(video=0), strict=False)
            if i in wanted
        )
        return count

    def read(self, index: int) -> NDArray[np.uint8]:
        """[h, w, 3] uint8 of a wanted frame."""
        with self._lock:
            while index not in self._waiting:
                frame = next(self._decoded, None)
                if frame is None:
                    raise SceneError(f"{self._path}: frame {index} cannot be decoded; restore the file")
                self._waiting[frame[0]] = frame[1]
            picture = self._waiting.pop(index)
        rgb: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
        return rgb


@dataclass(frozen=True, slots=True)
class _ChunkClip(_Clip):
    """Layout ``chunks``: one entry of one of pixelSplat's files."""

    key: str
    chunk: Path

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        lines, pictures = self._read()
        digest = hashlib.sha256("\n".join(_key(scene_id, profile)).encode())
        digest.update(f"\n{lines.timestamps}\n".encode() + lines.columns.astype("<f8").tobytes())
        for picture in chosen_frames(pictures, profile, f"{self.chunk} {self.key}"):
            digest.update(hashlib.sha256(picture).digest())
        return digest.hexdigest()

    @contextmanager
    def frames(self, profile: ClipProfile) -> Iterator[list[FrameSource]]:
        lines, pictures = self._read()
        where = f"{self.chunk} {self.key}"
        readers = [partial(_decode, f"{where} frame {i}", data) for i, data in enumerate(pictures)]
        yield lines.sources(where, profile, readers)

    def _read(self) -> tuple[CameraLines, list[bytes]]:
        where = f"{self.chunk} {self.key}"
        content = _load_weights_only(self.chunk)
        entries = content if isinstance(content, list) else []
        entry = next((e for e in entries if isinstance(e, dict) and e.get("key") == self.key), None)
        if entry is None:
            raise SceneError(f"{where}: index.json names this chunk, and the clip is not in it")
        try:
            timestamps = [int(stamp) for stamp in entry["timestamps"].tolist()]
            columns = entry["cameras"].numpy()
            pictures = [image.numpy().tobytes() for image in entry["images"]]
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise SceneError(f"{where}: not pixelSplat's timestamps, cameras and images ({error!r})") from error
        if columns.shape != (len(timestamps), _COLUMNS - 1) or len(pictures) != len(timestamps):
            raise SceneError(
                f"{where}: {len(timestamps)} timestamps, cameras {list(columns.shape)} and {len(pictures)} images; "
                f"expected one of each a frame, cameras with {_COLUMNS - 1} columns"
            )
        return _checked_lines(where, timestamps, columns), pictures


@dataclass(frozen=True, slots=True)
class _Gen3rClip(_Clip):
    """Layout ``gen3r``: the paper's own training layout, OpenCV axes."""

    folder: Path

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        names = [frame.name for frame in read_transforms(self.folder / "transforms.json", axes="opencv")]
        pictures = [self.folder / "images" / name for name in chosen_frames(names, profile, str(self.folder))]
        captions = read_prompt(self.folder)[1]
        files = [self.folder / "transforms.json", *([captions] if captions else []), *pictures]
        return files_fingerprint(files, *_key(scene_id, profile))

    @contextmanager
    def frames(self, profile: ClipProfile) -> Iterator[list[FrameSource]]:
        yield [
            FrameSource(
                name=str(path := self.folder / "images" / frame.name),
                read_rgb=partial(read_picture, path),
                intrinsics=frame.intrinsics_at,
                world_from_cam=frame.world_from_cam,
            )
            for frame in read_transforms(self.folder / "transforms.json", axes="opencv")
        ]

    def prompt(self) -> str:
        return read_prompt(self.folder)[0]


def _key(scene_id: str, profile: ClipProfile) -> tuple[str, str, str]:
    return "realestate10k 1", scene_id, str(profile)


def _decode(name: str, data: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
        raise SceneError(f"{name}: damaged image ({error}); restore the chunk") from error


def _load_weights_only(path: Path) -> Any:
    """Content of a file of ``torch.save``, read so that no code in it can run."""
    try:
        import torch
    except ImportError as error:
        raise SceneError(f"{path}: reading .torch chunks needs PyTorch (fix: pip install torch)") from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _MIN_TORCH:
        raise SceneError(f"{path}: torch {torch.__version__} can be made to run code by it (fix: install torch >= 2.6)")
    if not path.is_file():
        raise SceneError(f"{path}: missing, though index.json names it; restore the chunk")
    try:
        if not zipfile.is_zipfile(path):
            raise SceneError(f"{path}: not a file that torch.save of this decade wrote, or cut off; restore the file")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SceneError(
            f"{path}: refused: it holds more than tensors, texts, lists and dicts, and would run code when unpickled"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise SceneError(f"{path}: damaged chunk ({str(error).splitlines()[0]}); restore the file") from error


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry) for entry in entries]
    except OSError as error:
        raise SceneError(f"{folder}: cannot be read ({error.strerror})") from error


def _first_file(root: Path, split: str, name: str) -> Path | None:
    found = (path for base in ("", "RealEstate10K") if (path := root / base / split / name).is_file())
    return next(found, None)


def _camera_folder(root: Path, split: str) -> Path | None:
    for base in ("", "RealEstate10K"):
        folder = root / base / split
        if file_names(folder, ".txt", limit=1):
            return folder
    return None


def _index_cameras(root: Path, cameras: Path, split: str, layout: str) -> tuple[dict[str, _Clip], dict[str, str]]:
    """Clips with frames, and reasons for those without; looks at names of folders and files only."""
    places = [place for base in _BASES for place in (root / base / split, root / base) if place.is_dir()]
    listed: dict[str, Path] = {}  # nearer places first
    for place in places:
        with os.scandir(place) as entries:
            for entry in entries:
                listed.setdefault(entry.name, Path(entry))
    clips: dict[str, _Clip] = {}
    absent: dict[str, str] = {}
    for name in file_names(cameras, ".txt"):
        clip, file = name.removesuffix(".txt"), cameras / name
        found = _find_frames(clip, file, listed, layout)
        if found is None:
            where = "no frames" if layout == "auto" else f"no frames in layout {layout}"
            absent[clip] = f"{where}: neither {clip}/, {clip}.mp4 nor a folder of its video below {root}"
        else:
            clips[clip] = found
    return clips, absent


def _find_frames(clip: str, cameras: Path, listed: Mapping[str, Path], layout: str) -> _Clip | None:
    if layout in ("auto", "frames") and (folder := listed.get(clip)) and folder.is_dir():
        return _PictureClip(cameras, folder, "")
    if layout in ("auto", "video") and (video := listed.get(f"{clip}.mp4")):
        return _VideoClip(cameras, video)
    if layout not in ("auto", "youtube", "video"):
        return None
    try:
        with cameras.open(encoding="utf-8") as file:
            video_id = _video_id(file.readline())
    except (OSError, UnicodeDecodeError):
        return None  # reading the clip would say so; without an id there is nowhere to look
    folder = listed.get(video_id) if video_id else None
    if folder is None or not folder.is_dir():
        return None
    if layout in ("auto", "video") and (folder / f"{clip}.mp4").is_file():
        return _VideoClip(cameras, folder / f"{clip}.mp4")
    return None if layout == "video" else _PictureClip(cameras, folder, f"{video_id}_")


def _index_chunks(index: Path) -> dict[str, _Clip]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{index}: cannot be read ({error})", expected="JSON that maps clip ids to chunks") from error
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f"{index}: not an index of chunks", expected="JSON that maps clip ids to chunk file names")
    # the base name alone: an index must not lead out of its folder
    return {clip: _ChunkClip(clip, index.parent / Path(name).name) for clip, name in content.items()}


def _index_gen3r(root: Path, split: str) -> dict[str, _Clip]:
    places: Iterable[Path] = (root / split, root / "RealEstate10K" / split, root / "RealEstate10K", root)
    for place in places:
        clips: dict[str, _Clip] = {
            file.parent.name: _Gen3rClip(file.parent) for file in place.glob("*/transforms.json")
        }
        if clips:
            return clips
    return {}
