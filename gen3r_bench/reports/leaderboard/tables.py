"""The tables of a leaderboard: markdown and LaTeX by the same renderers as ``gen3r-bench table``, and a long CSV."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.compose import comparison_table, run_table
from gen3r_bench.reports.leaderboard.schema import Leaderboard
from gen3r_bench.reports.notes import run_name
from gen3r_bench.reports.paper import TABLE_NUMBERS, paper_table
from gen3r_bench.reports.render import csv_cell, render_latex, render_markdown
from gen3r_bench.reports.tables import Table
from gen3r_bench.runs.store import Run

CSV_COLUMNS: Final = (
    "protocol", "card_hash", "setting", "dataset", "row", "method", "kind", "metric", "unit", "higher_is_better",
    "mean", "low", "high", "level", "n", "N", "mark", "seconds", "peak_memory_bytes", "reasons", "run",
)  # fmt: skip


def tables_of(runs: Sequence[Run], metrics: Mapping[str, Metric]) -> list[Table]:
    """Every table that runs feed: each protocol of each run, then the tables of the paper with the runs beside it."""
    tables = [run_table(run, card.name, metrics) for run in runs for card in run.header.protocols]
    for number in TABLE_NUMBERS:
        feeding = [run for run in runs if _feeds(run, number, metrics)]
        if feeding:
            tables.append(comparison_table(number, feeding, metrics))
    return tables


def _feeds(run: Run, number: int, metrics: Mapping[str, Metric]) -> bool:
    wanted = set(paper_table(number).metrics)
    return any(
        metrics[key].name in wanted
        for card in run.header.protocols
        if number in card.paper_tables
        for key in card.content["metrics"]
        if key in metrics
    )


def latex_files(tables: Sequence[Table], runs: Sequence[Run]) -> dict[str, str]:
    """LaTeX by file name; tables of one protocol from several runs are told apart by the run's name."""
    owners = [run_name(run) for run in runs for _ in run.header.protocols]
    rivals = Counter(table.name for table in tables)
    files: dict[str, str] = {}
    for number, table in enumerate(tables):
        name = table.name if rivals[table.name] == 1 else f"{table.name}-{owners[number]}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        while f"{name}.tex" in files:
            name += "-more"
        files[f"{name}.tex"] = render_latex(table)
    return files


def markdown_page(board: Leaderboard, tables: Sequence[Table]) -> str:
    """``README.md``: every table, and what lies beside it."""
    head = (
        "# Leaderboard\n\n"
        f"Written by `gen3r-bench export` (version {board.suite_version}). Open `index.html` in a browser: it needs no "
        "server and no network. `leaderboard.json` holds every number down to the scene (its schema: "
        "`leaderboard.schema.json`), `leaderboard.csv` one line a cell, `tables/` the same tables for LaTeX.\n"
    )
    return "\n".join([head, *(render_markdown(table) for table in tables)])


def render_csv(board: Leaderboard) -> str:
    """One line for each cell of each board, with every digit."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    rows = {row.label: row for row in board.rows}
    metrics = {metric.key: metric for metric in board.metrics}
    for item in board.boards:
        for entry in item.entries:
            row = rows[entry.row]
            for key, score in entry.scores.items():
                metric, interval = metrics[key], score.interval
                values: tuple[object, ...] = (
                    item.protocol,
                    item.card_hash,
                    item.setting,
                    item.dataset,
                    entry.row,
                    row.method_id,
                    row.kind,
                    key,
                    metric.unit,
                    str(metric.higher_is_better).lower(),
                    score.mean,
                    interval and interval.low,
                    interval and interval.high,
                    interval and interval.level,
                    score.n,
                    score.planned,
                    score.mark,
                    entry.cost.seconds,
                    entry.cost.peak_memory_bytes,
                    "; ".join(f"{count} × {reason}" for reason, count in score.reasons.items()),
                    entry.run,
                )
                writer.writerow(map(csv_cell, values))
    return out.getvalue()
