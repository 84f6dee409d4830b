"""What stands below measured numbers: footnotes of cells, and notes on runs."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from gen3r_bench.reports.summary import CellStats, provenances_shown, row_facts
from gen3r_bench.runs.record import PlanEntry
from gen3r_bench.runs.store import Run

_REASONS_SHOWN: Final = 3
_REASON_LENGTH: Final = 160
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


def run_name(run: Run) -> str:
    """The name of a run's folder, also of a path that ends in ``.``; bytes that are no text are shown as escapes."""
    return os.fsencode(run.path.resolve().name).decode(errors="backslashreplace")


class Footnotes:
    """Texts in order of first use; equal texts share a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def of(self, stats: CellStats) -> tuple[int, ...]:
        if not stats.reasons:
            return ()
        shown = [f"{count} × {shortened(reason)}" for reason, count in stats.reasons.items()]
        if len(shown) > _REASONS_SHOWN:
            more = len(shown) - _REASONS_SHOWN
            shown = [*shown[:_REASONS_SHOWN], f"{more} more reason{'s' if more > 1 else ''} (in the CSV)"]
        text = f"n = {stats.n} of {stats.planned} scenes: {'; '.join(shown)}"
        if text not in self.texts:
            self.texts.append(text)
        return (self.texts.index(text),)


def shortened(reason: str) -> str:
    """In one line of bounded length; where an error says its remedy last, that is kept, unless it takes most of it."""
    line = " ".join(reason.split())
    if len(line) <= _REASON_LENGTH:
        return line
    told, _, remedy = line.rpartition(" (fix: ")
    kept = f" (fix: {remedy}" if told and len(remedy) <= _REASON_LENGTH // 2 else ""
    return line[: _REASON_LENGTH - 1 - len(kept)] + "…" + kept


def clip_notes(shown: Sequence[tuple[Run, Sequence[PlanEntry]]]) -> list[str]:
    """How many scenes stand behind numbers without a footnote, and what clips they are."""
    lines = []
    for _, entries in shown:
        for entry in entries:
            count = len(entry.scenes)
            clip = f"{entry.frames} frames of {entry.image_size[0]}×{entry.image_size[1]}"
            lines.append(
                f"{entry.protocol} on {entry.dataset_title}: n = {count} of {count} scenes where no footnote says "
                f"otherwise; {clip}, from frame {entry.start} in steps of {entry.stride}."
            )
    return lines


def provenance_notes(shown: Sequence[tuple[Run, Sequence[PlanEntry]]], footnotes: Sequence[str]) -> list[str]:
    """What stands below measured numbers: cards, warnings, facts about rows."""
    lines = []
    cards = {
        (entry.protocol, run.header.card(entry.protocol).hash): None for run, entries in shown for entry in entries
    }
    lines.append("Cards: " + ", ".join(f"{name} {digest}" for name, digest in cards) + ".")
    lines += [
        f"Partial run: {entry.protocol} scored {len(entry.scenes)} of the card's {entry.scenes_in_full} scenes of "
        f"{entry.dataset_title}; these numbers are not the protocol's."
        for _, entries in shown
        for entry in entries
        if entry.partial
    ]
    lines += [
        f"{entry.dataset_title}: scenes that were never drawn: {counted(entry.left_out)}."
        for _, entries in shown
        for entry in entries
        if entry.left_out
    ]
    caps = {
        run.header.card(entry.protocol).content["psnr_cap_db"]
        for run, entries in shown
        for entry in entries
        if _has_psnr(run, entry)
    }
    lines += [f"PSNR of a frame is capped at {cap:g} dB, since identical frames give infinity." for cap in sorted(caps)]
    for run, entries in shown:
        if run.repeated:
            lines.append(f"{run_name(run)}: {run.repeated} lines of its records repeat other lines; each counts once.")
        if len(run.header.seeds) > 1:
            lines.append(f"{run_name(run)}: mean over seeds {', '.join(map(str, run.header.seeds))} within each scene.")
        for protocol in dict.fromkeys(entry.protocol for entry in entries):
            for label, facts in row_facts(run, protocol).items():
                lines += [f"{label}, {protocol}: {text} ({n} records)." for text, n in merged(facts).items()]
            lines += [
                f"{key} computed with {_listed(facts)}."
                for key, found in provenances_shown(run, protocol).items()
                for facts in found
            ]
        datasets = {entry.dataset: entry.dataset_title for entry in entries}
        for row in run.header.rows:
            trained = [title for name, title in datasets.items() if name in row.training_sets]
            if trained:
                lines.append(f"{row.label} was trained on scenes of {', '.join(trained)}.")
    if footnotes:
        lines.append("A cell that misses scenes which others have is not ranked.")
    return list(dict.fromkeys(lines))


def _listed(facts: Mapping[str, str]) -> str:
    """Facts of a provenance in one line; a hash by its first digits."""
    return ", ".join(
        f"{name} {value[:12] if re.fullmatch('[0-9a-f]{64}', value) else value}" for name, value in facts.items()
    )


def counted(left_out: Mapping[str, int], most: int = 3) -> str:
    """``3 × too short; 2 × another reason``, the most frequent reasons first; the run's header has them all."""
    parts = [f"{count} × {reason}" for reason, count in list(left_out.items())[:most]]
    rest = sum(list(left_out.values())[most:])
    return "; ".join([*parts, f"{rest} × other reasons (see run.json)"] if rest else parts)


def _has_psnr(run: Run, entry: PlanEntry) -> bool:
    return any(key.startswith("psnr@") for key in run.header.card(entry.protocol).content["metrics"])


def merged(facts: Counter[str]) -> dict[str, int]:
    """Remarks that differ only in their numbers as one, with ranges: "sampled 11215–12544 points", on 3 records."""
    alike: dict[str, list[str]] = {}
    for fact in facts:
        alike.setdefault(_NUMBER.sub("0", fact), []).append(fact)
    merged = {}
    for members in alike.values():
        text = _NUMBER.sub("{}", members[0].replace("{", "{{").replace("}", "}}"))
        columns = [sorted(set(column), key=float) for column in zip(*map(_NUMBER.findall, members), strict=True)]
        ranges = ["–".join(dict.fromkeys([column[0], column[-1]])) for column in columns]
        merged[shortened(text.format(*ranges))] = sum(facts[fact] for fact in members)
    return merged


def environment_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    lines = []
    for run in runs:
        header = run.header
        facts = {"gen3r-bench": header.suite_version} | header.environment
        parts = [f"{name} {value}" for name, value in facts.items()]
        if header.geometry_backend != "exact":
            parts.append(f"geometry backend {header.geometry_backend}")
        lines.append(f"Environment of {run_name(run)}: {', '.join(parts)}.")
    return tuple(lines)
