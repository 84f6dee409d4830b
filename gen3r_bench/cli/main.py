"""The command line: one module a command; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from gen3r_bench.cli.compare import compare
from gen3r_bench.cli.data import app as data_app
from gen3r_bench.cli.doctor import doctor
from gen3r_bench.cli.explain import explain
from gen3r_bench.cli.export import export
from gen3r_bench.cli.ls import app as ls_app
from gen3r_bench.cli.plan import plan
from gen3r_bench.cli.regress import regress
from gen3r_bench.cli.run import run
from gen3r_bench.cli.score import score
from gen3r_bench.cli.show import show
from gen3r_bench.cli.table import table
from gen3r_bench.cli.train import train
from gen3r_bench.cli.verify import verify
from gen3r_bench.cli.weights import app as weights_app
from gen3r_bench.errors import BenchError

OPTIONAL_PACKAGES: Final = {
    "accelerate": "training",
    "av": "video",
    "diffusers": "models",
    "lpips": "perceptual",
    "torchvision": "perceptual",
    "transformers": "models",
}
"""Packages that some commands need, and the extra that brings each."""

app = typer.Typer(
    name="gen3r-bench",
    help="Benchmark and evaluation suite for 3D scene generation and feed-forward reconstruction.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(score)
app.command()(table)
app.command()(compare)
app.command()(explain)
app.command()(export)
app.command()(show)
app.command()(verify)
app.command()(regress)
app.command()(plan)
app.command()(train)
data_app.command()(doctor)
app.add_typer(data_app, name="data")
app.add_typer(ls_app, name="ls")
app.add_typer(weights_app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        from gen3r_bench import __version__

        typer.echo(f"gen3r-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; exit codes: 0 ok, 1 a check or a scene failed, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except BenchError as error:
        print(f"gen3r-bench: error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in OPTIONAL_PACKAGES:
            raise
        extra = OPTIONAL_PACKAGES[package]
        message = f"this command needs {package}, which is not installed (fix: pip install 'gen3r-bench[{extra}]')"
        print(f"gen3r-bench: error: {message}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # the reader of our output (head, less) left: not an error, but nothing more can be written
        sys.stderr.close()
        sys.exit(0)
