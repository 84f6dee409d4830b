"""Frames as files that VBench reads: a lossless mp4, and its reference image as an RGB PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import BenchError

ENCODING: Final = "lossless (libx264rgb, qp 0)"
_FRAME_RATE: Final = 16  # none of the five dimensions reads it


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """Write frames as a lossless mp4, and read it back once.

    Args:
        path: ends with ``.mp4``, the only name of a film that every dimension reads.
        frames: [n, H, W, 3] uint8 RGB.

    Raises:
        BenchError: where a single value comes back different.
    """
    import av

    _, height, width, _ = frames.shape
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264rgb", rate=_FRAME_RATE, options={"qp": "0", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        film.mux(stream.encode())
    returned = read_video(path)
    if returned.shape != frames.shape or not np.array_equal(returned, frames):
        raise BenchError(
            f"the lossless film of {len(frames)} frames came back changed from its decoder "
            "(fix: reinstall av, whose FFmpeg must have libx264rgb)"
        )


def read_video(path: Path) -> NDArray[np.uint8]:
    """[n, H, W, 3] uint8 RGB frames of a film."""
    import av

    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]).astype(np.uint8)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write [H, W, 3] uint8 as an RGB PNG: VBench converts no picture and fails on other modes."""
    from PIL import Image

    Image.fromarray(image).save(path, "PNG")
