"""The parent's side of a worker: it survives whatever the worker does, and leaves no process behind."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_worker import FakePython, ends, is_known

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.vbench.files import Dimension
from gen3r_bench.metrics.vbench.job import JobFailure, JobVideo, VbenchOptions, probe, run_job

Make = Callable[[str], FakePython]
VIDEOS = [JobVideo(Path(f"/films/{i:04d}.mp4"), Path(f"/films/{i:04d}.png")) for i in range(3)]


def run(
    python: FakePython | Path, folder: Path, dimension: Dimension = "i2v_subject", timeout_s: float = 60.0
) -> list[float] | JobFailure:
    path = python.path if isinstance(python, FakePython) else python
    return run_job(dimension, VIDEOS, VbenchOptions(python=path, timeout_s=timeout_s), folder / "job")


def failure(python: FakePython, folder: Path, timeout_s: float = 60.0) -> JobFailure:
    answer = run(python, folder, timeout_s=timeout_s)
    assert isinstance(answer, JobFailure)
    assert all(not is_known(pid) for pid, _ in python.starts()), "a worker stayed behind"
    return answer


def test_scores_come_back_in_the_order_of_the_videos(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    python = fake_python("answer({name: position(name) / 10 for name in reversed(names)})")
    assert run(python, tmp_path) == [0.0, 0.1, 0.2]
    assert all(not is_known(pid) for pid, _ in python.starts())


def test_the_worker_is_told_the_device_and_the_cache(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    python = fake_python(
        "assert job['device'] == 'cpu' and os.getcwd() == os.path.dirname(sys.argv[2])\n"
        f"assert job['cache'] == {str(weights / 'vbench')!r}\n"
        "answer({name: 0.5 for name in names})"
    )
    assert run(python, tmp_path) == [0.5] * 3


def test_imaging_quality_is_0_to_100_here_and_its_mean_0_to_1(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    python = fake_python("answer({name: 50.0 for name in names}, aggregate=0.5)")
    assert run(python, tmp_path, "imaging_quality") == [50.0] * 3


def test_a_crash_is_told_with_its_last_line(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    answer = failure(fake_python("loaded()\nprint('reading')\nraise ValueError('film 2 has no frames')"), tmp_path)
    assert answer.reason == "the VBench worker ended with exit code 1: ValueError: film 2 has no frames"
    assert "reading" in answer.log
    assert answer.phase == "loaded"


def test_an_exit_without_a_word(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    answer = failure(fake_python("os._exit(7)"), tmp_path)
    assert answer == JobFailure("the VBench worker ended with exit code 7: it printed nothing", "", "started")


def test_a_hang_is_ended(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    answer = failure(fake_python("loaded()\nprint('here', flush=True)\nsignal.pause()"), tmp_path, timeout_s=2.0)
    assert answer.reason == "the VBench worker printed nothing for 2 s and was ended"
    assert answer.log == "here"


def test_a_worker_that_prints_is_not_taken_for_one_that_hangs(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    body = (
        "for _ in range(30):\n    print('.', flush=True)\n    time.sleep(0.05)\nanswer({name: 0.5 for name in names})"
    )
    assert run(fake_python(body), tmp_path, timeout_s=2.0) == [0.5] * 3


def test_a_killed_worker(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    answer = failure(fake_python("loaded()\nos.kill(os.getpid(), signal.SIGKILL)"), tmp_path)
    assert answer.reason == "the VBench worker was killed by SIGKILL (out of memory?)"
    assert failure(fake_python("signal.raise_signal(15)"), tmp_path / "b").reason.endswith("by SIGTERM")


@pytest.mark.parametrize("end", ["answer({name: 0.5 for name in names})", "sys.exit(3)", "signal.pause()"])
def test_children_of_a_worker_end_with_it(fake_python: Make, weights: Path, tmp_path: Path, end: str) -> None:
    note = tmp_path / "child"
    python = fake_python(
        "child = os.fork()\nif child == 0:\n    signal.pause()\n"
        f"open({str(note)!r}, 'w').write(str(child))\nprint('forked', flush=True)\n{end}"
    )
    run(python, tmp_path, timeout_s=2.0)
    assert all(not is_known(pid) for pid, _ in python.starts())
    assert ends(int(note.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "scores: 0.5",
        "[]",
        "null",
        '{"aggregate": 0.5}',
        '{"aggregate": "x", "videos": []}',
        '{"videos": 3}',
        '{"aggregate": 0.5, "videos": [0.5, 0.5, 0.5]}',
        '{"aggregate": 0.5, "videos": [{"video": "a"}]}',
        "\\xff\\x00",
    ],
)
def test_garbage_is_no_result(fake_python: Make, weights: Path, tmp_path: Path, text: str) -> None:
    answer = failure(fake_python(f"open(job['result'], 'wb').write(b'''{text}''')"), tmp_path)
    assert answer.reason.startswith("the VBench worker left no result that can be read")


def test_no_result_at_all(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    answer = failure(fake_python("print('done')"), tmp_path)
    assert answer.reason.startswith("the VBench worker left no result that can be read: FileNotFoundError")


@pytest.mark.parametrize(
    ("body", "count", "known"),
    [
        ("answer({name: 0.5 for name in names[:2]})", 2, 2),
        ("answer({name: 0.5 for name in [*names, '/films/other.mp4']})", 4, 3),
        ("answer({name + 'x': 0.5 for name in names})", 3, 0),
        ("answer({})", 0, 0),
    ],
)
def test_another_count_than_was_asked_for(
    fake_python: Make, weights: Path, tmp_path: Path, body: str, count: int, known: int
) -> None:
    answer = failure(fake_python(body), tmp_path)
    assert answer.reason == f"VBench gave {count} scores, {known} of them for the 3 videos that it was given"


def test_a_video_scored_twice(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    body = (
        "videos = [{'video': name, 'score': 0.5} for name in [*names, names[0]]]\n"
        "json.dump({'aggregate': 0.5, 'videos': videos}, open(job['result'], 'w'))"
    )
    assert failure(fake_python(body), tmp_path).reason.startswith("VBench gave 4 scores, 3 of them")


def test_a_mean_that_is_not_its_videos(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    answer = failure(fake_python("answer({name: 0.5 for name in names}, aggregate=0.75)"), tmp_path)
    assert answer.reason == "VBench's mean is 0.75, but its videos' is 0.5"


def test_nan_of_one_video_leaves_the_others_theirs(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    values = run(fake_python("answer({name: [0.1, float('nan'), 0.3][position(name)] for name in names})"), tmp_path)
    assert isinstance(values, list)
    assert values[0::2] == [0.1, 0.3]
    assert math.isnan(values[1])


def test_an_interpreter_that_is_none(weights: Path, tmp_path: Path) -> None:
    answer = run(tmp_path / "nowhere" / "python", tmp_path)
    assert isinstance(answer, JobFailure)
    assert answer.reason.startswith("the VBench worker cannot be started: ")


def test_of_a_progress_bar_only_the_end_is_told(fake_python: Make, weights: Path, tmp_path: Path) -> None:
    body = "sys.stdout.write('0%\\r 50%\\r100%\\n')\nsys.stdout.flush()\n[print(i) for i in range(40)]\nsys.exit(1)"
    log = failure(fake_python(body), tmp_path).log.splitlines()
    assert log == [str(i) for i in range(28, 40)]
    body = "sys.stdout.write('0%\\r 50%\\r100%\\n')\nsys.exit(1)"
    assert failure(fake_python(body), tmp_path / "b").log == "100%"


class TestProbe:
    def test_this_interpreter(self) -> None:
        found = probe(sys.executable)
        assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert set(found.missing) == {
            "i2v_subject",
            "i2v_background",
            "imaging_quality",
            "aesthetic_quality",
            "motion_smoothness",
        }

    def test_it_is_asked_once(self, fake_python: Make) -> None:
        python = fake_python("")
        first = probe(str(python.path))
        python.path.unlink()
        assert probe(str(python.path)) is first

    @pytest.mark.parametrize(
        "body",
        ["import nothing_of_that_name", "print('hello')", "sys.exit(2)", "sys.stdout.buffer.write(b'\\xff')"],
    )
    def test_what_is_no_interpreter(self, tmp_path: Path, body: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        path.chmod(0o755)
        with pytest.raises(InputError, match="expected a Python that has VBench installed"):
            probe(str(path))

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"--vbench-python .*nowhere"):
            probe(str(tmp_path / "nowhere"))


class TestOptions:
    def test_nothing_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GEN3R_BENCH_VBENCH_PYTHON", raising=False)
        monkeypatch.delenv("GEN3R_BENCH_VBENCH_TIMEOUT", raising=False)
        options = VbenchOptions.from_environment("cuda:1")
        assert options == VbenchOptions(device="cuda:1")
        assert options.interpreter == sys.executable

    def test_both_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEN3R_BENCH_VBENCH_PYTHON", "/opt/vbench/bin/python")
        monkeypatch.setenv("GEN3R_BENCH_VBENCH_TIMEOUT", "90.5")
        options = VbenchOptions.from_environment()
        assert options.interpreter == "/opt/vbench/bin/python"
        assert options.timeout_s == 90.5

    def test_a_path_holds_in_the_workers_folder_too(
        self, fake_python: Make, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        python = fake_python("answer({name: 0.5 for name in names})")
        monkeypatch.chdir(python.path.parent.parent)
        assert run(python.path.relative_to(Path.cwd()), tmp_path) == [0.5] * 3
        assert VbenchOptions(python=Path("python3.10")).interpreter == "python3.10"

    @pytest.mark.parametrize("value", ["soon", "0", "-3", "nan", "inf"])
    def test_a_timeout_that_is_none(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("GEN3R_BENCH_VBENCH_TIMEOUT", value)
        with pytest.raises(InputError, match=f"GEN3R_BENCH_VBENCH_TIMEOUT={value}; expected seconds"):
            VbenchOptions.from_environment()
