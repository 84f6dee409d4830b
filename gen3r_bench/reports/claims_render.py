"""Claimed against measured values as markdown, LaTeX and CSV; escaped like every table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from tabulate import tabulate

from gen3r_bench.reports.claims import Claim, ClaimTable
from gen3r_bench.reports.notes import run_name
from gen3r_bench.reports.paper import METRICS, SETTING_TITLES
from gen3r_bench.reports.recipe import RECIPE_MARK
from gen3r_bench.reports.render import csv_cell, escape_latex, escape_markdown

HEADS: Final = (
    "setting",
    "method",
    "dataset",
    "metric",
    "claimed",
    "measured row",
    "measured",
    "95 % CI",
    "n/N",
    "verdict",
)
_ALIGNED: Final = ("left", "left", "left", "left", "right", "left", "right", "right", "right", "left")
CLAIM_COLUMNS: Final = (
    "table", "setting", "paper_row", "method", "dataset", "metric", "claimed", "row", "measured_dataset", "score",
    "measured", "low", "high", "level", "n", "N", "verdict", "differs", "run",
)  # fmt: skip


def _texts(claim: Claim) -> tuple[str, ...]:
    metric = METRICS[claim.metric]
    return (
        SETTING_TITLES[claim.setting],
        claim.method,
        " / ".join(claim.claimed),
        f"{metric.title} {'↑' if metric.higher_is_better else '↓'}",
        " / ".join(claim.claimed.values()),
        f"{claim.cell.row.label} on {claim.cell.entry.dataset_title}",
        claim.measured,
        claim.interval_text,
        f"{claim.cell.stats.n}/{claim.cell.stats.planned}",
        claim.verdict_text,
    )


def claims_markdown(table: ClaimTable) -> str:
    """The claims in GitHub's markdown."""
    # Numbers need no escapes, and one of a decimal point would only be ugly.
    lines = [
        [
            text if align == "right" else escape_markdown(text)
            for text, align in zip(_texts(claim), _ALIGNED, strict=True)
        ]
        for claim in table.claims
    ]
    body = tabulate(lines, HEADS, tablefmt="pipe", colalign=_ALIGNED, disable_numparse=True)
    below = "\n".join(f"- {escape_markdown(text)}" for text in (*table.notes, *table.environments))
    head = f"<!-- {RECIPE_MARK} {table.recipe} -->"
    return "\n\n".join([head, f"**{escape_markdown(table.title)}**", body, below]) + "\n"


def claims_latex(table: ClaimTable) -> str:
    r"""The claims as a ``table`` environment to ``\input``."""
    columns = "".join("r" if align == "right" else "l" for align in _ALIGNED)
    lines = [" & ".join(map(escape_latex, _texts(claim))) + r" \\" for claim in table.claims]
    return "\n".join(
        [
            rf"% {table.name}: written by gen3r-bench. Needs \usepackage{{booktabs,graphicx}}.",
            f"% {RECIPE_MARK} {table.recipe}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(escape_latex, HEADS)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}",
            r"\footnotesize\raggedright",
            *(escape_latex(text) + r"\par" for text in (*table.notes, *table.environments)),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def claims_csv(tables: Sequence[ClaimTable]) -> str:
    """The claims as one CSV, with every digit of measured means and ends of intervals."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CLAIM_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for claim in table.claims:
            fields = {"table": table.name, **claim_fields(claim)}
            writer.writerow({name: csv_cell(value) for name, value in fields.items()})
    return file.getvalue()


def claim_fields(claim: Claim) -> dict[str, str | int | float | None]:
    """Everything about a claim, by the names of ``CLAIM_COLUMNS``, without its table; None where there is no number."""
    stats, interval = claim.cell.stats, claim.interval
    return {
        "setting": claim.setting,
        "paper_row": claim.method,
        "method": claim.cell.row.method_id,
        "dataset": " / ".join(claim.claimed),
        "metric": claim.metric,
        "claimed": " / ".join(claim.claimed.values()),
        "row": claim.cell.row.label,
        "measured_dataset": claim.cell.entry.dataset,
        "score": stats.metric,
        "measured": stats.mean,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "level": interval.level if interval else None,
        "n": stats.n,
        "N": stats.planned,
        "verdict": claim.verdict,
        "differs": "; ".join(f"{field}: {text}" for field, text in claim.differs.items()),
        "run": run_name(claim.cell.run),
    }
