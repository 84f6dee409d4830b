from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gen3r_bench.cli.main import app


def commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, (*names, name))
    else:
        yield names, group


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_shows_every_default_and_every_bracket(names: tuple[str, ...]) -> None:
    """Square brackets in a help text would be taken for markup and vanish."""
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, [*names, "--help"], catch_exceptions=False)
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    for option in COMMANDS[names].params:
        for bracket in re.findall(r"\[.*?\]", getattr(option, "help", None) or ""):
            assert bracket in shown
        default = getattr(option, "show_default", None)
        if isinstance(default, str):
            assert f"[default: ({default})]" in shown


def test_what_happens_without_an_option_is_said() -> None:
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["run", "--help"], catch_exceptions=False)
    for default in ("every method with a reference checkpoint", "mini", "runs/PROTOCOLS-DATASETS", "up to 4"):
        assert f"[default: ({default})]" in result.stdout
