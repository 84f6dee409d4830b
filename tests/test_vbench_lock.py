"""The lock of VBench and the overrides for uv go with the suite's own pins."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PYTORCH = "2.13.0"


def pins(name: str) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (REPOSITORY / name).read_text().splitlines()]
    matches = [re.fullmatch(r"([\w.-]+)==([\w.+]+)", line) for line in lines if line]
    assert all(matches), f"{name} holds a line that is no exact pin"
    return {re.sub(r"[-_.]+", "-", match[1].lower()): match[2] for match in matches if match}


def test_the_lock_moves_no_version_of_the_suite() -> None:
    lock, constraints = pins("requirements-vbench.txt"), pins("constraints.txt")
    assert {name: version for name, version in lock.items() if constraints.get(name, version) != version} == {}
    assert constraints["torch"] == PYTORCH


def test_the_lock_is_of_the_version_that_the_metrics_name() -> None:
    from gen3r_bench.metrics.video import DIALECT

    assert f"vbench-{pins('requirements-vbench.txt')['vbench']}" == DIALECT


def test_pytorch_stays_what_it_is() -> None:
    assert "torch" not in pins("requirements-vbench.txt")
    assert f"PyTorch {PYTORCH}" in (REPOSITORY / "requirements-vbench.txt").read_text()


def test_the_command_for_uv_names_the_versions_of_the_lock() -> None:
    lock = pins("requirements-vbench.txt")
    for file in ("overrides-vbench.txt", "docs/vbench.md"):
        command = re.search(r"uv pip install [^`]*?opencv-python-headless", (REPOSITORY / file).read_text())
        assert command is not None
        named = dict(re.findall(r"(\w+)==([\d.]+)", command[0]))
        assert set(named) == {"vbench", "dreamsim", "pyiqa", "torchvision"}
        assert named == {name: lock[name] for name in named}


def test_what_uv_leaves_out_is_in_neither_list() -> None:
    text = (REPOSITORY / "overrides-vbench.txt").read_text()
    never = set(re.findall(r"^([\w-]+); sys_platform == 'never'$", text, re.MULTILINE))
    assert len(never) == 18
    assert never.isdisjoint(pins("requirements-vbench.txt"))
    assert never.isdisjoint(pins("constraints.txt"))
