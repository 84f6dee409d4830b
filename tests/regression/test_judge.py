from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regression.goldens import golden_of
from reports.synthetic import GEN3R, Outcome, flat, row, write_run

from gen3r_bench.regression.golden import Golden
from gen3r_bench.regression.judge import Judgement, judge, suspects, verdict
from gen3r_bench.runs.store import Run

FINITE = st.floats(-1e6, 1e6)
NOTHING = "code that is not committed: nothing else differs in the headers and records"
SCORES = {f"s{n}": flat(float(n)) for n in range(3)}


def run_of(folder: Path, scores: Mapping[str, Outcome] = SCORES, **options: object) -> Run:
    options = {"rows": (GEN3R,), "scenes": tuple(SCORES), **options}
    return write_run(folder, lambda p, r, s, seed: scores.get(s), **options)


@pytest.fixture
def golden(tmp_path: Path) -> Golden:
    return golden_of(run_of(tmp_path / "golden"), tolerance=0.1)


def judged(golden: Golden, run: Run, **options: str) -> Judgement:
    return judge(Path("golden.json"), golden, run, **options)


def outcomes(judgement: Judgement) -> dict[tuple[str, str], str]:
    return {(line.scene_id, line.key): line.outcome for line in judgement.lines}


@given(golden=FINITE, tolerance=st.floats(1e-9, 1e3), part=st.floats(-0.999, 0.999))
def test_within_the_tolerance_is_no_breach(golden: float, tolerance: float, part: float) -> None:
    now = golden + part * tolerance
    # the sum itself is rounded, which for a tolerance below the value's last digit may be more than the tolerance
    if abs(now - golden) <= tolerance:
        assert verdict(golden, now, tolerance) == ("same" if now == golden else "within")
    else:
        assert math.ulp(golden) > tolerance / 1e4


@given(golden=FINITE, tolerance=st.floats(0, 1e3), times=st.floats(1.001, 1e6), sign=st.sampled_from((-1, 1)))
def test_beyond_the_tolerance_is_a_breach(golden: float, tolerance: float, times: float, sign: int) -> None:
    now = golden + sign * (tolerance * times + 2 * math.ulp(golden) + 1e-300)
    assert verdict(golden, now, tolerance) == "moved"


@given(golden=FINITE, tolerance=st.floats(0, 1e300), now=st.sampled_from((math.nan, math.inf, -math.inf)))
def test_what_is_not_finite_is_a_breach_whatever_the_tolerance(golden: float, tolerance: float, now: float) -> None:
    assert verdict(golden, now, tolerance) == "not finite"


def test_the_same_run_holds(golden: Golden, tmp_path: Path) -> None:
    found = judged(golden, run_of(tmp_path / "now"))
    assert found.ok
    assert set(outcomes(found).values()) == {"same"}
    assert (len(found.lines), found.closest, found.hints, found.notes) == (9, 0.0, (), ())


def test_only_what_moved_too_far_is_a_breach(golden: Golden, tmp_path: Path) -> None:
    near, far = flat(0.05), {**flat(1.0), "chamfer@fps20k": 2.2}
    found = judged(golden, run_of(tmp_path / "now", {**SCORES, "s0": near, "s1": far}))
    assert not found.ok
    (line,) = found.breaches
    assert (line.scene_id, line.key, line.outcome, line.golden, line.now) == ("s1", "chamfer@fps20k", "moved", 2, 2.2)
    assert line.moved == pytest.approx(0.2)
    assert found.closest == pytest.approx(0.5)
    assert [value for (scene, _), value in outcomes(found).items() if scene == "s0"] == ["within"] * 3


