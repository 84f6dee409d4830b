"""LPIPS, computed by its authors' package ``lpips``, with the backbone weights that torchvision publishes.

The package downloads its backbone at first use; here the file lies where ``gen3r-bench weights`` says, and scoring
never downloads. The calibrated heads on top of the backbone ship with the package.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises; nothing is unpickled but tensors
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gen3r_bench.errors import InputError
from gen3r_bench.locations import weights_root
from gen3r_bench.metrics.base import RANDOM_WEIGHTS, Metric
from gen3r_bench.metrics.frames import clips, unit_range
from gen3r_bench.metrics.weight_files import marked_random, obstacle, sha256_of
from gen3r_bench.torchvision_import import import_torchvision

if TYPE_CHECKING:
    import torch

Net = Literal["vgg", "alex", "squeeze"]
NETS: Final[tuple[str, ...]] = get_args(Net)
INSTALL: Final = "pip install 'gen3r-bench[perceptual]'"
PIXELS_PER_BATCH: Final = 320_000
"""Pixels of predicted frames in one call of the network: one frame of 560 x 560 (about 1 GB with VGG), 25 of 112 x 112.
Three large frames at once take a CPU half as long again with SqueezeNet, and no less with VGG."""
_HEADS_VERSION: Final = "0.1"
_mutex: Final = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """The network below LPIPS, as torchvision publishes it.

    Attributes:
        file: torchvision's name of it, which ends in the first digits of its sha256.
        size: of it, as torchvision states it.
        smallest: frames must have at least so many pixels each way, or a layer is left with nothing.
    """

    file: str
    size: str
    smallest: int

    @property
    def url(self) -> str:
        return f"https://download.pytorch.org/models/{self.file}"

    @property
    def sha256(self) -> str:
        """The first digits of it, from the file's name."""
        return Path(self.file).stem.rpartition("-")[2]

    @property
    def place(self) -> str:
        """Below ``weights_root()``."""
        return f"lpips/{self.file}"

    @property
    def path(self) -> Path:
        return weights_root() / self.place


BACKBONES: Final[Mapping[Net, Backbone]] = {
    "vgg": Backbone(file="vgg16-397923af.pth", size="528 MiB", smallest=16),
    "alex": Backbone(file="alexnet-owt-7be5be79.pth", size="233 MiB", smallest=31),
    "squeeze": Backbone(file="squeezenet1_1-b8a52dc0.pth", size="4.7 MiB", smallest=17),
}


