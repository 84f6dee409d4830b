from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gen3r_bench import registry
from gen3r_bench.cli.main import app, main
from gen3r_bench.errors import UnknownNameError


def ls(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["ls", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("what", ["methods", "datasets", "protocols", "metrics", "dialects", "tables"])
def test_every_list_prints_as_a_table_and_as_json(what: str) -> None:
    rows = json.loads(ls(what, "--json"))
    assert rows
    name = next(key for key in ("method_id", "name", "key", "dialect", "table") if key in rows[0])
    text = "".join(ls(what).split())
    for row in rows:
        assert "".join(str(row[name]).split()) in text


@pytest.mark.parametrize("what", ["methods", "datasets", "protocols", "metrics", "dialects", "tables"])
def test_lists_fit_100_columns_and_keep_names_whole(what: str) -> None:
    rows = json.loads(ls(what, "--json"))
    name = next(key for key in ("method_id", "name", "key", "dialect", "table") if key in rows[0])
    lines = ls(what).splitlines()
    assert max(map(len, lines)) <= 100
    starts = {line.split(" ")[0] for line in lines}
    assert {str(row[name]) for row in rows} <= starts


def test_methods_tell_floors_and_diagnostics_apart() -> None:
    kinds = {row["method_id"]: row["kind"] for row in json.loads(ls("methods", "--json"))}
    assert kinds["freeze"] == "floor"
    assert kinds["oracle"] == "diagnostic"


def test_a_card_in_full_has_its_hash_and_content() -> None:
    card = json.loads(ls("protocols", "--card", "geom-1view"))
    assert card["hash"] == registry.protocols().load("geom-1view").hash
    assert card["geometry"] == {
        "alignment_scale": "variance-ratio",
        "voxel_size": 0.005,
        "num_points": 20000,
        "fps_start": "first",
        "mask": "ground-truth-valid",
    }
    with pytest.raises(UnknownNameError):
        ls("protocols", "--card", "geom-9view")


def test_metrics_that_are_not_computed_say_why() -> None:
    for row in json.loads(ls("metrics", "--json")):
        assert row["computed"] == (row["unavailable"] is None)
        assert row["computed"] or f"unavailable: {row['unavailable']}" == row["reference_or_obstacle"]


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gen3r-bench", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("gen3r-bench 0.")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; import gen3r_bench.cli.main as m\n"
        "heavy = {'numpy', 'numba', 'scipy', 'torch', 'pandas', 'pydantic', 'PIL', 'open3d'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize(("package", "extra"), [("accelerate", "training"), ("diffusers", "models")])
def test_an_optional_package_that_is_missing_is_one_line(tmp_path: Path, package: str, extra: str) -> None:
    import subprocess
    import sys

    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['gen3r-bench', 'ls', 'methods']\n"
        "from gen3r_bench.cli import main, ls\n"
        f"ls._show = lambda *rest: __import__({package!r})\n"
        "main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"gen3r-bench: error: this command needs {package}, which is not installed "
        f"(fix: pip install 'gen3r-bench[{extra}]')\n"
    )


def test_a_module_of_ours_that_is_missing_is_no_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from gen3r_bench.cli import ls as ls_module

    def broken(*rest: object) -> None:
        raise ModuleNotFoundError("no such module", name="gen3r_bench.nowhere")

    monkeypatch.setattr(ls_module, "_show", broken)
    monkeypatch.setattr("sys.argv", ["gen3r-bench", "ls", "methods"])
    with pytest.raises(ModuleNotFoundError):
        main()
