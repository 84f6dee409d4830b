"""Time SSIM, PSNR and LPIPS on a clip of the paper's size, beside scikit-image, torchmetrics and the package ``lpips``.

Run it by hand: ``python benchmarks/perceptual.py [--frames 49] [--size 560] [--device cpu] [--nets vgg alex squeeze]``.
Everything is timed in one run on the same frames, each side once warm: on a CPU in CPU seconds of all threads, which
say the same on a busy machine as on an idle one, on a GPU in wall time. LPIPS uses random weights in torchvision's file
format, which cost the same as the published ones. Exit code 1 where a bar is missed: SSIM at least 3 times as fast as
scikit-image at equal values, LPIPS not slower than the package's own loop over frames.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gen3r_bench.metrics import lpips, psnr, ssim
from gen3r_bench.metrics.perceptual import BACKBONES, Net
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX
from gen3r_bench.torchvision_import import import_torchvision

Timed = tuple[float, Any]
NETS: tuple[Net, ...] = ("vgg", "alex", "squeeze")
MAKERS = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}


def seconds(function: Callable[[], Any], repeats: int = 2, clock: Callable[[], float] = time.process_time) -> Timed:
    """Least time of ``repeats`` calls, and the last result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = clock()
        result = function()
        best = min(best, clock() - start)
    return best, result


