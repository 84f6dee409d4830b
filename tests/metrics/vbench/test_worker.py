"""The worker's script, run by this interpreter on packages that stand in for VBench and what it loads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_worker import ends

from gen3r_bench.metrics.vbench import DIMENSIONS
from gen3r_bench.metrics.vbench.files import Dimension
from gen3r_bench.metrics.vbench.job import WORKER, JobFailure, JobVideo, VbenchOptions, run_job
from gen3r_bench.metrics.vbench.worker import MODULES

UTILS = """
import json, os, sys
assert os.environ["VBENCH_CACHE_DIR"] == os.environ["TORCH_HOME"]
CACHE_DIR = os.environ["VBENCH_CACHE_DIR"]


def init_submodules(dimensions, local=False):
    return {{name: {{"local": local, "cache": CACHE_DIR}} for name in dimensions}}


def load{infix}dimension_info(path, dimension, lang):
    entries = [entry for entry in json.load(open(path)) if dimension in entry["dimension"]]
    return [(entry["image_name"], entry["video_list"][0]) for entry in entries], None
"""
DIMENSION = """
import os, sys
assert "cv2" in sys.modules, "decord first breaks OpenCV"
import decord
from {package}.utils import load{infix}dimension_info
{dreamsim}

def compute_{dimension}(path, device, submodules, **kwargs):
    {body}
    pairs, _ = load{infix}dimension_info(path, dimension="{dimension}", lang="en")
    results = [{{"video_path": video, "video_results": 0.25}} for image, video in pairs]
    assert all(os.path.isabs(image) for image, video in pairs)
    return 0.25, results
"""
STUBS = {
    "torch.py": "class serialization: pass\n\n\ndef device(name):\n    return 'device ' + name\n",
    "torchvision.py": "",
    "cv2.py": "",
    "decord.py": "",
    "pkg_resources.py": "",
    "dreamsim.py": "def dreamsim(pretrained=True, device='cuda', cache_dir='.'):\n    return device, cache_dir\n",
}


class Stand:
    """A folder of stand-in packages, and the worker run on them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "packages"
        self.cache = folder / "weights" / "vbench"
        self.work = folder / "job"
        monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(folder / "weights"))
        monkeypatch.setenv("PYTHONPATH", str(self.folder))
        for package, infix in (("vbench", "_"), ("vbench2_beta_i2v", "_i2v_")):
            self.write(f"{package}/__init__.py", "")
            self.write(f"{package}/utils.py", UTILS.format(infix=infix))
        for name, text in STUBS.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, dimension: Dimension, body: str) -> list[float] | JobFailure:
        i2v = dimension.startswith("i2v")
        package = "vbench2_beta_i2v" if i2v else "vbench"
        text = DIMENSION.format(
            package=package,
            infix="_i2v_" if i2v else "_",
            dimension=dimension,
            body=body,
            dreamsim="from dreamsim import dreamsim" if dimension == "i2v_background" else "",
        )
        self.write(f"{package}/{dimension}.py", text)
        videos = [JobVideo(Path(f"/films/{i}.mp4"), Path(f"/films/{i}.png")) for i in range(2)]
        return run_job(dimension, videos, VbenchOptions(timeout_s=60.0), self.work)


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(tmp_path, monkeypatch)


def test_it_calls_vbenchs_own_function_with_vbenchs_own_list(stand: Stand) -> None:
    body = "assert device == 'device cpu' and submodules['local'] is False and os.environ['HF_HUB_OFFLINE'] == '1'"
    assert stand.run("i2v_subject", body) == [0.25, 0.25]
    listing = json.loads((stand.work / "videos.json").read_text())
    assert listing[1] == {
        "prompt_en": "",
        "dimension": ["i2v_subject"],
        "video_list": ["/films/1.mp4"],
        "image_name": "/films/1.png",
    }
    assert (stand.work / "phase").read_text().split() == ["imported", "loaded"]


def test_clip_is_taken_from_the_cache_folder(stand: Stand) -> None:
    body = f"assert submodules == {{'local': True, 'cache': {str(stand.cache)!r}}}"
    answer = stand.run("aesthetic_quality", body)
    assert answer == [0.25, 0.25]


def test_dreamsim_is_told_the_device_and_the_folder(stand: Stand) -> None:
    body = f"assert dreamsim(pretrained=True) == ('cpu', {str(stand.cache / 'hub')!r})"
    assert stand.run("i2v_background", body) == [0.25, 0.25]


