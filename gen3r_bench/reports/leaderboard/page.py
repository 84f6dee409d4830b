"""``index.html``: one page that opens from disk, with its style, its script and its data inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2
from markupsafe import Markup

from gen3r_bench.reports.leaderboard import folder as names
from gen3r_bench.reports.leaderboard.gallery import Gallery
from gen3r_bench.reports.leaderboard.schema import Board, Entry, Leaderboard, MetricFacts, Score
from gen3r_bench.reports.measured import printed
from gen3r_bench.reports.paper import SETTING_TITLES

_SCRIPTS: Final = ("data.js", "tables.js", "plot.js", "cloud.js", "scenes.js")
_KINDS: Final = {"method": "method", "baseline": "floor", "diagnostic": "diagnostic"}


@dataclass(frozen=True, slots=True)
class _Bar:
    """A confidence bar, in per cent of its column's range; ``None`` where there is no interval."""

    left: float
    width: float
    at: float


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    value: float | None
    interval: str
    bar: _Bar | None
    mark: str | None
    count: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    title: str
    kind: str
    trained_here: bool
    cells: tuple[_Cell, ...]
    seconds: str
    memory: str
    cost: Any


@dataclass(frozen=True, slots=True)
class _Column:
    key: str
    title: str
    dialect: str
    unit: str
    arrow: str
    better: str
    higher_is_better: bool


def render_page(board: Leaderboard, gallery: Gallery) -> str:
    """The page of a leaderboard; every name is escaped, and the data cannot end the element that holds it."""
    style, script = _text("page.css"), _script()
    return _template("page.html.jinja").render(
        board=board,
        boards=[_board_view(board, item) for item in board.boards],
        filters={
            "protocol": {card.name: card.title for card in board.cards},
            "dataset": {item.dataset: item.dataset_title for item in board.boards},
            "setting": {item.setting: SETTING_TITLES[item.setting] for item in board.boards},
        },
        exported=max((run.created[:10] for run in board.runs), default=""),
        methods=sum(row.kind == "method" for row in board.rows),
        floors=sum(row.kind != "method" for row in board.rows),
        scenes=len({(item.dataset, scene) for item in board.boards for scene in item.scenes}),
        datasets={row.label: row.training_sets for row in board.rows},
        names=names,
        kinds=_KINDS,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        data=_data(board, gallery),
    )


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text(name))


def _text(name: str) -> str:
    return files("gen3r_bench.reports.leaderboard").joinpath(name).read_text("utf-8")