def clips(frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gt = np.kron(rng.random((frames, size // 20, size // 20, 3)), np.ones((1, 20, 20, 1))) * 255
    pred = gt * 0.95 + rng.normal(0, 8, gt.shape)
    return np.clip(pred, 0, 255).astype(np.uint8), gt.astype(np.uint8)


def skimage_ssim(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    pairs = zip(pred, gt, strict=True)
    return np.array([structural_similarity(a / 255.0, b / 255.0, data_range=1.0, **options) for a, b in pairs])


def skimage_psnr(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    return np.array([peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(pred, gt, strict=True)])


def channels_first(clip: np.ndarray, dtype: torch.dtype, device: str) -> torch.Tensor:
    return torch.from_numpy(clip).to(device).to(dtype).div(255).permute(0, 3, 1, 2)


def torchmetrics_ssim(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    from torchmetrics.functional.image import structural_similarity_index_measure as measure

    images = [channels_first(clip, torch.float64, "cpu") for clip in (pred, gt)]
    values = [measure(a[None], b[None], data_range=1.0).item() for a, b in zip(*images, strict=True)]
    return np.array(values)


def torchmetrics_psnr(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    from torchmetrics.functional.image import peak_signal_noise_ratio as measure

    images = [channels_first(clip, torch.float64, "cpu") for clip in (pred, gt)]
    return np.array([measure(a[None], b[None], data_range=1.0).item() for a, b in zip(*images, strict=True)])


def write_backbones(root: Path) -> None:
    """Random numbers in torchvision's file format, marked as such."""
    models = import_torchvision().models
    for net in NETS:
        with torch.device("meta"):
            layers = getattr(models, MAKERS[net])().features.state_dict()
        generator = torch.Generator().manual_seed(0)
        state = {
            f"features.{name}": torch.randn(layer.shape, generator=generator)
            * ((2 / layer[0].numel()) ** 0.5 if layer.ndim > 1 else 0.1)
            for name, layer in layers.items()
        }
        path = root / BACKBONES[net].place
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)
        path.with_name(path.name + RANDOM_SUFFIX).touch()


def packages_model(net: Net, device: str) -> Any:
    """The package's module, with the same backbone."""
    import lpips as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = package.LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
    state = torch.load(BACKBONES[net].path, weights_only=True)
    for number in range(1, model.net.N_slices + 1):
        for name, layer in getattr(model.net, f"slice{number}").named_parameters():
            layer.data.copy_(state[f"features.{name}"])
    return model.to(device)


def packages_loop(model: Any, pred: np.ndarray, gt: np.ndarray, device: str) -> np.ndarray:
    """As the package's README and scripts do: one frame at a time, through its own conversion."""
    import lpips as package

    with torch.no_grad():
        return np.array(
            [
                model(package.im2tensor(a).to(device), package.im2tensor(b).to(device)).item()
                for a, b in zip(pred, gt, strict=True)
            ]
        )


def torchmetrics_loop(net: Net, pred: np.ndarray, gt: np.ndarray, device: str) -> Callable[[], np.ndarray]:
    """Frame by frame through torchmetrics' network with the same backbone, since its own call gives only a mean."""
    from torchmetrics.functional.image import lpips as theirs

    original = theirs._get_tv_model_features
    state = torch.load(BACKBONES[net].path, weights_only=True)

    def features(name: str, *_: Any, **__: Any) -> Any:
        network = original(name, pretrained=False)
        network.load_state_dict({key: state[f"features.{key}"] for key in network.state_dict()})
        return network

    theirs._get_tv_model_features = features
    try:
        model = theirs._NoTrainLpips(net=net).to(device)
    finally:
        theirs._get_tv_model_features = original

    def loop() -> np.ndarray:
        images = [channels_first(clip, torch.float32, device) for clip in (pred, gt)]
        with torch.no_grad():
            return np.array([model(a[None], b[None], normalize=True).item() for a, b in zip(*images, strict=True)])

    return loop


def row(name: str, ours: Timed, theirs: Timed) -> float:
    difference = np.max(np.abs(np.asarray(ours[1]) - np.asarray(theirs[1])))
    ratio = theirs[0] / ours[0]
    print(f"{name:43} {ours[0]:9.3f} {theirs[0]:9.3f} {ratio:7.2f}x   {difference:.1e}", flush=True)
    return ratio


def time_lpips(net: Net, name: str, pred: np.ndarray, gt: np.ndarray, device: str) -> float:
    """Print both comparisons of one backbone; returns the ratio to the package's own loop."""
    model = packages_model(net, device)

    def ours() -> np.ndarray:
        return lpips(pred, gt, net=net, device=device)

    def theirs() -> np.ndarray:
        return packages_loop(model, pred, gt, device)

    lpips(pred[:1], gt[:1], net=net, device=device)
    packages_loop(model, pred[:1], gt[:1], device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    # in turn, so that a change of the machine's load falls on both
    turns = [(seconds(ours, 1, clock), seconds(theirs, 1, clock)) for _ in range(2)]
    best, other = (min((turn[side] for turn in turns), key=lambda found: found[0]) for side in (0, 1))
    ratio = row(name, best, other)
    row(f"lpips@{net} / torchmetrics", best, seconds(torchmetrics_loop(net, pred, gt, device), 1, clock))
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--size", type=int, default=560)
    parser.add_argument("--device", default="cpu", help="where LPIPS runs; the others run on the CPU")
    parser.add_argument("--nets", nargs="+", default=NETS, choices=NETS)
    options = parser.parse_args()
    pred, gt = clips(options.frames, options.size)
    size = f"{options.frames} x {options.size} x {options.size}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{size} uint8, {versions}")
    print(f"{'':43} {'ours s':>9} {'other s':>9} {'ratio':>8}   largest difference", flush=True)
    ssim(pred[:1], gt[:1])
    import_torchvision()
    ours = seconds(lambda: psnr(pred, gt))
    row("psnr / scikit-image", ours, seconds(lambda: skimage_psnr(pred, gt)))
    row("psnr / torchmetrics", ours, seconds(lambda: torchmetrics_psnr(pred, gt)))
    ours = seconds(lambda: ssim(pred, gt))
    bars = {"ssim / scikit-image": (row("ssim / scikit-image", ours, seconds(lambda: skimage_ssim(pred, gt))), 3.0)}
    few = slice(0, 5)  # torchmetrics takes seconds a frame
    mirrored = seconds(lambda: ssim(pred[few], gt[few], dialect="torchmetrics"))
    row(
        "ssim@torchmetrics / torchmetrics, 5 frames",
        mirrored,
        seconds(lambda: torchmetrics_ssim(pred[few], gt[few]), 1),
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GEN3R_BENCH_WEIGHTS"] = folder
        write_backbones(Path(folder))
        for net in options.nets:
            name = f"lpips@{net} / the package's loop"
            bars[name] = (time_lpips(net, name, pred, gt, options.device), 1.0)
    missed = {name: ratio for name, (ratio, bar) in bars.items() if ratio < bar}
    for name, ratio in missed.items():
        print(f"below its bar of {bars[name][1]:g}x: {name}, {ratio:.2f}x")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
