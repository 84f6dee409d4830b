"""The main job as a command: in a process of its own where that matters, else in this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process
from samples import redkitchen_folder

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import DIAGNOSTICS
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.runs.plan import Plan
from gen3r_bench.runs.store import read_run

REPOSITORY = Path(__file__).resolve().parents[2]
METHOD = """
import numpy as np
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Prediction

class Still(Method):
    contract = Contract(
        method_id="still", title="Still", summary="Nothing moves.", settings=("1view",),
        returns=("rgb", "depth", "cameras"), cameras="required", licence="MIT",
    )

    def predict(self, conditioning):
        frames, (height, width) = conditioning.num_frames, conditioning.image_size
        return Prediction(
            frame_indices=range(frames),
            rgb=np.repeat(conditioning.rgb, frames, axis=0),
            depth=np.full((frames, height, width), 3, np.float32),
            world_from_cam=conditioning.cameras.world_from_cam,
            intrinsics=conditioning.cameras.intrinsics,
        )
"""


def test_the_main_job_then_its_table(tmp_path: Path) -> None:
    command = ("run", "--protocol", "geom-1view", "--method", "freeze", "--limit", 2)
    done = gen3r_bench_process(*command, cwd=tmp_path)
    assert "oracle (diagnostic)" in done.stdout
    assert "Chamfer" in done.stdout
    assert "Partial run" in done.stdout
    assert "Run folder: runs/geom-1view-mini" in done.stderr
    assert "Next: gen3r-bench table --table 2 --runs runs/geom-1view-mini" in " ".join(done.stderr.split())
    assert "add your method" not in done.stderr  # which has one
    run = read_run(tmp_path / "runs/geom-1view-mini")
    assert {record.status for record in run.records} == {"ok"}
    assert run.header.command == "gen3r-bench run --protocol geom-1view --method freeze --limit 2"
    before = (tmp_path / "runs/geom-1view-mini/records.jsonl").read_bytes()
    again = gen3r_bench(*command, cwd=tmp_path)
    assert (tmp_path / "runs/geom-1view-mini/records.jsonl").read_bytes() == before
    assert again.stdout == done.stdout
    table = gen3r_bench_process("table", "--table", 2, "--runs", "runs/geom-1view-mini", cwd=tmp_path)
    assert "1.1047" in table.stdout
    assert "oracle" in table.stdout
    assert run.header.protocols[0].hash in table.stdout


def test_without_a_method_every_shipped_network_that_can_score_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Plan] = []
    monkeypatch.setattr("gen3r_bench.cli.run.carry_out", lambda plan, *rest, **options: planned.append(plan))
    gen3r_bench("run", "--protocol", "geom-1view", cwd=tmp_path)
    contracts = [registry.methods().load(name).contract for name in registry.methods().names()]
    able = {
        f"{contract.method_id}@reference"
        for contract in contracts
        if "reference" in contract.checkpoints
        and "1view" in contract.settings
        and ("points" in contract.returns or {"depth", "cameras"} <= set(contract.returns))
    }
    assert {"gen3r@reference", "vggt@reference"} <= able
    assert {row.entry.label for row in planned[0].rows} == {*able, *DIAGNOSTICS, "freeze"}


def test_the_readmes_table_is_what_its_command_gives(tmp_path: Path) -> None:
    # one network's row, for the time: those that are compared here are in every table
    done = gen3r_bench_process("run", "--protocol", "geom-1view", "--method", "vggt@reference", cwd=tmp_path)
    assert not read_run(tmp_path / "runs/geom-1view-mini").header.partial

    def rows(text: str) -> dict[str, list[float]]:
        found = re.findall(r"^(\w+ \((?:floor|diagnostic)\)) +([\d.]+) +([\d.]+) +([\d.]+) +40/40$", text, re.MULTILINE)
        return {name: [float(value) for value in values] for name, *values in found}

    shown = rows((REPOSITORY / "README.md").read_text())
    measured = rows(done.stdout)
    assert shown.keys() == measured.keys() == {f"{row} (diagnostic)" for row in DIAGNOSTICS} | {"freeze (floor)"}
    for name, values in shown.items():
        # another processor's libm may move a pixel of mini by its last digit, and with it a sampled point
        assert values == pytest.approx(measured[name], rel=0.02, abs=1e-4), f"README: {name} is now {measured[name]}"


def test_fresh_moves_the_old_run_aside(tmp_path: Path) -> None:
    command = ["run", "-p", "geom-1view", "--limit", 1, "--out", "r", "--no-diagnostics", "--method", "freeze"]
    gen3r_bench(*command, cwd=tmp_path)
    done = gen3r_bench(*command, "--fresh", cwd=tmp_path)
    assert "r.replaced-1" in done.stderr
    assert len(read_run(tmp_path / "r.replaced-1").records) == 1
    assert len(read_run(tmp_path / "r").records) == 1


def test_quiet_says_nothing_but_the_table(tmp_path: Path) -> None:
    done = gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 1, "--quiet", cwd=tmp_path)
    assert done.stderr == ""
    assert "Chamfer" in done.stdout


def test_a_method_from_a_file_beside_the_floors(tmp_path: Path) -> None:
    (tmp_path / "still.py").write_text(METHOD)
    gen3r_bench(
        "run", "-p", "geom-1view", "-p", "appearance-1view", "-m", "still.py:Still", "--limit", 1, "--keep-predictions",
        "--seeds", 2, "-o", "r", cwd=tmp_path,
    )  # fmt: skip
    run = read_run(tmp_path / "r")
    assert [row.label for row in run.header.rows] == ["still", "oracle", "resample", "wobble", "freeze"]
    assert run.header.seeds == (42, 43)
    assert len(run.records) == 5 * 2 * 2
    bundles = list((tmp_path / "r/predictions/still/1view-cameras-given/seed-42/mini/test").iterdir())
    assert [bundle.name for bundle in bundles] == ["000"]


def test_kept_predictions_score_the_same_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "still.py").write_text(METHOD)
    gen3r_bench(
        "run", "-p", "geom-1view", "-m", "still.py:Still", "--limit", 2, "--keep-predictions", "-o", "r", "-q",
        cwd=tmp_path,
    )  # fmt: skip
    gen3r_bench_process(
        "score", "-p", "geom-1view", "--dataset", "mini", "--predictions",
        "r/predictions/still/1view-cameras-given/seed-42/mini", "--name", "elsewhere", "--limit", 2, "-o", "s",
        cwd=tmp_path,
    )  # fmt: skip
    scores = {
        (record.row, record.scene_id): record.scores
        for run in ("r", "s")
        for record in read_run(tmp_path / run).records
    }
    for scene in ("test/000", "test/001"):
        assert scores["elsewhere", scene] == scores["still", scene]


def test_missing_predictions_are_failures_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    done = gen3r_bench(
        "score", "-p", "geom-1view", "--predictions", "predictions", "--name", "mine", "--limit", 1, "-o", "s",
        cwd=tmp_path, code=1,
    )  # fmt: skip
    assert "1 of 5 records failed" in done.stderr
    assert "no predictions for scene test/000" in done.stdout
    (record,) = [record for record in read_run(tmp_path / "s").records if record.row == "mine"]
    assert record.status == "failed"


def test_a_third_party_package_appears_and_runs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "still_package-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: still-package\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[gen3r_bench.methods]\nstill = still_module:Still\n")
    (site / "still_module.py").write_text(METHOD)
    listed = gen3r_bench_process("ls", "methods", "--json", cwd=tmp_path, path=site)
    (still,) = [row for row in json.loads(listed.stdout) if row["method_id"] == "still"]
    assert still["source"] == "still-package"
    gen3r_bench_process("run", "-p", "geom-1view", "-m", "still", "--limit", 1, "-o", "r", cwd=tmp_path, path=site)
    assert read_run(tmp_path / "r").header.row("still").source == "still-package 0.3"
    (info / "entry_points.txt").write_text("[gen3r_bench.methods]\nfreeze = still_module:Still\n")
    clash = gen3r_bench_process("ls", "methods", cwd=tmp_path, path=site, code=2)
    assert "'freeze' is registered twice" in clash.stderr


def test_a_third_party_method_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        METHOD.replace("frames, (height", "raise MemoryError('no room')\n        frames, (height")
    )
    done = gen3r_bench("run", "-p", "geom-1view", "-m", "bad.py:Still", "--limit", 1, "-o", "r", cwd=tmp_path, code=1)
    assert "MemoryError: no room" in done.stdout
    assert "MemoryError" in (tmp_path / "r/failures.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-p", "geom-1veiw"], "unknown protocol 'geom-1veiw'; did you mean 'geom-1view'"),
        (["run", "-p", "geom-1view", "-d", "minni"], "unknown dataset 'minni'; did you mean 'mini'"),
        (["run", "-p", "geom-1view", "-m", "frezee"], "did you mean 'freeze'"),
        (["run", "-p", "geom-1view", "--scenes", "test/00"], "unknown scene of mini 'test/00'; did you mean"),
        (["run", "-p", "geom-1view", "--geometry-backend", "fast"], "expected exact or released"),
        (["run", "-p", "geom-1view", "--device", "gpu"], "expected cpu, cuda, cuda:1 or mps"),
        (["run", "-p", "geom-1view", "--device", "cuda:64"], "--device cuda:64; expected cpu: PyTorch"),
        (["run", "-p", "geom-1view", "--data-root", "x"], "data root for mini"),
        (["run", "-p", "geom-1view", "-d", "folder"], "root"),
        (["run", "-p", "geom-1view", "--dataset-option", "cap=3"], "unknown option of dataset mini 'cap'"),
        (["run", "-p", "geom-1view", "--dataset-option", "cap"], "DATASET.NAME=VALUE"),
        (["run", "-p", "geom-1view", "--limit", "0"], "Invalid value for '--limit'"),
        (["run"], "Missing option '--protocol'"),
        (["score", "-p", "geom-1view", "--predictions", "nowhere", "--name", "x"], "'nowhere' does not exist"),
        (["score", "-p", "geom-1view", "-p", "geom-2view", "--predictions", ".", "--name", "x"], "different settings"),
        (["table", "--table", "2", "--runs", "nowhere"], "nowhere is not a run folder"),
        (["rnu"], "No such command 'rnu'"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_reason(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = gen3r_bench(*arguments, cwd=tmp_path, code=2)
    # usage errors are drawn in a box by the argument parser
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_the_released_backend_says_what_is_missing(tmp_path: Path) -> None:
    try:
        import pytorch3d.ops  # noqa: F401
    except (ImportError, OSError):
        done = gen3r_bench("run", "-p", "geom-1view", "--geometry-backend", "released", cwd=tmp_path, code=2)
        assert "geometry backend 'released' cannot import" in done.stderr
        assert not list(tmp_path.iterdir())
    else:
        pytest.skip("PyTorch3D imports here: the backend runs, and tests/metrics/test_released.py covers it")


def test_a_run_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should go")
    done = gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 1, cwd=tmp_path, code=2)
    assert "cannot open runs/geom-1view-mini/records.jsonl" in done.stderr


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    for scene in ("test/000", "test/001", "test/002"):  # in the cache: no clip is to be written on the full disk
        MiniDataset.open(None, {}).load(scene, DEFAULT_PROFILE)
    gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 1, "-o", "r", "-q", cwd=tmp_path)
    before = (tmp_path / "r/records.jsonl").read_bytes()
    # RLIMIT_FSIZE is the nearest thing to a full disk that needs no privileges: writes past it fail with EFBIG
    code = textwrap.dedent(
        f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100}, resource.RLIM_INFINITY))
        sys.argv = ["gen3r-bench", "run", "-p", "geom-1view", "-m", "freeze", "--limit", "3", "-o", "r"]
        from gen3r_bench.cli.main import main
        main()
        """
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(tmp_path / "numba"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot append to r/records.jsonl: File too large (fix: free space" in done.stderr
    assert (tmp_path / "r/records.jsonl").read_bytes() == before
    gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 3, "-o", "r", "-q", cwd=tmp_path)
    assert len(read_run(tmp_path / "r").records) == 12


def test_a_truncated_records_file_is_repaired_by_the_same_command(tmp_path: Path) -> None:
    gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 2, "-o", "r", "-q", cwd=tmp_path)
    path = tmp_path / "r/records.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert gen3r_bench("table", "--runs", "r", cwd=tmp_path).returncode == 0
    gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 2, "-o", "r", "-q", cwd=tmp_path)
    assert len(read_run(tmp_path / "r").records) == 8


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 1, "-o", "r", "-q", cwd=tmp_path)
    path = tmp_path / "r/records.jsonl"
    path.write_text(path.read_text().replace('"n_frames":13', '"n_frames":12', 1))
    done = gen3r_bench("table", "--runs", "r", cwd=tmp_path, code=2)
    assert "line 1 was changed after it was written" in done.stderr


