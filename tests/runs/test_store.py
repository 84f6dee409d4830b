from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports.synthetic import flat, write_run

from gen3r_bench.errors import StoreError
from gen3r_bench.runs import store
from gen3r_bench.runs.record import CardEntry, Record, RunHeader
from gen3r_bench.runs.store import RecordWriter, move_aside, read_header, read_run


def header() -> RunHeader:
    return RunHeader(
        suite_version="0",
        created="now",
        command="x",
        protocols=(CardEntry(name="p", hash="h", title="P", paper_tables=(2,), content={}),),
        plan=(),
        rows=(),
        seeds=(42,),
        environment={},
    )


def record(scene: str, *, key: str | None = None, score: float | None = 1.0) -> Record:
    fields = (
        {"status": "ok", "scores": {"chamfer": score}} if score is not None else {"status": "failed", "reason": "x"}
    )
    return Record(
        key=key or scene, protocol="p", card_hash="h", dataset="d", scene_id=scene, row="r", seed=42, **fields
    )


def written(run: Path, *records: Record) -> Path:
    with RecordWriter(run) as writer:
        writer.write_header(header())
        for item in records:
            writer.append(item)
    return run


def test_round_trip(tmp_path: Path) -> None:
    run = read_run(written(tmp_path / "run", record("a"), record("b", score=None)))
    assert [item.scene_id for item in run.records] == ["a", "b"]
    assert run.header == header()
    assert not run.torn_tail


def test_a_new_record_replaces_the_failure_of_the_same_scene(tmp_path: Path) -> None:
    run = read_run(written(tmp_path / "run", record("a", key="1", score=None), record("b"), record("a", key="2")))
    assert {item.scene_id: item.status for item in run.records} == {"a": "ok", "b": "ok"}


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=10_000))
def test_a_kill_at_any_byte_loses_at_most_the_last_record(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    run = written(tmp_path_factory.mktemp("run"), record("a"), record("b"), record("c"))
    path = run / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    kept = read_run(run)
    lines = path.read_bytes().count(b"\n")
    assert [item.scene_id for item in kept.records] == ["a", "b", "c"][:lines]
    assert kept.torn_tail == (not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0)
    with RecordWriter(run) as writer:
        assert len(writer.found) == lines
        writer.append(record("d"))
    assert [item.scene_id for item in read_run(run).records] == [*["a", "b", "c"][:lines], "d"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    run = written(tmp_path / "run", record("a"), record("b"))
    lines = (run / "records.jsonl").read_text().splitlines()
    (run / "records.jsonl").write_text(f"{lines[0][:20]}\n{lines[1]}\n")
    with pytest.raises(StoreError, match=r"records.jsonl line 1 is not a record.*delete that line"):
        read_run(run)


def test_a_changed_score_is_found(tmp_path: Path) -> None:
    run = written(tmp_path / "run", record("a", score=1.25))
    path = run / "records.jsonl"
    path.write_text(path.read_text().replace("1.25", "0.25"))
    with pytest.raises(StoreError, match=r"line 1 was changed after it was written \(r, a\)"):
        read_run(run)


def test_two_writers_never_share_a_run(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "run"), pytest.raises(StoreError, match="written by another process"):
        RecordWriter(tmp_path / "run")
    RecordWriter(tmp_path / "run").close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "schema version None"),
        ('{"schema_version": 7}', "schema version 7"),
        ('{"schema_version": 1}', "is damaged: suite_version"),
        ("[" * 100_000, "is damaged: maximum recursion depth"),
    ],
)
def test_a_header_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(protocols=[]), "names the protocol 'geom-1view', whose card it lacks"),
        (lambda content: content["plan"].append(content["plan"][0]), "names geom-1view on mini 2 times"),
        (lambda content: content["protocols"][0]["content"].pop("setting"), "the card of geom-1view lacks setting"),
        (lambda content: content["protocols"][0]["content"].update(metrics=1), "the card of geom-1view lacks metrics"),
    ],
)
def test_a_header_whose_parts_do_not_fit(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = write_run(tmp_path / "run", lambda *_: flat(1.0)).path / "run.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=f"is damaged: .*{message}"):
        read_run(tmp_path / "run")


def test_a_header_with_a_field_of_tomorrow_is_refused(tmp_path: Path) -> None:
    content = {**header().model_dump(mode="json"), "new_field": 1}
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="new_field"):
        read_header(tmp_path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a run folder: it has no run.json"):
        read_run(tmp_path)


def test_a_full_disk_loses_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    written(run, record("a"))
    before = (run / "records.jsonl").read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RecordWriter(run) as writer:
        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(StoreError, match=r"cannot append to .*No space left.*free space"):
            writer.append(record("b"))
        with pytest.raises(StoreError, match=r"cannot write .*run\.json"):
            writer.write_header(header())
        monkeypatch.undo()
        assert (run / "records.jsonl").read_bytes() == before
        assert read_header(run) == header()
        writer.append(record("c"))
    assert [item.scene_id for item in read_run(run).records] == ["a", "c"]
    assert sorted(path.name for path in run.iterdir()) == ["records.jsonl", "run.json"]


def test_move_aside_deletes_nothing(tmp_path: Path) -> None:
    first = move_aside(written(tmp_path / "run", record("a")))
    second = move_aside(written(tmp_path / "run", record("b")))
    assert first != second
    assert read_run(first).records[0].scene_id == "a"
    assert read_run(second).records[0].scene_id == "b"


def test_what_metrics_were_made_with_is_in_the_header_before_and_once(tmp_path: Path) -> None:
    facts = [{"library": str(number % 3)} for number in range(30)]
    with RecordWriter(tmp_path / "run") as writer:
        writer.write_header(header())
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(writer.note_provenance, facts))
        assert read_header(tmp_path / "run").provenances == dict(zip(ids, facts, strict=True))
        before = (tmp_path / "run" / "run.json").stat().st_mtime_ns
        writer.note_provenance(facts[0])
        assert (tmp_path / "run" / "run.json").stat().st_mtime_ns == before
    assert len(set(ids)) == 3


def test_a_line_that_stands_twice_is_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path, lambda *_: flat(1.0))
    assert run.repeated == 0
    lines = (tmp_path / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_bytes(b"".join([*lines, lines[1]]))
    again = read_run(tmp_path)
    assert again.repeated == 1
    assert again.records == run.records


def explained_record(writer: RecordWriter, scene: str, facts: dict[str, str]) -> None:
    writer.append(record(scene).model_copy(update={"made_with": {"chamfer": writer.note_provenance(facts)}}))


def test_a_header_that_does_not_explain_a_score_is_refused(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.write_header(header())
        explained_record(writer, "a", {"weights": "random-weights"})
    assert len(read_run(tmp_path).records) == 1
    content = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**content, "provenances": {}}))
    with pytest.raises(StoreError, match=r"run\.json does not say what chamfer of a \(r\) was computed with .*--fresh"):
        read_run(tmp_path)


def test_a_run_that_is_being_written_is_read_with_what_explains_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = store._parse_records
    with RecordWriter(tmp_path) as writer:
        writer.write_header(header())

        def while_another_writes(path: Path) -> tuple[list[Record], int]:
            explained_record(writer, "a", {"weights": "random-weights"})
            return parse(path)

        monkeypatch.setattr(store, "_parse_records", while_another_writes)
        run = read_run(tmp_path)
    assert run.header.provenances[run.records[0].made_with["chamfer"]] == {"weights": "random-weights"}
