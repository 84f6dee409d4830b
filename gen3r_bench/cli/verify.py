"""``gen3r-bench verify``: what a leaderboard's CI runs on a submission."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gen3r_bench.cli import options

if TYPE_CHECKING:
    from gen3r_bench.reports.leaderboard.verify import Verdict

_SHOWN: Final = 20


def verify(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Submissions: run folders.")],
    data_root: options.DataRoots = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Check submissions: checksums, cards, plan, legal scores, aggregates, and the scores themselves where bundles lie.

    Exit code 0 where nothing is wrong, 1 where something is, 2 where a folder cannot be read. Predictions are scored
    again without networks for films; datasets on disk need --data-root.
    """
    from rich.console import Console

    from gen3r_bench.registry import metrics
    from gen3r_bench.reports.leaderboard.verify import verify as verify_folder

    roots = options.named_roots(data_root)
    talk = Console(stderr=True, quiet=quiet)
    verdicts = {}
    with talk.status("verifying") as status:
        for folder in dict.fromkeys(folders):
            status.update(f"verifying {folder}")
            verdicts[folder] = verify_folder(folder, metrics(), roots)
    if as_json:
        typer.echo(json.dumps([_as_json(folder, verdict) for folder, verdict in verdicts.items()], indent=1))
    else:
        for folder, verdict in verdicts.items():
            typer.echo("\n".join(_lines(folder, verdict, with_notes=not quiet)))
    if any(verdict.findings for verdict in verdicts.values()):
        raise typer.Exit(1)


def _as_json(folder: Path, verdict: Verdict) -> dict[str, object]:
    return {
        "folder": str(folder),
        "ok": not verdict.findings,
        "records": len(verdict.run.records),
        "predictions": verdict.rescored.kept,
        "rescored": verdict.rescored.predictions,
        "largest_differences": verdict.rescored.largest,
        "findings": [asdict(finding) for finding in verdict.findings],
        "notes": list(verdict.notes),
    }


def _lines(folder: Path, verdict: Verdict, *, with_notes: bool) -> list[str]:
    from gen3r_bench.reports.render import printable

    findings, rescored = verdict.findings, verdict.rescored
    state = "ok" if not findings else f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
    lines = [
        f"{folder}: {state}; {len(verdict.run.records)} records, {rescored.predictions} of {rescored.kept} predictions "
        "scored again"
    ]
    for finding in findings[:_SHOWN]:
        place = f" ({finding.place})" if finding.place else ""
        lines.append(f"  {printable(f'{finding.check}: {finding.message}{place}')}")
    if len(findings) > _SHOWN:
        lines.append(f"  and {len(findings) - _SHOWN} more (--json shows all)")
    if with_notes:
        largest = ", ".join(f"{key} {value:.2g}" for key, value in rescored.largest.items())
        notes = [*verdict.notes, *([f"Largest differences: {largest}."] if largest else [])]
        lines += [f"  note: {printable(note)}" for note in notes]
    return lines