def _script() -> str:
    parts = "\n".join(_text(name) for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();'


def _policy(style: str, script: str) -> str:
    """What the page may do: run its own script and style, and load pictures and scripts that lie beside it.

    ``file:`` stands beside ``'self'`` because browsers differ in whether a page from disk is its own origin.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' file: {_digest(script)}",
            f"style-src {_digest(style)}",
            "img-src 'self' file: data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _board_view(board: Leaderboard, item: Board) -> dict[str, Any]:
    metrics = [board.metric(key) for key in _shown_columns(item)]
    entries = {entry.row: entry for entry in _in_order(board, item)}
    rows = [_row(board, item, entry, metrics) for entry in entries.values()]
    columns = [
        _Column(
            metric.key,
            metric.title,
            metric.dialect + (f", {metric.conditions}" if metric.conditions else ""),
            metric.unit,
            "↑" if metric.higher_is_better else "↓",
            "higher is better" if metric.higher_is_better else "lower is better",
            metric.higher_is_better,
        )
        for metric in metrics
    ]
    missing = [
        f"{row.label}, {column.title}: n = {cell.count}: {reason}"
        for row in rows
        for column, cell in zip(columns, row.cells, strict=True)
        for reason in cell.reasons
    ]
    empty = [_nobody(board, item, key) for key in item.columns if key not in _shown_columns(item)]
    return {
        "id": item.id,
        "item": item,
        "card": board.card(item.protocol),
        "setting": SETTING_TITLES[item.setting],
        "columns": columns,
        "ranked": [row for row in rows if row.kind == "method"],
        "unranked": [row for row in rows if row.kind != "method"],
        "missing": [*empty, *missing],
        "gaps": bool(missing),
        "facts": [
            f"{row.label}: {text} ({count} records)" for row in rows for text, count in entries[row.label].facts.items()
        ],
        "runs": list(dict.fromkeys(entry.run for entry in item.entries)),
    }


def _shown_columns(item: Board) -> list[str]:
    """Metric keys that any row has a score in; all of them where there is no score at all."""
    scored = [key for key in item.columns if any(entry.scores[key].mean is not None for entry in item.entries)]
    return scored or list(item.columns)


def _nobody(board: Leaderboard, item: Board, key: str) -> str:
    """Why a column is not shown, in one line."""
    reasons = dict.fromkeys(reason for entry in item.entries for reason in entry.scores[key].reasons)
    metric = board.metric(key)
    return f"{metric.title} ({metric.dialect}): no row has a score: {'; '.join(reasons)}"


def _in_order(board: Leaderboard, item: Board) -> list[Entry]:
    """Methods before floors, then best first by the first column that is shown; rows without a score last."""
    key = _shown_columns(item)[0]
    sign = -1 if board.metric(key).higher_is_better else 1

    def place(entry: Entry) -> tuple[bool, bool, float, str]:
        mean = entry.scores[key].mean
        unranked = board.row(entry.row).kind != "method"
        return unranked, mean is None, 0.0 if mean is None else sign * mean, entry.row

    return sorted(item.entries, key=place)


def _row(board: Leaderboard, item: Board, entry: Entry, metrics: Sequence[MetricFacts]) -> _Row:
    facts = board.row(entry.row)
    seconds, memory = entry.cost.seconds, entry.cost.peak_memory_bytes
    return _Row(
        facts.label,
        facts.title if facts.title.casefold() != facts.label.casefold() else "",
        facts.kind,
        item.dataset in facts.training_sets,
        tuple(_cell(board, item, entry.scores[metric.key], metric) for metric in metrics),
        "–" if seconds is None else _seconds(seconds),
        "–" if memory is None else f"{memory / 2**30:.1f}",
        entry.cost,
    )


def _seconds(value: float) -> str:
    if value < 0.01:
        return "< 0.01"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _cell(board: Leaderboard, item: Board, score: Score, metric: MetricFacts) -> _Cell:
    places = metric.decimals
    interval = score.interval
    return _Cell(
        "–" if score.mean is None else printed(score.mean, places),
        score.mean,
        "" if interval is None else f"{printed(interval.low, places)} to {printed(interval.high, places)}",
        _bar(board, item, score, metric.key),
        score.mark,
        f"{score.n}/{score.planned}",
        tuple(f"{count} × {reason}" for reason, count in score.reasons.items()),
    )


def _bar(board: Leaderboard, item: Board, score: Score, key: str) -> _Bar | None:
    if score.mean is None or score.interval is None:
        return None
    low, high = _range(board, item, key)
    if high <= low or score.interval.low < low or score.interval.high > high:
        return None

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    left, right = place(score.interval.low), place(score.interval.high)
    return _Bar(left, max(round(right - left, 2), 0.0), place(score.mean))


def _range(board: Leaderboard, item: Board, key: str) -> tuple[float, float]:
    """The ends of a column's bars: those of methods and floors. The truth itself, at 60 dB, would press them together;
    where only diagnostics have scores, it is theirs.
    """
    ends = {True: [], False: []}  # type: dict[bool, list[float]]
    for entry in item.entries:
        score = entry.scores[key]
        if score.mean is not None:
            interval = (score.interval.low, score.interval.high) if score.interval else ()
            ends[board.row(entry.row).kind == "diagnostic"] += [score.mean, *interval]
    values = ends[False] or ends[True]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _data(board: Leaderboard, gallery: Gallery) -> dict[str, Any]:
    """What the page's script needs: values of scenes, costs, and where the pictures are."""
    return {
        "assets": names.ASSETS_NAME,
        "boards": [
            {
                "id": item.id,
                "title": f"{board.card(item.protocol).title} · {item.dataset_title}",
                "scenes": list(item.scenes),
                "columns": [
                    {
                        "key": key,
                        "title": board.metric(key).title,
                        "unit": board.metric(key).unit,
                        "higher": board.metric(key).higher_is_better,
                        "decimals": board.metric(key).decimals,
                    }
                    for key in _shown_columns(item)
                ],
                "rows": [
                    {
                        "label": entry.row,
                        "kind": board.row(entry.row).kind,
                        "seconds": entry.cost.seconds,
                        "memory": entry.cost.peak_memory_bytes,
                        "means": [entry.scores[key].mean for key in _shown_columns(item)],
                        "scenes": [
                            [
                                _rounded(entry.scores[key].scenes.get(scene), board.metric(key).decimals)
                                for scene in item.scenes
                            ]
                            for key in _shown_columns(item)
                        ],
                        "failures": entry.failures,
                    }
                    for entry in _in_order(board, item)
                ],
                "pictures": {"scripts": gallery[item.id].scripts, "why": gallery[item.id].why},
            }
            for item in board.boards
        ],
    }


def _rounded(value: float | None, decimals: int) -> float | None:
    """The number that tables print: rounded twice it could end in another digit. Every digit is in the JSON file."""
    return None if value is None else float(printed(value, decimals))
