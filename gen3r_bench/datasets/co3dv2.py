"""Co3Dv2, as the official zips unpack, and the writer of the same layout.

::

    ROOT/CATEGORY/frame_annotations.jgz      gzip'ed JSON list, an object a frame of every sequence
                 /sequence_annotations.jgz   the same, an object a sequence
                 /set_lists/set_lists_<subset>.json
                 /SEQUENCE/images/frame000001.jpg
                          /depths/frame000001.jpg.geometric.png
                          /depth_masks/frame000001.png
                          /masks/frame000001.png

Conventions: PyTorch3D cameras, x left, y up, z forward, and row vectors, so ``x_cam = x_world @ R + T``; intrinsics in
one of two normalised forms with their origin in the picture's centre. A depth PNG holds the BITS of a float16 in each
uint16; times ``scale_adjustment`` it is z-depth in the unit of the poses, which is arbitrary.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gen3r_bench.datasets.base import ClipProfile, DatasetInfo, DatasetOption
from gen3r_bench.datasets.clip import (
    FrameSource,
    assemble_clip,
    chosen_frames,
    files_fingerprint,
    intrinsics_at,
    masked,
    read_depth_png16,
    read_picture,
    read_prompt,
)
from gen3r_bench.datasets.export import SceneWriter, replace_text
from gen3r_bench.datasets.official import (
    CLIP_FRAMES,
    OfficialDataset,
    checked_root,
    chosen_value,
    file_names,
    subfolders,
)
from gen3r_bench.errors import InputError, SceneError
from gen3r_bench.scene import Scene, invert_rigid

SET_LISTS: Final = (
    "none",
    "fewview_train",
    "fewview_dev",
    "fewview_test",
    "manyview_dev_0",
    "manyview_dev_1",
    "manyview_test",
)
NDC_FORMATS: Final = ("ndc_isotropic", "ndc_norm_image_bounds")
_DEFAULT_NDC: Final = "ndc_norm_image_bounds"  # what the official loader takes where the key is missing
_OPENCV_FROM_PYTORCH3D: Final = np.diag([-1.0, -1.0, 1.0])
_MASK_ABOVE: Final = 127  # of 255: more likely object than not


class Co3dv2Dataset(OfficialDataset):
    """Co3Dv2 sequences; ids are ``CATEGORY/SEQUENCE``. Units are arbitrary, one for each sequence.

    Depth is valid where it is finite and positive and the depth mask says so; with ``foreground=yes`` also only on the
    object. A frame that has no depth at all is not valid anywhere.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="co3dv2",
        title="Co3Dv2",
        summary="Turns around objects of 51 categories, with depth and cameras from structure from motion.",
        has_depth=True,
        scale="sfm",
        needs_root=True,
        licence="CC BY-NC 4.0",
        reference="https://arxiv.org/abs/2109.00512",
    )
    options: ClassVar[tuple[DatasetOption, ...]] = (
        DatasetOption("foreground", "no", "yes or no", "Only depth on the object is valid."),
        DatasetOption(
            "min_quality", "0.5", "a number, or none", "Draw only sequences whose viewpoint quality score is higher."
        ),
        DatasetOption(
            "set_list", "none", ", ".join(SET_LISTS), "Draw only sequences of an official list, all of them."
        ),
    )

    def __init__(
        self,
        folders: Mapping[str, Path],
        quality: Mapping[str, float | None],
        *,
        foreground: bool = False,
        min_quality: float | None = 0.5,
        set_list: str = "none",
    ) -> None:
        super().__init__(folders)
        self._quality = quality
        self._foreground = foreground
        self._min_quality = min_quality
        self._set_list = set_list
        self._annotations: dict[str, list[str]] = {}

    @classmethod
    def open(cls, root: Path | None, options: Mapping[str, str]) -> Self:
        """Index the sequences below ``root`` that have both a folder and an entry in ``sequence_annotations.jgz``.

        Frame annotations are read category by category, when a sequence of it is loaded.

        Raises:
            InputError: where an option is not legal, there is no sequence, or a sequence annotation is damaged.
        """
        foreground = chosen_value(options, "foreground", ("yes", "no")) == "yes"
        min_quality = _min_quality(options["min_quality"])
        set_list = chosen_value(options, "set_list", SET_LISTS)
        root = checked_root(cls.info.name, root)
        folders: dict[str, Path] = {}
        quality: dict[str, float | None] = {}
        for category in subfolders(root):
            file = root / category / "sequence_annotations.jgz"
            if not (root / category / "frame_annotations.jgz").exists():
                continue
            there = set(subfolders(root / category))
            for name, score in _sequence_scores(file):
                if name in there:
                    folders[f"{category}/{name}"] = root / category / name
                    quality[f"{category}/{name}"] = score
        if not folders:
            raise InputError(
                f"no sequence in {root}",
                expected="CATEGORY/{frame,sequence}_annotations.jgz and CATEGORY/SEQUENCE/images/",
            )
        return cls(folders, quality, foreground=foreground, min_quality=min_quality, set_list=set_list)

    def excluded(self) -> Mapping[str, str]:
        """Sequences of low or unknown viewpoint quality, and those outside the set list that was asked for.

        Raises:
            InputError: where a category's set list is missing or damaged although the options ask for it.
        """
        reasons: dict[str, str] = {}
        listed = None if self._set_list == "none" else self._listed()
        for scene, score in self._quality.items():
            if listed is not None and scene not in listed:
                reasons[scene] = f"not in set_lists_{self._set_list}.json"
            elif self._min_quality is not None and score is None:
                reasons[scene] = "no viewpoint quality score"
            elif self._min_quality is not None and score is not None and not score > self._min_quality:
                reasons[scene] = f"viewpoint quality score {score:.3g}, not above {self._min_quality:g}"
        return reasons

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        """Hash of the profile, the foreground option, and annotations, pictures, depth and masks of the frames.

        Raises:
            UnknownNameError: where there is no such sequence.
            SceneError: where a file is missing or damaged, or the sequence is shorter than the profile.
        """
        frames = chosen_frames(self._frames(scene_id), profile, f"co3dv2 {scene_id}")
        prompt = read_prompt(self._folder(scene_id))[1]
        paths = [prompt] if prompt else []
        for frame in frames:
            paths += [path for path in self._files(scene_id, frame) if path is not None]
        annotations = json.dumps(frames, sort_keys=True)
        return files_fingerprint(paths, "co3dv2 1", scene_id, str(profile), f"{self._foreground}", annotations)

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        """Read one clip; frames are counted in the order of their frame numbers.

        Raises:
            UnknownNameError: where there is no such sequence.
            SceneError: where a file is missing or damaged, an annotation is unusable, or the sequence is shorter than
                the profile.
        """
        frames = chosen_frames(self._frames(scene_id), profile, f"co3dv2 {scene_id}")
        return assemble_clip(
            [self._source(scene_id, frame) for frame in frames],
            replace(profile, start=0, stride=1),
            dataset=self.info.name,
            scene_id=scene_id,
            prompt=read_prompt(self._folder(scene_id))[0],
            scale="sfm",
        )

    @property
    def _test_fraction(self) -> float:
        return 0.1 if self._set_list == "none" else 1.0

    def _pictures(self, scene_id: str) -> int:
        return len(file_names(self._folders[scene_id] / "images", ".jpg", CLIP_FRAMES))

    def _listed(self) -> set[str]:
        """Ids in any part of the set list of their category."""
        listed: set[str] = set()
        for category in sorted({scene.split("/")[0] for scene in self._folders}):
            folder = next(path.parent for scene, path in self._folders.items() if scene.startswith(f"{category}/"))
            file = folder / "set_lists" / f"set_lists_{self._set_list}.json"
            try:
                parts = json.loads(file.read_text(encoding="utf-8"))
                listed |= {f"{category}/{entry[0]}" for part in parts.values() for entry in part}
            except (OSError, ValueError, AttributeError, TypeError, LookupError) as error:
                raise InputError(
                    f"{file}: {error}", expected="the set list as downloaded, or option set_list=none"
                ) from error
        return listed

    def _frames(self, scene_id: str) -> list[dict[str, Any]]:
        """Frame annotations of a sequence, in the order of their frame numbers.

        A category's file can hold hundreds of megabytes of text: it is gone through once, and what is kept of it is the
        text of the sequences that this split draws.
        """
        folder = self._folder(scene_id)
        file = folder.parent / "frame_annotations.jgz"
        if scene_id not in self._annotations:
            category = folder.parent.name
            wanted = {scene_id, *(scene for scene in self._drawn if scene.startswith(f"{category}/"))}
            found: dict[str, list[str]] = {scene: [] for scene in wanted}
            for text, entry in _entries(file):
                scene = f"{category}/{entry.get('sequence_name')}"
                if scene in wanted:
                    found[scene].append(text)
            self._annotations |= found
        frames = [json.loads(text) for text in self._annotations[scene_id]]
        numbers = {n for frame in frames if isinstance(n := frame.get("frame_number"), int)}
        if not frames or len(numbers) < len(frames):
            raise SceneError(
                f"{file}: sequence {folder.name} has {len(frames)} frames with {len(numbers)} frame numbers; expected "
                "one whole number a frame"
            )
        return sorted(frames, key=lambda frame: int(frame["frame_number"]))

    def _source(self, scene_id: str, frame: dict[str, Any]) -> FrameSource:
        where = f"frame {frame['frame_number']} of co3dv2 {scene_id}"
        picture, depth, depth_mask, mask = self._files(scene_id, frame)
        viewpoint = frame.get("viewpoint")
        if not isinstance(viewpoint, dict):
            raise SceneError(f"{where} has no viewpoint; its camera was not found")
        size = _numbers(frame["image"], "size", 2, where)
        known = (float(size[0]), float(size[1]))
        adjustment = 1.0
        if depth is not None:
            adjustment = float(_numbers(frame["depth"], "scale_adjustment", 1, where)[0])
        return FrameSource(
            name=str(picture),
            read_rgb=partial(read_picture, picture),
            intrinsics=partial(intrinsics_at, _camera(viewpoint, known, where), known, name=str(picture)),
            world_from_cam=_pose(viewpoint, where),
            read_depth=None if depth is None else partial(_read_depth, depth, adjustment, depth_mask, mask),
        )

    def _files(self, scene_id: str, frame: dict[str, Any]) -> tuple[Path, Path | None, Path | None, Path | None]:
        """Files of a frame: picture, depth, depth mask, and object mask where the options ask for it."""
        root = self._folder(scene_id).parents[1]
        where = f"frame {frame['frame_number']} of co3dv2 {scene_id}"

        def path(part: str, key: str, *, needed: bool) -> Path | None:
            entry = frame.get(part)
            value = entry.get(key) if isinstance(entry, dict) else None
            if isinstance(value, str) and value:
                return root / value
            if needed or value is not None:
                raise SceneError(f"{where}: {part}.{key} is {value!r}; expected a path below the root")
            return None

        picture = path("image", "path", needed=True)
        assert picture is not None
        depth = path("depth", "path", needed=frame.get("depth") is not None)
        if depth is None:
            return picture, None, None, None
        mask = path("mask", "path", needed=True) if self._foreground else None
        return picture, depth, path("depth", "mask_path", needed=False), mask