@pytest.mark.parametrize(
    "body",
    [
        "import subprocess; subprocess.run(['wget', 'https://nowhere.invalid/weights.pth'])",
        "import subprocess; subprocess.run(['/usr/bin/git', 'clone', 'https://nowhere.invalid/dino'])",
        "import subprocess; subprocess.run('wget https://nowhere.invalid/weights.pth', shell=True)",
        "import os; os.system('wget https://nowhere.invalid/weights.pth')",
        "from urllib.request import urlopen; urlopen('https://nowhere.invalid/weights.pth')",
        "import socket; socket.create_connection(('nowhere.invalid', 443))",
        "import socket; socket.socket().connect(('192.0.2.1', 443))",
    ],
)
def test_a_download_is_an_error_before_it_starts(stand: Stand, body: str) -> None:
    answer = stand.run("motion_smoothness", body)
    assert isinstance(answer, JobFailure)
    assert "RuntimeError: VBench tried to download something" in answer.reason
    assert answer.phase == "imported"


def test_other_programs_may_run(stand: Stand) -> None:
    body = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', ''], check=True)"
    assert stand.run("motion_smoothness", body) == [0.25, 0.25]


def test_a_model_that_does_not_load_fails_before_the_list_is_read(stand: Stand) -> None:
    answer = stand.run("motion_smoothness", "raise EOFError('unexpected end of weights')")
    assert isinstance(answer, JobFailure)
    assert answer.reason.endswith("EOFError: unexpected end of weights")
    assert answer.phase == "imported"


def test_a_module_of_this_suites_is_not_importable_by_its_bare_name(stand: Stand) -> None:
    body = "import importlib.util; assert importlib.util.find_spec('staging') is None"
    assert stand.run("motion_smoothness", body) == [0.25, 0.25]


def test_pkg_resources_is_supplied_where_it_is_gone(stand: Stand) -> None:
    (stand.folder / "pkg_resources.py").unlink()
    stand.write("packaging/__init__.py", "")
    stand.write("packaging/version.py", "parse = str.upper\n")
    # setuptools of this interpreter may still have it
    body = "from pkg_resources import packaging; assert packaging.version.parse"
    assert stand.run("motion_smoothness", body) == [0.25, 0.25]


TORCHVISION = """
import torch
if [name for name, _ in torch.defined] != ["nms", "qnms"]:
    raise RuntimeError("operator torchvision::nms does not exist")
"""
TORCH = """
class serialization: pass
defined = []


class library:
    class Library:
        def __init__(self, name, kind):
            assert (name, kind) == ("torchvision", "FRAGMENT")

        def define(self, schema):
            defined.append(schema.split("(", 1))


def device(name):
    return name
"""


def test_torchvision_without_its_operators_gets_two(stand: Stand) -> None:
    stand.write("torch.py", TORCH)
    stand.write("torchvision.py", TORCHVISION)
    body = "import torchvision, torch; assert len(torch.defined) == 2"
    assert stand.run("motion_smoothness", body) == [0.25, 0.25]


def test_torchvision_that_is_broken_otherwise_stays_so(stand: Stand) -> None:
    stand.write("torch.py", TORCH)
    stand.write("torchvision.py", "raise RuntimeError('no such CUDA')")
    answer = stand.run("motion_smoothness", "pass")
    assert isinstance(answer, JobFailure)
    assert answer.reason.endswith("RuntimeError: no such CUDA")
    assert answer.phase == "started"


def test_it_ends_when_its_parent_is_killed(stand: Stand, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    body = f"import time; open({str(note)!r}, 'w').write(str(os.getpid())); print('here', flush=True); time.sleep(600)"
    program = (
        "from pathlib import Path\n"
        "from metrics.vbench.test_worker import Stand\n"
        "stand = Stand.__new__(Stand)\n"
        f"stand.folder, stand.work = Path({str(stand.folder)!r}), Path({str(stand.work)!r})\n"
        f"stand.run('motion_smoothness', {body!r})\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(stand.folder)])
    parent = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path})
    log = stand.work / "log.txt"
    while parent.poll() is None and not (log.exists() and log.read_text().startswith("here")):
        os.sched_yield()
    parent.kill()
    parent.wait()
    assert ends(int(note.read_text()))


def test_the_probe_finds_modules_without_importing_them(stand: Stand) -> None:
    stand.write("torch.py", "raise SystemExit(3)")
    done = subprocess.run([sys.executable, str(WORKER), "--probe"], capture_output=True, check=True, env={**os.environ})
    missing = json.loads(done.stdout)["missing"]
    assert missing["i2v_subject"] == []
    assert set(missing) == set(DIMENSIONS) == set(MODULES)


def test_it_imports_nothing_of_this_suite_and_reads_on_old_pythons() -> None:
    tree = ast.parse(WORKER.read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {
        node.module for node in imports if isinstance(node, ast.ImportFrom)
    }
    assert not [name for name in names if name and name.startswith("gen3r_bench")]
