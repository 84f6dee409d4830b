"""All checks of a scene, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gen3r_bench.datasets.base import ClipProfile, Dataset
from gen3r_bench.datasets.doctor.checks import camera_checks, depth_checks, picture_checks
from gen3r_bench.datasets.doctor.correspondence import PairMatches, match_frames
from gen3r_bench.datasets.doctor.findings import Diagnosis, Finding
from gen3r_bench.datasets.doctor.verdict import convention_checks
from gen3r_bench.errors import SceneError
from gen3r_bench.scene import Scene


def diagnose(dataset: Dataset, scene_id: str, profile: ClipProfile) -> tuple[Diagnosis, Scene | None]:
    """Read one scene and examine it; what the reader refuses becomes an error finding, and there is no Scene.

    Raises:
        UnknownNameError: where there is no such scene.
        InputError: where the profile makes no sense for the dataset.
    """
    try:
        scene = dataset.load(scene_id, profile)
    except SceneError as error:
        return Diagnosis(dataset.info.name, scene_id, (_unreadable(dataset, scene_id, profile, error),)), None
    return examine(scene), scene


def examine(scene: Scene, matches: Sequence[PairMatches] | None = None) -> Diagnosis:
    """Every check of a scene that was read; deterministic.

    Args:
        scene: any.
        matches: of its pictures, where they are known already; see `correspondence.match_frames`.
    """
    count = f"{scene.num_frames}"
    findings = [Finding("frames", "ok", count, count)]
    findings += camera_checks(scene) + picture_checks(scene) + depth_checks(scene)
    found, convention, epipolar, depth = convention_checks(
        scene, match_frames(scene.rgb) if matches is None else matches
    )
    return Diagnosis(scene.dataset, scene.scene_id, (*findings, *found), convention, epipolar, depth)


def _unreadable(dataset: Dataset, scene_id: str, profile: ClipProfile, error: SceneError) -> Finding:
    """The reader's reason, and how many frames of the clip can be read one by one."""
    good = 0
    for frame in range(profile.frames):
        try:
            dataset.load(scene_id, replace(profile, frames=1, start=profile.start + frame * profile.stride, stride=1))
        except SceneError:
            continue
        good += 1
    return Finding("frames", "error", f"{good} readable", f"{profile.frames}", str(error))