def _min_quality(value: str) -> float | None:
    if value == "none":
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"option min_quality={value}", expected="a number, or none")
    return number


def _read_jgz(path: Path) -> str:
    """Text of a gzip'ed file.

    Raises:
        SceneError: where it is missing, cut short or otherwise damaged.
    """
    try:
        with gzip.open(path, "rb") as file:
            return file.read().decode("utf-8")
    except FileNotFoundError as error:
        raise SceneError(f"{path}: missing; download the category's annotations") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SceneError(f"{path}: not a whole gzip file ({error}); download it again") from error


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a gzip'ed JSON list with its own text; one at a time, since a list can hold 200,000."""
    text = _read_jgz(path)
    decoder = json.JSONDecoder()
    position = _skip(text, 0, "[")
    while position < len(text) and text[position] != "]":
        try:
            entry, end = decoder.raw_decode(text, position)
        except ValueError as error:
            raise SceneError(f"{path}: not valid JSON ({error}); download it again") from error
        if not isinstance(entry, dict):
            raise SceneError(f"{path}: holds a {type(entry).__name__}; expected a list of objects")
        yield text[position:end], entry
        position = _skip(text, end, ",")
    if position >= len(text):
        raise SceneError(f"{path}: the JSON list has no end; download it again")


def _skip(text: str, position: int, mark: str) -> int:
    """Position after white space and at most one ``mark``."""
    while position < len(text) and (text[position].isspace() or text[position] == mark):
        position += 1
    return position


