"""What other dialects make of a run: how far its numbers move, which ranks change, which rows a test tells apart."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.dialects import DEFAULT, Dialect, Evidence, Variation, cell_value, variation
from gen3r_bench.reports.paper import METRICS
from gen3r_bench.runs.explain import Difference, RescoredRun
from gen3r_bench.runs.record import PlanEntry, RowEntry
from gen3r_bench.stats import holm, sign_flip

LEVEL: Final = 0.05
"""Two rows are separated where the paired test's p, corrected by Holm over the pairs of a column, is at most this."""

_Scenes = dict[str, dict[int, Evidence]]


@dataclass(frozen=True, slots=True)
class Shown:
    """One row's number in one dialect.

    Attributes:
        value: over the scenes that have one; None where there is none.
        moved: difference to the card's own way, over the scenes that have both.
        n, planned: scenes with a value, scenes that the run set out to score.
        reasons: why a value is missing, and for how many (scene, seed) pairs.
        rank: among the ranked rows, over the scenes that all of them have in this dialect and in the card's own way;
            numbers that print alike share a rank, as in tables. None for floors and diagnostics, and where there is
            nothing to compare.
        default_rank: the same in the card's own way, over the same scenes.
    """

    value: float | None
    moved: float | None
    n: int
    planned: int
    reasons: Mapping[str, int]
    rank: int | None = None
    default_rank: int | None = None

    @property
    def rank_changed(self) -> bool:
        return self.rank != self.default_rank


def decimals(metric: Metric) -> int:
    """How many decimals of a metric are printed."""
    if metric.name in METRICS:
        return METRICS[metric.name].decimals
    return 2 if metric.unit in ("dB", "%", "deg") else 4


