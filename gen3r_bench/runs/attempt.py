"""The one boundary that turns whatever a dataset, a method or a metric raises on one scene into a reason."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from gen3r_bench.errors import BenchError
from gen3r_bench.files import explained

FAILURES_NAME: Final = "failures.log"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something could not be done, in one line; ``details``: the traceback of what nobody expected, for a log."""

    reason: str
    details: str = ""


def attempt(action: Callable[[], T]) -> T | Failure:
    """The result of an action on one scene, or its failure. Writing into the run is never wrapped in it: a full disk
    is not a scene's failure, and stops the run.
    """
    try:
        return action()
    except BenchError as error:
        return Failure(str(error))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return Failure(f"{message} ({Path(frame.filename).name}:{frame.lineno})", traceback.format_exc())


def log_failure(run: Path, what: str, failure: Failure) -> None:
    """Add the traceback of a failure to the run's ``failures.log``, if it has one.

    Raises:
        StoreError: where it cannot be written.
    """
    if failure.details:
        path = run / FAILURES_NAME
        with explained("append to", path), path.open("a") as log:
            log.write(f"{what}\n{failure.details}\n")
