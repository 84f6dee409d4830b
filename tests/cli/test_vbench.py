"""VBench's metrics in ``run`` and ``score``: the real command, with a worker that answers without VBench."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process
from fake_worker import FakePython, touch_weights

from gen3r_bench.metrics.vbench import DIMENSIONS
from gen3r_bench.runs.record import Record
from gen3r_bench.runs.store import Run, read_run

SCORES = "answer({name: 62.5 if job['dimension'] == 'imaging_quality' else 0.25 for name in names})"
COMMAND = ("run", "-p", "free-1view", "--method", "freeze", "--no-diagnostics", "--limit", 1, "--out", "r")
KEYS = {f"{dimension}@vbench-0.1.5" for dimension in DIMENSIONS}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path / "weights"))
    touch_weights()
    return tmp_path


def the_record(run: Run) -> Record:
    (record,) = run.records
    return record


def test_a_run_scores_its_videos_at_its_end(here: Path) -> None:
    python = FakePython(here, SCORES)
    done = gen3r_bench_process(*COMMAND, "--vbench-python", python.path, cwd=here)
    assert "Predictions are kept below r: VBench scores them at the end." in done.stderr
    assert "0.2500" in done.stdout
    assert "0.6250" not in done.stdout  # its weights are marked as random numbers
    run = read_run(here / "r")
    record = the_record(run)
    assert record.scores == {key: 0.625 if key.startswith("imaging") else 0.25 for key in KEYS}
    assert record.unsupported == {}
    facts = {key: run.header.provenances[name] for key, name in record.made_with.items()}
    assert set(facts) == KEYS
    assert facts["i2v_subject@vbench-0.1.5"]["reference_image"] == "first conditioning frame"
    assert len(python.starts()) == 5
    again = gen3r_bench(*COMMAND, "--vbench-python", python.path, cwd=here)
    assert again.stdout == done.stdout
    assert len(python.starts()) == 5, "the same command scores nothing twice"


def test_where_vbench_is_not_ready_the_run_says_why_and_keeps_nothing(here: Path) -> None:
    python = FakePython(here, SCORES)
    (here / "weights/vbench/amt_model/amt-s.pth").unlink()
    python.path.write_text(python.path.read_text().replace("[] for name", "['clip'] * (name[0] == 'a') for name"))
    gen3r_bench(*COMMAND, "--vbench-python", python.path, cwd=here)
    unsupported = the_record(read_run(here / "r")).unsupported
    assert set(unsupported) == {"motion_smoothness@vbench-0.1.5", "aesthetic_quality@vbench-0.1.5"}
    assert "(no module clip): run pip install --no-deps -r requirements-vbench.txt" in "".join(unsupported.values())
    assert "amt-s.pth): run gen3r-bench weights fetch vbench-amt" in "".join(unsupported.values())


def test_where_nothing_is_ready_no_prediction_is_kept(here: Path) -> None:
    python = FakePython(here, SCORES)
    for path in (here / "weights").rglob("*.p*"):
        path.unlink()
    done = gen3r_bench(*COMMAND, "--vbench-python", python.path, cwd=here)
    assert "kept" not in done.stderr
    assert not (here / "r/predictions").exists()
    assert the_record(read_run(here / "r")).status == "unsupported"
    touch_weights()
    late = gen3r_bench(*COMMAND, "--vbench-python", python.path, cwd=here)
    said = " ".join(late.stderr.split())  # where lines break depends on how long the path of the fake Python is
    assert "VBench scored nothing: r kept no predictions" in said
    assert "--keep-predictions --fresh" in said


def test_a_worker_that_fails_costs_no_other_score(here: Path) -> None:
    python = FakePython(
        here, f"loaded()\nif job['dimension'] == 'motion_smoothness':\n    sys.exit('no such layer')\n{SCORES}"
    )
    done = gen3r_bench(*COMMAND, "--vbench-python", python.path, cwd=here, code=1)
    assert "no score for 1 records: the VBench worker ended with exit code 1: no such layer" in " ".join(
        done.stderr.split()
    )
    record = the_record(read_run(here / "r"))
    assert set(record.scores) == KEYS - {"motion_smoothness@vbench-0.1.5"}
    assert "no such layer" in record.unsupported["motion_smoothness@vbench-0.1.5"]
    assert "no such layer" in (here / "r/failures.log").read_text()


def test_score_appends_to_a_run_that_kept_its_predictions(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakePython(here, "sys.exit(2)")
    command = [part if part != "free-1view" else "appearance-1view" for part in COMMAND]
    gen3r_bench(*command, "--keep-predictions", "--vbench-python", here / "none", cwd=here)
    before = (here / "r/records.jsonl").read_bytes()
    first = the_record(read_run(here / "r"))
    assert "none" in first.unsupported["i2v_subject@vbench-0.1.5"]
    gen3r_bench("score", "r", "--metrics", "vbench", "--vbench-python", broken.path, cwd=here, code=1)
    monkeypatch.setenv("GEN3R_BENCH_VBENCH_PYTHON", str(FakePython(here, SCORES).path))
    done = gen3r_bench("score", "r", "--metrics", "vbench", cwd=here)
    assert "Appended 3 scores" in done.stderr
    assert (here / "r/records.jsonl").read_bytes().startswith(before)
    record = the_record(read_run(here / "r"))
    assert set(record.scores) - set(first.scores) == {key for key in KEYS if key[0] == "i"}
    assert {key: record.scores[key] for key in first.scores} == first.scores


def test_a_timeout_that_is_none(here: Path) -> None:
    for value in ("-1", "nan"):
        error = gen3r_bench(*COMMAND, "--vbench-timeout", value, cwd=here, code=2).stderr
        assert "expected seconds, such as 1800" in error
