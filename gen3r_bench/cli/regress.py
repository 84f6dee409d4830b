"""``gen3r-bench regress``: has a commit moved a score of a reference checkpoint?"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen3r_bench.cli import options
from gen3r_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gen3r_bench.regression.calibrate import Update
    from gen3r_bench.regression.golden import Golden
    from gen3r_bench.regression.subset import Guarded


def regress(
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", metavar="ID[@CHECKPOINT]", help="Row to check; repeatable.", show_default="every golden's"
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", "-p", help="Protocol; repeatable.", show_default="every golden's")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Dataset; repeatable.", show_default="every golden's")
    ] = None,
    data_root: options.DataRoots = None,
    goldens: Annotated[
        Path | None,
        typer.Option("--goldens", metavar="DIR", help="Folder of goldens.", show_default="the shipped ones"),
    ] = None,
    device: options.Device = "cpu",
    jobs: options.Jobs = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Measure and calibrate anew, and write goldens instead of checking them.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="With --update: why the new numbers are right.")] = "",
    scenes: Annotated[
        list[str] | None,
        typer.Option(
            "--scenes", help="With --update: a scene; repeatable.", show_default="the old golden's, else a fixed few"
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="VARIANT",
            help="With --update: calibrate on this variant alone, such as '1 thread'; repeatable.",
            show_default="all",
        ),
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the subset of every golden again and compare it scene by scene with the golden scores.

    Exit code 0 where every score stays within its calibrated tolerance, 1 where one does not, where a scene fails or is
    missing, where a golden cannot be run, or where a card, weights or files are others; 2 on wrong usage. --update
    makes goldens, of any checkpoint:
    gen3r-bench regress --method gen3r@official --protocol geom-1view --update --reason "first" --goldens DIR
    """
    from gen3r_bench.regression.golden import Wanted, chosen, read_goldens, readable_goldens, reference_folder
    from gen3r_bench.regression.subset import to_update
    from gen3r_bench.runs.environment import code_commit

    folder = goldens or reference_folder()
    device = options.checked_device(device)
    wanted = Wanted(_once(method), _once(protocol), _once(dataset))
    if not update:
        for name, given in (("--reason", reason), ("--scenes", scenes), ("--over", over)):
            if given:
                raise InputError(f"{name} without --update", expected="both: a check takes these from the golden")
        if junit is not None:
            _require_writable(junit)
        guards = chosen(read_goldens(folder), wanted)
        roots = options.data_roots(wanted.datasets or [one.dataset for one in guards.values()], data_root)
        with _cleaned_up_on_sigterm():
            breached = _check(guards, roots, device, jobs, junit, as_json=json_, quiet=quiet)
        if breached and not quiet:
            typer.echo(_advice(breached, goldens, roots, device), err=True)
        if breached:
            raise typer.Exit(1)
        return
    if not reason.strip():
        raise InputError("--update without a reason", expected="why the new numbers are right", fix="--reason TEXT")
    if junit is not None:
        raise InputError("--junit with --update", expected="one of them: an update checks nothing")
    if goldens is None and not code_commit():
        raise InputError("--update of the shipped goldens outside a checkout", expected="--goldens DIR")
    _require_folder(folder)
    there, problems = readable_goldens(folder)
    for problem in problems:
        typer.echo(f"Passed over: {problem}", err=True)
    names = wanted.datasets or [one.dataset for one in there.values() if wanted.fits(one)] or ["mini"]
    roots = options.data_roots(names, data_root)
    guarded = to_update(list(there.values()), wanted, _once(scenes), roots, device)
    with _cleaned_up_on_sigterm():
        _update(guarded, folder, roots, device, reason.strip(), _once(over), as_json=json_, quiet=quiet)


def _once(texts: list[str] | None) -> tuple[str, ...]:
    """What a repeatable option was given, each once."""
    return tuple(dict.fromkeys(texts or ()))


def _require_writable(junit: Path) -> None:
    """Check that a file can be written, before the work whose result it takes.

    Raises:
        InputError: where it is a folder, or lies in none that is there and can be written.
    """
    if os.path.isdir(junit):
        raise InputError(f"--junit {junit}, which is a folder", expected="a file in it")
    if not os.path.isdir(junit.parent):
        fix = shlex.join(["mkdir", "-p", str(junit.parent)])
        raise InputError(f"--junit {junit}", expected="a file in a folder that is there", fix=fix)
    if not os.access(junit.parent, os.W_OK | os.X_OK):
        raise InputError(f"--junit {junit}", expected="a file in a folder that can be written")


