"""Write a leaderboard: data, schema, tables, page and pictures, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.leaderboard import folder as names
from gen3r_bench.reports.leaderboard.admission import admitted_runs
from gen3r_bench.reports.leaderboard.collect import collect
from gen3r_bench.reports.leaderboard.gallery import Gallery, write_gallery
from gen3r_bench.reports.leaderboard.page import render_page
from gen3r_bench.reports.leaderboard.schema import Leaderboard, json_schema
from gen3r_bench.reports.leaderboard.tables import latex_files, markdown_page, render_csv, tables_of


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: the data, how large the folder is, and what it has to say about pictures."""

    leaderboard: Leaderboard
    size_bytes: int
    gallery: Gallery


def export(
    paths: Sequence[Path],
    target: Path,
    metrics: Mapping[str, Metric],
    *,
    roots: Mapping[str, Path] | None = None,
    most_bytes: int = 25_000_000,
    with_ground_truth: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Exported:
    """Write the leaderboard of runs into a folder, which appears complete or not at all.

    Args:
        paths: run folders.
        target: new, empty, or an earlier export.
        metrics: registered metrics by key.
        roots: where datasets lie, for the pictures of scenes.
        most_bytes: of pictures and point clouds.
        with_ground_truth: also pictures that show frames of datasets other than ``mini``, whose licences may forbid it.
        progress: told the scene whose pictures are written.

    Raises:
        InputError: where a run may not stand on a leaderboard, or the target is something else than an export.
        StoreError: where a run cannot be read or the target cannot be written.
    """
    admitted = admitted_runs(paths, metrics)
    board = collect(admitted.distinct, metrics)
    tables = tables_of(admitted.runs, metrics)
    with names.replaced(target) as place:
        gallery = write_gallery(
            admitted.distinct,
            board,
            place / names.ASSETS_NAME,
            roots=roots or {},
            most_bytes=most_bytes,
            with_ground_truth=with_ground_truth,
            progress=progress,
        )
        (place / names.DATA_NAME).write_text(board.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (place / names.SCHEMA_FILE_NAME).write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
        (place / names.CSV_NAME).write_text(render_csv(board), encoding="utf-8")
        (place / names.README_NAME).write_text(markdown_page(board, tables), encoding="utf-8")
        (place / names.TABLES_NAME).mkdir()
        for name, text in latex_files(tables, admitted.runs).items():
            (place / names.TABLES_NAME / name).write_text(text, encoding="utf-8")
        (place / names.PAGE_NAME).write_text(render_page(board, gallery), encoding="utf-8")
    return Exported(board, names.folder_bytes(target), gallery)