def test_a_real_capture_at_the_papers_size(tmp_path: Path, shared_dir: Path) -> None:
    redkitchen_folder(shared_dir, tmp_path / "captures")
    gen3r_bench(
        "run", "-p", "geom-1view", "-p", "camera-1view", "-m", "freeze", "--dataset", "folder",
        "--data-root", "captures", "-o", "r", cwd=tmp_path,
    )  # fmt: skip
    run = read_run(tmp_path / "r")
    assert {record.status for record in run.records} == {"ok"}
    assert not run.header.partial
    scores = {(record.protocol, record.row): record for record in run.records}
    # geom-recon's card scores the same points by the same recipe, and takes as long again
    rows = ("oracle", "resample", "wobble", "freeze")
    chamfer = [scores["geom-1view", row].scores["chamfer@fps20k"] for row in rows]
    assert chamfer[0] < 1e-6
    assert chamfer == sorted(chamfer)
    assert scores["geom-1view", "resample"].alignment.n_pixels > 10_000_000
    auc = [scores["camera-1view", row].scores["auc30@hist1deg"] for row in ("oracle", "wobble", "freeze")]
    assert auc[0] == 1
    assert auc == sorted(auc, reverse=True)


def test_json_instead_of_tables(tmp_path: Path) -> None:
    done = gen3r_bench("run", "-p", "geom-1view", "-m", "freeze", "--limit", 1, "--json", "-q", "-o", "r", cwd=tmp_path)
    (table,) = json.loads(done.stdout)
    rows = {row["label"]: row["cells"] for group in table["row_groups"] for row in group["rows"]}
    measured = {record.row: record.scores for record in read_run(tmp_path / "r").records}
    assert rows.keys() == measured.keys()
    # every digit, not only those that are printed
    assert float(rows["wobble"][2]["source"]["value"]) == measured["wobble"]["chamfer@fps20k"]
    again = gen3r_bench("table", "--runs", "r", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)[0]["row_groups"] == table["row_groups"]
    paper = json.loads(
        gen3r_bench("table", "--table", 2, "--json", "--out", "t.json", "-q", cwd=tmp_path).stdout or "[]"
    )
    assert paper == []
    assert json.loads((tmp_path / "t.json").read_text())[0]["number"] == 2
