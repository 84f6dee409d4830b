"""``gen3r-bench weights``: which weights are here, where the others belong, and fetching them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gen3r_bench.cli import options
from gen3r_bench.errors import BenchError, InputError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from gen3r_bench.weights import WeightEntry

GB = 1e9
Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Only these: a method, a metric, or a name in the list.")
]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Methods, metrics, or names in the list.")]

app = typer.Typer(help="Official weights of methods and metrics: list, check, fetch.")


@app.callback(invoke_without_command=True)
def weights(context: typer.Context, json_: options.Json = False) -> None:
    """Official weights of methods and metrics: which are here, where the others belong, and how to get them."""
    if context.invoked_subcommand is None:
        _list(None, json_)


@app.command("list")
def list_(name: Name = None, json_: options.Json = False) -> None:
    """List weights: which are here, where the others belong, and the commands that fetch them."""
    _list(name, json_)


@app.command()
def check(name: Name = None, json_: options.Json = False) -> None:
    """Read every file that is here: hash, size, completeness; say where the others come from. Exit 1 on a fault."""
    from gen3r_bench.weights import entries

    rows = [_row(entry, with_files=True) for entry in entries(name)]
    faults = [file["fault"] for row in rows for file in row["files"] if file["fault"]]
    if json_:
        typer.echo(json.dumps({"weights": rows}, indent=1, ensure_ascii=False))
    else:
        _print_rows(rows)
        for row in rows:
            for file in row["files"]:
                typer.echo(f"{file['file']}  sha256 {file['sha256']}  {file['size_bytes']} bytes  {_verdict(file)}")
            if row["state"] == "missing":
                typer.echo(f"{row['place']}  not here; from {row['url'] or row['hub_id']}")
    if faults or any(row["state"] == "partial" for row in rows):
        raise typer.Exit(1)


@app.command()
def where(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method, a metric, or a name in the list.")],
    json_: options.Json = False,
) -> None:
    """Print where weights belong on this machine, a line each, whether they are here or not."""
    from gen3r_bench.weights import entries

    found = entries(name)
    if json_:
        places = {entry.name: str(entry.path) for entry in found}
        typer.echo(json.dumps(places, indent=1, ensure_ascii=False))
        return
    for entry in found:
        typer.echo(entry.path)


@app.command()
def fetch(
    names: Names,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Copy from this folder instead of downloading; hashes are checked."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Also what is for non-commercial use only, without asking.")
    ] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch what is not here yet, or only as random numbers. A broken download is continued; a file of another hash is
    not kept.

    Prints the files that came.
    """
    from rich.console import Console

    from gen3r_bench.weights import entries
    from gen3r_bench.weights.check import check_files
    from gen3r_bench.weights.fetch import copy_from, fetch

    if source is not None and not source.is_dir():
        raise InputError(f"--from {source}", expected="a folder that holds the files")
    chosen = list({entry.name: entry for name in names for entry in entries(name)}.values())
    talk = Console(stderr=True, quiet=quiet)
    wanted = [
        entry
        for entry in chosen
        if entry.state() != "present" or any(file.fault or file.random for file in check_files(entry))
    ]
    for entry in chosen:
        if entry not in wanted:
            talk.print(f"{entry.name} is here: {entry.path}", highlight=False, markup=False, soft_wrap=True)
    by_hand = [entry for entry in wanted if source is None and entry.source is None]
    wanted = [entry for entry in wanted if entry not in by_hand]
    _agree(wanted, source, talk, yes)
    failed, came = False, list[str]()
    for entry in wanted:
        try:
            if source is not None:
                files = copy_from(entry, source)
            else:
                with _bar(talk, entry.name, quiet) as bar:
                    files = fetch(entry, bar=bar)
        except BenchError as error:
            print(f"gen3r-bench: error: {error}", file=sys.stderr)
            failed = True
        else:
            came += map(str, files)
            for file in () if json_ else files:
                typer.echo(file)
    if json_:
        typer.echo(json.dumps(came, indent=1, ensure_ascii=False))
    for entry in by_hand:
        print(f"{entry.name} is a folder of a Hugging Face model, which this does not fetch: run", file=sys.stderr)
        print(f"  {entry.command()}", file=sys.stderr)
    if failed or by_hand:
        raise typer.Exit(1)