def _sequence_scores(path: Path) -> Iterator[tuple[str, float | None]]:
    """Name and viewpoint quality score of each sequence of a category."""
    try:
        for _, entry in _entries(path):
            name, score = entry.get("sequence_name"), entry.get("viewpoint_quality_score")
            if not isinstance(name, str) or not name:
                raise SceneError(f"{path}: an entry without sequence_name; download it again")
            yield name, float(score) if isinstance(score, int | float) and math.isfinite(score) else None
    except SceneError as error:
        raise InputError(str(error), expected="every category's sequence_annotations.jgz") from error


def _numbers(content: Any, key: str, count: int, where: str) -> NDArray[np.float64]:
    """[count] finite numbers of an annotation, nested lists flattened."""
    value = content.get(key) if isinstance(content, dict) else None
    try:
        array = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size != count or not np.isfinite(array).all():
        raise SceneError(f"{where}: {key} is {value!r}; expected {count} finite number{'s' if count > 1 else ''}")
    return array


def _pose(viewpoint: dict[str, Any], where: str) -> NDArray[np.float64]:
    """[4, 4] OpenCV camera-to-world of a PyTorch3D viewpoint."""
    rotation = _numbers(viewpoint, "R", 9, where).reshape(3, 3)
    cam_from_world = np.eye(4)
    cam_from_world[:3, :3] = _OPENCV_FROM_PYTORCH3D @ rotation.T
    cam_from_world[:3, 3] = _OPENCV_FROM_PYTORCH3D @ _numbers(viewpoint, "T", 3, where)
    # a general inverse: how far the rotation is from one is judged with all others, in the clip
    if abs(np.linalg.det(rotation)) < 0.5:
        raise SceneError(f"{where}: R is no rotation (det {np.linalg.det(rotation):.2g})")
    return np.asarray(np.linalg.inv(cam_from_world), dtype=np.float64)


