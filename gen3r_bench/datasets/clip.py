"""A Scene out of a list of frames: what every reader of files does the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.preprocess import ResizeCrop, resize_crop
from gen3r_bench.errors import BenchError, InputError, SceneError
from gen3r_bench.scene import Cameras, Scale, Scene, nearest_rotations

MAX_ROTATION_ERROR: Final = 1e-2
"""Largest entry of ``R @ R.T - I`` that is taken for rounding and repaired; more is a scaled or sheared pose."""

MAX_ASPECT_ERROR: Final = 0.02
"""Largest relative difference of a depth map's aspect from its picture's: sizes that were halved and rounded pass."""

READERS: Final = 4
"""Threads that read a clip's frames; more gain nothing, since the last steps of each frame share one lock."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Where one frame's picture, camera and depth come from; nothing is read before it is asked for.

    Attributes:
        name: of the frame, for error messages: usually its picture's path.
        read_rgb: gives [h, w, 3] uint8.
        intrinsics: given the picture's real (h, w), gives [3, 3] float64 in its pixels, centres at +0.5.
        world_from_cam: [4, 4] float64, OpenCV axes; any world.
        read_depth: gives z-depth [h', w'] float32 in the unit of the poses and [h', w'] bool, where it is known; the
            size may differ from the picture's, the field of view may not. None: this frame has no depth.
    """

    name: str
    read_rgb: Callable[[], NDArray[np.uint8]]
    intrinsics: Callable[[tuple[int, int]], NDArray[np.float64]]
    world_from_cam: NDArray[np.float64]
    read_depth: Callable[[], tuple[NDArray[np.float32], NDArray[np.bool_]]] | None = None


def chosen_frames(frames: Sequence[T], profile: ClipProfile, where: str) -> list[T]:
    """Frames ``start``, ``start + stride``, … of a scene, as many as the profile asks for.

    Raises:
        InputError: where the profile itself makes no sense.
        SceneError: where there are too few; a clip is never padded.
    """
    if profile.frames < 1 or profile.stride < 1 or profile.start < 0:
        raise InputError(f"{profile}", expected="at least one frame, a stride from 1 and a start from 0 on")
    needed = profile.start + (profile.frames - 1) * profile.stride + 1
    if len(frames) < needed:
        raise SceneError(
            f"{where} lists {len(frames)} frames; {profile.frames} frames from {profile.start} in steps of "
            f"{profile.stride} need {needed} (ask for fewer frames; clips are never padded)"
        )
    return list(frames[profile.start : needed : profile.stride])


def assemble_clip(
    frames: Sequence[FrameSource],
    profile: ClipProfile,
    *,
    dataset: str,
    scene_id: str,
    prompt: str,
    scale: Scale,
) -> Scene:
    """The clip that a profile picks out of all ``frames`` of a scene, in their order.

    Pictures go through Gen3R's input rule (antialiased resize until they cover the target, centre crop), intrinsics
    with them, depth and validity by nearest neighbour with the same crop. The first frame read becomes the world.
    Depth is 0 where it is not valid; a frame without depth in a clip that has some is not valid anywhere.

    Raises:
        InputError: where the profile itself makes no sense.
        SceneError: where there are too few frames, a file cannot be read, pictures differ in size, or a camera or a
            depth map is unusable; names the frame.
    """
    chosen = chosen_frames(frames, profile, f"{dataset} {scene_id}")
    poses = _rigid_poses(chosen)
    shape = (len(chosen), *profile.image_size)
    rgb = np.empty((*shape, 3), dtype=np.uint8)
    intrinsics = np.empty((len(chosen), 3, 3))
    has_depth = any(frame.read_depth is not None for frame in chosen)
    depth = np.zeros(shape if has_depth else 0, dtype=np.float32)
    valid = np.zeros(shape, dtype=np.bool_)

    def read(i: int) -> tuple[int, int]:
        frame = chosen[i]
        picture = frame.read_rgb()
        plan = resize_crop((picture.shape[0], picture.shape[1]), profile.image_size)
        rgb[i] = plan.rgb(picture)
        intrinsics[i] = plan.intrinsics(_usable_intrinsics(frame, plan.source))
        if frame.read_depth is not None:
            depth[i], valid[i] = _cropped_depth(frame, plan, *frame.read_depth())
        return plan.source

    # Pillow decodes and resizes outside the interpreter's lock
    with ThreadPoolExecutor(min(READERS, len(chosen))) as pool:
        sizes = list(pool.map(read, range(len(chosen))))
    for frame, size in zip(chosen, sizes, strict=True):
        if size != sizes[0]:
            raise SceneError(
                f"{frame.name}: {size[1]}x{size[0]} pixels, but the clip's first picture has "
                f"{sizes[0][1]}x{sizes[0][0]}; a clip has pictures of one size"
            )
    if has_depth and not valid.any():
        raise SceneError(f"{dataset} {scene_id}: no valid depth in any of {len(chosen)} frames; the depth is unusable")
    try:
        return Scene(
            dataset=dataset,
            scene_id=scene_id,
            rgb=rgb,
            cameras=Cameras(poses, intrinsics, profile.image_size).rebased(),
            depth=depth if has_depth else None,
            valid=valid,
            prompt=prompt,
            scale=scale,
        )
    except BenchError as error:
        raise SceneError(f"{dataset} {scene_id}: {error}") from error


def intrinsics_at(
    matrix: NDArray[np.float64], known: tuple[float, float], size: tuple[int, int], name: str
) -> NDArray[np.float64]:
    """[3, 3] intrinsics in pixels of a picture of ``size``, given those for ``known``, both (height, width).

    Raises:
        SceneError: where the two sizes differ in shape by more than 1 %: the picture was cropped or squashed.
    """
    ratio_y, ratio_x = size[0] / known[0], size[1] / known[1]
    if abs(ratio_x / ratio_y - 1.0) > 0.01:
        raise SceneError(
            f"{name}: {size[1]}x{size[0]} pixels, but its intrinsics are for {known[1]:g}x{known[0]:g}, another shape; "
            "the picture was cropped or squashed after calibration"
        )
    return np.diag([ratio_x, ratio_y, 1.0]) @ matrix


def _rigid_poses(frames: Sequence[FrameSource]) -> NDArray[np.float64]:
    """[F, 4, 4] poses of the frames, rotations made exact where they are off by no more than rounding."""
    for frame in frames:
        pose = frame.world_from_cam
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise SceneError(f"{frame.name}: its pose is not a finite 4x4 matrix; the recording is damaged there")
        rotation = pose[:3, :3]
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        determinant = float(np.linalg.det(rotation))
        if error > MAX_ROTATION_ERROR or determinant < 0 or not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6):
            raise SceneError(
                f"{frame.name}: its pose is not rigid (rotation {error:.2g} off orthonormal, det {determinant:.2g}, "
                f"last row {pose[3].tolist()}); expected within {MAX_ROTATION_ERROR:g}, det 1 and 0 0 0 1"
            )
    return nearest_rotations(np.stack([frame.world_from_cam for frame in frames]))


def _usable_intrinsics(frame: FrameSource, size: tuple[int, int]) -> NDArray[np.float64]:
    matrix = frame.intrinsics(size)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise SceneError(f"{frame.name}: intrinsics {np.round(matrix, 4).tolist()}; expected finite, positive focals")
    return matrix


def _cropped_depth(
    frame: FrameSource, plan: ResizeCrop, depth: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if depth.ndim != 2 or 0 in depth.shape or valid.shape != depth.shape:
        raise SceneError(f"{frame.name}: depth of shape {list(depth.shape)} and mask of {list(valid.shape)}")
    (height, width), (h, w) = depth.shape, plan.source
    if abs(width * h / (height * w) - 1.0) > MAX_ASPECT_ERROR:
        raise SceneError(
            f"{frame.name}: depth of {width}x{height} for a picture of {w}x{h}; expected the same field of view"
        )
    depth, valid = plan.nearest(depth), plan.nearest(valid)
    valid &= np.isfinite(depth) & (depth > 0)
    return np.where(valid, depth, np.float32(0)), valid


def open_image(path: Path) -> Image.Image:
    """A decoded picture as Pillow gives it; the file is closed again.

    Raises:
        SceneError: where the file is missing, is no picture, or is damaged.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise SceneError(f"{path}: missing; restore the file") from error
    except UnidentifiedImageError as error:
        raise SceneError(f"{path}: not a readable image; restore the file") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
        raise SceneError(f"{path}: damaged image ({error}); restore the file") from error


