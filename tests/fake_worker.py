"""Interpreters that answer like a worker, in every way that a worker may go wrong."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from gen3r_bench.metrics.vbench import DIMENSIONS
from gen3r_bench.metrics.vbench.files import FILES
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX

HEAD = """#!{python} -S
import json, os, signal, sys, time
if sys.argv[2] == "--probe":
    versions = {{"python": "3.11.7", "vbench": "0.1.5", "torch": "2.13.0", "torchvision": "0.28.0"}}
    print(json.dumps({{"missing": {{name: [] for name in {dimensions!r}}}, "versions": versions}}))
    sys.exit()
job = json.load(open(sys.argv[2]))
names = [item["video"] for item in job["videos"]]
with open({starts!r}, "a") as log:
    log.write(f"{{os.getpid()}} {{len(names)}}\\n")


def loaded():
    with open(job["phase"], "a") as phase:
        phase.write("imported\\nloaded\\n")


def answer(scores, aggregate=None):
    mean = sum(scores.values()) / max(1, len(scores)) / (100 if job["dimension"] == "imaging_quality" else 1)
    videos = [{{"video": name, "score": score}} for name, score in scores.items()]
    with open(job["result"], "w") as result:
        json.dump({{"aggregate": mean if aggregate is None else aggregate, "videos": videos}}, result)


def position(name):
    return int(os.path.basename(name).split(".")[0])


"""


class FakePython:
    """An executable that takes the place of an interpreter with VBench."""

    def __init__(self, folder: Path, body: str) -> None:
        self.path = folder / "python"
        self._starts = folder / "starts"
        text = HEAD.format(python=sys.executable, dimensions=DIMENSIONS, starts=str(self._starts))
        self.path.write_text(text + body)
        self.path.chmod(0o755)

    def starts(self) -> list[tuple[int, int]]:
        """Process id and number of videos of every worker, in order."""
        if not self._starts.exists():
            return []
        return [(int(pid), int(count)) for pid, count in map(str.split, self._starts.read_text().splitlines())]


def ends(pid: int) -> bool:
    """Whether a process that is no child of ours has ended, or does so now that it was sent a signal."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30.0)[0])
    finally:
        os.close(handle)


def is_known(pid: int) -> bool:
    """Whether the kernel still has an entry for a process, a zombie's included."""
    return Path(f"/proc/{pid}").exists()


def touch_weights(*, marked: bool = True) -> None:
    """Make every file of VBench below the weights root, empty; one of a published hash is marked as random numbers."""
    for file in FILES:
        for path in file.paths():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if marked and file.sha256 is not None:
                path.with_name(path.name + RANDOM_SUFFIX).touch()
