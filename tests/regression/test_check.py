from __future__ import annotations

from pathlib import Path

import pytest
from regression.goldens import shipped

from gen3r_bench.errors import BenchError
from gen3r_bench.regression import check as module
from gen3r_bench.regression.check import check
from gen3r_bench.regression.golden import Golden

SCENE = "test/000"


@pytest.fixture
def golden() -> Golden:
    (one,) = shipped("wobble.camera-1view.mini", [SCENE]).values()
    return one


def renamed(golden: Golden, label: str) -> Golden:
    """The golden of a row that was called otherwise when it was made."""
    row = golden.row.model_copy(update={"label": label, "method_id": label})
    return golden.model_copy(
        update={
            "header": golden.header.model_copy(update={"rows": (row,)}),
            "records": tuple(record.model_copy(update={"row": label}) for record in golden.records),
        }
    )


def on(golden: Golden, dataset: str, options: dict[str, str] | None = None) -> Golden:
    """The same scores, as if they were of another dataset or of one read with other options."""
    plan = golden.header.plan[0].model_copy(update={"dataset": dataset, "dataset_options": options or {}})
    return golden.model_copy(update={"header": golden.header.model_copy(update={"plan": (plan,)})})


def test_a_renamed_row_is_told_and_other_goldens_go_on(golden: Golden) -> None:
    """Both are of one spec, as an update after the renaming leaves them; the first one's name is that of before."""
    before, now = check({Path("before"): renamed(golden, "old"), Path("now"): golden})
    assert [(one.kind, one.text) for one in before.problems] == [
        ("cannot run", "the spec wobble now names wobble, the golden old")
    ]
    assert (before.path, now.path) == (Path("before"), Path("now"))
    assert now.ok


def test_a_dataset_that_cannot_be_read_stops_its_own_goldens_alone(golden: Golden) -> None:
    goldens = {
        Path("root"): on(golden, "folder"),
        Path("reader"): on(golden, "gone"),
        Path("option"): on(golden, "mini", {"dropped": "1"}),
        Path("there"): golden,
    }
    *stopped, there = check(goldens)
    for one, text in zip(stopped, ("--data-root folder=DIR", "unknown dataset 'gone'", "'dropped'"), strict=True):
        assert [problem.kind for problem in one.problems] == ["cannot run"]
        assert text in one.problems[0].text
    assert there.ok


def test_a_run_that_cannot_start_is_a_judgement(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise BenchError("this protocol scores geometry")

    monkeypatch.setattr(module, "run_here", refused)
    (one,) = check({Path("a"): golden})
    assert [problem.text for problem in one.problems] == ["this protocol scores geometry"]
