"""One worker process: started, watched, and its answer checked; whatever it does, the result is scores or a reason."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.vbench.files import Dimension, cache_folder

PYTHON_VARIABLE: Final = "GEN3R_BENCH_VBENCH_PYTHON"
TIMEOUT_VARIABLE: Final = "GEN3R_BENCH_VBENCH_TIMEOUT"
DEFAULT_TIMEOUT_S: Final = 1800.0
WORKER: Final = Path(__file__).with_name("worker.py")
_POLL_SECONDS: Final = 0.02
_PROBE_SECONDS: Final = 120.0
_LOG_LINES: Final = 12
Phase = Literal["started", "imported", "loaded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VbenchOptions:
    """How VBench is run.

    Attributes:
        python: the interpreter that has VBench; None for this one.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        timeout_s: a worker that neither prints nor finishes anything for so long hangs, and is ended. It prints after
            every video.
        videos_per_job: how many videos share one loaded model; also bounds the space on disk.
    """

    python: Path | None = None
    device: str = "cpu"
    timeout_s: float = DEFAULT_TIMEOUT_S
    videos_per_job: int = 50

    @property
    def interpreter(self) -> str:
        """What to start: a path in full, since a worker has a folder of its own, or a name to be found on the path."""
        if self.python is None:
            return sys.executable
        return str(self.python) if self.python.parent == Path() else str(self.python.absolute())

    @classmethod
    def from_environment(cls, device: str = "cpu") -> VbenchOptions:
        """As ``GEN3R_BENCH_VBENCH_PYTHON`` and ``GEN3R_BENCH_VBENCH_TIMEOUT`` say, which the command line sets.

        Raises:
            InputError: where the timeout is no positive number.
        """
        python, timeout = os.environ.get(PYTHON_VARIABLE), os.environ.get(TIMEOUT_VARIABLE)
        seconds = DEFAULT_TIMEOUT_S
        if timeout:
            try:
                seconds = float(timeout)
            except ValueError:
                seconds = 0.0
            if not 0 < seconds < math.inf:
                raise InputError(f"{TIMEOUT_VARIABLE}={timeout}", expected="seconds, such as 1800")
        return cls(python=Path(python).expanduser() if python else None, device=device, timeout_s=seconds)


@dataclass(frozen=True, slots=True)
class JobVideo:
    """A video and its reference image, as files."""

    video: Path
    image: Path


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a worker gave no scores.

    Attributes:
        reason: in one line.
        log: the last lines that it printed.
        phase: how far it came; one that failed before its model was loaded fails on any video.
    """

    reason: str
    log: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class Probe:
    """What an interpreter has.

    Attributes:
        missing: by dimension, the modules that it cannot import.
        versions: of Python and of the packages that decide a number.
    """

    missing: dict[str, tuple[str, ...]]
    versions: dict[str, str]


@functools.cache
def probe(interpreter: str) -> Probe:
    """Ask an interpreter which of VBench's modules and versions it has, without importing them.

    Raises:
        InputError: where it is no working Python.
    """
    expected = "a Python that has VBench installed"
    try:
        done = subprocess.run(
            [interpreter, str(WORKER), "--probe"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"--vbench-python {interpreter}: {error}", expected=expected) from error
    try:
        content = json.loads(done.stdout)
        return Probe(
            missing={name: tuple(modules) for name, modules in content["missing"].items()},
            versions=dict(content["versions"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        last = _last_line(done.stderr) or f"exit code {done.returncode}"
        raise InputError(f"--vbench-python {interpreter} does not run: {last}", expected=expected) from error


def run_job(
    dimension: Dimension, videos: list[JobVideo], options: VbenchOptions, folder: Path
) -> list[float] | JobFailure:
    """Score files with one worker process.

    Args:
        dimension: of VBench.
        videos: at least one; paths must be distinct.
        options: interpreter, device, timeout.
        folder: a new folder of this job; the worker's current folder.

    Returns:
        VBench's raw value of each video, in order, NaN where it gave NaN; or why there are none.
    """
    folder.mkdir(parents=True)
    result_path, phase_path, log_path = folder / "result.json", folder / "phase", folder / "log.txt"
    job = {
        "dimension": dimension,
        "device": options.device,
        "cache": str(cache_folder().absolute()),
        "videos": [{"video": str(item.video), "image": str(item.image)} for item in videos],
        "phase": str(phase_path),
        "result": str(result_path),
    }
    job_path = folder / "job.json"
    job_path.write_text(json.dumps(job))

    def failure(reason: str) -> JobFailure:
        return JobFailure(reason, _log_tail(log_path), _phase(phase_path))

    try:
        status = _watched([options.interpreter, str(WORKER), str(job_path)], folder, log_path, options.timeout_s)
    except OSError as error:
        return failure(f"the VBench worker cannot be started: {error}")
    if status is None:
        return failure(f"the VBench worker printed nothing for {options.timeout_s:g} s and was ended")
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return failure(f"the VBench worker was killed by {name}{hint}")
    if status != 0:
        last = _last_line(_log_tail(log_path)) or "it printed nothing"
        return failure(f"the VBench worker ended with exit code {status}: {last}")
    try:
        content: Any = json.loads(result_path.read_bytes())
        aggregate = float(content["aggregate"])
        scores = {str(item["video"]): float(item["score"]) for item in content["videos"]}
        count = len(content["videos"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return failure(f"the VBench worker left no result that can be read: {type(error).__name__}: {error}")
    wanted = [str(item.video) for item in videos]
    if count != len(wanted) or set(scores) != set(wanted):
        known = len(set(scores) & set(wanted))
        return failure(f"VBench gave {count} scores, {known} of them for the {len(wanted)} videos that it was given")
    values = [scores[name] for name in wanted]
    mean = sum(values) / len(values) / (100 if dimension == "imaging_quality" else 1)
    if math.isfinite(mean) and not math.isclose(aggregate, mean, rel_tol=1e-6, abs_tol=1e-9):
        return failure(f"VBench's mean is {aggregate!r}, but its videos' is {mean!r}")
    return values


def _watched(command: list[str], folder: Path, log_path: Path, timeout_s: float) -> int | None:
    """Run a command to its end; its exit code, minus its signal, or None where it was ended for its silence.

    It leads a process group of its own, and the group is killed before the leader is reaped, so that no child of it
    stays behind and no other process can have taken its number.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    assert process.stdin is not None  # it stays open as long as this process lives, which is how the worker knows
    ended = False
    try:
        seen, heard_at = -1, time.monotonic()
        while not ended:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            size = log_path.stat().st_size
            if size != seen:
                seen, heard_at = size, time.monotonic()
            if not ended:
                if time.monotonic() - heard_at > timeout_s:
                    break
                time.sleep(_POLL_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # a group whose only member has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
    return process.returncode if ended else None


def _phase(path: Path) -> Phase:
    lines = path.read_text().split() if path.exists() else []
    return "loaded" if "loaded" in lines else "imported" if "imported" in lines else "started"


def _log_tail(path: Path) -> str:
    """The last lines of a log; of a progress bar, which rewrites its line, only what stood there in the end."""
    if not path.exists():
        return ""
    text = path.read_bytes()[-20_000:].decode(errors="replace")
    lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join([line for line in lines if line.strip()][-_LOG_LINES:])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
