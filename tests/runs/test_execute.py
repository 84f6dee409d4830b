from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import SIZE, Shifted, TinyDataset, tiny_card

from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.errors import StoreError
from gen3r_bench.method import Contract
from gen3r_bench.runs import execute as execute_module
from gen3r_bench.runs.bundle import read_bundle
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.plan import Plan, make_plan
from gen3r_bench.runs.record import Record, RowEntry
from gen3r_bench.runs.rows import FolderRow, MethodRow, Row, make_row
from gen3r_bench.runs.store import Run, read_run
from gen3r_bench.scene import Prediction

COST = {"seconds", "scoring_seconds", "peak_memory_bytes", "checksum"}


def method_row(method: Shifted | None = None, label: str = "shifted") -> MethodRow:
    return MethodRow(method or Shifted(), RowEntry(label=label, method_id=label, title=label, kind="method"))


def plan_of(*rows: Row, cards=(), dataset: TinyDataset | None = None, **options) -> Plan:
    return make_plan(
        cards or (tiny_card(),),
        {"tiny": OpenedDataset(dataset or TinyDataset())},
        rows or (make_row("oracle", device="cpu"),),
        **options,
    )


def content(run: Run) -> set[str]:
    """Records without their cost, in no order."""
    return {json.dumps(item.model_dump(mode="json", exclude=COST), sort_keys=True) for item in run.records}


def by_scene(run: Run, row: str) -> dict[str, Record]:
    return {item.scene_id: item for item in run.records if item.row == row}


def test_every_row_and_scene_gets_a_record(tmp_path: Path) -> None:
    rows = [make_row(name, device="cpu") for name in ("oracle", "resample", "wobble", "freeze")]
    run = execute(plan_of(*rows), tmp_path / "run", command="x", jobs=2)
    assert len(run.records) == 4 * 3
    assert {item.status for item in run.records} == {"ok"}
    oracle = by_scene(run, "oracle")["a"]
    assert oracle.scores["chamfer@fps20k"] == pytest.approx(0, abs=1e-6)
    assert oracle.scores["auc30@hist1deg"] == 1.0
    assert oracle.scores["psnr@8bit"] == 60.0
    assert oracle.unsupported["lpips@vgg"]
    assert oracle.alignment is not None
    assert oracle.alignment.scale == pytest.approx(1)
    assert oracle.seconds is not None
    assert oracle.peak_memory_bytes > 1e6
    resample = by_scene(run, "resample")["a"].scores["chamfer@fps20k"]
    wobble = by_scene(run, "wobble")["a"].scores
    freeze = by_scene(run, "freeze")["a"].scores
    assert 0 < resample < wobble["chamfer@fps20k"] < freeze["chamfer@fps20k"]
    assert freeze["psnr@8bit/novel"] < freeze["psnr@8bit"]
    assert freeze["auc30@hist1deg"] < wobble["auc30@hist1deg"] < 1


def test_one_prediction_serves_every_protocol_of_its_conditioning(tmp_path: Path) -> None:
    method, dataset = Shifted(), TinyDataset(["a"])
    cards = (
        tiny_card("geometry", metrics=("chamfer@fps20k",)),
        tiny_card("frames", metrics=("psnr@8bit",)),
        tiny_card("two", setting="2view", metrics=("psnr@8bit",)),
    )
    run = execute(plan_of(method_row(method), cards=cards, dataset=dataset), tmp_path / "run", command="x")
    assert [item.setting for item in method.seen] == ["1view", "2view"]
    assert dataset.loads == ["a"]
    assert {item.protocol for item in run.records} == {"geometry", "frames", "two"}


def test_a_method_never_sees_a_withheld_frame(tmp_path: Path) -> None:
    method = Shifted()
    execute(plan_of(method_row(method), dataset=TinyDataset(["a"])), tmp_path / "run", command="x")
    (seen,) = method.seen
    names = {field.name for field in dataclasses.fields(seen)}
    assert names == {
        "setting", "frame_indices", "rgb", "cameras", "num_frames", "image_size", "prompt", "seed",
    }  # fmt: skip
    assert seen.rgb.shape == (1, *SIZE, 3)
    # nor can it be reached through the memory that the visible frame lies in
    root = seen.rgb
    while isinstance(root.base, np.ndarray):
        root = root.base
    assert root.nbytes == seen.rgb.nbytes


