"""Runs one dimension of VBench in a process of its own: ``python worker.py job.json``, or ``python worker.py --probe``.

It imports nothing of gen3r_bench, so that any interpreter with VBench can run it (Python 3.8 on), and calls the
unmodified ``vbench==0.1.5`` by its own ``compute_*`` functions. Own process: VBench and what it loads put modules named
``utils``, ``networks`` and ``vision_transformer`` on the path and change PyTorch's hub folder.

``job.json``: ``dimension``, ``device``, ``cache`` (VBench's cache folder), ``videos`` (a list of paths ``video`` and
``image``), ``phase`` (a file that gets a line when VBench is imported and when its model is loaded), ``result``.
``result.json``: ``aggregate``, VBench's mean; ``videos``, a list of ``video`` and ``score`` as VBench returns them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
import threading
import types
from typing import Any

PACKAGES = ("vbench", "torch", "torchvision", "dreamsim", "pyiqa", "peft", "openai-clip", "decord", "numpy")
MODULES = {
    "i2v_subject": ("vbench", "vbench2_beta_i2v", "torch", "torchvision", "cv2", "decord"),
    "i2v_background": ("vbench", "vbench2_beta_i2v", "torch", "torchvision", "cv2", "decord", "dreamsim", "peft"),
    "imaging_quality": ("vbench", "torch", "torchvision", "cv2", "decord", "pyiqa"),
    "aesthetic_quality": ("vbench", "torch", "torchvision", "cv2", "decord", "clip"),
    "motion_smoothness": ("vbench", "torch", "torchvision", "cv2", "decord", "omegaconf"),
}
KEPT_ALIVE: list[Any] = []  # operators of a library go with it
DOWNLOADERS = ("wget", "git", "curl", "unzip")


def probe() -> dict[str, Any]:
    """What an interpreter has: per dimension the modules that it lacks, and the versions of what decides a number."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    missing = {
        dimension: [name for name in modules if importlib.util.find_spec(name) is None]
        for dimension, modules in MODULES.items()
    }
    return {"missing": missing, "versions": versions}


def forbid_downloads() -> None:
    """Make every attempt to reach the network an error: VBench falls back to wget, git and urllib on its own."""

    def refuse(event: str, arguments: Any) -> None:
        what = ""
        if event in {"urllib.Request", "socket.getaddrinfo"}:
            what = str(arguments[0])
        elif event == "socket.connect" and isinstance(arguments[1], tuple):  # a path is another process's, not a host
            what = str(arguments[1])
        elif event in {"subprocess.Popen", "os.system"}:
            command = arguments[0] if event == "os.system" else arguments[1]
            words = [command] if isinstance(command, (str, bytes, os.PathLike)) else list(command)
            line = " ".join(os.fsdecode(word) for word in words)
            if any(os.path.basename(word) in DOWNLOADERS for word in line.split()):
                what = line
        if what:
            raise RuntimeError("VBench tried to download something: " + what)

    sys.addaudithook(refuse)


def end_with_parent() -> None:
    """End this process when the other end of its standard input closes: its parent is gone, however it went."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def make_importable() -> None:
    """Define what VBench's dependencies expect of other versions of their own dependencies; changes no computation."""
    import torch

    if importlib.util.find_spec("pkg_resources") is None:  # openai-clip takes `packaging` from it
        import packaging.version

        stub: Any = types.ModuleType("pkg_resources")
        stub.packaging = packaging
        sys.modules["pkg_resources"] = stub
    if hasattr(torch.serialization, "add_safe_globals"):  # amt-s.pth pickles typing.OrderedDict
        import typing

        torch.serialization.add_safe_globals([(typing.OrderedDict, "typing.OrderedDict")])
    define_torchvision_operators()


def define_torchvision_operators() -> None:
    """Import torchvision; where it was built for CUDA and this PyTorch was not, define the two operators it names.

    No dimension calls them.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library
    for name in ("nms", "qnms"):
        fragment = library.Library("torchvision", "FRAGMENT")
        fragment.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT_ALIVE.append(fragment)
    importlib.import_module("torchvision")


def main(job_path: str) -> None:
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    dimension, cache = job["dimension"], job["cache"]
    os.environ["VBENCH_CACHE_DIR"] = cache
    os.environ["TORCH_HOME"] = cache
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    end_with_parent()
    forbid_downloads()
    importlib.import_module("cv2")  # before decord, whose libpng breaks OpenCV's
    make_importable()
    import torch

    def reached(phase: str) -> None:
        with open(job["phase"], "a", encoding="utf-8") as file:
            file.write(phase + "\n")

    package = "vbench2_beta_i2v" if dimension.startswith("i2v_") else "vbench"
    module: Any = importlib.import_module(package + "." + dimension)
    utilities: Any = importlib.import_module(package + ".utils")
    if dimension == "i2v_background":
        original = module.dreamsim

        def dreamsim(pretrained: bool = True) -> Any:
            return original(pretrained=pretrained, device=job["device"], cache_dir=os.path.join(cache, "hub"))

        module.dreamsim = dreamsim
    reader_name = "load_i2v_dimension_info" if package == "vbench2_beta_i2v" else "load_dimension_info"
    reader = getattr(module, reader_name)

    def read_list(*arguments: Any, **options: Any) -> Any:  # VBench reads the list of videos once the model is loaded
        reached("loaded")
        return reader(*arguments, **options)

    setattr(module, reader_name, read_list)
    reached("imported")
    listing = os.path.abspath("videos.json")
    with open(listing, "w", encoding="utf-8") as file:
        json.dump(
            [
                {
                    "prompt_en": "",
                    "dimension": [dimension],
                    "video_list": [item["video"]],
                    "image_name": item["image"],
                }
                for item in job["videos"]
            ],
            file,
        )
    # local: CLIP from the cache folder; the i2v dimensions take DINO from PyTorch's hub folder
    submodules = utilities.init_submodules([dimension], local=package == "vbench")[dimension]
    compute = getattr(module, "compute_" + dimension)
    aggregate, videos = compute(listing, torch.device(job["device"]), submodules)
    result = {
        "aggregate": float(aggregate),
        "videos": [{"video": item["video_path"], "score": float(item["video_results"])} for item in videos],
    }
    temporary = job["result"] + ".part"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(temporary, job["result"])


if __name__ == "__main__":
    sys.path.pop(0)  # this script's folder, whose modules are not for import
    if sys.argv[1] == "--probe":
        print(json.dumps(probe()))
    else:
        main(sys.argv[1])