def _require_folder(goldens: Path) -> None:
    """Check that a folder is there or can be made, before the work whose result it takes.

    Raises:
        InputError: where a file lies there, or its place cannot be written.
    """
    nearest = next(place for place in (goldens, *goldens.parents) if os.path.exists(place))
    if not os.path.isdir(nearest):
        raise InputError(f"--goldens {goldens}: {nearest} is a file", expected="a folder, which may be new")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"--goldens {goldens}: {nearest} cannot be written", expected="a folder that can be")


@contextmanager
def _cleaned_up_on_sigterm() -> Iterator[None]:
    """End on SIGTERM as on an exception, so that temporary folders go with the command."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(
    goldens: Mapping[Path, Golden],
    roots: Mapping[str, Path],
    device: str,
    jobs: int | None,
    junit: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> list[Golden]:
    """Run and judge goldens, print what was found, and return those that are breached."""
    from gen3r_bench.regression.check import check
    from gen3r_bench.regression.report import judgements_json, print_judgements, write_junit

    total = sum(len(golden.records) for golden in goldens.values())
    done = 0
    with options.progress_bar("running", quiet) as bar:

        def step(what: str, records: int) -> None:
            nonlocal done
            done += records
            bar(what, done, total)

        judgements = check(goldens, roots=roots, device=device, jobs=jobs or options.default_jobs(), progress=step)
    if as_json:
        typer.echo(json.dumps(judgements_json(judgements), indent=1, ensure_ascii=False))
    else:
        print_judgements(options.table_console(), judgements)
    if junit is not None:
        write_junit(judgements, junit)
    return [one.golden for one in judgements if not one.ok]


def _advice(breached: Sequence[Golden], goldens: Path | None, roots: Mapping[str, Path], device: str) -> str:
    """Commands that look closer at the first breach, and that make the breached goldens anew, and no others.

    Args:
        breached: one or more.
        goldens: their folder, where it was named.
        roots: where datasets lie.
        device: where networks ran.
    """
    from gen3r_bench.regression.measure import run_words
    from gen3r_bench.regression.subset import Guarded

    look = [*run_words([Guarded.of(breached[0])], device=device, roots=roots), "--keep-predictions"]
    lines = [f"Look closer: {shlex.join(['gen3r-bench', *look])}"]
    protocols: dict[tuple[str, str], list[str]] = {}
    for one in breached:
        protocols.setdefault((one.spec, one.dataset), []).append(one.protocol)
    for (spec, dataset), names in protocols.items():
        words = ["gen3r-bench", "regress", "--update", "--reason", "TEXT", "-m", spec, "-d", dataset]
        for name in dict.fromkeys(names):
            words += ["-p", name]
        if dataset in roots:
            words += ["--data-root", f"{dataset}={roots[dataset]}"]
        if goldens is not None:
            words += ["--goldens", str(goldens)]
        lines.append(f"Meant to move? {shlex.join([*words, '--device', device])}")
    return "\n".join(lines)


def _update(
    guarded: Sequence[Guarded],
    folder: Path,
    roots: Mapping[str, Path],
    device: str,
    reason: str,
    over: tuple[str, ...],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make goldens, group by group, and print what they tolerate; a group is written and told when it is finished."""
    from rich.console import Console

    from gen3r_bench.regression.calibrate import update
    from gen3r_bench.regression.report import print_update, print_update_legend, updates_json

    talk, console = Console(stderr=True, quiet=quiet), options.table_console()
    written: list[Update] = []
    try:
        with talk.status("starting") as status:
            for one in update(
                guarded, folder, reason=reason, device=device, roots=roots, over=over, progress=status.update
            ):
                written.append(one)
                if not as_json:
                    status.stop()  # so that the table begins on a line of its own
                    print_update(console, one)
                    status.start()
    finally:  # where a later group fails, the earlier ones are written
        if written and as_json:
            typer.echo(json.dumps(updates_json(written), indent=1, ensure_ascii=False))
        elif written:
            print_update_legend(console)
