"""The wheel: what it holds, and that it runs on its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SUBMISSIONS = REPOSITORY / "results" / "submissions"
PIP = (sys.executable, "-m", "pip")
TOP_LEVEL = {
    "baselines": "gen3r_bench/baselines",
    "protocols": "gen3r_bench/protocols",
    "results": "gen3r_bench/results",
}


def tracked_copy(target: Path) -> Path:
    """The tree as it is, without what a build or a run may have left in it."""
    target.mkdir(exist_ok=True)
    for name in ("gen3r_bench", *TOP_LEVEL):
        shutil.copytree(REPOSITORY / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, target / name)
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline with the setuptools at hand."""
    tree = tracked_copy(tmp_path_factory.mktemp("tree"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", out, tree],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_every_module_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {".css", ".csv", ".jinja", ".js", ".json", ".py", ".safetensors"}
    for folder in ("gen3r_bench", *TOP_LEVEL):
        for path in (REPOSITORY / folder).rglob("*"):
            if SUBMISSIONS not in path.parents and (path.suffix in shipped or path.name == "py.typed"):
                relative = path.relative_to(REPOSITORY).as_posix()
                installed = relative if folder == "gen3r_bench" else relative.replace(folder, TOP_LEVEL[folder], 1)
                assert installed in names, f"{relative} is not packaged: add its folder to pyproject.toml"


def test_no_submission_is_in_the_wheel(wheel: Path) -> None:
    assert list(SUBMISSIONS.glob("*/run.json"))
    assert [name for name in zipfile.ZipFile(wheel).namelist() if "submissions" in name] == []


def test_nothing_generic_lands_on_the_path(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"gen3r_bench"}


def test_the_wheel_runs_the_main_job_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    site = next((place / "lib").glob("python*/site-packages"))
    subprocess.run(
        [*PIP, "install", "--no-deps", "--no-index", "--target", site, wheel],
        check=True,
        capture_output=True,
    )
    # the dependencies come from this environment, but not this suite: its own copy stands in front
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = (
        "import sys; from gen3r_bench.cli.main import main; import gen3r_bench; print(gen3r_bench.__file__); main()"
    )
    done = subprocess.run(
        [place / "bin/python", "-c", script, "run", "-p", "geom-1view", "-m", "vggt@reference", "--limit", "1"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert "oracle" in done.stdout
    assert "vggt@reference" in done.stdout  # weights are in the wheel too


def test_an_editable_install_maps_every_folder(tmp_path: Path) -> None:
    tree = tracked_copy(tmp_path / "tree")
    site = tmp_path / "site"
    subprocess.run(
        [*PIP, "install", "--no-build-isolation", "--no-deps", "--no-index", "--target", site, "-e", tree],
        check=True,
        capture_output=True,
    )
    # -S: without what this environment has installed, which is this suite too; finding a module needs no dependency
    modules = ("gen3r_bench.baselines.freeze", "gen3r_bench.protocols.card", "gen3r_bench.results.paper")
    code = (
        f"import site; site.addsitedir({str(site)!r}); from importlib.util import find_spec\n"
        f"for name in {modules!r}: print(find_spec(name).origin)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == len(modules)
    assert all(path.startswith(str(tree)) for path in done.stdout.split())


def test_constraints_pin_torch_exactly() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def test_every_dependency_is_constrained() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        requirement.split(">")[0].split("[")[0].strip().lower().replace("_", "-")
        for requirement in [*project["dependencies"], *extras["test"], *extras["types"]]
    }
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert wanted <= pinned


def test_the_readme_holds_the_two_commands() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert "pip install -c constraints.txt . && gen3r-bench run --protocol geom-1view" in readme
    assert "pip install tox && tox" in readme
