"""What the paper claims, beside what runs measured: inside the interval, outside, or not comparable and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from gen3r_bench.errors import InputError
from gen3r_bench.metrics.base import Metric
from gen3r_bench.protocols.card import Card
from gen3r_bench.reports.compose import measured_for, one_meaning
from gen3r_bench.reports.differences import differences
from gen3r_bench.reports.measured import Measured, cell_interval, printed
from gen3r_bench.reports.notes import environment_notes, provenance_notes, run_name
from gen3r_bench.reports.paper import (
    FRAMES,
    IMAGE_SIZE,
    METHOD_TITLES,
    SCENES,
    paper_table,
)
from gen3r_bench.reports.recipe import Recipe
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Setting
from gen3r_bench.stats import Interval

Verdict = Literal["inside", "outside", "not comparable"]
OFFICIAL: Final = "official"
"""The checkpoint that the paper's authors, or a baseline's, released."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper prints of a method, setting and metric, with one measured counterpart.

    Attributes:
        setting, method, metric: where the paper prints it; ``method`` is the paper's name.
        claimed: values as printed, by dataset: one, or all where the measured dataset is none of the paper's.
        cell: the measured cell of the same method, setting and metric.
        measured: its mean as text; "–" without a score.
        interval: of the mean over scenes; None for fewer than two scenes.
        decimals: that the column is printed with.
        verdict: "inside" where the claimed value, to within its rounding, lies in the interval.
        differs: what makes the two incomparable, such as ``frames`` → ``13, not 49``.
    """

    setting: Setting
    method: str
    metric: str
    claimed: Mapping[str, str]
    cell: Measured
    measured: str
    interval: Interval | None
    decimals: int
    verdict: Verdict
    differs: Mapping[str, str]

    @property
    def interval_text(self) -> str:
        if self.interval is None:
            return "–"
        return f"[{printed(self.interval.low, self.decimals)}, {printed(self.interval.high, self.decimals)}]"

    @property
    def verdict_text(self) -> str:
        return f"{self.verdict}: {', '.join(self.differs)}" if self.differs else self.verdict


@dataclass(frozen=True, slots=True)
class ClaimTable:
    """The claims of one table of the paper that runs can say something about, in the paper's order."""

    name: str
    title: str
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]
    environments: tuple[str, ...]
    recipe: str


def claim_table(
    number: int, runs: Sequence[Run], metrics: Mapping[str, Metric], cards: Mapping[str, Card]
) -> ClaimTable:
    """Every value of a paper's table whose method a run measured, in the same setting and metric.

    Args:
        number: 1 to 9.
        runs: at least one.
        metrics: registered metrics by key.
        cards: this suite's protocols by name: what "the paper's protocol" means here.

    Raises:
        InputError: where no run measured a method of the table, or two runs cannot stand in one table.
        UnknownNameError: where a metric of a run is not registered here.
    """
    if not runs:
        raise InputError("no run", expected="runs to hold against the paper's values", fix="--runs RUN")
    paper = paper_table(number)
    cells = measured_for(paper, runs, metrics)
    one_meaning(cells)
    ids = {title: name for name, title in METHOD_TITLES.items()}
    printed_values: dict[tuple[Setting, str, str], dict[str, str]] = {}
    for key in paper.places():
        printed_values.setdefault((key.setting, key.method, key.metric), {})[key.dataset] = paper.values[key]
    claims = []
    for (setting, method, metric), values in printed_values.items():
        for cell in cells:
            dataset = cell.entry.dataset_title
            if (cell.row.method_id, cell.setting, cell.metric.name) != (ids[method], setting, metric):
                continue
            claimed = {dataset: values[dataset]} if dataset in values else values
            # A dataset of the paper that this table lacks has no claimed value here.
            if dataset in values or dataset not in SCENES:
                claims.append(_claim(setting, method, metric, claimed, cell, paper.printed_decimals(metric), cards))
    if not claims:
        names = ", ".join(dict.fromkeys(cell.row.label for cell in cells))
        raise InputError(
            f"no row of table {number} among {names}",
            expected=f"a method of that table: {', '.join(dict.fromkeys(ids[key.method] for key in paper.places()))}",
        )
    return ClaimTable(
        f"paper-table-{number}-claims",
        f"Gen3R paper, Table {number}, claimed and measured: {paper.title}",
        tuple(claims),
        tuple(_notes(claims, [key.method for key in paper.places()], cells, runs)),
        environment_notes(runs),
        Recipe(view="claims", number=number, runs=tuple(map(run_name, runs))).line(),
    )


