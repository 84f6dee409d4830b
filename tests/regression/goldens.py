"""Goldens for tests: of a synthetic run, or a shipped one cut down to fewer scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gen3r_bench.regression.golden import (
    Calibration,
    Golden,
    Observed,
    Tolerance,
    read_golden,
    reference_folder,
    without_costs,
)
from gen3r_bench.runs.store import Run

FACTOR = 10.0


def golden_of(run: Run, *, tolerance: float = 0.1, reason: str = "a test", commit: str = "") -> Golden:
    """A golden of a run of one row, protocol and dataset; every score may move by ``tolerance``."""
    drift = tolerance / FACTOR
    keys = dict.fromkeys(key for record in run.records for key in record.scores)
    one = Tolerance(drift=drift, seen_in="1 thread", floor=0.0, tolerance=max(FACTOR * drift, 0.0))
    return Golden(
        spec=run.header.rows[0].label,
        reason=reason,
        commit=commit,
        header=run.header,
        records=tuple(without_costs(record) for record in run.records),
        calibration=Calibration(
            factor=FACTOR,
            observed=(Observed(name="1 thread", summary="one"),),
            tolerances=dict.fromkeys(keys, one),
        ),
    ).sealed()


def shipped(name: str, scenes: Sequence[str]) -> dict[Path, Golden]:
    """A shipped golden of some of its scenes, by a path."""
    golden = read_golden(reference_folder() / f"{name}.json")
    plan = golden.header.plan[0].model_copy(update={"scenes": tuple(scenes)})
    return {
        Path(f"{name}.json"): golden.model_copy(
            update={
                "header": golden.header.model_copy(update={"plan": (plan,)}),
                "records": tuple(record for record in golden.records if record.scene_id in scenes),
            }
        )
    }
