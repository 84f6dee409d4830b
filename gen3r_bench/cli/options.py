"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen3r_bench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

    from gen3r_bench.datasets.base import OpenedDataset
    from gen3r_bench.datasets.splits import SplitManifest
    from gen3r_bench.metrics.vbench import VbenchOptions
    from gen3r_bench.protocols.card import Card

Protocols = Annotated[
    list[str],
    typer.Option(
        "--protocol", "-p", help="Protocol to score under; repeatable (see `ls protocols`).", show_default=False
    ),
]
DatasetNames = Annotated[
    list[str] | None, typer.Option("--dataset", "-d", help="Dataset; repeatable.", show_default="mini")
]
DataRoots = Annotated[
    list[str] | None,
    typer.Option("--data-root", metavar="DIR|NAME=DIR", help="Where a dataset lies on disk; repeatable."),
]
DatasetOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset-option",
        metavar="[DATASET.]NAME=VALUE",
        help="A reader's choice, such as tartanair.depth_cap=80; repeatable (see `ls datasets --json`).",
    ),
]
Manifests = Annotated[
    list[Path] | None,
    typer.Option("--manifest", help="Run exactly the scenes that `data split` pinned in this file; one a dataset."),
]
OneDataRoot = Annotated[Path | None, typer.Option("--data-root", metavar="DIR", help="Where the dataset lies on disk.")]

OneDatasetOptions = Annotated[
    list[str] | None,
    typer.Option("--dataset-option", metavar="NAME=VALUE", help="A reader's choice; repeatable."),
]

Frames = Annotated[
    int | None, typer.Option(min=1, help="Frames of each clip.", show_default="as the protocols have it")
]

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder.", show_default="runs/PROTOCOLS-DATASETS")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start anew: an existing run folder is moved aside, not continued.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N scenes; the run is then partial.")]
Scenes = Annotated[
    list[str] | None, typer.Option("--scenes", help="Only this scene; repeatable; the run is then partial.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Scenes side by side.", show_default="up to 4")]
