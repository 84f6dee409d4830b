"""Runs the subset through the ordinary machinery: in this process, or as the command in another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gen3r_bench import registry
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.errors import BenchError
from gen3r_bench.regression.subset import Guarded
from gen3r_bench.regression.variants import ProcessVariant
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.rows import Row
from gen3r_bench.runs.store import HEADER_NAME, Run, read_run

COMMAND: Final = "gen3r-bench regress"
LAST_WORDS: Final = 10
"""Lines of another process's standard error that say why it failed; a traceback's cause is in its last ones."""
Progress = Callable[[str], None]


def run_here(
    together: Sequence[Guarded],
    row: Row,
    opened: OpenedDataset,
    folder: Path,
    *,
    device: str,
    jobs: int = 1,
    scenes: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run one group of what is guarded in this process.

    Args:
        together: of one group: they differ in their protocol alone.
        row: the row that their spec names, or a variant of it.
        opened: their dataset.
        folder: for the run; new.
        device: where networks run.
        jobs: scenes side by side.
        scenes: instead of all of them.
        progress: told the scene that is finished.

    Raises:
        BenchError: where a scene or a protocol is not known, or the folder cannot be written.
    """
    one = together[0]
    plan = make_plan(
        [registry.protocols().load(guarded.protocol) for guarded in together],
        {one.dataset: opened},
        [row],
        seeds=one.seeds,
        scenes=tuple(one.scenes if scenes is None else scenes),
        geometry_backend=one.backend,
        device=device,
    )
    return execute(
        plan, folder, command=COMMAND, jobs=jobs, progress=lambda scene, _: progress(scene) if progress else None
    )


def run_elsewhere(
    together: Sequence[Guarded],
    folder: Path,
    variant: ProcessVariant,
    *,
    device: str,
    roots: Mapping[str, Path],
    clips: Path,
) -> Run:
    """Run one group by ``gen3r-bench run`` in a process of its own, under a variant's environment.

    Args:
        together: of one group.
        folder: for the runs, one a seed; new.
        variant: the environment.
        device: where networks run.
        roots: where datasets lie.
        clips: folder for clips that are rendered anew.

    Raises:
        BenchError: where the command fails; says its last words.
    """
    words = [*run_words(together, device=device, roots=roots), "--quiet", "--json", "--jobs", str(variant.jobs)]
    environment = {**os.environ, **variant.variables}
    if variant.fresh_clips:
        environment["GEN3R_BENCH_CACHE"] = str(clips)
    # -P: with -c alone Python imports from the working directory first, where another gen3r_bench may lie
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from gen3r_bench.cli.main import main; main()", *words, "--out", str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    # 1 with a run: a scene failed, and its record says why; 1 without one is how Python ends after an exception
    if done.returncode not in (0, 1) or not (folder / HEADER_NAME).is_file():
        last = "\n".join(done.stderr.strip().splitlines()[-LAST_WORDS:]) or "no word"
        raise BenchError(f"{together[0].spec} under {variant.name!r} ended with code {done.returncode}: {last}")
    return read_run(folder)


def run_words(together: Sequence[Guarded], *, device: str, roots: Mapping[str, Path]) -> list[str]:
    """Words after ``gen3r-bench`` that run one group of what is guarded, and nothing else.

    Args:
        together: of one group.
        device: where networks run.
        roots: where datasets lie.
    """
    one = together[0]
    words = ["run"]
    for guarded in together:
        words += ["-p", guarded.protocol]
    words += ["-d", one.dataset, "-m", one.spec]
    for scene in one.scenes:
        words += ["--scenes", scene]
    for name, value in one.options:
        words += ["--dataset-option", f"{one.dataset}.{name}={value}"]
    if one.dataset in roots:
        words += ["--data-root", f"{one.dataset}={roots[one.dataset]}"]
    words += ["--seed", str(one.seeds[0]), "--seeds", str(len(one.seeds)), "--device", device]
    return [*words, "--geometry-backend", one.backend, "--no-diagnostics"]
