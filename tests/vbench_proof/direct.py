"""Calls VBench by hand, as its README does: an oracle that shares no code with this suite's worker.

``python direct.py CACHE DIMENSION OUT IMAGE VIDEO [IMAGE VIDEO ...]`` writes VBench's mean and its value of each video.
"""

import importlib.util
import json
import os
import sys
import types

cache, dimension, out, *files = sys.argv[1:]
os.environ["VBENCH_CACHE_DIR"] = os.environ["TORCH_HOME"] = cache
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"

import cv2  # noqa: E402, F401
import packaging.version  # noqa: E402
import torch  # noqa: E402

try:
    import torchvision  # noqa: F401
except RuntimeError:  # built for CUDA, beside a PyTorch without it
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
if importlib.util.find_spec("pkg_resources") is None:
    sys.modules["pkg_resources"] = types.SimpleNamespace(packaging=packaging)

pairs = list(zip(files[::2], files[1::2], strict=True))
device = torch.device("cpu")
if dimension == "i2v_background":  # its compute function wants a GPU; the function that it calls does not
    from dreamsim import dreamsim
    from vbench2_beta_i2v.i2v_background import i2v_background

    model, _ = dreamsim(pretrained=True, device="cpu", cache_dir=os.path.join(cache, "hub"))
    mean, videos = i2v_background(model, pairs, device)
else:
    package = "vbench2_beta_i2v" if dimension == "i2v_subject" else "vbench"
    module = importlib.import_module(f"{package}.{dimension}")
    utilities = importlib.import_module(f"{package}.utils")
    listing = out + ".listing"
    entries = [
        {"prompt_en": "x", "dimension": [dimension], "video_list": [video], "image_name": image}
        for image, video in pairs
    ]
    with open(listing, "w") as file:
        json.dump(entries, file)
    options = utilities.init_submodules([dimension], local=package == "vbench")[dimension]
    mean, videos = getattr(module, f"compute_{dimension}")(listing, device, options)
with open(out, "w") as file:
    json.dump({"mean": float(mean), "videos": [float(video["video_results"]) for video in videos]}, file)
