from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import Shifted, TinyDataset, tiny_card

from gen3r_bench import registry
from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.errors import BenchError, InputError, StoreError, UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.metrics.image import psnr, ssim
from gen3r_bench.runs import append as append_module
from gen3r_bench.runs.append import BatchScorer, append_metrics, merged, metrics_named
from gen3r_bench.runs.attempt import Failure
from gen3r_bench.runs.bundle import read_bundle
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.kept import SceneSource
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.record import Record, RowEntry
from gen3r_bench.runs.rows import MethodRow, make_row
from gen3r_bench.runs.store import RecordWriter, Run, read_run


def frames_metric(name: str, function, **fields) -> Metric:
    return Metric(
        name=name, dialect="mine", title=name, unit="", higher_is_better=True, bounds=(0, 1e9),
        reference="tests", kind=fields.pop("kind", "frames"), function=function, **fields,
    )  # fmt: skip


def red(pred, true) -> np.ndarray:
    return pred[..., 0].mean(axis=(1, 2))


RED = frames_metric("red", red, provenance=lambda: {"red": "1"})
ABSENT = dataclasses.replace(RED, unavailable=lambda: "red is sold out")
LENGTH = dataclasses.replace(frames_metric("length", None, kind="video"), dialect="vbench-9", unsupported_reason="none")
CARDS = (
    tiny_card("frames", metrics=("psnr@8bit", "red@mine", "length@vbench-9")),
    tiny_card("two", setting="2view", metrics=("psnr@8bit", "red@mine")),
    tiny_card("poses", metrics=("auc30@hist1deg",)),
)


def catalogue(*mine: Metric) -> dict[str, Metric]:
    return {**registry.metrics(), **{metric.key: metric for metric in mine}}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """`red` is declared but cannot be computed while the run is made, and the tiny dataset can be opened again."""
    found = catalogue(ABSENT, LENGTH)
    monkeypatch.setattr(registry, "metrics", lambda: found)
    monkeypatch.setattr(SceneSource, "__init__", lambda self, header, roots=None: None)
    monkeypatch.setattr(SceneSource, "_readers", {"tiny": TinyDataset()}, raising=False)


@pytest.fixture
def run(registered: None, tmp_path: Path) -> Run:
    return made(tmp_path / "run")


def made(out: Path, *, keep: bool = True, cards=CARDS) -> Run:
    method = MethodRow(Shifted(), RowEntry(label="shifted", method_id="shifted", title="Shifted", kind="method"))
    rows = [method, make_row("resample", device="cpu")]
    plan = make_plan(cards, {"tiny": OpenedDataset(TinyDataset())}, rows)
    return execute(plan, out, command="gen3r-bench run -p frames", keep_predictions=keep)


def appended(run: Run, *names: str, found=None, **options):
    known = catalogue(RED, LENGTH) if found is None else found
    return append_metrics(run.path, metrics_named(names, run.header, known), known, **options)


def by_identity(run: Run) -> dict:
    return {record.identity: record for record in run.records}


def test_a_metric_is_added_and_nothing_else_changes(run: Run) -> None:
    lines = (run.path / "records.jsonl").read_bytes()
    result = appended(run, "red")
    after, before = by_identity(result.run), by_identity(run)
    assert (run.path / "records.jsonl").read_bytes().startswith(lines)
    assert set(after) == set(before)
    for identity, old in before.items():
        new = after[identity]
        if identity[0] == "poses":
            assert new == old
            continue
        assert {key: new.scores[key] for key in old.scores} == old.scores
        added = {"red@mine", "red@mine/novel"}
        assert set(new.scores) - set(old.scores) == added
        changed = {name for name in Record.model_fields if getattr(new, name) != getattr(old, name)}
        assert changed == {"scores", "unsupported", "made_with", "checksum"}
        assert "red@mine" not in new.unsupported
        assert result.run.header.provenances[new.made_with["red@mine"]] == {"red": "1"}
    assert result.scored == 2 * 2 * 3
    assert not result.reasons


def test_appending_equals_scoring_at_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = catalogue(RED, LENGTH)
    monkeypatch.setattr(registry, "metrics", lambda: found)
    at_once = made(tmp_path / "at once")
    later = appended(run, "red").run
    for identity, record in by_identity(at_once).items():
        other = by_identity(later)[identity]
        for name in ("scores", "unsupported", "made_with", "key", "status", "flags", "reason"):
            assert getattr(other, name) == getattr(record, name)
    assert later.header.provenances == at_once.header.provenances


def test_appending_twice_writes_nothing(run: Run) -> None:
    appended(run, "red")
    before = (run.path / "records.jsonl").read_bytes()
    again = appended(run, "red")
    assert again.scored == 0
    assert (run.path / "records.jsonl").read_bytes() == before


