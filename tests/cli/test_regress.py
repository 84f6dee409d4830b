"""``gen3r-bench regress``: the real command, on the shipped goldens and on goldens of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cli.test_run import METHOD
from command_line import gen3r_bench, gen3r_bench_process
from datasets.test_folder import write_capture
from regression.goldens import shipped

from gen3r_bench.cli.regress import _advice
from gen3r_bench.regression.golden import Golden, read_golden, reference_folder, write_golden
from gen3r_bench.regression.variants import LAST_DIGITS


def test_the_shipped_goldens_hold_on_this_machine(tmp_path: Path) -> None:
    """The gate itself, as CI and the workflow file run it."""
    done = gen3r_bench_process("regress", "--json", "--junit", "gate.xml", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["ok"], done.stdout
    assert {Path(one["file"]).name for one in found["goldens"]} == {p.name for p in reference_folder().glob("*.json")}
    assert "lvsm@reference" in {one["row"] for one in found["goldens"]}
    scores = [score for one in found["goldens"] for score in one["scores"]]
    assert {score["outcome"] for score in scores} <= {"same", "within", "new"}
    document = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert document.tag == "testsuites"
    assert (int(document.attrib["failures"]), int(document.attrib["errors"])) == (0, 0)
    assert int(document.attrib["tests"]) == len(scores) + 4 * len(found["goldens"])


def moved_golden(path: Path, by: float) -> Golden:
    """A golden whose first score is moved, as a bad commit would move it; everything else fits."""
    golden = read_golden(path)
    first = golden.records[0]
    scores = {key: value + by * (key == "auc30@hist1deg") for key, value in first.scores.items()}
    return golden.model_copy(
        update={"records": (first.model_copy(update={"scores": scores}).sealed(), *golden.records[1:])}
    )


def test_goldens_are_made_hold_and_trip(tmp_path: Path) -> None:
    (tmp_path / "still.py").write_text(METHOD)
    # other processes measure, too, and import nothing from the working directory
    (tmp_path / "queue.py").write_text("raise SystemExit('imported from the working directory')")
    made = gen3r_bench(
        "regress", "--update", "--reason", "first ones", "--goldens", "g", "-m", "still.py:Still", "-p", "camera-1view",
        "--scenes", "test/000", "--over", "1 thread", cwd=tmp_path,
    )  # fmt: skip
    assert "still · camera-1view · mini" in made.stdout
    assert "Not observed: 2 threads: not asked for." in made.stdout
    (path,) = (tmp_path / "g").glob("*.json")
    golden = read_golden(path)
    assert (golden.reason, golden.spec, path.name) == ("first ones", "still.py:Still", "still.camera-1view.mini.json")
    assert golden.calibration.observed[0].variables["OMP_NUM_THREADS"] == "1"

    held = gen3r_bench("regress", "--goldens", "g", cwd=tmp_path)
    assert "All 1 goldens hold." in held.stdout
    assert max(map(len, held.stdout.splitlines())) <= 100

    write_golden(moved_golden(path, 0.25), path.parent)
    # what a method's own file says is part of the cause
    (tmp_path / "still.py").write_text(METHOD.replace("Nothing moves", "Nothing moves at all"))
    tripped = gen3r_bench("regress", "--goldens", "g", "-m", "still", "--junit", "j.xml", cwd=tmp_path, code=1)
    assert "1 of 1 goldens breached." in tripped.stdout
    assert max(map(len, tripped.stdout.splitlines())) <= 100
    words = " ".join(tripped.stdout.split())
    for text in ("test/000", "auc30@hist1deg", "-0.25", "0.003", "moved", "Look first at the method's own code"):
        assert text in words
    assert "row source still.py sha256:" in words
    assert "Look closer: gen3r-bench run -p camera-1view -d mini -m still.py:Still --scenes test/000" in tripped.stderr
    anew = "--reason TEXT -m still.py:Still -d mini -p camera-1view --goldens g --device cpu"
    assert f"Meant to move? gen3r-bench regress --update {anew}\n" in tripped.stderr
    document = ElementTree.parse(tmp_path / "j.xml").getroot()
    (failed,) = [case for case in document.iter("testcase") if case.find("failure") is not None]
    assert failed.attrib["name"] == "test/000 (42) auc30@hist1deg"
    assert failed.find("failure").attrib["message"].startswith("moved: golden 1.25, now 1, tolerance 0.003")
    assert document.attrib["failures"] == "1"

    quiet = gen3r_bench("regress", "--goldens", "g", "--json", "--quiet", cwd=tmp_path, code=1)
    assert quiet.stderr == ""
    (one,) = json.loads(quiet.stdout)["goldens"]
    assert one["suspects"][0] == "the method's own code"
    assert [score["score"] for score in one["scores"] if score["breach"]] == ["auc30@hist1deg"]


QUICK = ("--over", LAST_DIGITS)
"""One variant, in this process."""
MAKE = ("regress", "--update", "--reason", "r", "--goldens", "g", *QUICK)
ONE = ("-p", "camera-1view", "--scenes", "test/000")


def test_what_was_written_is_told_where_a_later_group_fails(tmp_path: Path) -> None:
    """Options that are repeated word for word count once."""
    words = (*MAKE, *ONE, *ONE, *QUICK, "-d", "mini", "-d", "mini", "-m", "freeze", "-m", "freeze", "-m", "crossfade")
    done = gen3r_bench(*words, cwd=tmp_path, code=2)
    assert "no golden of crossfade under camera-1view" in done.stderr
    assert done.stdout.count("Written: g/freeze.camera-1view.mini.json") == 1
    assert "tolerance: 10 x drift" in done.stdout
    (one,) = json.loads(gen3r_bench(*words, "--json", cwd=tmp_path, code=2).stdout)
    assert (one["row"], one["removed"]) == ("freeze", [])


def test_goldens_on_files_find_their_data(tmp_path: Path) -> None:
    write_capture(tmp_path / "my cap", frames=49)
    gen3r_bench(*MAKE, "-m", "freeze", "-p", "camera-1view", "-d", "folder", "--data-root", "my cap", cwd=tmp_path)
    again = gen3r_bench(*MAKE, "--data-root", "folder=my cap", "--over", "found", cwd=tmp_path, code=2)
    assert "unknown variant 'found'" in again.stderr
    (path,) = (tmp_path / "g").glob("*.json")
    write_golden(moved_golden(path, 0.25), path.parent)
    moved = gen3r_bench("regress", "--goldens", "g", "--data-root", "my cap", cwd=tmp_path, code=1)
    look, anew = moved.stderr.strip().splitlines()
    assert "--scenes 'my cap' --data-root 'folder=my cap' --seed 42 --seeds 1 --device cpu" in look
    assert "-m freeze -d folder -p camera-1view --data-root 'folder=my cap' --goldens g --device cpu" in anew
    lost = gen3r_bench("regress", "--goldens", "g", "--junit", "j.xml", cwd=tmp_path, code=1)
    assert "cannot run: no data root for folder" in lost.stdout
    assert (tmp_path / "j.xml").is_file()
    unknown = gen3r_bench("regress", "--goldens", "g", "--data-root", "mini=my cap", cwd=tmp_path, code=2)
    assert "unknown dataset in --data-root 'mini'; known: folder" in unknown.stderr


def test_a_damaged_golden_is_made_anew_and_stops_no_other(tmp_path: Path) -> None:
    gen3r_bench(*MAKE, *ONE, "-m", "freeze", "-m", "wobble", cwd=tmp_path)
    path = tmp_path / "g/freeze.camera-1view.mini.json"
    path.write_text(path.read_text()[:-20])
    assert "is damaged" in gen3r_bench("regress", "--goldens", "g", cwd=tmp_path, code=2).stderr
    other = gen3r_bench(*MAKE, cwd=tmp_path)
    assert "Passed over: g/freeze.camera-1view.mini.json is damaged" in other.stderr
    assert "Written: g/wobble.camera-1view.mini.json" in other.stdout
    assert "freeze" not in other.stdout
    gen3r_bench(*MAKE, *ONE, "-m", "freeze", cwd=tmp_path)
    assert "All 2 goldens hold." in gen3r_bench("regress", "--goldens", "g", cwd=tmp_path).stdout


def test_a_breach_is_advised_on_row_by_row(tmp_path: Path) -> None:
    names = ("wobble.camera-1view", "freeze.geom-1view", "wobble.geom-1view")
    goldens = [one for name in names for one in shipped(f"{name}.mini", ["test/000"]).values()]
    spaced = goldens[0].model_copy(update={"spec": "my method.py:Mine"})
    look, *anew = _advice([spaced, *goldens[1:], goldens[0]], None, {}, "cuda:1").splitlines()
    assert "-d mini -m 'my method.py:Mine' --scenes test/000 --seed 42" in look
    assert "--device cuda:1 --geometry-backend exact --no-diagnostics --keep-predictions" in look
    assert [line.partition(" TEXT ")[2] for line in anew] == [
        "-m 'my method.py:Mine' -d mini -p camera-1view --device cuda:1",
        "-m freeze -d mini -p geom-1view --device cuda:1",
        "-m wobble -d mini -p geom-1view -p camera-1view --device cuda:1",
    ]


def test_a_terminated_check_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)

    def terminated(*arguments: object, **options: object) -> None:
        assert list(tmp_path.glob("gen3r-bench-regress-*"))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("gen3r_bench.regression.check.run_here", terminated)
    gen3r_bench("regress", "-m", "wobble", "-p", "camera-1view", cwd=tmp_path, code=128 + signal.SIGTERM)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


UPDATE = ["--update", "--reason", "r", "--goldens", "g"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--goldens", "nowhere"], "no goldens in nowhere; expected a folder of golden files (fix: gen3r-bench"),
        (["--update", "--reason", " "], "--update without a reason; expected why the new numbers are right"),
        ([*UPDATE, "--junit", "j.xml"], "--junit with --update"),
        ([*UPDATE, "-m", "freeze", "-p", "geom-1view", "--scenes", "x"], "unknown scene"),
        (["--over", "1 thread"], "--over without --update"),
        (["--goldens", "damaged"], "is damaged"),
        (["--junit", "no dir/x.xml"], "expected a file in a folder that is there (fix: mkdir -p 'no dir')"),
        (["--junit", ""], "--junit ., which is a folder; expected a file in it"),
        (["--junit", "damaged"], "--junit damaged, which is a folder"),
        ([*UPDATE[:-1], "file"], "--goldens file: file is a file; expected a folder"),
        ([*UPDATE[:-1], "file/g"], "--goldens file/g: file is a file; expected a folder"),
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_2_and_one_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/a.json").write_text("{")
    (tmp_path / "file").touch()
    # before anything has run
    monkeypatch.setattr("gen3r_bench.regression.check.check", None)
    done = gen3r_bench("regress", *arguments, cwd=tmp_path, code=2)
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert not (tmp_path / "g").exists()
