from __future__ import annotations

import csv
import io
import json

import pytest
from reports.synthetic import FREEZE, flat, row
from reports.test_render import parse_markdown

from gen3r_bench.errors import InputError
from gen3r_bench.protocols.cameras import CAMERA_1VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW, GEOM_2VIEW
from gen3r_bench.reports.claims import claim_table
from gen3r_bench.reports.claims_render import CLAIM_COLUMNS, claims_csv, claims_latex, claims_markdown
from gen3r_bench.reports.table_json import tables_json

CARDS = {card.name: card for card in (GEOM_1VIEW, GEOM_2VIEW, CAMERA_1VIEW)}
GEN3R = row("gen3r@official")
# Table 2, 1-view, Gen3R on TartanAir: 3.0250, 2.5367, 2.7809
CLAIMED = {"accuracy@fps20k": 3.0250, "completeness@fps20k": 2.5367, "chamfer@fps20k": 2.7809}
THE_PAPERS = {
    "dataset": "tartanair",
    "title": "TartanAir",
    "scenes": [f"s{n}" for n in range(80)],
    "frames": 49,
    "image_size": (560, 560),
    "rows": (GEN3R,),
}


def around(offset: float):
    """Scores whose mean is the claimed value plus an offset, with a spread of 0.1 from scene to scene."""

    def outcome(protocol, label, scene, seed):
        return {key: value + offset + 0.1 * (-1) ** int(scene[1:]) for key, value in CLAIMED.items()}

    return outcome


def test_the_papers_protocol_gives_a_verdict(make_run, metrics) -> None:
    inside = claim_table(2, [make_run(around(0.0), name="a", **THE_PAPERS)], metrics, CARDS)
    assert [(c.metric, dict(c.claimed), c.measured, c.verdict) for c in inside.claims] == [
        ("accuracy", {"TartanAir": "3.0250"}, "3.0250", "inside"),
        ("completeness", {"TartanAir": "2.5367"}, "2.5367", "inside"),
        ("chamfer", {"TartanAir": "2.7809"}, "2.7809", "inside"),
    ]
    outside = claim_table(2, [make_run(around(0.2), name="b", **THE_PAPERS)], metrics, CARDS)
    assert {c.verdict for c in outside.claims} == {"outside"}
    assert all(not c.differs for c in (*inside.claims, *outside.claims))
    assert "Of 3 pairs 0 inside, 3 outside, 0 not comparable." in outside.notes
    assert "Rows of the paper that no run here measured: Aether, WVD, VGGT." in outside.notes


def test_rounding_of_the_printed_value_is_given_to_the_claim(make_run, metrics) -> None:
    """Equal scenes have an interval of no width, and the paper prints four decimals."""
    for offset, verdict in ((0.00004, "inside"), (0.00006, "outside")):
        run = make_run(
            lambda p, r, scene, s, offset=offset: {k: v + offset for k, v in CLAIMED.items()},
            name=verdict,
            **THE_PAPERS,
        )
        assert {c.verdict for c in claim_table(2, [run], metrics, CARDS).claims} == {verdict}


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"frames": 13}, "frames", "13, not 49"),
        ({"image_size": (256, 256)}, "image size", "256×256, not 560×560"),
        ({"scenes": ["s1", "s2"], "scenes_in_full": 80}, "scenes", "2 scored, not 80, a partial run"),
        ({"scenes": [f"s{n}" for n in range(79)]}, "scenes", "79 scored, not 80"),
        ({"dataset": "mini", "title": "mini"}, "dataset", "mini, not Co3Dv2 or WildRGB-D or TartanAir"),
        ({"rows": (row("gen3r@reference"),)}, "checkpoint", "reference, not official"),
        ({"rows": (row("gen3r"),)}, "checkpoint", "none named, not official"),
    ],
)
def test_each_field_that_differs_is_named(make_run, metrics, changes, field, text) -> None:
    claims = claim_table(2, [make_run(around(0.0), **{**THE_PAPERS, **changes})], metrics, CARDS).claims
    assert {c.verdict for c in claims} == {"not comparable"}
    assert all(c.differs == {field: text} for c in claims)
    assert all(c.verdict_text == f"not comparable: {field}" for c in claims)


def test_another_card_is_told_apart_by_its_fields(make_run, metrics) -> None:
    card = GEOM_1VIEW.model_copy(update={"geometry": GEOM_1VIEW.geometry.model_copy(update={"voxel_size": None})})
    (first, *_) = claim_table(2, [make_run(around(0.0), cards=(card,), **THE_PAPERS)], metrics, CARDS).claims
    assert first.differs == {"card": "geometry.voxel_size none, not 0.005"}
    (first, *_) = claim_table(2, [make_run(around(0.0), name="b", **THE_PAPERS)], metrics, {}).claims
    assert first.differs == {"protocol": "geom-1view is none of this suite"}


