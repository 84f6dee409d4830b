"""Submissions: what is wrong is named, scene by scene, and what is right passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reports.leaderboard.test_admission import lines, make, rewrite
from reports.synthetic import GEN3R, WVD, flat
from small_runs import APPEARANCE, GEOMETRY, freeze, small_run, wall

from gen3r_bench.errors import StoreError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.leaderboard.export import export
from gen3r_bench.reports.leaderboard.verify import verify
from gen3r_bench.runs.rescore import rescore
from gen3r_bench.runs.store import Run, read_run

Metrics = dict[str, Metric]
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("small") / "run", [wall("near"), freeze()])


@pytest.fixture
def run(original: Run, tmp_path: Path) -> Run:
    shutil.copytree(original.path, tmp_path / "run")
    return read_run(tmp_path / "run")


def checks(folder: Path, metrics: Metrics) -> list[tuple[str, str, str]]:
    return [(found.check, found.scene_id, found.row) for found in verify(folder, metrics).findings]


def test_a_good_run_passes_and_is_scored_again(run: Run, metrics: Metrics) -> None:
    verdict = verify(run.path, metrics)
    assert verdict.findings == ()
    assert (verdict.rescored.kept, verdict.rescored.predictions) == (8, 8)
    assert set(verdict.rescored.largest) >= {"psnr@8bit", "psnr@8bit/novel", "chamfer@fps20k"}
    assert max(verdict.rescored.largest.values()) == 0  # one machine repeats exactly
    assert any("small-geometry is not registered here" in note for note in verdict.notes)


def test_the_example_submission(metrics: Metrics) -> None:
    verdict = verify(REPOSITORY / "results/submissions/freeze", metrics)
    assert verdict.findings == ()
    assert len(verdict.run.records) == 40
    assert any("No predictions lie beside" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda found: found[0]["scores"].update({"psnr@8bit": 99.0}) or found, "checksum"),
        (lambda found: [*found, found[0]], "duplicate"),
        (lambda found: found[1:], "missing"),
        (lambda found: [{**found[0], "scene_id": "test/009"}, *found[1:]], "plan"),
        (lambda found: [{**found[0], "card_hash": "0" * 12}, *found[1:]], "card"),
        (lambda found: [{**found[0], "seed": 7}, *found[1:]], "plan"),
        (lambda found: [{"no": "record"}, *found], "line"),
    ],
)
def test_edited_records(
    run: Run, metrics: Metrics, change: Callable[[list[dict[str, object]]], list[dict[str, object]]], expected: str
) -> None:
    rewrite(run, change(lines(run)))
    assert expected in {check for check, _, _ in checks(run.path, metrics)}


@pytest.mark.parametrize(
    "key", ["psnr@8bit", "psnr@8bit/novel", "ssim@skimage-gauss", "accuracy@fps20k", "chamfer@fps20k"]
)
def test_a_score_that_was_changed_and_sealed_again_is_found_by_scoring(run: Run, metrics: Metrics, key: str) -> None:
    records = lines(run)
    forged = next(record for record in records if key in record["scores"] and record["row"] == "near")  # type: ignore[operator]
    forged["scores"][key] *= 0.95  # type: ignore[index]
    rewrite(run, records, seal=True)
    verdict = verify(run.path, metrics)
    (found,) = verdict.findings
    assert (found.check, found.scene_id, found.row) == ("rescored", forged["scene_id"], "near")
    assert found.message.startswith(f"{key} is ")


def test_a_record_of_other_weights_does_not_fit_its_key(run: Run, metrics: Metrics) -> None:
    header = json.loads((run.path / "run.json").read_text())
    header["rows"][0]["checkpoint_sha256"] = "a" * 64
    (run.path / "run.json").write_text(json.dumps(header))
    assert {(check, row) for check, _, row in checks(run.path, metrics)} == {("key", "near")}


def test_a_prediction_that_was_touched(run: Run, metrics: Metrics) -> None:
    bundle = run.path / "predictions/near/1view-cameras-given/seed-42/mini/test/001"
    (bundle / "geometry.safetensors").write_bytes(b"nothing")
    assert checks(run.path, metrics) == [("prediction", "test/001", "near")] * 2


def test_a_prediction_of_another_scene(run: Run, metrics: Metrics) -> None:
    place = run.path / "predictions/near/1view-cameras-given/seed-42/mini/test"
    shutil.rmtree(place / "001")
    shutil.copytree(place / "000", place / "001")
    found = set(checks(run.path, metrics))
    assert found == {("rescored", "test/001", "near")}


def test_scores_that_predictions_do_not_have(run: Run, metrics: Metrics) -> None:
    bundle = run.path / "predictions/near/1view-cameras-given/seed-42/mini/test/000"
    content = json.loads((bundle / "bundle.json").read_text())
    content["files"] = {name: digest for name, digest in content["files"].items() if not name.startswith("rgb")}
    (bundle / "bundle.json").write_text(json.dumps(content))
    messages = [found.message for found in verify(run.path, metrics).findings]
    assert any("psnr@8bit is" in text and "holds no frames" in text for text in messages)


def test_a_partial_run_is_no_submission(tmp_path: Path, metrics: Metrics) -> None:
    run = small_run(tmp_path / "run", [freeze()], cards=(APPEARANCE,), limit=1, keep_predictions=False)
    assert checks(run.path, metrics) == [("partial", "", "")]


def test_a_card_of_another_version_than_ours(tmp_path: Path, metrics: Metrics) -> None:
    old = GEOMETRY.model_copy(update={"name": "geom-1view", "version": 0})
    run = small_run(tmp_path / "run", [freeze()], cards=(old,), keep_predictions=False)
    (found,) = verify(run.path, metrics).findings
    assert found.check == "card"
    assert f"scored under card {old.hash}, this suite's card of geom-1view is" in found.message


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.update(protocols=[]), "the plan names a protocol whose card run.json lacks"),
        (lambda header: header["plan"].append(header["plan"][0]), "the plan names the dataset 2 times"),
    ],
)
def test_a_header_whose_parts_do_not_fit(
    run: Run, metrics: Metrics, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    header = json.loads((run.path / "run.json").read_text())
    edit(header)
    (run.path / "run.json").write_text(json.dumps(header))
    assert message in {found.message for found in verify(run.path, metrics).findings}


def test_a_schema_of_another_version_cannot_be_verified(run: Run, metrics: Metrics) -> None:
    header = json.loads((run.path / "run.json").read_text()) | {"schema_version": 99}
    (run.path / "run.json").write_text(json.dumps(header))
    with pytest.raises(StoreError, match="schema version 99"):
        verify(run.path, metrics)


def test_a_retried_failure_and_an_added_metric_are_no_duplicates(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a", lambda p, r, scene, s: "broke" if scene == "s0" else flat(1.0), rows=(GEN3R,))
    records = lines(run)
    again = {**records[1], "scene_id": "s0", "key": records[0]["key"]}
    more = {**records[2], "scores": {**records[2]["scores"], "relative-percent@fps20k": 1.0}}  # type: ignore[dict-item]
    rewrite(run, [*records, again, more], seal=True)
    findings = verify(run.path, metrics).findings
    assert [found for found in findings if found.check == "duplicate"] == []
    rewrite(run, [*records, again, {**again, "scores": flat(0.5)}], seal=True)
    findings = verify(run.path, metrics).findings
    assert "line 5 replaces line 4" in next(found.message for found in findings if found.check == "duplicate")


def test_a_torn_last_line(run: Run, metrics: Metrics) -> None:
    path = run.path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert {check for check, _, _ in checks(run.path, metrics)} == {"line", "missing"}


def test_aggregates_beside_the_records(run: Run, tmp_path: Path, metrics: Metrics) -> None:
    export([run.path], tmp_path / "out", metrics)
    content = json.loads((tmp_path / "out/leaderboard.json").read_text())
    target = run.path / "leaderboard.json"
    target.write_text(json.dumps(content))
    assert verify(run.path, metrics).findings == ()

    entry = content["boards"][0]["entries"][0]
    score = entry["scores"]["chamfer@fps20k"]
    score["mean"] *= 0.99
    score["scenes"]["test/001"] += 1e-6
    content["boards"][1]["entries"].append({**content["boards"][1]["entries"][0], "row": "nobody"})
    target.write_text(json.dumps(content))
    found = {(finding.scene_id, finding.row) for finding in verify(run.path, metrics).findings}
    assert found == {("", entry["row"]), ("test/001", entry["row"]), ("", "nobody")}

    content = json.loads((tmp_path / "out/leaderboard.json").read_text())
    content["boards"].append({**content["boards"][0], "dataset": "other"})
    content["boards"][1]["entries"] += content["boards"][1]["entries"][:1]
    target.write_text(json.dumps(content))
    assert {finding.message for finding in verify(run.path, metrics).findings} == {
        "leaderboard.json has the row 2 times", "leaderboard.json has a board without records",
    }  # fmt: skip

    target.write_text("{}")
    assert checks(run.path, metrics) == [("aggregate", "", "")]


def test_datasets_that_are_not_here_are_skipped_and_counted(run: Run, metrics: Metrics) -> None:
    header = run.header.model_copy(
        update={"plan": tuple(entry.model_copy(update={"dataset": "co3dv2"}) for entry in run.header.plan)}
    )
    records = tuple(record.model_copy(update={"dataset": "co3dv2"}) for record in run.records)
    shutil.copytree(
        run.path / "predictions/near/1view-cameras-given/seed-42/mini",
        run.path / "predictions/near/1view-cameras-given/seed-42/co3dv2",
    )
    found = rescore(Run(run.path, header, records), metrics)
    assert (found.kept, found.predictions, found.findings) == (4, 0, [])
    assert dict(found.skipped) == {"no data root for co3dv2 (--data-root co3dv2=DIR)": 2 * 3 + 2 * 4}


def test_rows_of_several_runs_in_one_leaderboard(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "a", rows=(GEN3R,))
    other = make(tmp_path / "b", lambda *_: flat(1.0), rows=(WVD,))
    export([one.path, other.path], tmp_path / "out", metrics)
    shutil.copy(tmp_path / "out/leaderboard.json", one.path)
    findings = verify(one.path, metrics).findings
    assert {found.check for found in findings} <= {"card"}  # the test's card is not this suite's