def test_a_score_that_exists_is_never_computed_again(run: Run) -> None:
    def explode(pred, true):
        raise AssertionError("computed again")

    psnr = dataclasses.replace(registry.metrics()["psnr@8bit"], function=explode)
    assert appended(run, "psnr", found=catalogue(RED, LENGTH, psnr)).scored == 0


def test_a_kill_in_the_middle_is_continued(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shutil.copytree(run.path, run.path.with_name("whole"))
    calls = []

    def killed(pred, true):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return red(pred, true)

    with pytest.raises(KeyboardInterrupt):
        appended(run, "red", found=catalogue(dataclasses.replace(RED, function=killed), LENGTH))
    done = sum("red@mine" in record.scores for record in read_run(run.path).records)
    assert done == 5
    finished = appended(run, "red")
    assert finished.scored == 12 - done
    expected = append_metrics(whole, metrics_named(["red"], run.header, catalogue(RED)), catalogue(RED)).run
    assert by_identity(finished.run) == by_identity(expected)


def test_a_metric_that_fails_on_a_scene_costs_no_other(run: Run) -> None:
    def fails(pred, true):
        if pred[0, 0, 0, 0] == true[0, 0, 0, 0] and pred[1, 0, 0, 0] != true[1, 0, 0, 0]:
            raise ValueError("no red")
        return red(pred, true)

    blue = frames_metric("blue", lambda pred, true: pred[..., 2].mean(axis=(1, 2)))
    found = catalogue(dataclasses.replace(RED, function=fails), blue, LENGTH)
    result = appended(run, "red", "blue@mine", found=found)
    records = [record for record in result.run.records if record.protocol != "poses"]
    assert all("blue@mine" in record.scores for record in records)
    failed = [record for record in records if "red@mine" not in record.scores]
    assert {record.row for record in failed} == {"shifted"}
    assert all("ValueError: no red" in record.unsupported["red@mine"] for record in failed)
    assert sum(result.reasons["red@mine"].values()) == len(failed)
    assert "no red" in (run.path / "failures.log").read_text()
    # it is tried again, and the reason goes when the score comes
    healed = appended(run, "red").run
    assert all("red@mine" not in record.unsupported for record in healed.records)


def test_a_score_that_is_no_number_is_a_reason(run: Run) -> None:
    nan = dataclasses.replace(RED, function=lambda pred, true: np.full(len(pred), np.nan))
    result = appended(run, "red", found=catalogue(nan, LENGTH))
    assert result.scored == 0
    assert "which is not a score" in next(iter(result.reasons["red@mine"]))


def test_what_is_unavailable_says_so_and_changes_nothing(run: Run) -> None:
    before = (run.path / "records.jsonl").read_bytes()
    result = appended(run, "red", found=catalogue(ABSENT, LENGTH))
    assert result.reasons == {"red@mine": {"red is sold out": 12}}
    assert (run.path / "records.jsonl").read_bytes() == before


def test_a_damaged_bundle_and_a_changed_scene_are_reasons(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = next((run.path / "predictions" / "shifted").rglob("a/rgb/00001.png"))
    frame.write_bytes(b"not a picture")
    monkeypatch.setattr(TinyDataset, "fingerprint", lambda self, scene, profile: "new" if scene == "c" else
                        f"tiny-{scene}-{profile}")  # fmt: skip
    result = appended(run, "red")
    reasons = result.reasons["red@mine"]
    assert sum(count for reason, count in reasons.items() if "does not match its checksum" in reason) >= 1
    assert reasons["scene c: its files or options changed since the run scored it"] == 4
    assert result.scored + sum(reasons.values()) == 12


def test_point_metrics_keep_the_rows_start_of_sampling(registered: None, tmp_path: Path) -> None:
    card = tiny_card("points", metrics=("chamfer@fps20k",))
    run = made(tmp_path / "run", cards=(card,))
    both = tiny_card("points", metrics=("chamfer@fps20k", "accuracy@fps20k", "completeness@fps20k"))
    at_once = {record.identity: record.scores for record in made(tmp_path / "at once", cards=(both,)).records}
    later = appended(run, "accuracy@fps20k", "completeness@fps20k").run
    assert {record.identity: record.scores for record in later.records} == at_once
    resample = next(scores for identity, scores in at_once.items() if identity[3] == "resample")
    assert resample["accuracy@fps20k"] > 0


def test_a_method_that_is_called_like_a_diagnostic_is_scored_as_a_method(registered: None, tmp_path: Path) -> None:
    def named_resample(*metrics: str) -> Run:
        entry = RowEntry(label="resample", method_id="resample", title="Resample", kind="method")
        card = tiny_card("points", metrics=metrics)
        plan = make_plan((card,), {"tiny": OpenedDataset(TinyDataset())}, [MethodRow(Shifted(), entry)])
        return execute(plan, tmp_path / str(len(metrics)), command="run", keep_predictions=True)

    at_once = named_resample("chamfer@fps20k", "accuracy@fps20k")
    later = appended(named_resample("chamfer@fps20k"), "accuracy@fps20k").run
    assert {r.identity: r.scores for r in later.records} == {r.identity: r.scores for r in at_once.records}


def test_what_is_appended_is_of_the_prediction_that_was_scored(registered: None, tmp_path: Path) -> None:
    """Also where a later command, which keeps nothing by itself, asked the row again and got another answer."""

    class Retrained(MethodRow):
        def fingerprint(self, scene_id: str) -> str:
            return f"retrained {scene_id}"

        def produce(self, scene, conditioning):
            found = super().produce(scene, conditioning)
            return dataclasses.replace(found, rgb=255 - found.rgb)

    entry = RowEntry(label="shifted", method_id="shifted", title="Shifted", kind="method")
    runs = []
    for kind, keep in ((MethodRow, True), (Retrained, False)):
        plan = make_plan(CARDS[:1], {"tiny": OpenedDataset(TinyDataset())}, [kind(Shifted(), entry)])
        runs.append(execute(plan, tmp_path / "run", command="run", keep_predictions=keep))
    assert [one.scores["psnr@8bit"] for one in runs[0].records] != [one.scores["psnr@8bit"] for one in runs[1].records]
    bundle = next((tmp_path / "run" / "predictions").rglob("bundle.json")).parent
    scene, conditioned = bundle.name, TinyDataset().load(bundle.name, CARDS[0].clip_plan("tiny").profile())
    again = appended(runs[1], "red").run
    record = next(record for record in again.records if record.scene_id == scene)
    assert record.scores["red@mine"] == pytest.approx(red(read_bundle(bundle).rgb, conditioned.rgb).mean())
    assert record.scores["psnr@8bit"] == pytest.approx(psnr(read_bundle(bundle).rgb, conditioned.rgb).mean(), abs=1e-6)


def test_names_keys_and_families(run: Run) -> None:
    known = catalogue(RED, LENGTH)
    assert metrics_named(["red"], run.header, known) == {"frames": ("red@mine",), "two": ("red@mine",), "poses": ()}
    assert metrics_named(["vbench", "red"], run.header, known)["frames"] == ("length@vbench-9", "red@mine")
    # a key that no card asks for goes to the cards that have metrics of its kind
    extra = metrics_named(["ssim@torchmetrics"], run.header, known)
    assert extra == {"frames": ("ssim@torchmetrics",), "two": ("ssim@torchmetrics",), "poses": ()}
    with pytest.raises(UnknownNameError, match="did you mean 'red"):
        metrics_named(["redd"], run.header, known)
    with pytest.raises(InputError, match=r"one that its protocols ask for: .*psnr@8bit"):
        metrics_named(["ssim"], run.header, known)
    with pytest.raises(InputError, match="chamfer@fps20k"):
        metrics_named(["chamfer@fps20k"], run.header, known)
    with pytest.raises(InputError, match="no metric; expected one or more"):
        metrics_named([], run.header, known)


def test_a_dialect_that_no_card_asks_for_is_kept_under_its_own_key(run: Run) -> None:
    result = appended(run, "ssim@torchmetrics")
    kept = next(record for record in result.run.records if record.row == "resample" and record.protocol == "frames")
    true = TinyDataset().load(kept.scene_id, None or CARDS[0].clip_plan("tiny").profile()).rgb
    assert kept.scores["ssim@torchmetrics"] == pytest.approx(ssim(true, true, dialect="torchmetrics").mean())


def test_a_run_without_predictions_says_how_to_get_them(registered: None, tmp_path: Path) -> None:
    bare = made(tmp_path / "bare", keep=False)
    with pytest.raises(InputError, match="`gen3r-bench run -p frames --keep-predictions --fresh`"):
        appended(bare, "red")
    folder = dataclasses.replace(bare, header=bare.header.model_copy(update={"command": "gen3r-bench score -p x"}))
    with RecordWriter(bare.path) as writer:
        writer.write_header(folder.header)
    with pytest.raises(InputError, match="`gen3r-bench score -p x --fresh` scores the folder anew"):
        appended(folder, "red")


def test_records_without_a_bundle_are_counted(run: Run) -> None:
    shutil.rmtree(next((run.path / "predictions" / "shifted").rglob("a")))
    result = appended(run, "red")
    assert (result.without_prediction, result.scored) == (1, 11)


def test_a_run_of_metrics_that_could_not_be_computed_can_be_completed(registered: None, tmp_path: Path) -> None:
    run = made(tmp_path / "run", cards=(tiny_card("frames", metrics=("red@mine",)),))
    assert {record.status for record in run.records} == {"unsupported"}
    result = appended(run, "red")
    assert {(record.status, record.reason) for record in result.run.records} == {("ok", "")}


def test_the_run_is_locked_and_a_foreign_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    with RecordWriter(run.path), pytest.raises(StoreError, match="written by another process"):
        appended(run, "red")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(StoreError, match="is not a run folder"):
        append_metrics(elsewhere, {}, {})
    assert list(elsewhere.iterdir()) == []


def batch(values=None, **fields) -> tuple[dict[str, BatchScorer], list]:
    """A batch scorer of `length`, and the videos that it was handed."""
    seen: list = []

    def score(videos):
        seen.extend(videos)
        return [float(len(video.frames())) for video in videos] if values is None else values(videos)

    options = {"obstacle": lambda: None, "facts": lambda: {"vbench": "9"}, "score": score, **fields}
    return {"length@vbench-9": BatchScorer(**options)}, seen


def test_a_batch_metric_gets_every_video_in_one_go(run: Run) -> None:
    batches, seen = batch()
    told = []
    result = appended(run, "vbench", "red", batches=batches, progress=lambda *news: told.append(news))
    records = [record for record in result.run.records if record.protocol == "frames"]
    assert len(seen) == len(records) == 6
    assert len({video.name for video in seen}) == 6
    assert all("/" not in video.name for video in seen)
    assert {record.scores["length@vbench-9"] for record in records} == {4.0}
    assert result.run.header.provenances[records[0].made_with["length@vbench-9"]] == {"vbench": "9"}
    assert seen[0].shown().shape == (1, 24, 32, 3)
    assert told[-1][1:] == (18, 18)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_what_one_go_scored_is_written_before_the_next_one(run: Run) -> None:
    written = []

    def score(videos):
        written.append((len(videos), sum("length@vbench-9" in record.scores for record in read_run(run.path).records)))
        return [1.0] * len(videos)

    batches, _ = batch(score, at_once=4)
    appended(run, "vbench", batches=batches)
    assert written == [(4, 0), (2, 4)]


def test_a_batch_metric_fails_video_by_video_or_as_a_whole(run: Run) -> None:
    some, _ = batch(lambda videos: [Failure("cut off", "Traceback"), float("nan"), *[1.0] * (len(videos) - 2)])
    reasons = appended(run, "vbench", batches=some).reasons["length@vbench-9"]
    assert sorted(reasons) == ["cut off", "length@vbench-9 came out as nan, which is not a score"]

    def broken(videos):
        raise RuntimeError("worker died")

    whole, _ = batch(broken)
    (reason,) = appended(run, "vbench", batches=whole).reasons["length@vbench-9"]
    assert "RuntimeError: worker died" in reason
    obstructed, seen = batch(obstacle=lambda: "no vbench here")
    assert appended(run, "vbench", batches=obstructed).reasons == {"length@vbench-9": {"no vbench here": 2}}
    assert not seen


def test_whatever_a_dataset_raises_on_one_video_costs_no_other_its_score(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = TinyDataset.load

    def broken(self, scene_id, profile):
        if scene_id == "b":
            raise KeyError("frame_7")
        return load(self, scene_id, profile)

    def score(videos):
        found: list = []
        for video in videos:
            try:
                found.append(float(len(video.frames()) + len(video.shown())))
            except BenchError as error:  # what a scorer expects of a video that cannot be read
                found.append(Failure(str(error)))
        return found

    monkeypatch.setattr(TinyDataset, "load", broken)
    result = appended(run, "vbench", batches=batch(score)[0])
    assert result.scored == 4
    ((reason, count),) = result.reasons["length@vbench-9"].items()
    assert reason.startswith("KeyError: 'frame_7' (test_append.py:")
    assert count == 2
    assert "KeyError: 'frame_7'" in (run.path / "failures.log").read_text()


def test_a_score_of_which_nobody_knows_what_it_was_made_with_is_none(run: Run) -> None:
    def unknown() -> dict[str, str]:
        raise PermissionError(13, "Permission denied", "dino.pth")

    batches, seen = batch(facts=unknown)
    result = appended(run, "vbench", batches=batches)
    assert result.scored == 0
    assert len(seen) == 6
    assert "Permission denied" in next(iter(result.reasons["length@vbench-9"]))


def test_merging_never_loses_or_alters_a_score(run: Run) -> None:
    record = next(record for record in run.records if record.status == "ok")
    new = merged(record, {"red@mine": 1.0, "psnr@8bit": -1.0}, {"psnr@8bit": "no"}, {"psnr@8bit": "x"})
    assert new.scores["psnr@8bit"] == record.scores["psnr@8bit"]
    assert "psnr@8bit" not in new.unsupported
    assert json.loads(new.model_dump_json())["scores"].keys() == {*record.scores, "red@mine"}
    assert append_module.merged(record, {}, {}, {}) == record