Backend = Annotated[
    str,
    typer.Option(
        "--geometry-backend",
        metavar="exact|released",
        help="`exact`: this suite's own; `released`: the authors' libraries (Open3D, PyTorch3D), where they import.",
    ),
]
Diagnostics = Annotated[
    bool, typer.Option("--diagnostics/--no-diagnostics", help="Also run the floor and ceiling rows.")
]
Device = Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1.")]
VbenchPython = Annotated[
    Path | None,
    typer.Option(
        "--vbench-python",
        envvar="GEN3R_BENCH_VBENCH_PYTHON",
        help="Python that has VBench, where another environment has it.",
        show_default="this one",
    ),
]
VbenchTimeout = Annotated[
    float | None,
    typer.Option(
        "--vbench-timeout",
        envvar="GEN3R_BENCH_VBENCH_TIMEOUT",
        help="End a VBench worker that is silent for so many seconds.",
        show_default="1800",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no closing remarks.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def load_cards(names: list[str]) -> tuple[Card, ...]:
    """The cards of the named protocols, each once, in the order given."""
    from gen3r_bench import registry

    return tuple(registry.protocols().load(name) for name in dict.fromkeys(names))


def open_datasets(
    names: list[str] | None, roots: list[str] | None, settings: list[str] | None = None
) -> dict[str, OpenedDataset]:
    """The named datasets, opened at their roots with their options.

    Raises:
        BenchError: where a name is unknown, a root is missing, belongs to no named dataset, or holds another format.
    """
    from gen3r_bench import registry
    from gen3r_bench.datasets.base import OpenedDataset, chosen_options

    chosen = list(dict.fromkeys(names or ["mini"]))
    for name in chosen:
        registry.datasets().entry(name)
    given: dict[str, dict[str, str]] = {name: {} for name in chosen}
    for text in settings or []:
        key, equals, value = text.partition("=")
        name, dot, option = key.rpartition(".")
        if not equals or (not dot and len(chosen) > 1):
            raise InputError(f"--dataset-option {text}", expected="DATASET.NAME=VALUE, or NAME=VALUE with one dataset")
        if dot and name not in chosen:
            raise UnknownNameError("dataset in --dataset-option", name, chosen)
        given[name or chosen[0]][option] = value
    root_of = data_roots(chosen, roots)
    opened = {}
    for name in chosen:
        reader = registry.datasets().load(name)
        values = chosen_options(reader, given[name])
        opened[name] = OpenedDataset(reader.open(root_of.get(name), values), values)
    return opened


def data_roots(names: Sequence[str], roots: list[str] | None) -> dict[str, Path]:
    """Where datasets lie, by name; a folder without a name is that of the only dataset.

    Raises:
        BenchError: where a root belongs to no named dataset, or to which one is not said.
    """
    chosen = list(dict.fromkeys(names))
    root_of: dict[str, Path] = {}
    for text in roots or []:
        name, equals, folder = text.partition("=")
        if not equals or not name.isidentifier():
            if len(chosen) > 1:
                raise InputError(f"--data-root {text}", expected=f"NAME=DIR with one of {', '.join(chosen)} as NAME")
            name, folder = chosen[0], text
        if name not in chosen:
            raise UnknownNameError("dataset in --data-root", name, chosen)
        root_of[name] = Path(folder).expanduser()
    return root_of


def named_roots(texts: list[str] | None) -> dict[str, Path]:
    """Where datasets lie, by name.

    Raises:
        InputError: where a text is not NAME=DIR.
    """
    roots = {}
    for text in texts or []:
        name, equals, folder = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--data-root {text}", expected="NAME=DIR with a dataset as NAME")
        roots[name] = Path(folder).expanduser()
    return roots


def read_manifests(paths: list[Path] | None) -> dict[str, SplitManifest]:
    """Split manifests by dataset.

    Raises:
        BenchError: where one cannot be read, or two are for one dataset.
    """
    from gen3r_bench.datasets.splits import SplitManifest

    manifests: dict[str, SplitManifest] = {}
    for path in paths or []:
        manifest = SplitManifest.read(path)
        if manifest.dataset in manifests:
            raise InputError(f"two manifests for {manifest.dataset}", expected="one a dataset")
        manifests[manifest.dataset] = manifest
    return manifests


def open_for_run(
    names: list[str] | None, roots: list[str] | None, settings: list[str] | None, manifests: dict[str, SplitManifest]
) -> dict[str, OpenedDataset]:
    """The datasets of a run: the named ones, or those of its manifests, opened with the manifests' options.

    Raises:
        BenchError: as `open_datasets`, and where a manifest's dataset is not run or is given other options.
    """
    names = names or [*manifests] or ["mini"]
    absent = next((name for name in manifests if name not in names), None)
    if absent is not None:
        raise InputError(f"a manifest for {absent}", expected=f"one for {' or '.join(names)}, the datasets of this run")
    pinned = [f"{name}.{key}={value}" for name, item in manifests.items() for key, value in item.options.items()]
    datasets = open_datasets(names, roots, [*pinned, *(settings or [])])
    for name, manifest in manifests.items():
        if dict(datasets[name].options) != manifest.options:
            raise InputError(
                f"options {dict(datasets[name].options)} for {name}",
                expected=f"the manifest's, {manifest.options}",
                fix="leave --dataset-option out, or write a new manifest",
            )
    return datasets


def checked_backend(name: str) -> str:
    """``exact`` or ``released``; the latter only where the authors' libraries import."""
    if name not in {"exact", "released"}:
        raise InputError(f"--geometry-backend {name}", expected="exact or released")
    if name == "released":
        from gen3r_bench.metrics.released import require_released_libraries

        require_released_libraries()
    return name


def checked_device(name: str) -> str:
    """``cpu``, ``mps``, ``cuda`` or ``cuda:N``, checked against what PyTorch sees before anything runs.

    Raises:
        InputError: where the name is not a device, or the device is not there.
    """
    import re

    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"--device {name}", expected="cpu, cuda, cuda:1 or mps")
    if name == "cpu":
        return name
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"--device {name}", expected="cpu: PyTorch is not installed", fix="pip install torch"
        ) from error
    count = torch.cuda.device_count() if name.startswith("cuda") else int(torch.backends.mps.is_available())
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise InputError(f"--device {name}", expected=f"cpu: PyTorch sees {count} such devices here")
    return name


def table_console() -> Console:
    """Standard output for tables, at most 100 columns wide; piped output has no width of its own and gets 100."""
    from rich.console import Console

    console = Console()
    console.width = min(console.width, 100) if console.is_terminal else 100
    return console


@contextmanager
def progress_bar(word: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, told what is in work, how many are done, and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(word),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[at]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=quiet), disable=quiet, transient=True) as bar:
        task = bar.add_task(word, total=None, at="")

        def step(scene: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, at=scene)

        yield step


def vbench_options(python: Path | None, timeout: float | None, device: str) -> VbenchOptions:
    """How VBench is run; what is given holds for the whole process: metrics look there whether they are available.

    Raises:
        InputError: where the timeout is no positive number.
    """
    import os

    from gen3r_bench.metrics.vbench import VbenchOptions
    from gen3r_bench.metrics.vbench.job import PYTHON_VARIABLE, TIMEOUT_VARIABLE

    if python is not None:
        os.environ[PYTHON_VARIABLE] = str(python)
    if timeout is not None:
        os.environ[TIMEOUT_VARIABLE] = str(timeout)
    return VbenchOptions.from_environment(device)


def default_jobs() -> int:
    """As many scenes side by side as there are cores, up to 4: a clip at paper size needs about a gigabyte."""
    import os

    return min(4, os.cpu_count() or 1)
