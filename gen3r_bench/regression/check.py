"""Runs what goldens guard, and judges it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from gen3r_bench import registry
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.errors import BenchError
from gen3r_bench.regression.golden import Golden
from gen3r_bench.regression.judge import Judgement, Problem, judge
from gen3r_bench.regression.measure import run_here
from gen3r_bench.regression.subset import Guarded, grouped, open_dataset
from gen3r_bench.runs.environment import code_commit
from gen3r_bench.runs.rows import Row, make_row
from gen3r_bench.runs.store import Run

Progress = Callable[[str, int], None]
"""Called with what is in work and the number of records that are new."""


def check(
    goldens: Mapping[Path, Golden],
    *,
    roots: Mapping[str, Path] | None = None,
    device: str = "cpu",
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Judgement]:
    """Run what goldens guard, and compare it with them, in their order.

    A golden that cannot be run (its weights, its protocol or its data are gone, or its spec names another row) is
    judged so, and the others go on.

    Args:
        goldens: by path.
        roots: where datasets lie that need a root.
        device: where networks run.
        jobs: scenes side by side.
        progress: told after every scene.
    """
    places: dict[Guarded, list[Path]] = {}
    for path, golden in goldens.items():  # two of one spec: the row was renamed between them
        places.setdefault(Guarded.of(golden), []).append(path)

    @cache
    def opened(dataset: str, options: tuple[tuple[str, str], ...]) -> OpenedDataset:
        return open_dataset(dataset, dict(options), roots or {})

    judged: dict[Path, Judgement] = {}
    commit = code_commit()
    with tempfile.TemporaryDirectory(prefix="gen3r-bench-regress-") as temporary:
        for number, group in enumerate(grouped(places)):
            together = {path: goldens[path] for guarded in group for path in places[guarded]}
            run: Run | None = None
            try:
                dataset = opened(group[0].dataset, group[0].options)
                run, reasons = _run(together, dataset, Path(temporary) / str(number), device, jobs, progress)
            except BenchError as error:
                reasons = dict.fromkeys(together, str(error))
            for path, golden in together.items():
                if run is None or path in reasons:
                    judged[path] = Judgement(path, golden, (Problem("cannot run", reasons[path]),))
                else:
                    judged[path] = judge(path, golden, run, commit=commit)
    return [judged[path] for path in goldens]


def _run(
    together: Mapping[Path, Golden],
    opened: OpenedDataset,
    folder: Path,
    device: str,
    jobs: int,
    progress: Progress | None,
) -> tuple[Run | None, dict[Path, str]]:
    """The run of those goldens of one group that can be run, and why the others cannot.

    Raises:
        BenchError: where none of them can be.
    """
    one = Guarded.of(next(iter(together.values())))
    there = set(opened.reader.scene_ids())
    scenes = [scene for scene in one.scenes if scene in there]
    if not scenes:
        raise BenchError(f"{one.dataset} has none of the golden's scenes: {', '.join(one.scenes)}")
    row = make_row(one.spec, device=device)
    reasons = {path: reason for path, golden in together.items() if (reason := _obstacle(golden, row)) is not None}
    group = list(dict.fromkeys(Guarded.of(golden) for path, golden in together.items() if path not in reasons))
    if not group:
        return None, reasons
    run = run_here(
        group,
        row,
        opened,
        folder,
        device=device,
        jobs=jobs,
        scenes=scenes,
        progress=lambda scene: progress(f"{row.entry.label} {scene}", len(group)) if progress else None,
    )
    return run, reasons


def _obstacle(golden: Golden, row: Row) -> str | None:
    """Why a golden cannot be compared with the row that its spec names, or None where it can."""
    if golden.protocol not in registry.protocols().names():
        return "the protocol is not registered here"
    if row.entry.label != golden.row.label:
        return f"the spec {golden.spec} now names {row.entry.label}, the golden {golden.row.label}"
    return None
