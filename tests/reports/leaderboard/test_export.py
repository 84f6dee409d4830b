"""The folder that `export` writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports.leaderboard.test_admission import CARD, make
from reports.synthetic import FREEZE, GEN3R, ORACLE, WVD, flat, row

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.check import check_table
from gen3r_bench.reports.leaderboard.export import export
from gen3r_bench.reports.leaderboard.folder import replaced
from gen3r_bench.reports.leaderboard.schema import Leaderboard, json_schema
from gen3r_bench.stats import mean_interval

Metrics = dict[str, Metric]
FILES = {"README.md", "index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.schema.json", "tables"}


def outcome(_protocol: str, label: str, scene: str, seed: int) -> dict[str, float] | str:
    if label == "wvd@reference" and scene == "s1":
        return "it <b>broke</b>"
    return flat(len(label) + int(scene[1:]) + (seed - 42) / 4)


@pytest.fixture
def exported(tmp_path: Path, metrics: Metrics) -> Path:
    run = make(tmp_path / "a", outcome, rows=(GEN3R, WVD, FREEZE, ORACLE), seeds=(42, 43), extra={"seconds": 2.0})
    export([run.path], tmp_path / "out", metrics)
    return tmp_path / "out"


def read(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "leaderboard.json").read_text())
    return content


def test_the_folder_and_nothing_else(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    assert {path.name for path in (exported / "tables").iterdir()} == {
        "geom-1view.tex", "paper-table-2.tex", "paper-table-4.tex",
    }  # fmt: skip
    assert [path.name for path in exported.parent.iterdir() if path.name.startswith(".")] == []


def test_every_exported_table_of_runs_that_share_a_floor_can_be_checked(tmp_path: Path, metrics: Metrics) -> None:
    runs = [make(tmp_path / name, outcome, rows=(r, FREEZE)) for name, r in (("a", GEN3R), ("b", WVD))]
    export([run.path for run in runs], tmp_path / "out", metrics)
    files = sorted((tmp_path / "out/tables").iterdir())
    assert [file.name for file in files] == [
        "geom-1view-a.tex", "geom-1view-b.tex", "paper-table-2.tex", "paper-table-4.tex",
    ]  # fmt: skip
    for file in files:
        assert check_table(file.read_text(), runs, metrics, {"geom-1view": CARD}) == (1, [])


def test_the_data_fits_its_own_schema_and_no_other(exported: Path) -> None:
    schema = json.loads((exported / "leaderboard.schema.json").read_text())
    assert schema == json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    content = read(exported)
    validator.validate(content)
    for spoilt in ({**content, "schema_version": 2}, {**content, "more": 1}, {**content, "boards": [{}]}):
        assert list(validator.iter_errors(spoilt))


def test_means_and_intervals_are_those_of_the_scenes(exported: Path) -> None:
    board = Leaderboard.model_validate_json((exported / "leaderboard.json").read_bytes())
    (only,) = board.boards
    assert (only.protocol, only.card_hash, only.dataset) == ("geom-1view", CARD.hash, "mini")
    (entry,) = [entry for entry in only.entries if entry.row == "gen3r@reference"]
    score = entry.scores["accuracy@fps20k"]
    assert score.scenes == {f"s{i}": 15 + i + 0.125 for i in range(3)}
    assert score.mean == pytest.approx(16.125)
    expected = mean_interval({scene: [value] for scene, value in score.scenes.items()})
    assert expected is not None
    assert score.interval is not None
    assert (score.interval.low, score.interval.high) == (expected.low, expected.high)
    assert entry.cost.seconds == 2.0


def test_a_missing_score_keeps_its_reason(exported: Path) -> None:
    board = Leaderboard.model_validate_json((exported / "leaderboard.json").read_bytes())
    entry = next(entry for entry in board.boards[0].entries if entry.row == "wvd@reference")
    score = entry.scores["chamfer@fps20k"]
    assert (score.n, score.planned) == (2, 3)
    assert score.reasons == {"failed: it <b>broke</b>": 2}
    assert entry.failures == {"s1": "failed: it <b>broke</b>"}
    page = (exported / "index.html").read_text()
    assert "it <b>broke" not in page
    assert "it &lt;b&gt;broke" in page


def test_the_csv_has_every_digit_of_every_cell(exported: Path) -> None:
    with (exported / "leaderboard.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 3
    cell = next(line for line in lines if line["row"] == "freeze" and line["metric"] == "chamfer@fps20k")
    assert float(cell["mean"]) == 6 + 1 + 1 + 0.125
    assert (cell["n"], cell["N"], cell["kind"], cell["card_hash"]) == ("3", "3", "baseline", CARD.hash)


def test_the_page_holds_no_address_that_is_loaded(exported: Path) -> None:
    page = (exported / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "Content-Security-Policy" in page
    assert "run kept no predictions" in page or "runs kept no predictions" in page


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_no_name_ends_the_data_or_becomes_markup(text: str) -> None:
    from gen3r_bench.reports.leaderboard.gallery import ClipPictures
    from gen3r_bench.reports.leaderboard.page import render_page

    nasty = f"{text}</script><script>alert(1)</script>\"'&"
    page = render_page(_board(nasty), {"b0": ClipPictures(why=nasty)})
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    start = page.index('id="data">') + len('id="data">')
    data = json.loads(page[start : page.index("</script>", start)])
    assert data["boards"][0]["rows"][0]["label"] == nasty
    assert data["boards"][0]["scenes"] == [nasty]


def _board(name: str) -> Leaderboard:
    score = {
        "mean": 1.0, "interval": None, "n": 1, "planned": 1, "reasons": {name: 1}, "mark": None, "scenes": {name: 1.0}
    }  # fmt: skip
    return Leaderboard.model_validate(
        {
            "suite_version": "0",
            "cards": [{
                "name": name, "hash": "0" * 12, "title": name, "setting": "1view", "cameras": "given",
                "paper_tables": [], "content": {name: name},
            }],
            "metrics": [{
                "key": "psnr@8bit", "title": name, "dialect": name, "conditions": name, "unit": name,
                "higher_is_better": True, "decimals": 2, "reference": name,
            }],
            "rows": [{
                "label": name, "method_id": name, "title": name, "kind": "method", "checkpoint": name,
                "checkpoint_sha256": name, "source": name, "licence": name, "training_sets": [name],
            }],
            "runs": [{
                "name": name, "created": name, "suite_version": name, "seeds": [1], "geometry_backend": "exact",
                "environment": {name: name},
            }],
            "provenances": {"p": {name: name}},
            "boards": [{
                "id": "b0", "protocol": name, "card_hash": "0" * 12, "setting": "1view", "dataset": name,
                "dataset_title": name, "dataset_options": {}, "manifest_sha256": None, "geometry_backend": "exact",
                "clip": {"frames": 1, "stride": 1, "start": 0, "image_size": [1, 1]}, "scenes": [name],
                "columns": ["psnr@8bit"],
                "entries": [{
                    "row": name, "run": name, "scores": {"psnr@8bit": score}, "facts": {name: 1},
                    "failures": {name: name},
                    "cost": {"seconds": 1.0, "peak_memory_bytes": 1, "memory_source": "cuda", "devices": [name]},
                }],
            }],
        }
    )  # fmt: skip


def test_an_earlier_export_is_replaced_whole(exported: Path, tmp_path: Path, metrics: Metrics) -> None:
    (exported / "tables" / "old.tex").write_text("old")
    run = make(tmp_path / "b", lambda *_: flat(1.0), rows=(GEN3R,))
    export([run.path], exported, metrics)
    assert not (exported / "tables" / "old.tex").exists()
    assert [row["label"] for row in read(exported)["rows"]] == ["gen3r@reference"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["notes.txt", "leaderboard.json", "run.json"])
def test_a_folder_that_is_no_export_is_never_replaced(tmp_path: Path, metrics: Metrics, name: str) -> None:
    run = make(tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("{}")
    with pytest.raises(InputError, match="no export of ours"):
        export([run.path], tmp_path / "mine", metrics)
    assert (tmp_path / "mine" / name).read_text() == "{}"


def test_a_file_beside_an_export_is_not_lost(exported: Path, tmp_path: Path, metrics: Metrics) -> None:
    (exported / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"'notes.txt' beside an earlier export"):
        export([tmp_path / "a"], exported, metrics)
    assert (exported / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        export([run.path], tmp_path / "out", metrics)


def test_an_error_on_the_way_changes_nothing(exported: Path) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}

    def fail() -> None:
        with replaced(exported) as place:
            (place / "index.html").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before
    assert [path for path in exported.parent.iterdir() if path.name.startswith(".")] == []


def test_two_runs_share_a_board(tmp_path: Path, metrics: Metrics) -> None:
    one = make(tmp_path / "x" / "run", outcome, rows=(GEN3R, FREEZE), scenes=("s0", "s1", "s2"))
    other = make(tmp_path / "y" / "run", outcome, rows=(WVD, FREEZE), scenes=("s0", "s1", "s2"))
    done = export([one.path, other.path], tmp_path / "out", metrics)
    (board,) = done.leaderboard.boards
    assert [(entry.row, entry.run) for entry in board.entries] == [
        ("gen3r@reference", "run"), ("freeze", "run"), ("wvd@reference", "run (2)"),
    ]  # fmt: skip
    assert [run.name for run in done.leaderboard.runs] == ["run", "run (2)"]


def test_a_scenes_number_on_the_page_is_the_one_that_tables_print(tmp_path: Path, metrics: Metrics) -> None:
    run = make(tmp_path / "a", lambda *_: flat(1234.567849), rows=(GEN3R,), scenes=("s0", "s1", "s2"))
    export([run.path], tmp_path / "out", metrics)
    page = (tmp_path / "out/index.html").read_text()
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    assert data["boards"][0]["rows"][0]["scenes"][0] == [1234.5678] * 3


def test_no_name_is_a_formula_of_a_spreadsheet(tmp_path: Path, metrics: Metrics) -> None:
    formula = "=HYPERLINK(1)"
    run = make(tmp_path / "a", lambda *_: flat(1.0), rows=(row(formula),), scenes=("s0", "s1", "s2"))
    export([run.path], tmp_path / "out", metrics)
    lines = list(csv.DictReader((tmp_path / "out/leaderboard.csv").read_text().splitlines()))
    assert {line["row"] for line in lines} == {f"'{formula}"}
    assert not [text for line in lines for text in line.values() if text.startswith("=")]


def test_marks_are_given_only_where_scenes_separate_methods(tmp_path: Path, metrics: Metrics) -> None:
    scenes = [f"s{i}" for i in range(8)]
    card = CARD.model_copy(update={"datasets": {"mini": CARD.datasets["mini"].model_copy(update={"scenes": 8})}})

    def values(_protocol: str, label: str, scene: str, _seed: int) -> dict[str, float]:
        number = int(scene[1:])
        return flat(1.0 if label == "freeze" else 2 + number / 9 if label == "gen3r@reference" else 3 + number / 9)

    run = make(tmp_path / "a", values, rows=(GEN3R, WVD, FREEZE), scenes=scenes, cards=(card,))
    board = export([run.path], tmp_path / "out", metrics).leaderboard.boards[0]
    assert [entry.scores["chamfer@fps20k"].mark for entry in board.entries] == ["best", "second", None]
    few = make(tmp_path / "b", values, rows=(GEN3R, WVD))
    board = export([few.path], tmp_path / "out", metrics).leaderboard.boards[0]
    assert [entry.scores["chamfer@fps20k"].mark for entry in board.entries] == ["best", "best"]
