"""Chamfer distance between two point sets, from exact nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.alignment import real_points

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


@dataclass(frozen=True, slots=True)
class Chamfer:
    """Mean nearest-neighbour distances between a predicted and a true cloud, in the points' unit; lower is better.

    Attributes:
        accuracy: mean distance from predicted points to the nearest true point.
        completeness: mean distance from true points to the nearest predicted point.
        chamfer: mean of the two.
    """

    accuracy: float
    completeness: float
    chamfer: float


def chamfer(pred: NDArray[Any], gt: NDArray[Any]) -> Chamfer:
    """Chamfer distance of [N, 3] predicted and [M, 3] true points: Euclidean (not squared) means, float64.

    Exchanging the clouds exchanges accuracy and completeness. Source: the released Gen3R code (`eval_utils.py`); in
    all 42 cells of the paper's Tables 2 and 3 the last number is the mean of the first two.

    Raises:
        InputError: an empty cloud, a wrong shape, or a non-finite coordinate.

    >>> chamfer([[0, 0, 0], [0, 0, 1]], [[0, 0, 0]])
    Chamfer(accuracy=0.5, completeness=0.0, chamfer=0.25)
    """
    trees = [kd_tree(_checked(points, name)) for points, name in ((pred, "pred"), (gt, "gt"))]
    return chamfer_of_trees(trees[0], trees[1])


def kd_tree(points: NDArray[Any]) -> cKDTree:
    """KD-tree of [N, 3] points."""
    from scipy.spatial import cKDTree  # here, because it takes longer to import than the rest of the suite

    return cKDTree(points)


def chamfer_of_trees(pred: cKDTree, gt: cKDTree) -> Chamfer:
    """`chamfer` of clouds that already have their KD-trees."""
    accuracy = float(np.mean(gt.query(pred.data)[0]))
    completeness = float(np.mean(pred.query(gt.data)[0]))
    return Chamfer(accuracy, completeness, (accuracy + completeness) / 2)


def _checked(points: NDArray[Any], name: str) -> NDArray[np.float64]:
    array = real_points(points, name).astype(np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
        raise InputError(f"{name} of shape {list(array.shape)}", expected="shape [N, 3] with N >= 1")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise InputError(f"{bad} of {len(array)} points of {name} are not finite", expected="finite points")
    return array