def test_the_same_command_resumes(tmp_path: Path) -> None:
    dataset = TinyDataset()
    execute(plan_of(dataset=dataset, limit=1), tmp_path / "run", command="x")
    assert read_run(tmp_path / "run").header.partial
    counted: list[str] = []
    run = execute(
        plan_of(dataset=dataset), tmp_path / "run", command="y", progress=lambda scene, count: counted.append(scene)
    )
    assert dataset.loads == ["a", "b", "c"]
    assert sorted(counted) == ["a", "b", "c"]
    assert not run.header.partial
    once = execute(plan_of(), tmp_path / "once", command="x")
    assert content(run) == content(once)


def test_a_failure_of_one_scene_does_not_stop_the_others(tmp_path: Path) -> None:
    run = execute(plan_of(dataset=TinyDataset(broken=["b"])), tmp_path / "run", command="x")
    records = by_scene(run, "oracle")
    assert {scene: item.status for scene, item in records.items()} == {"a": "ok", "b": "failed", "c": "ok"}
    assert records["b"].reason == "scene b: frame 2 is missing"
    assert not records["b"].scores


def test_a_failed_scene_is_tried_again(tmp_path: Path) -> None:
    execute(plan_of(dataset=TinyDataset(broken=["b"])), tmp_path / "run", command="x")
    healed = TinyDataset()
    run = execute(plan_of(dataset=healed), tmp_path / "run", command="x")
    assert healed.loads == ["b"]
    assert {item.status for item in run.records} == {"ok"}
    assert len(run.records) == 3


def test_whatever_a_method_raises_becomes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shifted, "fails_on", "wall b")
    run = execute(plan_of(method_row()), tmp_path / "run", command="x")
    records = by_scene(run, "shifted")
    assert records["a"].status == records["c"].status == "ok"
    assert records["b"].reason.startswith("RuntimeError: out of luck (tiny.py:")
    assert "\n" not in records["b"].reason
    assert "Traceback" in (tmp_path / "run" / "failures.log").read_text()


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ({"frame_indices": (0, 9), "rgb": np.zeros((2, *SIZE, 3), np.uint8)}, "prediction covers frame 9"),
        ({"frame_indices": (0,), "rgb": np.zeros((1, 8, 8, 3), np.uint8)}, "prediction at 8x8 pixels"),
        ({"frame_indices": (0, 1), "depth": np.full((2, *SIZE), np.nan, np.float32), "cameras": True}, "finite"),
    ],
)
def test_a_prediction_that_does_not_fit_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prediction: dict, reason: str
) -> None:
    fields = dict(prediction)
    if fields.pop("cameras", False):
        fields["world_from_cam"] = np.repeat(np.eye(4)[None], 2, axis=0)
        fields["intrinsics"] = np.repeat(np.eye(3)[None], 2, axis=0)
    monkeypatch.setattr(Shifted, "predict", lambda self, conditioning: Prediction(**fields))
    run = execute(plan_of(method_row(), dataset=TinyDataset(["a"])), tmp_path / "run", command="x")
    (record,) = run.records
    assert record.status == "failed"
    assert reason in record.reason


def test_predict_must_return_a_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shifted, "predict", lambda self, conditioning: None)
    run = execute(plan_of(method_row(), dataset=TinyDataset(["a"])), tmp_path / "run", command="x")
    assert "predict returned NoneType" in run.records[0].reason


def test_a_method_outside_its_contract_is_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = Contract(method_id="shifted", title="", summary="", settings=("2view",), returns=("rgb",))
    monkeypatch.setattr(Shifted, "contract", contract)
    run = execute(plan_of(method_row(), dataset=TinyDataset(["a"])), tmp_path / "run", command="x")
    assert run.records[0].status == "unsupported"
    assert run.records[0].reason == "shifted does not support 1view (it supports 2view)"


def test_a_part_that_is_missing_leaves_its_cells_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_cameras(self, conditioning):
        return Prediction(frame_indices=range(4), world_from_cam=conditioning.cameras.world_from_cam)

    monkeypatch.setattr(Shifted, "predict", only_cameras)
    run = execute(plan_of(method_row(), dataset=TinyDataset(["a"])), tmp_path / "run", command="x")
    (record,) = run.records
    assert record.scores == {"auc30@hist1deg": 1.0}
    assert "no points" in record.unsupported["chamfer@fps20k"]
    assert "no frames" in record.unsupported["psnr@8bit"]


