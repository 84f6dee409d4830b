"""``gen3r-bench data``: splits pinned to files, published lists, and exports in the official layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen3r_bench.cli import options
from gen3r_bench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from gen3r_bench.datasets.base import ClipProfile, OpenedDataset
    from gen3r_bench.protocols.card import ClipPlan
    from gen3r_bench.scene import Scene

app = typer.Typer(help="Pin splits to files, check them, and export scenes.", no_args_is_help=True)

Size = Annotated[
    int | None, typer.Option(min=1, help="Height and width in pixels.", show_default="as the protocols have it")
]


@app.command()
def split(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="As in `ls datasets`.")],
    data_root: options.OneDataRoot = None,
    dataset_option: options.OneDatasetOptions = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="How many usable scenes.", show_default="as the protocols have it")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", "-p", help="Take clip and count from this protocol, where protocols differ."),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Draw from a published list (see `data published`) instead of by our rule."),
    ] = None,
    frames: options.Frames = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Steps between frames.")] = None,
    start: Annotated[int | None, typer.Option(min=0, help="First frame.")] = None,
    size: Size = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Manifest to write.", show_default="standard output")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Draw the usable scenes of a dataset and pin them, with their files' checksums, in a manifest.

    Every drawn clip is read in full once. Exit code 1 where fewer scenes are usable than were asked for.
    """
    from gen3r_bench.datasets.splits import make_manifest, published_split

    wanted = None if published is None else published_split(published)
    opened = _open(dataset, data_root, dataset_option)
    plan = _plan(dataset, protocol)
    profile = _clip(plan, frames, size, stride, start)
    if count is None and published is None:
        count = plan.scenes
    with _progress("drawing", quiet) as step:
        manifest = make_manifest(dataset, opened, profile, count, published=wanted, progress=step)
    if out is None:
        typer.echo(manifest.model_dump_json(indent=1))
    else:
        manifest.write(out)
    counts = manifest.counts
    if not quiet:
        asked = "" if counts.wanted is None else f" of {counts.wanted} wanted"
        place = "" if out is None else f" in {out}"
        typer.echo(
            f"{counts.usable} scene{'s' * (counts.usable != 1)}{asked}, {counts.excluded} excluded, "
            f"{counts.listed} listed ({manifest.rule}){place}",
            err=True,
        )
        for scene in manifest.excluded[:5]:
            typer.echo(f"  excluded {scene.scene_id}: {scene.reason}", err=True)
        if counts.excluded > 5:
            typer.echo(f"  … and {counts.excluded - 5} more; the manifest has every reason", err=True)
    if counts.usable < (1 if counts.wanted is None else counts.wanted):
        raise typer.Exit(1)


@app.command()
def verify(
    manifest: Annotated[Path, typer.Argument(metavar="FILE", help="A manifest that `data split` wrote.")],
    data_root: options.OneDataRoot = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check that a disk holds the very files that a manifest pins; exit code 1 where it does not."""
    from gen3r_bench.datasets.splits import SplitManifest, verify_manifest

    pinned = SplitManifest.read(manifest)
    settings = [f"{name}={value}" for name, value in pinned.options.items()]
    opened = _open(pinned.dataset, data_root, settings)
    with _progress("checking", quiet) as step:
        problems = verify_manifest(pinned, opened, step)
    if json_:
        report = {"manifest": pinned.sha256, "scenes": len(pinned.scenes), "problems": problems}
        typer.echo(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        for problem in problems:
            typer.echo(problem)
    if not quiet:
        found, count = len(problems), len(pinned.scenes)
        said = f"{found} problem{'s' * (found != 1)} in" if problems else "all files are as pinned:"
        typer.echo(f"{said} {count} scene{'s' * (count != 1)} of {pinned.dataset} ({manifest})", err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def export(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Whose scenes to write, for example mini.")],
    format_: Annotated[str, typer.Option("--format", "-f", metavar="FORMAT", help="Official layout to write in.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or an export to add to.")],
    data_root: options.OneDataRoot = None,
    dataset_option: options.OneDatasetOptions = None,
    scenes: Annotated[list[str] | None, typer.Option(help="Only this scene; repeatable.", show_default="all")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N scenes.")] = None,
    frames: options.Frames = None,
    size: Size = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write scenes in the layout of an official download: to see what it looks like, and to test readers without one.

    Prints the folder of each scene.
    """
    from gen3r_bench.datasets.export import WRITERS, export_scenes

    if format_ not in WRITERS:
        raise UnknownNameError("export format", format_, WRITERS)
    opened = _open(dataset, data_root, dataset_option)
    profile = _clip(_plan(dataset, None), frames, size)
    with _progress("writing", quiet) as step:

        def read(scene_id: str) -> Scene:
            step(scene_id)
            return opened.reader.load(scene_id, profile)

        folders = export_scenes(map(read, (scenes or opened.reader.scene_ids())[:limit]), format_, out)
    if json_:
        typer.echo(json.dumps([str(folder) for folder in folders], indent=1, ensure_ascii=False))
    else:
        for folder in folders:
            typer.echo(str(folder))


@app.command()
def published(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print the scene ids of this list.")] = None,
    json_: options.Json = False,
) -> None:
    """Scene lists of published evaluations that a manifest can be drawn from."""
    from gen3r_bench.datasets.splits import published_names, published_split

    if name is not None:
        chosen = published_split(name)
        typer.echo(chosen.model_dump_json(indent=1) if json_ else "\n".join(chosen.scene_ids))
        return
    lists = [published_split(name) for name in published_names()]
    if json_:
        rows = [{**entry.model_dump(exclude={"scene_ids"}), "scenes": len(entry.scene_ids)} for entry in lists]
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "dataset", "scenes", "licence", "summary"):
        table.add_column(column, overflow="fold")
    for entry in lists:
        table.add_row(entry.name, entry.dataset, str(len(entry.scene_ids)), entry.licence, entry.summary)
    options.table_console().print(table)


def _open(dataset: str, root: Path | None, settings: list[str] | None) -> OpenedDataset:
    roots = None if root is None else [f"{dataset}={root}"]
    return options.open_datasets([dataset], roots, settings)[dataset]


def _plan(dataset: str, protocol: str | None) -> ClipPlan:
    """Clip and count of a dataset: those of the named protocol, or those that all protocols naming it agree on."""
    from gen3r_bench import registry
    from gen3r_bench.protocols.card import ClipPlan

    cards = registry.protocols()
    if protocol is not None:
        return cards.load(protocol).clip_plan(dataset)
    loaded = [cards.load(name) for name in cards.names()]
    plans = {card.datasets[dataset]: card.name for card in loaded if dataset in card.datasets}
    if len(plans) > 1:
        raise InputError(
            f"{dataset} without a protocol",
            expected=f"--protocol with one of {', '.join(plans.values())}: their clips differ",
        )
    return next(iter(plans), ClipPlan())


def _clip(
    plan: ClipPlan, frames: int | None, size: int | None, stride: int | None = None, start: int | None = None
) -> ClipProfile:
    """The plan's clip, with what the user said instead."""
    from gen3r_bench.datasets.base import ClipProfile

    return ClipProfile(
        frames=plan.frames if frames is None else frames,
        image_size=plan.image_size if size is None else (size, size),
        stride=plan.stride if stride is None else stride,
        start=plan.start if start is None else start,
    )


@contextmanager
def _progress(word: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error that shows which scene is in work."""
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, quiet=quiet).status(f"{word} …") as status:
        count = 0

        def step(scene: str) -> None:
            nonlocal count
            count += 1
            status.update(f"{word} scene {count}: {escape(scene)}")

        yield step
