from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gen3r_bench.runs.record import PlanEntry, Record, provenance_id, record_checksum

BASE = {
    "key": "k",
    "protocol": "p",
    "card_hash": "h",
    "dataset": "mini",
    "scene_id": "test/000",
    "row": "oracle",
    "seed": 42,
}
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(min_size=1), finite, min_size=1), st.text())
def test_round_trip_is_exact_and_keeps_the_checksum(scores: dict[str, float], reason: str) -> None:
    record = Record(**BASE, status="ok", scores=scores, reason=reason).sealed()
    again = Record.model_validate_json(record.model_dump_json())
    assert again == record
    assert again.checksum == record_checksum(json.loads(record.model_dump_json()))


def test_checksum_shows_a_change() -> None:
    record = Record(**BASE, status="ok", scores={"chamfer": 0.1}).sealed()
    changed = record.model_copy(update={"scores": {"chamfer": 0.2}})
    assert record_checksum(changed.model_dump(mode="json")) != changed.checksum


def test_a_field_that_an_earlier_version_lacked_does_not_change_its_checksum() -> None:
    content = Record(**BASE, status="ok", scores={"chamfer": 0.1}).model_dump(mode="json")
    del content["made_with"], content["checksum"]
    old = {**content, "checksum": record_checksum(content)}
    assert Record.model_validate(old).checksum == record_checksum(old)


def test_a_provenance_is_named_by_its_content() -> None:
    assert provenance_id({"a": "1", "b": "2"}) == provenance_id({"b": "2", "a": "1"}) != provenance_id({"a": "1"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Record(**BASE, status="ok", scores={"psnr": value})


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "ok"},
        {"status": "failed"},
        {"status": "unsupported"},
        {"status": "failed", "reason": "broken", "scores": {"chamfer": 0.0}},
    ],
)
def test_a_record_has_scores_or_a_reason(fields: dict) -> None:
    with pytest.raises(ValidationError, match="a record of status"):
        Record(**BASE, **fields)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Record(**BASE, status="failed", reason="x", colour="red")


def test_identity_leaves_the_key_out() -> None:
    first = Record(**BASE, status="failed", reason="x")
    assert first.identity == first.model_copy(update={"key": "other"}).identity


def test_partial_plan() -> None:
    entry = PlanEntry(
        protocol="p",
        dataset="mini",
        dataset_title="mini",
        scenes=("a",),
        scenes_in_full=2,
        frames=4,
        stride=1,
        start=0,
        image_size=(8, 8),
    )
    assert entry.partial
    assert not entry.model_copy(update={"scenes": ("a", "b")}).partial