def _camera(viewpoint: dict[str, Any], size: tuple[float, float], where: str) -> NDArray[np.float64]:
    focal = _numbers(viewpoint, "focal_length", 2, where)
    centre = _numbers(viewpoint, "principal_point", 2, where)
    form = viewpoint.get("intrinsics_format", _DEFAULT_NDC)
    if form not in NDC_FORMATS:
        raise SceneError(f"{where}: intrinsics_format {form!r}; expected {' or '.join(NDC_FORMATS)}")
    return pixels_from_ndc(focal, centre, size, form)


def pixels_from_ndc(
    focal: NDArray[np.float64], principal_point: NDArray[np.float64], size: tuple[float, float], form: str
) -> NDArray[np.float64]:
    """[3, 3] intrinsics in pixels, centres at +0.5, of PyTorch3D's normalised ones.

    Args:
        focal: (x, y).
        principal_point: (x, y), measured from the centre, to the LEFT and UP.
        size: (height, width) in pixels.
        form: "ndc_isotropic", where the shorter side is 2 units long, or "ndc_norm_image_bounds", where both are.
    """
    height, width = size
    units = np.array([width, height]) / 2
    if form == "ndc_isotropic":
        units[:] = units.min()
    (fx, fy), (left, up) = focal * units, principal_point * units
    return np.array([[fx, 0.0, width / 2 - left], [0.0, fy, height / 2 - up], [0.0, 0.0, 1.0]])