def test_missing_failed_lost_and_new(golden: Golden, tmp_path: Path) -> None:
    lost = {key: value for key, value in flat(2.0).items() if key != "accuracy@fps20k"} | {"psnr@8bit": 20.0}
    run = run_of(tmp_path / "now", {"s1": "no room", "s2": lost}, unsupported={"accuracy@fps20k": "no points"})
    found = judged(golden, run)
    assert {value for (scene, _), value in outcomes(found).items() if scene == "s0"} == {"missing"}
    assert {value for (scene, _), value in outcomes(found).items() if scene == "s1"} == {"failed"}
    assert outcomes(found)["s2", "accuracy@fps20k"] == "lost"
    assert outcomes(found)["s2", "psnr@8bit"] == "new"
    assert len(found.breaches) == 3 + 3 + 1
    assert {line.reason for line in found.breaches} == {
        "the run has no record of the scene",
        "failed: no room",
        "no points",
    }
    assert found.notes == ("Not guarded yet: psnr@8bit (--update --reason TEXT takes them in).",)


def test_a_new_score_alone_is_no_breach(golden: Golden, tmp_path: Path) -> None:
    found = judged(golden, run_of(tmp_path / "now", {**SCORES, "s2": {**flat(2.0), "psnr@8bit": 20.0}}))
    assert found.ok
    assert len(found.lines) == 10


def test_another_card_is_a_breach_though_no_score_moved(golden: Golden, tmp_path: Path) -> None:
    found = judged(golden, run_of(tmp_path / "now", hashes={"geom-1view": "0" * 12}))
    assert [problem.kind for problem in found.problems] == ["card"]
    assert not found.ok
    assert not found.breaches
    assert suspects(found) == ["the protocol's card"]


def test_other_weights_are_a_breach_though_no_score_moved(golden: Golden, tmp_path: Path) -> None:
    weights = row("gen3r@reference", checkpoint_sha256="ab" * 32)
    found = judged(golden, run_of(tmp_path / "now", rows=(weights,)))
    assert [(problem.kind, problem.text) for problem in found.problems] == [
        ("checkpoint", "the weights have hash abababababab, the golden's have none")
    ]
    assert suspects(found) == ["the weights"]


def test_other_files_are_a_breach(tmp_path: Path) -> None:
    golden = golden_of(run_of(tmp_path / "golden", extra={"clip_fingerprint": "a"}))
    found = judged(golden, run_of(tmp_path / "now", extra={"clip_fingerprint": "b"}))
    assert [problem.kind for problem in found.problems] == ["data"]
    assert suspects(found) == ["the scenes' files"]


def test_another_device_is_said_and_is_no_breach(tmp_path: Path) -> None:
    golden = golden_of(run_of(tmp_path / "golden", environment={"device": "cuda:0: NVIDIA H200"}))
    found = judged(golden, run_of(tmp_path / "now", environment={"device": "cpu"}))
    assert found.ok
    assert found.notes[0].startswith("The golden was made on cuda:0: NVIDIA H200 and is compared on cpu")


@pytest.mark.parametrize(
    ("environment", "commit", "expected"),
    [
        ({"python": "3.11.7", "numpy": "2.0"}, "a" * 40, [NOTHING]),
        ({"python": "3.11.7", "numpy": "2.0"}, "", ["the suite's code"]),
        ({"python": "3.11.7", "numpy": "2.0"}, "b" * 40, ["the suite's code"]),
        ({"python": "3.12.0", "numpy": "2.0"}, "b" * 40, ["the suite's code", "versions or machine"]),
        ({"python": "3.11.7", "numpy": "2.1"}, "a" * 40, ["versions or machine"]),
        ({"python": "3.11.7", "numpy": "2.0", "device": "cuda:0"}, "a" * 40, ["the device"]),
    ],
)  # fmt: skip
def test_where_to_look(tmp_path: Path, environment: dict[str, str], commit: str, expected: list[str]) -> None:
    golden = golden_of(run_of(tmp_path / "golden"), commit="a" * 40)
    found = judged(
        golden, run_of(tmp_path / "now", {**SCORES, "s0": flat(9.0)}, environment=environment), commit=commit
    )
    assert suspects(found) == expected


def test_rows_and_protocols_of_others_are_not_looked_at(golden: Golden, tmp_path: Path) -> None:
    other = row("wvd@reference")
    run = write_run(tmp_path / "now", lambda p, r, s, seed: flat(float(s[1:]) + 9 * (r[0] == "w")), rows=(GEN3R, other))
    assert judged(golden, run).ok