def test_another_dialect_is_named(make_run, metrics) -> None:
    card = CAMERA_1VIEW.model_copy(update={"metrics": ("auc30@exact",)})
    run = make_run(lambda *_: {"auc30@exact": 0.5}, cards=(card,), rows=(GEN3R,))
    (claim,) = claim_table(5, [run], metrics, CARDS).claims
    assert claim.differs["dialect"] == "auc30@exact, not auc30@hist1deg"
    assert claim.differs["card"] == "metrics auc30@exact, not " + ", ".join(CAMERA_1VIEW.metrics)


def test_no_score_and_one_scene_have_no_interval(make_run, metrics) -> None:
    run = make_run(lambda *_: "out of memory", **THE_PAPERS)
    (first, *_) = claim_table(2, [run], metrics, CARDS).claims
    assert (first.measured, first.interval_text, first.verdict) == ("–", "–", "not comparable")
    assert first.differs["score"] == "none: 80 × failed: out of memory"
    one = make_run(around(0.0), name="b", **{**THE_PAPERS, "scenes": ["s0"]})
    assert {c.interval for c in claim_table(2, [one], metrics, CARDS).claims} == {None}


def test_a_dataset_outside_the_paper_stands_once_beside_all_of_the_papers(make_run, metrics) -> None:
    (first, *rest) = claim_table(2, [make_run(lambda *_: flat(1.0), rows=(GEN3R,))], metrics, CARDS).claims
    assert len(rest) == 2
    assert dict(first.claimed) == {"Co3Dv2": "0.8284", "WildRGB-D": "0.1581", "TartanAir": "3.0250"}


def test_a_dataset_of_another_table_is_left_out(make_run, metrics) -> None:
    run = make_run(lambda *_: flat(1.0), rows=(GEN3R,), dataset="dl3dv", title="DL3DV-10K")
    with pytest.raises(InputError, match="no row of table 2 among gen3r@official"):
        claim_table(2, [run], metrics, CARDS)


def test_runs_that_say_nothing_about_the_table(make_run, metrics) -> None:
    with pytest.raises(InputError, match="no run; expected"):
        claim_table(2, [], metrics, CARDS)
    run = make_run(lambda *_: flat(1.0), rows=(row("mine@v1"), FREEZE))
    with pytest.raises(InputError, match=r"no row of table 2 among mine@v1, freeze; expected a method.*aether, wvd"):
        claim_table(2, [run], metrics, CARDS)


def test_the_three_formats_say_the_same(make_run, metrics) -> None:
    nasty = row("gen3r@official").model_copy(update={"label": "a_b & <script>|`c` 100%"})
    run = make_run(around(0.0), **{**THE_PAPERS, "rows": (nasty,)})
    table = claim_table(2, [run], metrics, CARDS)
    rows, below = parse_markdown(claims_markdown(table))
    assert rows[0][:5] == ["setting", "method", "dataset", "metric", "claimed"]
    assert [line[4] for line in rows[1:]] == ["3.0250", "2.5367", "2.7809"]
    assert {line[5] for line in rows[1:]} == {"a_b & <script>|`c` 100% on TartanAir"}
    assert {line[-1] for line in rows[1:]} == {"inside"}
    assert any("lists of scenes are not public" in line for line in below)
    latex = claims_latex(table)
    assert r"a\_b \& \textless{}script\textgreater{}\textbar{}" in latex
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    assert body.count(r"\\") == 3
    lines = list(csv.DictReader(io.StringIO(claims_csv([table]))))
    assert tuple(lines[0]) == CLAIM_COLUMNS
    assert [line["claimed"] for line in lines] == ["3.0250", "2.5367", "2.7809"]
    assert [float(line["measured"]) for line in lines] == pytest.approx(list(CLAIMED.values()))
    assert {line["n"] for line in lines} == {"80"}


def test_seeds_are_mentioned(make_run, metrics) -> None:
    run = make_run(around(0.0), seeds=(1, 2, 3), **THE_PAPERS)
    table = claim_table(2, [run], metrics, CARDS)
    assert "a: each scene is the mean over 3 seeds." in table.notes
    assert {c.verdict for c in table.claims} == {"inside"}


def test_json_has_the_fields_of_the_csv(make_run, metrics) -> None:
    table = claim_table(2, [make_run(around(0.0), **THE_PAPERS)], metrics, CARDS)
    (content,) = json.loads(tables_json([table]))
    lines = csv.DictReader(io.StringIO(claims_csv([table])))
    for one, line in zip(content["claims"], lines, strict=True):
        assert {name: str(value) for name, value in one.items()} == {k: v for k, v in line.items() if k != "table"}
    assert content["recipe"] == table.recipe