def _agree(wanted: list[WeightEntry], source: Path | None, talk: Any, yes: bool) -> None:
    """Say what will come, from where, under which licence; without --yes, ask where that forbids commercial use."""
    for entry in wanted:
        restricted = " [bold]non-commercial use only[/bold]" if entry.non_commercial else ""
        talk.print(f"{entry.name}: {entry.title or entry.place} ({entry.size or 'size not published'})", soft_wrap=True)
        way = f"  from {source or entry.source} to {entry.path}"
        talk.print(way, highlight=False, markup=False, soft_wrap=True)
        talk.print(f"  licence: {entry.licence}{restricted}", highlight=False, soft_wrap=True)
    restricted_names = ", ".join(entry.name for entry in wanted if entry.non_commercial)
    if not restricted_names or yes:
        return
    if not _can_ask():
        raise InputError(
            f"{restricted_names}: for non-commercial use only",
            expected="your agreement, since nobody can be asked here",
            fix="add --yes once you have read the licence",
        )
    typer.confirm(f"Fetch {restricted_names}, for non-commercial use only?", abort=True, err=True)


def _can_ask() -> bool:
    return sys.stdin.isatty()


class _Bar:
    """A bar of rich that pooch can drive; it sets ``total`` once it knows how much is to come."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def total(self) -> int:
        return int(self._progress.tasks[0].total or 0)

    @total.setter
    def total(self, count: int) -> None:
        self._progress.update(self._task, total=count)

    def update(self, count: int) -> None:
        self._progress.update(self._task, advance=count)

    def reset(self) -> None:
        self._progress.reset(self._task, start=False)

    def close(self) -> None:
        self._progress.refresh()


def _bar(talk: Any, name: str, quiet: bool) -> _Bar:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=talk, disable=quiet, transient=True)
    return _Bar(progress, progress.add_task(name, total=None))


def _list(name: str | None, json_: bool) -> None:
    from gen3r_bench.weights import download_commands, entries

    chosen = entries(name)
    rows = [_row(entry) for entry in chosen]
    commands = download_commands(chosen)
    if json_:
        typer.echo(json.dumps({"weights": rows, "download": commands}, indent=1, ensure_ascii=False))
        return
    _print_rows(rows)
    if commands:
        typer.echo("to download what is not here:")
        for command in commands:
            typer.echo(f"  {command}")


def _row(entry: WeightEntry, *, with_files: bool = False) -> dict[str, Any]:
    import dataclasses

    from gen3r_bench.weights.check import check_files

    files = (
        [{**dataclasses.asdict(found), "file": str(found.file)} for found in check_files(entry)] if with_files else []
    )
    return {
        "name": entry.name,
        "title": entry.title,
        "needed_by": list(entry.needed_by),
        "place": str(entry.path),
        "state": entry.state(),
        "bytes_here": sum(file.stat().st_size for file in entry.files()),
        "size": entry.size,
        "size_bytes": entry.size_bytes,
        "url": entry.source,
        "hub_id": entry.hub_id or None,
        "hub_path": entry.hub_path or None,
        "licence": entry.licence,
        "non_commercial": entry.non_commercial,
        "sha256": entry.sha256,
        "files": files,
    }


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from gen3r_bench.locations import weights_root

    table = table_of("name", "state", "size", "needed by", "licence", wrapped=("needed by", "licence"))
    for row in rows:
        size = _size(row["bytes_here"]) if row["bytes_here"] else row["size"] or "–"
        table.add_row(row["name"], row["state"], size, ", ".join(row["needed_by"]), row["licence"])
    print_table(table, width=100)
    typer.echo(f"below {weights_root()} (GEN3R_BENCH_WEIGHTS); `gen3r-bench weights where NAME` prints paths")


def _size(count: int) -> str:
    """Bytes in the unit that leaves a figure before the point."""
    unit, name = next(((unit, name) for unit, name in ((GB, "GB"), (1e6, "MB")) if count >= unit), (1e3, "kB"))
    return f"{count / unit:.2f} {name}"


def _verdict(file: dict[str, Any]) -> str:
    if file["random"]:
        return "random numbers, made for a test: no table shows a score of them"
    if file["fault"]:
        return str(file["fault"])
    if file["verified"]:
        return "as published"
    return "as it was fetched" if file["as_fetched"] else "whole; no published hash is known"


def table_of(*columns: str, wrapped: tuple[str, ...] = ()) -> Table:
    """A table whose wrapped columns, or else the last one, take what room is left."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column not in (wrapped or columns[-1:]), overflow="fold")
    return table


def print_table(table: Table, *, width: int = 140) -> None:
    """Print it in the terminal's width, or in a fixed one where the output goes elsewhere."""
    from rich.console import Console

    console = Console()
    console.width = console.width if console.is_terminal else width
    console.print(table)