def test_seeds_are_of_the_scene_and_not_of_the_order(tmp_path: Path) -> None:
    forward, backward = Shifted(), Shifted()
    execute(plan_of(method_row(forward), seeds=(1, 2)), tmp_path / "f", command="x")
    execute(
        plan_of(method_row(backward), seeds=(2, 1), dataset=TinyDataset(["c", "b", "a"])), tmp_path / "b", command="x"
    )
    assert len({item.seed for item in forward.seen}) == 6
    assert content(read_run(tmp_path / "f")) == content(read_run(tmp_path / "b"))


def test_a_scene_of_a_training_set_is_marked(tmp_path: Path) -> None:
    row = method_row()
    row.entry = row.entry.model_copy(update={"training_sets": ("tiny",)})
    run = execute(plan_of(row, make_row("oracle", device="cpu")), tmp_path / "run", command="x")
    marked = {item.row for item in run.records if item.in_training_set}
    assert marked == {"shifted"}


def test_kept_predictions_are_bundles(tmp_path: Path) -> None:
    execute(plan_of(method_row(), dataset=TinyDataset(["a"])), tmp_path / "run", command="x", keep_predictions=True)
    folder = tmp_path / "run/predictions/shifted/1view-cameras-given/seed-42/tiny/a"
    assert read_bundle(folder).parts() == ("rgb", "depth", "world_from_cam", "intrinsics")


def test_a_run_of_another_protocol_version_is_refused(tmp_path: Path) -> None:
    execute(plan_of(), tmp_path / "run", command="x")
    with pytest.raises(StoreError, match=r"holds tiny-geom of hash .*--fresh"):
        execute(plan_of(cards=(tiny_card(version=2),)), tmp_path / "run", command="x")


def test_another_backend_or_other_weights_are_refused(tmp_path: Path) -> None:
    execute(plan_of(method_row()), tmp_path / "run", command="x")
    with pytest.raises(StoreError, match="geometry-backend exact"):
        execute(plan_of(method_row(), geometry_backend="released"), tmp_path / "run", command="x")
    other = method_row()
    other.entry = other.entry.model_copy(update={"checkpoint_sha256": "abc"})
    with pytest.raises(StoreError, match="another shifted"):
        execute(plan_of(other), tmp_path / "run", command="x")


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(plan_of(limit=1), tmp_path / "run", command="x")

    def no_space(folder: Path, prediction: Prediction) -> None:
        raise StoreError("cannot write") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(execute_module, "write_bundle", no_space)
    with pytest.raises(StoreError, match="cannot write"):
        execute(plan_of(), tmp_path / "run", command="x", keep_predictions=True)
    assert [item.scene_id for item in read_run(tmp_path / "run").records] == ["a"]


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_bundle_is_one_scenes_failure(tmp_path: Path, damage: str) -> None:
    execute(plan_of(method_row()), tmp_path / "run", command="x", keep_predictions=True)
    root = tmp_path / "run/predictions/shifted/1view-cameras-given/seed-42/tiny"
    picture = root / "b/rgb/00001.png"
    picture.unlink() if damage == "missing" else picture.write_bytes(picture.read_bytes() + b"x")
    run = execute(plan_of(FolderRow(root, "kept", only_scene=False)), tmp_path / "scored", command="x")
    records = by_scene(run, "kept")
    assert {scene: item.status for scene, item in records.items()} == {"a": "ok", "b": "failed", "c": "ok"}
    assert "00001.png" in records["b"].reason


KILLED = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.rows import make_row
from tiny import TinyDataset, tiny_card
rows = [make_row(name, device="cpu") for name in ("oracle", "wobble", "freeze")]
ids = [f"scene{{i}}" for i in range(6)]
card = tiny_card(datasets={{"tiny": dict(scenes=6, frames=4, image_size=(24, 32))}})
plan = make_plan((card,), {{"tiny": OpenedDataset(TinyDataset(ids))}}, rows)
print("ready", flush=True)
execute(plan, Path({out!r}), command="x", jobs=2, keep_predictions=True)
"""


def test_kill_at_random_moments_then_resume_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    def start(out: Path) -> subprocess.Popen[str]:
        code = textwrap.dedent(KILLED).format(paths=[str(Path(__file__).parents[1])], out=str(out))
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "ready\n"
        return process

    whole = start(tmp_path / "whole")
    began = time.monotonic()
    assert whole.wait() == 0
    duration = time.monotonic() - began
    random = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    kills = 0
    for _ in range(4):
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=float(random.uniform(0.02, 0.6)) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert start(tmp_path / "killed").wait() == 0
    assert kills
    killed, expected = read_run(tmp_path / "killed"), read_run(tmp_path / "whole")
    assert len(expected.records) == 18
    assert content(killed) == content(expected)
