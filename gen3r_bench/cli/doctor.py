"""``gen3r-bench data doctor``: is what lies on the disk what the reader takes it for?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen3r_bench.cli import options
from gen3r_bench.errors import BenchError

if TYPE_CHECKING:
    from gen3r_bench.datasets.base import ClipProfile
    from gen3r_bench.datasets.doctor import Diagnosis


def doctor(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="As in `ls datasets`.")],
    data_root: options.OneDataRoot = None,
    dataset_option: options.OneDatasetOptions = None,
    scene: Annotated[
        list[str] | None, typer.Option("--scene", metavar="ID", help="Examine this scene; repeatable.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Without --scene: examine the first N scenes.")] = 3,
    frames: options.Frames = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="Height and width in pixels.", show_default="as the protocols have it")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="Also draw frames, depth and camera path into this PNG."),
    ] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Examine scenes before a GPU hour is spent on them; says which convention is wrong, where one is.

    Exit code 0 where all checks hold (warnings included), 1 where an integrity or convention check fails.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gen3r_bench.datasets.doctor import diagnose

    roots = None if data_root is None else [f"{dataset}={data_root}"]
    reader = options.open_datasets([dataset], roots, dataset_option)[dataset].reader
    profile = _profile(dataset, frames, size)
    scenes = list(dict.fromkeys(scene or reader.scene_ids()[:count]))
    if not scenes:
        raise BenchError(f"{dataset} draws no scene here; name one with --scene")
    diagnoses, panels = [], []
    columns = (TextColumn("examining"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    talk = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=talk, disable=quiet, transient=True) as bar:
        task = bar.add_task("", total=len(scenes))
        for scene_id in scenes:
            bar.update(task, description=scene_id)
            diagnosis, read = diagnose(reader, scene_id, profile)
            diagnoses.append(diagnosis)
            if sheet is not None:
                from gen3r_bench.reports.contact_sheet import scene_panel

                panels.append(scene_panel(diagnosis, read))
            bar.advance(task)
    if json_:
        typer.echo(json.dumps([diagnosis.as_json() for diagnosis in diagnoses], indent=1, ensure_ascii=False))
    else:
        _show(diagnoses)
    if sheet is not None:
        from gen3r_bench.reports.contact_sheet import stacked

        try:
            stacked(panels).save(sheet, format="PNG")
        except OSError as error:
            raise BenchError(f"cannot write {sheet}: {error.strerror} (fix: choose another --sheet)") from error
        talk.print(f"Contact sheet: {sheet}", highlight=False, markup=False)
    failed = [diagnosis for diagnosis in diagnoses if diagnosis.level == "error"]
    if failed:
        talk.print(f"{len(failed)} of {len(diagnoses)} scenes fail.", highlight=False)
        raise typer.Exit(1)


def _profile(dataset: str, frames: int | None, size: int | None) -> ClipProfile:
    """The clip that protocols read of this dataset, with what the user said instead."""
    from gen3r_bench import registry
    from gen3r_bench.datasets.base import ClipProfile
    from gen3r_bench.protocols.card import ClipPlan

    cards = (registry.protocols().load(name) for name in registry.protocols().names())
    plan = next((card.datasets[dataset] for card in cards if dataset in card.datasets), ClipPlan())
    return ClipProfile(
        frames=plan.frames if frames is None else frames,
        image_size=plan.image_size if size is None else (size, size),
        stride=plan.stride,
        start=plan.start,
    )


def _show(diagnoses: list[Diagnosis]) -> None:
    """A table of each scene's findings, never wider than 100 columns; messages below the numbers."""
    from rich.table import Table
    from rich.text import Text

    console = options.table_console()
    styles = {"ok": "green", "warning": "yellow", "error": "bold red"}
    for number, diagnosis in enumerate(diagnoses):
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("check", "level", "measured", "expected"):
            table.add_column(column, overflow="fold", no_wrap=column == "level")
        for finding in diagnosis.findings:
            level = Text(finding.level, style=styles[finding.level])
            table.add_row(Text(finding.check), level, Text(finding.measured), Text(finding.expected))
        title = f"{diagnosis.dataset} {diagnosis.scene_id}: {diagnosis.level}"
        convention = f"convention: {diagnosis.convention or 'cannot tell'}"
        console.print(("\n" if number else "") + title, style="bold", markup=False, highlight=False)
        console.print(table)
        for finding in diagnosis.findings:
            if finding.message:
                mark = Text(f"{finding.level}: ", style=styles[finding.level])
                console.print(Text.assemble(mark, f"{finding.check}: {finding.message}"))
        console.print(convention, markup=False, highlight=False)