def lpips(pred: ArrayLike, gt: ArrayLike, *, net: Net = "vgg", device: str = "cpu") -> NDArray[np.float64]:
    """Learned perceptual image patch similarity of each frame; 0 for identical frames, symmetric.

    Computed in float32, without TensorFloat-32, in batches whose memory is bounded (`PIXELS_PER_BATCH`).

    Args:
        pred: [F, H, W, 3] predicted frames, uint8 or floats in [0, 1].
        gt: [F, H, W, 3] true frames; uint8 and floats may be mixed.
        net: backbone: ``vgg`` (VGG-16), ``alex`` (AlexNet) or ``squeeze`` (SqueezeNet 1.1). They are different scales.
        device: where the network runs: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Returns:
        [F] float64.

    Raises:
        InputError: as `gen3r_bench.metrics.psnr`; on frames too small for the network, an unknown net, and where the
            metric is unavailable here (see `unavailable`).

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, version 0.1 of
    its package. Inputs are scaled to [-1, 1], as that asks for.
    """
    if net not in NETS:
        raise InputError(f"net {net!r}", expected=" or ".join(NETS))
    pred_clip, gt_clip = clips(pred, gt)
    height, width = gt_clip.shape[1:3]
    smallest = BACKBONES[net].smallest
    if min(height, width) < smallest:
        raise InputError(f"frames of {height}x{width} pixels for lpips", expected=f"at least {smallest}x{smallest}")
    import torch

    model = _model(net, device)
    step = max(1, PIXELS_PER_BATCH // (height * width))
    scores = np.empty(len(gt_clip))
    # PyTorch multiplies in TensorFloat-32 on GPUs unless told not to: that moves the third digit
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with _mutex, torch.inference_mode(), flags:
        for start in range(0, len(gt_clip), step):
            part = slice(start, start + step)
            values = model(_scaled(pred_clip, "pred", part, device), _scaled(gt_clip, "gt", part, device))
            scores[part] = values.flatten().cpu().numpy()  # not made float64 before: mps has none
    return scores


def _scaled(clip: NDArray[Any], name: str, part: slice, device: str) -> torch.Tensor:
    """Frames as a float32 tensor [n, 3, H, W] from -1 to 1."""
    import torch

    if clip.dtype == np.uint8:  # a copy, since frames of a scene are read-only and PyTorch warns of those
        frames = torch.from_numpy(np.array(clip[part], order="C")).to(device).float() / 127.5 - 1
    else:
        unit = [unit_range(frame, name, index) for index, frame in enumerate(clip[part], start=part.start)]
        frames = torch.from_numpy(np.stack(unit) * 2 - 1).float().to(device)
    # left in the order of the pixels: convolutions are a tenth faster on it than on planes
    return frames.permute(0, 3, 1, 2)


def unavailable(net: Net) -> str | None:
    """Why LPIPS cannot be computed here, and what mends that; None where it can.

    A file whose hash is not the published one is refused, unless it is marked as random numbers.
    """
    absent = [package for package in ("torch", "torchvision", "lpips") if find_spec(package) is None]
    if absent:
        return f"{absent[0]} is not installed: run {INSTALL}"
    backbone = BACKBONES[net]
    reason = obstacle(backbone.path, backbone.sha256, f"gen3r-bench weights fetch lpips-{net}")
    return reason or _import_problem()


@cache
def _import_problem() -> str | None:
    """Why the packages do not import although they are there, such as two versions that do not fit each other."""
    try:
        import_torchvision()
        import lpips as package
    except (ImportError, RuntimeError, OSError) as error:
        return f"lpips does not import ({type(error).__name__}: {error}): run {INSTALL}"
    del package
    return None


def provenance(net: Net) -> dict[str, str]:
    """What a score is computed with: versions, and the backbone's file with its hash."""
    backbone = BACKBONES[net]
    facts = {package: _version(package) for package in ("lpips", "torch", "torchvision")}
    facts |= {"backbone": backbone.file, "backbone sha256": sha256_of(backbone.path)}
    return {**facts, "weights": RANDOM_WEIGHTS} if marked_random(backbone.path) else facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _model(net: Net, device: str) -> Any:
    reason = unavailable(net)
    if reason is not None:
        raise InputError(f"LPIPS with {net} cannot be computed here: {reason}", expected="its package and its weights")
    path = BACKBONES[net].path
    status = path.stat()
    with _mutex:
        return _loaded(net, path, status.st_size, status.st_mtime_ns, device)


@cache
def _loaded(net: Net, path: Path, size: int, modified_ns: int, device: str) -> Any:
    """The package's own module with the weights of a file, which is loaded again only if it changes."""
    del size, modified_ns
    import lpips as package
    import torch

    # on the meta device nothing is drawn at random, nor allocated, for weights that are replaced at once
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the package names torchvision's weights in an old way
        model: Any = package.LPIPS(
            net=net, version=_HEADS_VERSION, pretrained=False, pnet_rand=True, verbose=False, eval_mode=True
        )
    heads = Path(package.__file__).parent / "weights" / f"v{_HEADS_VERSION}" / f"{net}.pth"
    state = _backbone_state(path, {name for name in model.state_dict() if name.startswith("net.")})
    state |= _head_state(torch.load(heads, map_location="cpu", weights_only=True), model.lins)
    buffers = {name: buffer for name, buffer in model.state_dict().items() if name.startswith("scaling_layer.")}
    model.load_state_dict({**state, **buffers}, strict=True, assign=True)
    return model.requires_grad_(False).eval().to(device)


def _backbone_state(path: Path, names: set[str]) -> dict[str, Any]:
    """A torchvision file's ``features.7.weight`` under the package's name for it, ``net.slice2.7.weight``.

    Raises:
        InputError: where the file is no such file, lacks a tensor, or holds one that has no place.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = {name: tensor for name, tensor in content.items() if name.startswith("features.")}
    except (RuntimeError, OSError, EOFError, ValueError, AttributeError, UnpicklingError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})", expected="torchvision's file") from error
    places = {f"features.{name.split('.', 2)[2]}": name for name in names}
    if set(places) != set(found):
        odd = sorted(set(places) ^ set(found))[0]
        what = "lacks" if odd in places else "holds an unknown"
        raise InputError(f"{path} {what} {odd}", expected="torchvision's file")
    return {places[name]: tensor.float() for name, tensor in found.items()}


def _head_state(heads: Mapping[str, Any], modules: Any) -> dict[str, Any]:
    """The package's ``lin0.model.1.weight``, which its module holds twice: by that name, and as ``lins.0.…``."""
    again = {f"lins.{name.removeprefix('lin')}": tensor for name, tensor in heads.items()}
    assert len(heads) == len(modules)
    return {**heads, **again}


def _metric(net: Net) -> Metric:
    return Metric(
        name="lpips",
        dialect=net,
        title="LPIPS",
        unit="",
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        reference=f"Zhang et al. 2018 (github.com/richzhang/PerceptualSimilarity), v0.1, {net} backbone",
        kind="frames",
        function=partial(lpips, net=net),
        takes_device=True,
        unavailable=partial(unavailable, net),
        provenance=partial(provenance, net),
    )


LPIPS_VGG: Final = _metric("vgg")
LPIPS_ALEX: Final = _metric("alex")
LPIPS_SQUEEZE: Final = _metric("squeeze")
