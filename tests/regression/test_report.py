from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from regression.goldens import golden_of
from reports.synthetic import GEN3R, flat, row, write_run
from rich.console import Console

from gen3r_bench.errors import StoreError
from gen3r_bench.regression.judge import Judgement, judge
from gen3r_bench.regression.report import SHOWN, judgements_json, print_judgements, write_junit

SCENES = tuple(f"s{n}" for n in range(6))


@pytest.fixture
def judgements(tmp_path: Path) -> list[Judgement]:
    """One that holds with a new score, and one with other weights, every scene moved, and a failure."""
    golden = golden_of(write_run(tmp_path / "golden", lambda p, r, s, seed: flat(1.0), rows=(GEN3R,), scenes=SCENES))
    more = {**flat(1.0), "psnr@8bit": 20.0}
    held = write_run(tmp_path / "held", lambda p, r, s, seed: more, rows=(GEN3R,), scenes=SCENES)
    other = row("gen3r@reference", checkpoint_sha256="ab" * 32)
    bad = write_run(
        tmp_path / "bad",
        lambda p, r, s, seed: "a \x1b[31mred\x00 word" if s == "s5" else flat(2.0 + int(s[1:])),
        rows=(other,),
        scenes=SCENES,
        environment={"python": "3.12.0", "numpy": "2.0"},
    )
    return [judge(Path("a.json"), golden, held), judge(Path("b.json"), golden, bad)]


def printed(judgements: Sequence[Judgement]) -> str:
    console = Console(width=100, record=True, force_terminal=False)
    print_judgements(console, judgements)
    return console.export_text()


def test_the_terminal_shows_the_farthest_and_the_cause(judgements: list[Judgement]) -> None:
    text = printed(judgements)
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(text.split())
    assert "checkpoint: the weights have hash abababababab, the golden's have none" in words
    assert "Look first at the weights, then versions or machine." in words
    assert f"and {18 - SHOWN} more (--json shows all)" in words
    assert "Not guarded yet: psnr@8bit" in words
    assert "1 of 2 goldens breached." in words
    assert "failed: a" in words
    assert "\x1b[31m" not in text
    assert "All 1 goldens hold." in printed(judgements[:1])


def test_json_has_every_score(judgements: list[Judgement]) -> None:
    content = judgements_json(judgements)
    assert content["ok"] is False
    held, bad = content["goldens"]
    assert (held["ok"], held["suspects"], len(held["scores"])) == (True, [], 24)
    assert [score["outcome"] for score in held["scores"]].count("new") == 6
    assert len([score for score in bad["scores"] if score["breach"]]) == 18
    assert bad["problems"][0]["kind"] == "checkpoint"
    assert {"field": "environment python", "golden": "3.11.7", "now": "3.12.0"} in bad["differs"]


def test_junit_has_a_case_a_score_and_four_a_golden(judgements: list[Judgement], tmp_path: Path) -> None:
    write_junit(judgements, tmp_path / "j.xml")
    document = ElementTree.parse(tmp_path / "j.xml").getroot()
    held, bad = document.findall("testsuite")
    assert (held.attrib["tests"], held.attrib["failures"], held.attrib["skipped"]) == ("28", "0", "6")
    assert (bad.attrib["tests"], bad.attrib["failures"], bad.attrib["skipped"]) == ("22", "19", "0")
    kinds = {failure.attrib["type"] for failure in document.iter("failure")}
    assert kinds == {"checkpoint", "moved", "failed"}
    assert len({case.attrib["name"] for case in bad.iter("testcase")}) == 22
    with pytest.raises(StoreError, match=r"cannot write .*choose another --junit"):
        write_junit(judgements, tmp_path / "nowhere" / "j.xml")
