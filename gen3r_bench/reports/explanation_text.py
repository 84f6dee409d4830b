"""An explanation as text: tables of at most 100 columns in the terminal, markdown, and CSV in long format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from gen3r_bench.protocols.dialects import DIALECTS
from gen3r_bench.reports.explanation import LEVEL, Explanation, Line, Panel, verdicts
from gen3r_bench.reports.render import csv_cell, escape_markdown, printable
from gen3r_bench.reports.tables import MISSING
from gen3r_bench.runs.record import RowEntry

WIDTH: Final = 100
SAME: Final = "="
ALIKE: Final = "≈"
_GREY: Final = "bright_black"
_KEY_WIDTH: Final = max(len(dialect.key) for dialect in DIALECTS)
_CSV_COLUMNS: Final = (
    *("run", "protocol", "card_hash", "dataset", "metric", "unit", "dialect", "row", "kind", "value", "moved"),
    *("n", "N", "rank", "default_rank", "reasons"),
)


def number(value: float | None, decimals: int) -> str:
    """A value as tables print it."""
    if value is None:
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def movement(moved: float | None, decimals: int) -> str:
    """A difference with its sign; ``=`` where it is none, ``≈`` where it is less than half of the last digit."""
    if moved is None:
        return ""
    if moved == 0:
        return SAME
    text = f"{abs(moved):.{decimals}f}"
    if float(text) == 0:
        return ALIKE
    return ("+" if moved > 0 else "−") + text


def title(panel: Panel) -> str:
    """What a panel is of, in one line."""
    height, width = panel.entry.image_size
    arrow = "↑" if panel.metric.higher_is_better else "↓"
    unit = f" ({panel.metric.unit})" if panel.metric.unit else ""
    frames = " of novel frames" if panel.score_key.endswith("/novel") else ""
    clip = f"{panel.entry.frames}×{height}×{width}"
    return f"{panel.metric.title}{frames} {arrow}{unit} · {panel.title} · {panel.entry.dataset_title} {clip}"


def default_key(panel: Panel) -> str:
    """How the card's own way is called at the head of a panel's lines."""
    return f"{panel.metric.key.partition('@')[2]} (the card)"


def rank_text(line: Line) -> str:
    """Rows whose rank changed, as ``row 2→1``; ``=`` where all stand as they did, and nothing where none has a rank."""
    changes = [f"{label} {before}→{after}" for label, (before, after) in line.rank_changes.items()]
    if changes:
        return ", ".join(changes)
    return SAME if any(shown.rank is not None for shown in line.rows.values()) else ""


def test_text(panel: Panel, line: Line) -> str:
    """How many pairs of rows the paired test tells apart, and for which pairs that is not as in the card's own way."""
    found = verdicts(line)
    if found is None:
        return ""
    changes = panel.verdict_changes(line)
    parts = [f"{found[0]} of {found[1]}"]
    for word, wanted in (("no longer", True), ("now", False)):
        pairs = [f"{a}/{b}" for (a, b), (before, _) in changes.items() if before is wanted]
        if pairs:
            parts.append(f"({word} {', '.join(pairs)})")
    return " ".join(parts)


def findings(panel: Panel) -> list[str]:
    """What changes in a panel, in words: ranks and verdicts of the paired test, and numbers that are missing."""
    default, others = panel.lines[0], panel.lines[1:]
    found = [f"ranks under {line.key}: {rank_text(line)}" for line in others if line.rank_changes]
    if rank_text(default) and not found:
        found.append("no dialect changes a rank")
    if verdicts(default):
        changed = [f"under {line.key} {test_text(panel, line)}" for line in others if panel.verdict_changes(line)]
        untested = [line.key for line in others if line.separated is None]
        aside = f"; {' and '.join(untested)} have no number a scene to test" if untested else ""
        own = test_text(panel, default)
        verdict = "; ".join([own, *changed]) if changed else f"{own}, the same in every dialect"
        found.append(f"pairs told apart (paired test over scenes, Holm-corrected p ≤ {LEVEL:g}): {verdict}{aside}")
    for line in panel.lines:
        for label, shown in line.rows.items():
            if shown.reasons:
                why = "; ".join(f"{count} × {reason}" for reason, count in list(shown.reasons.items())[:3])
                found.append(f"{line.key}, {label}: n = {shown.n} of {shown.planned} scenes: {why}")
    return found


def notes(found: Explanation) -> list[str]:
    """What stands below the tables: did the numbers come out again, what failed, what has no other dialect."""
    lines = []
    if found.differences:
        worst = max(found.differences, key=lambda difference: abs(difference.again - difference.recorded))
        protocol, _, scene, row, seed = worst.place
        lines.append(
            f"NOT REPRODUCED: {len(found.differences)} of {found.compared} recorded scores came out otherwise in the "
            f"card's own way; farthest {worst.metric} of {row}, {protocol}, scene {scene}, seed {seed}: "
            f"{worst.recorded:.6g} recorded, {worst.again:.6g} now"
        )
    elif found.compared:
        lines.append(f"All {found.compared} recorded scores came out again in the card's own way.")
    lines += [f"{count} predictions not scored again: {reason}" for reason, count in found.failed.items()]
    lines += [f"No number, not shown: {key}: {reason}" for key, reason in found.absent.items()]
    if found.unmoved:
        lines.append(f"One dialect only, not shown: {', '.join(found.unmoved)}")
    if found.partial:
        lines.append("Partial run: fewer scenes than its cards ask for.")
    return lines


