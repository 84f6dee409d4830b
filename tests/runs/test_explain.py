from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import tiny_card

from gen3r_bench import registry
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.protocols.card import ClipPlan
from gen3r_bench.protocols.dialects import DEFAULT
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.explain import NOT_KEPT, Choice, rescore_run
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.record import record_checksum
from gen3r_bench.runs.rows import make_row
from gen3r_bench.runs.store import Run, read_run

METRICS = registry.metrics()
CARD = tiny_card(
    datasets={"mini": ClipPlan(scenes=3, frames=4, image_size=(32, 32))},
    metrics=("chamfer@fps20k", "auc30@hist1deg", "psnr@8bit", "ssim@skimage-gauss", "lpips@vgg"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    plan = make_plan(
        (CARD,),
        {"mini": OpenedDataset(MiniDataset.open(None, {}))},
        [make_row(spec, device="cpu") for spec in ("freeze", "oracle", "resample", "wobble")],
        limit=2,
    )
    return execute(plan, tmp_path_factory.mktemp("explain") / "run", command="gen3r-bench run x", keep_predictions=True)


def copied(run: Run, folder: Path) -> Path:
    shutil.copytree(run.path, folder)
    return folder


def edited(folder: Path, number: int, **changes: object) -> None:
    """Change a record and seal it anew, as another version of the suite would have written it."""
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    content = {**json.loads(lines[number]), **changes}
    lines[number] = json.dumps({**content, "checksum": record_checksum(content)})
    path.write_text("\n".join(lines) + "\n")


def test_every_kept_prediction_comes_out_again_and_in_every_dialect(run: Run) -> None:
    steps = []
    found = rescore_run(run, METRICS, jobs=2, progress=lambda *step: steps.append(step))
    assert set(found.results) == {record.identity for record in run.records} == set(found.planned)
    assert not found.differences
    assert not found.reasons
    computed = sum(len(set(record.scores) & set(CARD.metrics)) for record in run.records)
    assert found.compared == computed >= 4 * 8
    assert [done for _, done, _ in steps] == list(range(1, 9))
    assert {total for *_, total in steps} == {8}
    some = next(iter(found.results.values()))
    assert ("chamfer@fps20k", "scale=umeyama") in some.values
    assert ("psnr@8bit", "frames=novel") in some.values


def test_nothing_is_written(run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    rescore_run(run, METRICS, choice=Choice(rows=("oracle",)))
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_threads_change_no_number(run: Run) -> None:
    one, two = (rescore_run(run, METRICS, jobs=jobs) for jobs in (1, 2))
    for place, result in one.results.items():
        assert {key: e.value for key, e in result.values.items()} == {
            key: e.value for key, e in two.results[place].values.items()
        }


def test_a_choice_scores_only_what_it_takes(run: Run) -> None:
    choice = Choice(rows=("wobble",), scenes=("test/001",), dialects=("scale=none",))
    found = rescore_run(run, METRICS, choice=choice)
    assert list(found.results) == [("tiny-geom", "mini", "test/001", "wobble", 42)]
    (result,) = found.results.values()
    assert {dialect for _, dialect in result.values} == {DEFAULT, "scale=none"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(rows=("oracel",)), "did you mean 'oracle'"),
        (Choice(scenes=("test/01",)), "unknown scene of the run 'test/01'"),
        (Choice(protocols=("tiny-gem",)), "did you mean 'tiny-geom'"),
        (Choice(dialects=("scale=umeyma",)), "did you mean 'scale=umeyama'"),
    ],
)
def test_names_that_the_run_does_not_have(run: Run, choice: Choice, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        rescore_run(run, METRICS, choice=choice)


def test_a_run_without_predictions_says_how_to_get_them(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "r")
    shutil.rmtree(folder / "predictions")
    with pytest.raises(InputError, match="gen3r-bench run x --keep-predictions --fresh"):
        rescore_run(read_run(folder), METRICS)


def test_what_is_missing_or_damaged_has_a_reason_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "r")
    rows = folder / "predictions"
    shutil.rmtree(rows / "freeze/1view-cameras-given/seed-42/mini/test/000")
    (rows / "oracle/1view-cameras-given/seed-42/mini/test/001/geometry.safetensors").write_bytes(b"torn")
    number = next(i for i, r in enumerate(run.records) if (r.row, r.scene_id) == ("wobble", "test/000"))
    edited(folder, number, status="failed", scores={}, unsupported={}, reason="no luck", alignment=None)
    found = rescore_run(read_run(folder), METRICS)
    place = ("tiny-geom", "mini")
    assert len(found.results) == 5
    assert found.reasons[*place, "test/000", "freeze", 42] == NOT_KEPT
    assert "does not match its checksum" in found.reasons[*place, "test/001", "oracle", 42]
    assert found.reasons[*place, "test/000", "wobble", 42] == "failed: no luck"
    # a failure of the run is no failure of this command
    assert set(found.failed) == {(*place, "test/001", "oracle", 42)}


def test_a_scene_that_changed_fails_alone(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "r")
    for number, record in enumerate(run.records):
        if record.scene_id == "test/000":
            edited(folder, number, clip_fingerprint="another")
    found = rescore_run(read_run(folder), METRICS)
    assert {place[2] for place in found.results} == {"test/001"}
    assert len(found.failed) == 4
    assert all("changed since the run scored it" in reason for reason in found.failed.values())


def test_a_score_that_does_not_come_out_again_is_a_finding(run: Run, tmp_path: Path) -> None:
    folder = copied(run, tmp_path / "r")
    number = next(i for i, r in enumerate(run.records) if r.row == "wobble")
    record = run.records[number]
    recorded = record.scores["psnr@8bit"] + 0.001
    edited(folder, number, scores={**record.scores, "psnr@8bit": recorded})
    (difference,) = rescore_run(read_run(folder), METRICS, choice=Choice(dialects=("pool=clip",))).differences
    assert (difference.place, difference.metric) == (record.identity, "psnr@8bit")
    assert difference.recorded == recorded
    assert difference.again == record.scores["psnr@8bit"]