def _claim(
    setting: Setting,
    method: str,
    metric: str,
    claimed: Mapping[str, str],
    cell: Measured,
    decimals: int,
    cards: Mapping[str, Card],
) -> Claim:
    mean, interval = cell.stats.mean, cell_interval(cell.stats)
    differs = _differs(claimed, cell, cards)
    verdict: Verdict = "not comparable"
    if not differs and interval is not None:
        (value,) = claimed.values()
        rounding = 0.5 * 10.0 ** int(Decimal(value).as_tuple().exponent)
        inside = interval.low - rounding <= float(value) <= interval.high + rounding
        verdict = "inside" if inside else "outside"
    measured = "–" if mean is None else printed(mean, decimals)
    return Claim(setting, method, metric, claimed, cell, measured, interval, decimals, verdict, differs)


def _differs(claimed: Mapping[str, str], cell: Measured, cards: Mapping[str, Card]) -> dict[str, str]:
    """Fields in which a measured cell departs from what the paper's value stands for; empty where none does."""
    entry, row, found = cell.entry, cell.row, {}
    if entry.dataset_title not in claimed:
        found["dataset"] = f"{entry.dataset_title}, not {' or '.join(claimed)}"
    if entry.frames != FRAMES:
        found["frames"] = f"{entry.frames}, not {FRAMES}"
    if (entry.stride, entry.start) != (1, 0):
        found["clip"] = f"from frame {entry.start} in steps of {entry.stride}, not consecutive frames from 0"
    if entry.image_size != IMAGE_SIZE:
        found["image size"] = "{}×{}, not {}×{}".format(*entry.image_size, *IMAGE_SIZE)
    asked = SCENES.get(entry.dataset_title, entry.scenes_in_full)
    if cell.stats.n != asked:
        found["scenes"] = f"{cell.stats.n} scored, not {asked}{', a partial run' if entry.partial else ''}"
    card, own = cell.run.header.card(entry.protocol), cards.get(entry.protocol)
    if own is None:
        found["protocol"] = f"{entry.protocol} is none of this suite"
    elif card.hash != own.hash:
        fields = differences("", card.content, own.content())
        shown = "; ".join(f"{one.field.strip()} {one.a}, not {one.b}" for one in fields)
        found["card"] = shown or f"{card.hash}, not {own.hash}"
    if own is not None and cell.metric.key not in own.metrics:
        theirs = [name for name in own.metrics if name.partition("@")[0] == cell.metric.name]
        found["dialect"] = f"{cell.metric.key}, not {', '.join(theirs) or 'a metric of this protocol'}"
    if row.checkpoint != OFFICIAL:
        found["checkpoint"] = f"{row.checkpoint or 'none named'}, not {OFFICIAL}"
    if cell.stats.mean is None:
        found["score"] = "none: " + "; ".join(f"{count} × {why}" for why, count in cell.stats.reasons.items())
    return found


def _who(cell: Measured) -> str:
    return f"{cell.row.label} of {run_name(cell.run)} on {cell.entry.dataset_title}"


def _notes(
    claims: Sequence[Claim], paper_rows: Sequence[str], cells: Sequence[Measured], runs: Sequence[Run]
) -> list[str]:
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in ("inside", "outside")}
    rest = len(claims) - sum(counts.values())
    notes = [
        f"Of {len(claims)} pairs {counts['inside']} inside, {counts['outside']} outside, {rest} not comparable.",
        "Inside: the claimed value, to within its rounding, lies in the 95 % confidence interval of the measured mean "
        "over scenes (BCa bootstrap clustered by scene). The paper's lists of scenes are not public: equal counts are "
        "other scenes of the same datasets.",
    ]
    details: dict[tuple[str, str], dict[str, None]] = {}
    everyone = {_who(claim.cell) for claim in claims}
    for claim in claims:
        for field, text in claim.differs.items():
            details.setdefault((field, text), {})[_who(claim.cell)] = None
    for (field, text), who in details.items():
        notes.append(f"{field}: {text} ({'every row' if len(who) == len(everyone) else ', '.join(who)}).")
    measured = {claim.method for claim in claims}
    missing = [method for method in dict.fromkeys(paper_rows) if method not in measured]
    if missing:
        notes.append(f"Rows of the paper that no run here measured: {', '.join(missing)}.")
    for run in runs:
        if len(run.header.seeds) > 1:
            notes.append(f"{run_name(run)}: each scene is the mean over {len(run.header.seeds)} seeds.")
    shown = [(run, [e for e in run.header.plan if any(c.run is run and c.entry is e for c in cells)]) for run in runs]
    return [*notes, *provenance_notes(shown, ())]