def read_picture(path: Path) -> NDArray[np.uint8]:
    """[h, w, 3] uint8 RGB of a picture file, as its pixels are stored.

    Grey is expanded and an alpha channel dropped, not composited, as Gen3R does. EXIF orientation is NOT applied:
    cameras were estimated on the stored pixels.

    Raises:
        SceneError: where the file cannot be read or does not have 8 bits a channel.
    """
    image = open_image(path)
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P"):
        raise SceneError(f"{path}: a picture of mode {image.mode}; expected 8 bits a channel, grey or RGB")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_depth_png16(path: Path) -> NDArray[np.uint16]:
    """[h, w] uint16, the raw numbers of a 16-bit grey PNG.

    Raises:
        SceneError: where the file cannot be read or has another depth of bits: 8 bits cannot hold millimetres.
    """
    image = open_image(path)
    if image.format != "PNG" or not (image.mode.startswith("I;16") or image.mode == "I"):
        raise SceneError(
            f"{path}: {image.format} of mode {image.mode}; expected 16 bits, grey, PNG (was it converted to 8 bits?)"
        )
    # older releases of Pillow widen 16 bits to 32
    return np.asarray(image).astype(np.uint16)


def read_depth_npy(path: Path) -> NDArray[np.float32]:
    """[h, w] float32 of a floating-point NPY file; non-finite values are kept.

    Raises:
        SceneError: where the file cannot be read, holds objects (no pickle is ever run), or is not [h, w] of floats.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise SceneError(f"{path}: missing; restore the file") from error
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(f"{path}: not a readable NPY file ({error}); restore the file") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or array.size == 0:
        given = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise SceneError(f"{path}: {given}; expected floating-point depth of shape [h, w]")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is not valid
        return array.astype(np.float32, copy=False)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """[h, w] uint8 of a one-channel mask; 1-bit masks become 0 and 255.

    Raises:
        SceneError: where the file cannot be read or is neither grey nor black and white.
    """
    image = open_image(path)
    if image.mode not in ("1", "L"):
        raise SceneError(f"{path}: a mask of mode {image.mode}; expected 8-bit grey or black and white")
    return np.asarray(image.convert("L"))


def masked(valid: NDArray[np.bool_], path: Path, *, above: int) -> NDArray[np.bool_]:
    """``valid`` [h, w] where the mask file's value is greater than ``above``, False elsewhere.

    Raises:
        SceneError: where the mask cannot be read or has another size.
    """
    mask = read_mask(path)
    if mask.shape != valid.shape:
        raise SceneError(f"{path}: a mask of {list(mask.shape)} for depth of {list(valid.shape)}; expected one size")
    return valid & (mask > above)


def read_prompt(folder: Path) -> tuple[str, Path | None]:
    """First line of ``prompt.txt`` or ``captions.txt`` in a scene's folder with its file, or "" and None.

    Raises:
        SceneError: where the file is not UTF-8 text.
    """
    for name in ("prompt.txt", "captions.txt"):
        path = folder / name
        if path.is_file():
            lines = read_text(path).splitlines()
            return (lines[0].strip() if lines else ""), path
    return "", None


def read_text(path: Path) -> str:
    """Content of a UTF-8 text file.

    Raises:
        SceneError: where the file is missing or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SceneError(f"{path}: missing; restore the file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def files_fingerprint(paths: Iterable[Path], *extra: str) -> str:
    """SHA-256 over ``extra`` and the base names and contents of files in the order given, as 64 hex digits.

    Raises:
        SceneError: where a file cannot be read.
    """
    digest = hashlib.sha256("\n".join(extra).encode())
    for path in paths:
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError as error:
            raise SceneError(f"{path}: missing; restore the file") from error
        except OSError as error:
            raise SceneError(f"{path}: cannot be read ({error.strerror})") from error
        digest.update(f"\n{path.name} {content}".encode())
    return digest.hexdigest()
