"""From runs to the content of ``leaderboard.json``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import gen3r_bench
from gen3r_bench.errors import UnknownNameError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.reports.leaderboard.schema import (
    Board,
    CardFacts,
    Clip,
    ConfidenceInterval,
    Cost,
    Entry,
    Leaderboard,
    MetricFacts,
    RowFacts,
    RunFacts,
    Score,
)
from gen3r_bench.reports.marks import Contender, separated_marks
from gen3r_bench.reports.measured import decimals_of, printed, scenes_to_compare
from gen3r_bench.reports.notes import merged, run_name
from gen3r_bench.reports.summary import CellStats, conditions_text, row_facts, summarise
from gen3r_bench.reports.tables import Mark
from gen3r_bench.runs.record import CardEntry, PlanEntry, Record
from gen3r_bench.runs.store import Run
from gen3r_bench.stats import mean_interval


def collect(runs: Sequence[Run], metrics: Mapping[str, Metric]) -> Leaderboard:
    """Everything that runs say, board by board; rows of several runs stand on one board where it is of the same data.

    Args:
        runs: admitted ones (see `admission`): complete, of one version of each protocol, no row twice.
        metrics: registered metrics by key.

    Raises:
        UnknownNameError: where a metric of a run is not registered here.
    """
    members: dict[tuple[object, ...], list[tuple[Run, PlanEntry]]] = {}
    for run in runs:
        for entry in run.header.plan:
            members.setdefault(board_key(run, entry), []).append((run, entry))
    run_names = _run_names(runs)
    boards = tuple(_board(f"b{number}", found, run_names, metrics) for number, found in enumerate(members.values()))
    headers = [run.header for run in runs]
    return Leaderboard(
        suite_version=gen3r_bench.__version__,
        cards=tuple({card.name: _card_facts(card) for header in headers for card in header.protocols}.values()),
        metrics=tuple(
            _metric_facts(key, metrics) for key in dict.fromkeys(key for board in boards for key in board.columns)
        ),
        rows=tuple(
            {
                row.label: RowFacts(**{name: getattr(row, name) for name in RowFacts.model_fields})
                for header in headers
                for row in header.rows
            }.values()
        ),
        runs=tuple({run.path: _run_facts(run, run_names[run.path]) for run in runs}.values()),
        provenances={name: facts for header in headers for name, facts in header.provenances.items()},
        boards=boards,
    )


def _run_names(runs: Sequence[Run]) -> dict[Path, str]:
    """A name for each run's folder; folders of one name in different places are numbered."""
    names: dict[Path, str] = {}
    for run in runs:
        if run.path not in names:
            name, number = run_name(run), 2
            while name in names.values():
                name, number = f"{run_name(run)} ({number})", number + 1
            names[run.path] = name
    return names


def board_key(run: Run, entry: PlanEntry) -> tuple[object, ...]:
    """Equal for what stands on one board: one protocol on one set of scenes, read and scored in one way."""
    clip = (entry.frames, entry.stride, entry.start, entry.image_size)
    options = tuple(sorted(entry.dataset_options.items()))
    data = (entry.protocol, entry.dataset, clip, options, entry.manifest_sha256, frozenset(entry.scenes))
    return (*data, run.header.geometry_backend)


def _card_facts(card: CardEntry) -> CardFacts:
    return CardFacts(
        name=card.name,
        hash=card.hash,
        title=card.title,
        setting=card.content["setting"],
        cameras=card.content["cameras"],
        paper_tables=card.paper_tables,
        content=card.content,
    )


def _metric_facts(key: str, metrics: Mapping[str, Metric]) -> MetricFacts:
    score, _, conditions = key.removesuffix("]").partition(" [")
    name, _, frames = score.partition("/")
    if name not in metrics:
        raise UnknownNameError("metric", name, metrics)
    metric = metrics[name]
    return MetricFacts(
        key=key,
        title=f"{metric.title} {frames}".rstrip(),
        dialect=metric.dialect,
        conditions=conditions,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        decimals=decimals_of(metric),
        reference=metric.reference,
    )


def _run_facts(run: Run, name: str) -> RunFacts:
    header = run.header
    return RunFacts(
        name=name,
        created=header.created,
        suite_version=header.suite_version,
        seeds=header.seeds,
        geometry_backend=header.geometry_backend,
        environment=header.environment,
    )


