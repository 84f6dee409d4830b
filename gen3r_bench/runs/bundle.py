"""Prediction bundles: a prediction on disk, lossless, with a checksum for every file.

``bundle.json`` holds conventions, frame indices and checksums; ``geometry.safetensors`` depth, points, cameras and
validity; ``rgb/00000.png`` … the frames, in the order of the frame indices.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.files import explained, write_atomically
from gen3r_bench.scene import Prediction

BUNDLE_NAME: Final = "bundle.json"
GEOMETRY_NAME: Final = "geometry.safetensors"
SCHEMA_VERSION: Final = 1
CONVENTIONS: Final = (
    "OpenCV cameras, world_from_cam 4x4, intrinsics in pixels with centres at +0.5, depth along z, points in world axes"
)
_TENSORS: Final = ("depth", "points_world", "world_from_cam", "intrinsics", "valid", "confidence")


def write_bundle(folder: Path, prediction: Prediction) -> None:
    """Write a prediction into ``folder``, replacing what is there only once the new one is complete.

    Raises:
        StoreError: where the disk is full or the folder cannot be written.
    """
    import io

    from PIL import Image
    from safetensors.numpy import save

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    files: dict[str, str] = {}

    def put(name: str, data: bytes) -> None:
        files[name] = hashlib.sha256(data).hexdigest()
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(data)

    with explained("write", folder):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            tensors = {
                name: np.ascontiguousarray(getattr(prediction, name))
                for name in _TENSORS
                if getattr(prediction, name) is not None
            }
            if tensors:
                put(GEOMETRY_NAME, save(tensors))
            for position, frame in enumerate(() if prediction.rgb is None else prediction.rgb):
                buffer = io.BytesIO()
                Image.fromarray(frame).save(buffer, "PNG", compress_level=3)
                put(f"rgb/{position:05d}.png", buffer.getvalue())
            description = {
                "schema_version": SCHEMA_VERSION,
                "conventions": CONVENTIONS,
                "frame_indices": list(prediction.frame_indices),
                "adaptations": list(prediction.adaptations),
                "seconds": prediction.seconds,
                "peak_memory_bytes": prediction.peak_memory_bytes,
                "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
                "files": files,
            }
            write_atomically(temporary / BUNDLE_NAME, (json.dumps(description, indent=1) + "\n").encode())
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        except (OSError, StoreError):
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _checked_bytes(folder: Path, name: str, sha256: str) -> bytes:
    path = folder / name
    with explained("read", path):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(f"{path} does not match its checksum in {BUNDLE_NAME} (fix: write the bundle anew)")
    return data


def read_bundle(folder: Path) -> Prediction:
    """Read a bundle and check every file against its checksum.

    Raises:
        StoreError: where a file is missing, damaged or of another version.
        InputError: where the content is not a legal prediction.
    """
    import io

    from PIL import Image
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / BUNDLE_NAME
    with explained("read", path):
        text = path.read_bytes()
    try:
        description: Any = json.loads(text)
        if description["schema_version"] != SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {description['schema_version']}; this suite reads {SCHEMA_VERSION} "
                "(fix: use the suite that wrote it)"
            )
        files: dict[str, str] = dict(description["files"])
        indices = tuple(int(index) for index in description["frame_indices"])
        adaptations = tuple(str(line) for line in description["adaptations"])
        seconds, peak_memory_bytes = description["seconds"], description["peak_memory_bytes"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged: {error} (fix: write the bundle anew)") from error
    tensors: dict[str, NDArray[Any]] = {}
    frames: list[NDArray[np.uint8]] = []
    for name in sorted(files):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StoreError(f"{path} names {name!r}, a file outside of the bundle (fix: write the bundle anew)")
        data = _checked_bytes(folder, name, files[name])
        try:
            if name == GEOMETRY_NAME:
                tensors = load(data)
            else:
                frames.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        except (OSError, ValueError, SafetensorError) as error:
            raise StoreError(f"{folder / name} cannot be decoded: {error} (fix: write the bundle anew)") from error
    unknown = sorted(set(tensors) - set(_TENSORS))
    if unknown:
        raise InputError(f"{folder / GEOMETRY_NAME} holds {unknown[0]!r}", expected=f"only {', '.join(_TENSORS)}")
    return Prediction(
        frame_indices=indices,
        rgb=stack_frames(frames, folder) if frames else None,
        adaptations=adaptations,
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes,
        **tensors,
    )


def stack_frames(frames: list[NDArray[np.uint8]], folder: Path) -> NDArray[np.uint8]:
    """[n, H, W, 3] from pictures of one size, or an InputError that names the odd one out."""
    sizes = [frame.shape[:2] for frame in frames]
    odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is not None:
        raise InputError(
            f"frame {odd} in {folder} is {sizes[odd][0]}x{sizes[odd][1]} pixels",
            expected=f"{sizes[0][0]}x{sizes[0][1]}, as frame 0",
        )
    return np.stack(frames)