@dataclass(frozen=True, slots=True)
class Line:
    """All rows in one dialect; ``dialect`` is None for the card's own way.

    ``separated`` says of each pair of ranked rows whether the paired test tells them apart; None where the dialect has
    no number a scene, or there is nothing to compare.
    """

    dialect: Dialect | None
    rows: Mapping[str, Shown]
    separated: Mapping[tuple[str, str], bool] | None

    @property
    def key(self) -> str:
        return DEFAULT if self.dialect is None else self.dialect.key

    @property
    def rank_changes(self) -> dict[str, tuple[int, int]]:
        """Rows whose rank is another one: (in the card's own way, here)."""
        return {
            label: (shown.default_rank, shown.rank)
            for label, shown in self.rows.items()
            if shown.rank_changed and shown.default_rank is not None and shown.rank is not None
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric of one protocol on one dataset; the first line is the card's own way."""

    protocol: str
    title: str
    card_hash: str
    entry: PlanEntry
    metric: Metric
    score_key: str
    rows: tuple[RowEntry, ...]
    lines: tuple[Line, ...]

    @property
    def decimals(self) -> int:
        return decimals(self.metric)

    def verdict_changes(self, line: Line) -> dict[tuple[str, str], tuple[bool, bool]]:
        """Pairs of rows that the test separates in one of the card's own way and this line, and not in the other."""
        default = self.lines[0].separated
        if default is None or line.separated is None:
            return {}
        return {
            pair: (default[pair], found)
            for pair, found in line.separated.items()
            if pair in default and default[pair] != found
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """A run under every dialect.

    Attributes:
        run: name of its folder.
        panels: one for each protocol, dataset and metric that has a dialect and any number.
        unmoved: metric keys of the run's protocols that have only one way here.
        absent: metric keys that no row has a number for, and the commonest reason.
        compared, differences: see `RescoredRun`.
        failed: reasons, and how many kept predictions could not be scored again for each.
        partial: whether the run saw fewer scenes than its cards ask for.
    """

    run: str
    panels: tuple[Panel, ...]
    unmoved: tuple[str, ...]
    absent: Mapping[str, str]
    compared: int
    differences: tuple[Difference, ...]
    failed: Mapping[str, int]
    partial: bool

    @property
    def dialects(self) -> list[Dialect]:
        """Those that any panel shows, in order."""
        found = {line.key: line.dialect for panel in self.panels for line in panel.lines if line.dialect is not None}
        return list(found.values())


def explanation(rescored: RescoredRun, metrics: Mapping[str, Metric]) -> Explanation:
    """Arrange what a run's predictions got in every dialect."""
    header = rescored.run.header
    order = {kind: number for number, kind in enumerate(("method", "baseline", "diagnostic"))}
    chosen = {place[3] for place in rescored.planned}
    rows = sorted((row for row in header.rows if row.label in chosen), key=lambda row: order[row.kind])
    panels: list[Panel] = []
    unmoved: list[str] = []
    absent: dict[str, Counter[str]] = {}
    for entry in header.plan:
        places = {place for place in rescored.planned if place[:2] == (entry.protocol, entry.dataset)}
        dialects, card = rescored.dialects[entry.protocol], rescored.cards[entry.protocol]
        if not places:
            continue
        unmoved += [key for key in card.metrics if key not in dialects]
        for key, others in dialects.items():
            column = _Column(rescored, entry, card, metrics[key], metrics, tuple(rows), places)
            panel = column.panel(others)
            if any(shown.value is not None for line in panel.lines for shown in line.rows.values()):
                panels.append(panel)
                continue
            for shown in panel.lines[0].rows.values():
                absent.setdefault(key, Counter()).update(shown.reasons)
    return Explanation(
        run=rescored.run.path.resolve().name,
        panels=tuple(panels),
        unmoved=tuple(dict.fromkeys(unmoved)),
        absent={key: reasons.most_common(1)[0][0] for key, reasons in absent.items() if reasons},
        compared=rescored.compared,
        differences=tuple(rescored.differences),
        failed=dict(Counter(rescored.failed.values()).most_common()),
        partial=header.partial,
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """One metric of a protocol on a dataset, before it is arranged."""

    rescored: RescoredRun
    entry: PlanEntry
    card: Card
    metric: Metric
    metrics: Mapping[str, Metric]
    rows: tuple[RowEntry, ...]
    places: set[tuple[str, str, str, str, int]]

    def panel(self, dialects: Iterable[Dialect]) -> Panel:
        found = variation(None, self.card, self.metric, self.metrics)
        assert found is not None
        default = {row.label: self._scenes(row.label, DEFAULT) for row in self.rows}
        lines = [self._line(None, found, default, default, found)]
        for dialect in dialects:
            other = variation(dialect, self.card, self.metric, self.metrics)
            assert other is not None
            scenes = {row.label: self._scenes(row.label, dialect.key) for row in self.rows}
            lines.append(self._line(dialect, other, scenes, default, found))
        card = self.rescored.run.header.card(self.entry.protocol)
        return Panel(
            self.card.name, card.title, card.hash, self.entry, self.metric, found.score_key, self.rows, tuple(lines)
        )

    def _scenes(self, row: str, dialect: str) -> _Scenes:
        scenes: _Scenes = {}
        for place in self.places:
            result = self.rescored.results.get(place)
            if place[3] == row and result is not None and (self.metric.key, dialect) in result.values:
                scenes.setdefault(place[2], {})[place[4]] = result.values[self.metric.key, dialect]
        return scenes

    def _line(
        self,
        dialect: Dialect | None,
        here: Variation,
        scenes: Mapping[str, _Scenes],
        default: Mapping[str, _Scenes],
        own: Variation,
    ) -> Line:
        ranked = [row.label for row in self.rows if row.kind == "method" and scenes[row.label] and default[row.label]]
        common = set.intersection(*(set(scenes[r]) & set(default[r]) for r in ranked)) if ranked else set()
        ranks = self._ranks(here, {label: scenes[label] for label in ranked}, common)
        before = self._ranks(own, {label: default[label] for label in ranked}, common)
        shown = {}
        for row in self.rows:
            label = row.label
            both = set(scenes[label]) & set(default[label])
            moved = None
            if both:
                moved = self._value(here, scenes[label], both) - self._value(own, default[label], both)
            shown[label] = Shown(
                value=self._value(here, scenes[label], set(scenes[label])) if scenes[label] else None,
                moved=moved,
                n=len(scenes[label]),
                planned=len({place[2] for place in self.places}),
                reasons=self._reasons(label, DEFAULT if dialect is None else dialect.key),
                rank=ranks.get(label),
                default_rank=before.get(label),
            )
        separated = None
        if dialect is None or dialect.scene_by_scene:
            separated = self._separated({label: scenes[label] for label in ranked}, common)
        return Line(dialect, shown, separated)

    def _value(self, found: Variation, scenes: _Scenes, chosen: set[str]) -> float:
        # sorted: pooled sums must not depend on the order in which threads finished
        kept = [[evidence for _, evidence in sorted(scenes[scene].items())] for scene in sorted(chosen)]
        return cell_value(found, kept, self.metrics)

    def _ranks(self, found: Variation, rows: Mapping[str, _Scenes], common: set[str]) -> dict[str, int]:
        if len(rows) < 2 or not common:
            return {}
        digits = decimals(self.metric)
        values = {label: round(self._value(found, scenes, common), digits) for label, scenes in rows.items()}
        better: Callable[[float, float], bool] = float.__gt__ if self.metric.higher_is_better else float.__lt__
        return {label: 1 + sum(better(other, value) for other in values.values()) for label, value in values.items()}

    def _separated(self, rows: Mapping[str, _Scenes], common: set[str]) -> dict[tuple[str, str], bool] | None:
        pairs = list(itertools.combinations(rows, 2))
        if not pairs or len(common) < 2:
            return None
        means = {
            label: np.array([np.mean([e.value for e in scenes[scene].values()]) for scene in sorted(common)])
            for label, scenes in rows.items()
        }
        corrected = holm([sign_flip(means[a] - means[b]).p_value for a, b in pairs])
        return {pair: p <= LEVEL for pair, p in zip(pairs, corrected, strict=True)}

    def _reasons(self, row: str, dialect: str) -> dict[str, int]:
        reasons: Counter[str] = Counter()
        for place in self.places:
            if place[3] != row:
                continue
            result = self.rescored.results.get(place)
            if result is None:
                reasons[self.rescored.reasons[place]] += 1
            elif (self.metric.key, dialect) not in result.values:
                reasons[result.missing.get((self.metric.key, dialect), "no score")] += 1
        return dict(reasons.most_common())


def as_json(found: Explanation) -> dict[str, Any]:
    """Everything an explanation holds, as JSON-ready data."""
    return {
        "run": found.run,
        "partial": found.partial,
        "level": LEVEL,
        "panels": [_panel_json(panel) for panel in found.panels],
        "dialects": [
            {"key": d.key, "summary": d.summary, "used_by": d.used_by, "source": d.source} for d in found.dialects
        ],
        "metrics_with_one_dialect": list(found.unmoved),
        "metrics_without_a_number": dict(found.absent),
        "scores_compared_with_the_record": found.compared,
        "differences_from_the_record": [
            {
                "protocol": difference.place[0],
                "dataset": difference.place[1],
                "scene": difference.place[2],
                "row": difference.place[3],
                "seed": difference.place[4],
                "metric": difference.metric,
                "recorded": difference.recorded,
                "again": difference.again,
            }
            for difference in found.differences
        ],
        "failed": dict(found.failed),
    }


def _panel_json(panel: Panel) -> dict[str, Any]:
    return {
        "protocol": panel.protocol,
        "card_hash": panel.card_hash,
        "dataset": panel.entry.dataset,
        "metric": panel.score_key,
        "unit": panel.metric.unit,
        "higher_is_better": panel.metric.higher_is_better,
        "lines": [
            {
                "dialect": line.key,
                "rows": {
                    label: {
                        "value": shown.value,
                        "moved": shown.moved,
                        "n": shown.n,
                        "planned": shown.planned,
                        "reasons": dict(shown.reasons),
                        "rank": shown.rank,
                        "default_rank": shown.default_rank,
                    }
                    for label, shown in line.rows.items()
                },
                "separated": None
                if line.separated is None
                else [{"rows": list(pair), "separated": found} for pair, found in line.separated.items()],
            }
            for line in panel.lines
        ],
    }


def verdicts(line: Line) -> tuple[int, int] | None:
    """How many pairs of ranked rows a line separates, and of how many; None where none were tested."""
    if line.separated is None:
        return None
    found: Sequence[bool] = list(line.separated.values())
    return sum(found), len(found)