def _board(
    board_id: str,
    members: Sequence[tuple[Run, PlanEntry]],
    run_names: Mapping[Path, str],
    metrics: Mapping[str, Metric],
) -> Board:
    run, entry = members[0]
    cells = [
        [cell for cell in summarise(member) if (cell.protocol, cell.dataset) == (plan.protocol, plan.dataset)]
        for member, plan in members
    ]
    divided = _divided(cell for found in cells for cell in found)
    columns = list(dict.fromkeys(_key_of(cell, divided) for found in cells for cell in found))
    ranked = {row.label for member, _ in members for row in member.header.rows if row.kind == "method"}
    marks = {
        (key, label): mark
        for key in columns
        for label, mark in _marks(
            [cell for found in cells for cell in found if _key_of(cell, divided) == key and cell.row in ranked], metrics
        ).items()
    }
    entries = []
    for (member, plan), found in zip(members, cells, strict=True):
        facts = row_facts(member, plan.protocol)
        for row in member.header.rows:
            records = [
                record
                for record in member.records
                if (record.protocol, record.dataset, record.row) == (plan.protocol, plan.dataset, row.label)
            ]
            keyed = {_key_of(cell, divided): cell for cell in found if cell.row == row.label}
            scores = {key: _score(cell, marks.get((key, row.label))) for key, cell in keyed.items()}
            entries.append(
                Entry(
                    row=row.label,
                    run=run_names[member.path],
                    scores={key: scores.get(key) or _no_score(plan) for key in columns},
                    cost=_cost(records),
                    facts=merged(facts[row.label]),
                    failures={r.scene_id: f"{r.status}: {r.reason}" for r in records if r.status != "ok"},
                )
            )
    return Board(
        id=board_id,
        protocol=entry.protocol,
        card_hash=run.header.card(entry.protocol).hash,
        setting=run.header.card(entry.protocol).content["setting"],
        dataset=entry.dataset,
        dataset_title=entry.dataset_title,
        dataset_options=entry.dataset_options,
        manifest_sha256=entry.manifest_sha256,
        clip=Clip(frames=entry.frames, stride=entry.stride, start=entry.start, image_size=entry.image_size),
        geometry_backend=run.header.geometry_backend,
        scenes=entry.scenes,
        columns=tuple(columns),
        entries=tuple(entries),
    )


def _divided(cells: Iterable[CellStats]) -> frozenset[str]:
    """The metrics whose scores were computed under more than one set of conditions."""
    found: dict[str, set[object]] = {}
    for cell in cells:
        if cell.mean is not None:
            found.setdefault(cell.metric, set()).add(cell.conditions)
    return frozenset(metric for metric, conditions in found.items() if len(conditions) > 1)


def _key_of(cell: CellStats, divided: frozenset[str]) -> str:
    """A column's key: scores of one metric whose conditions differ on a board have columns of their own."""
    return f"{cell.metric} [{conditions_text(cell.conditions)}]" if cell.metric in divided else cell.metric


def _marks(cells: Sequence[CellStats], metrics: Mapping[str, Metric]) -> dict[str, Mark | None]:
    """Marks of one column's methods, by the rule of the tables."""
    comparable = scenes_to_compare(cells)
    contenders = [cell for cell in cells if comparable and cell.scenes == comparable and cell.mean is not None]
    if not contenders:
        return {}
    metric = metrics[contenders[0].metric.partition("/")[0]]
    marks = separated_marks(
        [Contender(printed(cell.mean or 0.0, decimals_of(metric)), cell.values) for cell in contenders],
        higher_is_better=metric.higher_is_better,
    )
    return dict(zip((cell.row for cell in contenders), marks, strict=True))


def _score(cell: CellStats, mark: Mark | None) -> Score:
    interval = mean_interval({scene: [value] for scene, value in cell.values.items()})
    return Score(
        mean=cell.mean,
        interval=None
        if interval is None
        else ConfidenceInterval(low=interval.low, high=interval.high, level=interval.level),
        n=cell.n,
        planned=cell.planned,
        reasons=dict(cell.reasons),
        mark=mark,
        scenes=dict(sorted(cell.values.items())),
    )


def _no_score(plan: PlanEntry) -> Score:
    """A cell of a column that only other runs of the board have."""
    reasons = {"this run has no such score": len(plan.scenes)}
    return Score(mean=None, interval=None, n=0, planned=len(plan.scenes), reasons=reasons, mark=None, scenes={})


def _cost(records: Sequence[Record]) -> Cost:
    seconds = [record.seconds for record in records if record.seconds is not None]
    memory = [record.peak_memory_bytes for record in records if record.peak_memory_bytes is not None]
    sources = {record.memory_source for record in records if record.memory_source is not None}
    return Cost(
        seconds=math.fsum(seconds) / len(seconds) if seconds else None,
        peak_memory_bytes=max(memory) if memory else None,
        memory_source=sources.pop() if len(sources) == 1 else None,
        devices=tuple(sorted({record.device for record in records})),
    )
