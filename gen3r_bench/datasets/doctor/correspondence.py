"""Feature matches between frames of one clip: what the convention test looks at, and nothing about cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_FRAMES: Final = 16
STEPS: Final = (1, 2, 4)
"""Each chosen frame is matched with those so many chosen frames later: near ones match well, far ones tell more."""
MAX_RATIO: Final = 0.7
MIN_MATCHES: Final = 12
"""Fewer matches of a pair of frames are most likely chance, and the pair is left out."""

_MAX_MATCHES: Final = 150
_SMALL_SIDE: Final = 320  # below, features are looked for in a picture of twice the size


@dataclass(frozen=True, slots=True, eq=False)
class PairMatches:
    """Matched points of two frames.

    Attributes:
        one, two: indices of the frames.
        x, y: [M, 2] float64 (column, row) in frames ``one`` and ``two``, pixel centres at +0.5.
    """

    one: int
    two: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @property
    def shift(self) -> float:
        """Median displacement of the matches in pixels."""
        return float(np.median(np.linalg.norm(self.x - self.y, axis=1)))


def match_frames(rgb: NDArray[np.uint8], frames: int = MAX_FRAMES) -> tuple[PairMatches, ...]:
    """SIFT matches between frames that are spread over [F, H, W, 3] uint8; the same for the same pictures.

    Mutual nearest neighbours that pass the ratio test are kept, at most 150 a pair. Pairs with fewer than `MIN_MATCHES`
    are left out, so the result may be empty.
    """
    from skimage import feature

    # scikit-image annotates nothing here
    match: Any = feature.match_descriptors

    chosen = chosen_frames(len(rgb), frames)
    features = {frame: _features(rgb[frame]) for frame in chosen}
    pairs = []
    for step in STEPS:
        for one, two in zip(chosen, chosen[step:], strict=False):
            (x, left), (y, right) = features[one], features[two]
            if min(len(x), len(y)) < MIN_MATCHES:
                continue
            indices = match(left, right, max_ratio=MAX_RATIO, cross_check=True)
            if len(indices) >= MIN_MATCHES:
                indices = indices[spread(len(indices), _MAX_MATCHES)]
                pairs.append(PairMatches(one, two, x[indices[:, 0]], y[indices[:, 1]]))
    return tuple(pairs)


def chosen_frames(count: int, most: int = MAX_FRAMES) -> list[int]:
    """At most ``most`` of ``count`` frames, evenly spread, the first and the last among them."""
    return [int(frame) for frame in spread(count, most)]


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of ``count`` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.intp))


def _features(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Points [N, 2] (column, row) and descriptors [N, 128] of one picture; none where it has no texture."""
    from skimage.color import rgb2gray
    from skimage.feature import SIFT

    detector: Any = SIFT
    sift = detector(upsampling=2 if min(picture.shape[:2]) < _SMALL_SIDE else 1)
    try:
        sift.detect_and_extract(rgb2gray(picture))
    except RuntimeError:  # what scikit-image raises where it finds nothing
        return np.empty((0, 2)), np.empty((0, 128), dtype=np.uint8)
    return sift.positions[:, ::-1] + 0.5, sift.descriptors
