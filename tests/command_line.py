"""The command line for tests: in this process, or in one of its own as a user starts it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import pytest

from gen3r_bench.cli.main import main

COMMAND = str(Path(sys.executable).with_name("gen3r-bench"))
COLUMNS = {"COLUMNS": "100"}

Done = subprocess.CompletedProcess[str]


def gen3r_bench(*arguments: object, cwd: Path, code: int = 0) -> Done:
    """Call the command's own entry point in this process, where its imports and compiled kernels are there already.

    An exception that would reach the user as a traceback reaches the test.
    """
    words = ["gen3r-bench", *map(str, arguments)]
    out, talk = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        patch.dict(os.environ, COLUMNS),
        patch.object(sys, "argv", words),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(talk),
        pytest.raises(SystemExit) as left,
    ):
        main()
    return _checked(subprocess.CompletedProcess(words, left.value.code or 0, out.getvalue(), talk.getvalue()), code)


def gen3r_bench_process(*arguments: object, cwd: Path, code: int = 0, path: Path | None = None) -> Done:
    """Run the installed command; ``path`` is where this process finds more packages."""
    environment = os.environ | COLUMNS | ({"PYTHONPATH": str(path)} if path is not None else {})
    words = [COMMAND, *map(str, arguments)]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    return _checked(done, code)


def _checked(done: Done, code: int) -> Done:
    """Its exit code is the expected one, and no traceback ever reaches the user."""
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done
