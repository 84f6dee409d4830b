"""Runs what goldens guard, and judges it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gen3r_bench import registry
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.errors import BenchError
from gen3r_bench.regression.golden import Golden
from gen3r_bench.regression.judge import Judgement, Problem, judge
from gen3r_bench.regression.measure import run_here
from gen3r_bench.regression.subset import Guarded, grouped, open_dataset
from gen3r_bench.runs.environment import code_commit
from gen3r_bench.runs.rows import make_row
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

    A golden that cannot be run (its weights or its protocol are gone) is judged so, and the others go on.

    Args:
        goldens: by path.
        roots: where datasets lie that need a root.
        device: where networks run.
        jobs: scenes side by side.
        progress: told after every scene.

    Raises:
        InputError: where a dataset's root is missing.
        StoreError: where the temporary folder cannot be written.
    """
    paths = {Guarded.of(golden): path for path, golden in goldens.items()}
    judged: dict[Path, Judgement] = {}
    commit = code_commit()
    datasets: dict[tuple[object, ...], OpenedDataset] = {}
    with tempfile.TemporaryDirectory(prefix="gen3r-bench-regress-") as temporary:
        for number, group in enumerate(grouped(paths)):
            one = group[0]
            source = (one.dataset, one.options)
            if source not in datasets:
                datasets[source] = open_dataset(one.dataset, dict(one.options), roots or {})
            known = [guarded for guarded in group if guarded.protocol in registry.protocols().names()]
            run: Run | str = "the protocol is not registered here"
            if known:
                run = _run(known, datasets[source], Path(temporary) / str(number), device, jobs, progress)
            for guarded in group:
                path = paths[guarded]
                if isinstance(run, Run) and guarded in known:
                    judged[path] = judge(path, goldens[path], run, commit=commit)
                else:
                    text = run if isinstance(run, str) else "the protocol is not registered here"
                    judged[path] = Judgement(path, goldens[path], (Problem("cannot run", text),))
    return [judged[path] for path in goldens]


def _run(
    group: list[Guarded], opened: OpenedDataset, folder: Path, device: str, jobs: int, progress: Progress | None
) -> Run | str:
    """The run of a group, or why there is none."""
    one = group[0]
    there = set(opened.reader.scene_ids())
    scenes = [scene for scene in one.scenes if scene in there]
    if not scenes:
        return f"{one.dataset} has none of the golden's scenes: {', '.join(one.scenes)}"
    try:
        row = make_row(one.spec, device=device)
    except BenchError as error:
        return str(error)
    return run_here(
        group,
        row,
        opened,
        folder,
        device=device,
        jobs=jobs,
        scenes=scenes,
        progress=lambda scene: progress(f"{row.entry.label} {scene}", len(group)) if progress else None,
    )
