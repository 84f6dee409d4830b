"""What no leaderboard may show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from reports.synthetic import FREEZE, GEN3R, WVD, flat, row, write_run

from gen3r_bench.errors import BenchError, InputError, StoreError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card, ClipPlan
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.reports.leaderboard.admission import admitted_runs
from gen3r_bench.runs.record import provenance_id, record_checksum
from gen3r_bench.runs.store import Run

CARD = GEOM_1VIEW.model_copy(update={"datasets": {"mini": ClipPlan(scenes=3, frames=13, image_size=(112, 112))}})
Metrics = dict[str, Metric]


def good(_protocol: str, label: str, scene: str, _seed: int) -> dict[str, float]:
    return flat(len(label) + int(scene[1:]))


def make(folder: Path, outcome: Callable[..., object] = good, **options: object) -> Run:
    return write_run(folder, outcome, **{"cards": (CARD,), **options})  # type: ignore[arg-type]


def lines(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.path / "records.jsonl").read_text().splitlines()]


def rewrite(run: Run, records: list[dict[str, object]], *, seal: bool = False) -> None:
    for record in records:
        if seal:
            record["checksum"] = record_checksum(record)
    (run.path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_finished_run_is_admitted(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    assert [found.records for found in admitted_runs([run.path, run.path], metrics).distinct] == [run.records]


def refused(paths: list[Path], metrics: Metrics, match: str, kind: type[BenchError] = InputError) -> None:
    with pytest.raises(kind, match=match):
        admitted_runs(paths, metrics)


def test_partial_runs(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a", scenes=("s0", "s1"), scenes_in_full=3)
    refused([run.path], metrics, "2 of the card's 3 scenes.*without --limit")


def test_unfinished_runs(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a", lambda p, label, scene, seed: None if scene == "s1" else good(p, label, scene, seed))
    refused([run.path], metrics, "no record of seed 42.*s1.*goes on where it stopped")


def test_a_changed_score(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    records = lines(run)
    records[2]["scores"]["accuracy@fps20k"] = 0.001  # type: ignore[index]
    rewrite(run, records)
    refused([run.path], metrics, "line 3 was changed after it was written.*s2")


def test_a_duplicated_line(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    records = lines(run)
    rewrite(run, [*records, records[0]])
    refused([run.path], metrics, "line 7 repeats line 1")


def test_a_scene_that_was_taken_out_of_records_and_plan(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    rewrite(run, [record for record in lines(run) if record["scene_id"] != "s2"])
    header = json.loads((run.path / "run.json").read_text())
    header["plan"][0] |= {"scenes": ["s0", "s1"], "scenes_in_full": 2}
    (run.path / "run.json").write_text(json.dumps(header))
    refused([run.path], metrics, "the plan says scenes 2, the card 3")


def test_a_card_that_was_softened(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    header = json.loads((run.path / "run.json").read_text())
    header["protocols"][0]["content"]["datasets"]["mini"]["scenes"] = 2
    (run.path / "run.json").write_text(json.dumps(header))
    refused([run.path], metrics, "the card of geom-1view was changed")


def test_a_schema_of_another_version(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    header = json.loads((run.path / "run.json").read_text()) | {"schema_version": 99}
    (run.path / "run.json").write_text(json.dumps(header))
    refused([run.path], metrics, "schema version 99", StoreError)


def test_scores_of_random_weights(tmp_path: Path, metrics: Metrics) -> None:
    facts = {"weights": "random-weights"}
    run = make(tmp_path / "a")
    records = [{**one, "made_with": {"chamfer@fps20k": provenance_id(facts)}} for one in lines(run)]
    rewrite(run, records, seal=True)
    header = json.loads((run.path / "run.json").read_text()) | {"provenances": {provenance_id(facts): facts}}
    (run.path / "run.json").write_text(json.dumps(header))
    refused([run.path], metrics, r"chamfer@fps20k was computed with random weights.*run it again with --fresh")
    (run.path / "run.json").write_text(json.dumps(header | {"provenances": {}}))
    refused([run.path], metrics, "run.json does not say what chamfer@fps20k was computed with")


def test_an_impossible_score_that_was_sealed_again(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    records = lines(run)
    records[0]["scores"]["accuracy@fps20k"] = -0.5  # type: ignore[index]
    rewrite(run, records, seal=True)
    refused([run.path], metrics, "accuracy@fps20k is -0.5; legal are 0 to")


def test_two_versions_of_a_protocol(tmp_path: Path, metrics: Metrics) -> None:
    newer: Card = CARD.model_copy(update={"version": CARD.version + 1})
    one, other = make(tmp_path / "a", rows=(GEN3R,)), make(tmp_path / "b", rows=(WVD,), cards=(newer,))
    refused([one.path, other.path], metrics, f"card {CARD.hash} of geom-1view in .*a and card {newer.hash} in .*b")


def test_a_label_that_means_two_things(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "a", rows=(row("mine", checkpoint_sha256="a" * 64),))
    other = make(tmp_path / "b", rows=(row("mine", checkpoint_sha256="b" * 64),))
    refused([one.path, other.path], metrics, "row 'mine' is method mine .*weights aaaaaaaaaaaa.* and .*bbbbbbbbbbbb")


def test_floors_that_every_run_brings_count_once(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "a", rows=(GEN3R, FREEZE))
    other = make(tmp_path / "b", rows=(WVD, FREEZE))
    admitted = admitted_runs([one.path, other.path], metrics)
    assert [run.records for run in admitted.runs] == [one.records, other.records]
    runs = admitted.distinct
    assert [[entry.label for entry in run.header.rows] for run in runs] == [
        ["gen3r@reference", "freeze"],
        ["wvd@reference"],
    ]
    assert {record.row for record in runs[1].records} == {"wvd@reference"}


def test_a_row_with_two_values(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "a", rows=(GEN3R,))
    other = make(tmp_path / "b", lambda *_: flat(9.0), rows=(GEN3R,))
    refused([one.path, other.path], metrics, "row 'gen3r@reference' has two values for geom-1view on mini")


def test_seeds_of_two_runs_never_put_a_row_on_a_board_twice(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "a", rows=(GEN3R, FREEZE))
    other = make(tmp_path / "b", rows=(WVD, FREEZE), seeds=(42, 43))
    runs = admitted_runs([one.path, other.path], metrics).distinct
    assert [[entry.label for entry in run.header.rows] for run in runs] == [
        ["gen3r@reference", "freeze"],
        ["wvd@reference"],
    ]
    drawn = make(tmp_path / "c", lambda p, r, s, seed: flat(seed / 50 + int(s[1:])), rows=(WVD, FREEZE), seeds=(42, 43))
    refused([one.path, drawn.path], metrics, "row 'freeze' has two values for .*or make one with --no-diagnostics")


def test_other_options_of_a_dataset_are_another_board(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "a", rows=(FREEZE,), options={"depth_cap": "80"})
    other = make(tmp_path / "b", lambda *_: flat(9.0), rows=(FREEZE,), options={"depth_cap": "100"})
    admitted = admitted_runs([one.path, other.path], metrics)
    assert [run.records for run in admitted.distinct] == [one.records, other.records]


def test_no_run_at_all(metrics: Metrics) -> None:
    refused([], metrics, "no run to export")