def _read_depth(
    path: Path, adjustment: float, depth_mask: Path | None, mask: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    depth = read_depth_png16(path).view(np.float16).astype(np.float32) * np.float32(adjustment)
    valid = np.isfinite(depth) & (depth > 0)
    if depth_mask is not None:
        valid = masked(valid, depth_mask, above=0)
    if mask is not None:
        valid = masked(valid, mask, above=_MASK_ABOVE)
    return depth, valid


class Co3dv2Writer(SceneWriter):
    """Writes ``DATASET/SEQUENCE`` with both annotation files; JPEG of quality 100 without chroma subsampling.

    Depth is rounded to float16 (1 part in 2048). The object mask covers the whole picture, and the quality score is 1:
    what is an object, and how good a camera is, is not known.
    """

    needs_depth = True

    def __init__(self) -> None:
        self._written: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def place(self, scene: Scene) -> Path:
        return Path(self.slug(scene.dataset), self.slug(scene.scene_id))

    def write(self, scene: Scene, folder: Path) -> None:
        place = self.place(scene)
        for name in ("images", "depths", "depth_masks", "masks"):
            (folder / name).mkdir()
        height, width = scene.image_size
        whole = Image.new("L", (width, height), 255)
        frames = []
        for i, rgb in enumerate(scene.rgb):
            name = f"frame{i + 1:06d}"
            files = {
                "image": f"images/{name}.jpg",
                "depth": f"depths/{name}.jpg.geometric.png",
                "depth_mask": f"depth_masks/{name}.png",
                "mask": f"masks/{name}.png",
            }
            with np.errstate(over="ignore"):
                depth = self.known_depth(scene, i).astype(np.float16)
            if not np.isfinite(depth).all():
                raise InputError(
                    f"scene {scene.scene_id} of {scene.dataset}: depth beyond 65504", expected="float16's range"
                )
            Image.fromarray(rgb).save(folder / files["image"], quality=100, subsampling=0)
            Image.fromarray(depth.view(np.uint16)).save(folder / files["depth"])
            Image.fromarray(scene.valid[i].astype(np.uint8) * 255).save(folder / files["depth_mask"])
            whole.save(folder / files["mask"])
            paths = {key: (place / value).as_posix() for key, value in files.items()}
            frames.append(
                {
                    "sequence_name": place.name,
                    "frame_number": i,
                    "frame_timestamp": i / 30,
                    "image": {"path": paths["image"], "size": [height, width]},
                    "depth": {"path": paths["depth"], "scale_adjustment": 1.0, "mask_path": paths["depth_mask"]},
                    "mask": {"path": paths["mask"], "mass": float(height * width)},
                    "viewpoint": _viewpoint(scene, i),
                    "meta": None,
                }
            )
        self._written.setdefault(place.parent.name, {})[place.name] = frames

    def finish(self, out: Path) -> None:
        for category, sequences in self._written.items():
            kept_frames, kept_sequences = (
                [
                    entry
                    for _, entry in (_entries(path) if path.exists() else ())
                    if entry.get("sequence_name") not in sequences
                ]
                for path in (out / category / f"{kind}_annotations.jgz" for kind in ("frame", "sequence"))
            )
            added = [
                {
                    "sequence_name": name,
                    "category": category,
                    "video": None,
                    "point_cloud": None,
                    "viewpoint_quality_score": 1.0,
                }
                for name in sequences
            ]
            frames = [frame for written in sequences.values() for frame in written]
            for kind, entries in (("frame", kept_frames + frames), ("sequence", kept_sequences + added)):
                content = gzip.compress(json.dumps(entries).encode(), mtime=0)
                replace_text(out / category / f"{kind}_annotations.jgz", content)


def _viewpoint(scene: Scene, frame: int) -> dict[str, Any]:
    """The PyTorch3D viewpoint of an OpenCV camera, intrinsics as ndc_isotropic."""
    cam_from_world = invert_rigid(scene.cameras.world_from_cam[frame])
    k = scene.cameras.intrinsics[frame]
    if abs(k[0, 1]) > 1e-9:
        raise InputError(f"scene {scene.scene_id} of {scene.dataset}: skewed pixels", expected="a pinhole camera")
    height, width = scene.image_size
    unit = min(height, width) / 2
    return {
        "R": (_OPENCV_FROM_PYTORCH3D @ cam_from_world[:3, :3]).T.tolist(),
        "T": (_OPENCV_FROM_PYTORCH3D @ cam_from_world[:3, 3]).tolist(),
        "focal_length": [k[0, 0] / unit, k[1, 1] / unit],
        "principal_point": [(width / 2 - k[0, 2]) / unit, (height / 2 - k[1, 2]) / unit],
        "intrinsics_format": "ndc_isotropic",
    }