def print_explanation(console: Console, found: Explanation) -> None:
    """Print every panel, the dialects that it names, and what did not come out again."""
    width = min(console.width, WIDTH)
    for panel in found.panels:
        console.print(Text(printable(title(panel)), style="bold"), width=width)
        for piece in _pieces(console, panel, width):
            console.print(_grid(panel, piece), width=width)
        for text in findings(panel):
            console.print(Text(printable(text)), width=width)
        console.print()
    legend = RichTable(box=None, pad_edge=False, header_style="bold")
    legend.add_column("dialect", no_wrap=True)
    legend.add_column("what it changes", overflow="fold")
    legend.add_column("who has it so", overflow="fold")
    for dialect in found.dialects:
        legend.add_row(dialect.key, Text(dialect.summary), Text(dialect.used_by))
    console.print(legend, width=width)
    console.print()
    for text in notes(found):
        style = "bold red" if text.startswith("NOT REPRODUCED") else "yellow" if "not scored again" in text else ""
        console.print(Text(printable(text), style=style), width=width)


def _pieces(console: Console, panel: Panel, width: int) -> list[Sequence[RowEntry]]:
    """Cut a panel's rows, which are columns here, into as few neighbouring pieces as fit the width."""
    unbounded = console.options.update(width=10_000)
    pieces: list[Sequence[RowEntry]] = []
    piece: list[RowEntry] = []
    for row in panel.rows:
        if piece and console.measure(_grid(panel, [*piece, row]), options=unbounded).maximum > width:
            pieces.append(piece)
            piece = []
        piece.append(row)
    return [*pieces, piece] if piece else pieces


def _grid(panel: Panel, rows: Sequence[RowEntry]) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    # as wide as the widest key anywhere, so that the columns of all pieces stand below each other
    grid.add_column("", no_wrap=True, min_width=_KEY_WIDTH)
    for row in rows:
        style = "" if row.kind == "method" else _GREY
        grid.add_column(Text(printable(row.label)), justify="right", no_wrap=False, overflow="fold", style=style)
    for line in panel.lines:
        cells = [Text(default_key(panel) if line.dialect is None else line.key)]
        for row in rows:
            shown = line.rows[row.label]
            moved = "" if line.dialect is None else movement(shown.moved, panel.decimals)
            changed = "bold" if line.rank_changes.get(row.label) else ""
            cells.append(Text(f"{number(shown.value, panel.decimals)} {moved:>{panel.decimals + 3}}", style=changed))
        grid.add_row(*cells)
        if line.dialect is None:
            grid.add_section()
    return grid


def render_markdown(found: Explanation) -> str:
    """An explanation in GitHub's markdown."""
    parts = []
    for panel in found.panels:
        heads = ["dialect", *(escape_markdown(row.label) for row in panel.rows), "ranks", "pairs told apart"]
        body = []
        for line in panel.lines:
            cells = [escape_markdown(default_key(panel)) if line.dialect is None else escape_markdown(line.key)]
            for row in panel.rows:
                shown = line.rows[row.label]
                moved = "" if line.dialect is None else movement(shown.moved, panel.decimals)
                cells.append(escape_markdown(f"{number(shown.value, panel.decimals)} {moved}".strip()))
            body.append([*cells, escape_markdown(rank_text(line)), escape_markdown(test_text(panel, line))])
        align = ["left", *["right"] * len(panel.rows), "left", "left"]
        table = tabulate(body, heads, tablefmt="pipe", colalign=align, disable_numparse=True)
        below = [f"- {escape_markdown(text)}" for text in findings(panel)]
        below.append(f"- card {panel.protocol} {panel.card_hash}")
        parts.append(f"**{escape_markdown(title(panel))}**\n\n{table}\n\n" + "\n".join(below))
    legend = [
        [escape_markdown(text) for text in (dialect.key, dialect.summary, dialect.used_by, dialect.source)]
        for dialect in found.dialects
    ]
    parts.append(tabulate(legend, ["dialect", "what it changes", "who has it so", "source"], tablefmt="pipe"))
    parts.append("\n".join(f"- {escape_markdown(text)}" for text in notes(found)))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_csv(found: Explanation) -> str:
    """Every number of an explanation, one line each, with all digits."""
    import pandas as pd

    lines = []
    for panel in found.panels:
        for line in panel.lines:
            for row in panel.rows:
                shown = line.rows[row.label]
                reasons = "; ".join(f"{count} × {reason}" for reason, count in shown.reasons.items())
                values = (
                    *(found.run, panel.protocol, panel.card_hash, panel.entry.dataset, panel.score_key),
                    *(panel.metric.unit, line.key, row.label, row.kind, shown.value, shown.moved, shown.n),
                    *(shown.planned, shown.rank, shown.default_rank, reasons),
                )
                lines.append([csv_cell(value) for value in values])
    frame = pd.DataFrame(lines, columns=list(_CSV_COLUMNS), dtype=object)
    return str(frame.to_csv(index=False, lineterminator="\n"))
