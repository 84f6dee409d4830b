"""The remedy, each time in a process of its own: what is declared in one stays there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    lines = ["import sys", *(f"sys.path.insert(0, {str(path)!r})" for path in paths)]
    script = "\n".join([*lines, textwrap.dedent(code)])
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)


def out(code: str, *paths: Path) -> list[str]:
    done = python(code, *paths)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def fake(tmp_path: Path, content: str) -> Path:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(textwrap.dedent(content))
    return tmp_path


def test_the_real_torchvision_imports_and_its_networks_run() -> None:
    assert out(
        """
        from gen3r_bench.torchvision_import import import_torchvision
        import torch
        models = import_torchvision().models
        print(tuple(models.alexnet().features(torch.zeros(1, 3, 64, 64)).shape) == (1, 256, 1, 1))
        import torchvision
        print(torchvision is import_torchvision())
        """
    ) == ["True", "True"]


def test_a_torchvision_that_imports_is_left_alone(tmp_path: Path) -> None:
    found = out(
        """
        from gen3r_bench import torchvision_import
        module = torchvision_import.import_torchvision()
        print(module.WHOLE, len(torchvision_import._kept_alive), "torch" in sys.modules)
        """,
        fake(tmp_path, "WHOLE = True"),
    )
    assert found == ["True", "0", "False"]


def test_missing_operators_are_declared_and_the_import_is_tried_again(tmp_path: Path) -> None:
    content = """
        import torch
        from torchvision import left_behind
        for name in ("nms", "qnms"):
            if not torch._C._dispatch_has_kernel(f"torchvision::{name}") and not hasattr(torch.ops.torchvision, name):
                raise RuntimeError(f"operator torchvision::{name} does not exist")
        torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
        WHOLE = left_behind.times
    """
    folder = fake(tmp_path, content)
    (folder / "torchvision" / "left_behind.py").write_text("times = 1")
    found = out(
        """
        from gen3r_bench import torchvision_import
        module = torchvision_import.import_torchvision()
        import torch
        print(module.WHOLE, len(torchvision_import._kept_alive))
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except NotImplementedError:
            print("declared, not implemented")
        """,
        folder,
    )
    assert found == ["1", "1", "declared,", "not", "implemented"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise RuntimeError('operator torchvision::other does not exist')", "torchvision::other does not exist"),
        ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    ],
)
def test_another_problem_is_not_covered_up(tmp_path: Path, content: str, message: str) -> None:
    done = python(
        "from gen3r_bench.torchvision_import import import_torchvision\nimport_torchvision()",
        fake(tmp_path, content),
    )
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        # what Aether imports, and what a tokenizer of Wan needs
        "from diffusers import AutoencoderKLCogVideoX; from transformers import T5EncoderModel, AutoTokenizer",
        "import torchmetrics",
    ],
)
def test_packages_that_import_it_by_themselves_do_so_after_the_preparation(code: str) -> None:
    prepare = "from gen3r_bench.torchvision_import import prepare_torchvision; prepare_torchvision()"
    done = subprocess.run([sys.executable, "-c", f"{prepare}\n{code}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_preparation_is_silent_about_a_torchvision_that_does_not_import(tmp_path: Path) -> None:
    code = "from gen3r_bench.torchvision_import import prepare_torchvision; prepare_torchvision(); print('done')"
    for number, content in enumerate(("raise RuntimeError('another problem')", "import a_module_that_is_not_there")):
        (tmp_path / str(number)).mkdir()
        assert out(code, fake(tmp_path / str(number), content)) == ["done"]
