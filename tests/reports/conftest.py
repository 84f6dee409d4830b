from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from reports.synthetic import Outcome, write_run

from gen3r_bench import registry
from gen3r_bench.metrics.base import Metric
from gen3r_bench.runs.store import Run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """``make_run(outcome, name="a", **options)``: a run in its own folder."""

    def make(outcome: Callable[[str, str, str, int], Outcome], name: str = "a", **options: object) -> Run:
        return write_run(tmp_path / name, outcome, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def metrics() -> dict[str, Metric]:
    return registry.metrics()
