"""The files that VBench's five dimensions read: what, from where, under which licence, and where they belong.

Everything lies below one folder: `cache_folder` is VBench's own cache (``VBENCH_CACHE_DIR``) and PyTorch's home
(``TORCH_HOME``), and ``hub/`` in it is both PyTorch's hub and DreamSim's cache, which also wants DINO there. A size or
hash that we have not seen is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gen3r_bench.locations import weights_root
from gen3r_bench.metrics.weight_files import RANDOM_SUFFIX, marked_random

Dimension = Literal["i2v_subject", "i2v_background", "imaging_quality", "aesthetic_quality", "motion_smoothness"]
DIMENSIONS: Final[tuple[Dimension, ...]] = (
    "i2v_subject",
    "i2v_background",
    "imaging_quality",
    "aesthetic_quality",
    "motion_smoothness",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VbenchFile:
    """One download.

    Attributes:
        name: in the catalogue of ``gen3r-bench weights``.
        title: what it is, in words.
        url: where its publisher offers it.
        place: below ``weights_root()``; a folder, with "/" at its end, for an archive.
        members: of an archive: what must lie in ``place`` once it is unpacked.
        archive_root: of an archive: the folder in it whose content goes into ``place``; "" for all of it.
        licence: of what is downloaded.
        noncommercial: whether the licence forbids commercial use.
        dimensions: that need it.
        size: in words.
        size_bytes: of the download, where known exactly.
        sha256: of the download, in full or its first digits, where its publisher names them.
    """

    name: str
    title: str
    url: str
    place: str
    licence: str
    dimensions: tuple[Dimension, ...]
    size: str
    members: tuple[str, ...] = ()
    archive_root: str = ""
    noncommercial: bool = False
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """Where it belongs on this machine."""
        return weights_root() / self.place

    def paths(self) -> list[Path]:
        """The files that must be there, on this machine."""
        return [self.path / member for member in self.members] if self.members else [self.path]

    def missing(self) -> list[Path]:
        """Those that are not there."""
        return [path for path in self.paths() if not path.is_file()]


FILES: Final[tuple[VbenchFile, ...]] = (
    VbenchFile(
        name="vbench-dino",
        title="DINO ViT-B/16",
        url="https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
        place="vbench/hub/checkpoints/dino_vitbase16_pretrain.pth",
        licence="Apache-2.0",
        dimensions=("i2v_subject", "i2v_background"),
        size="343 MB",
    ),
    VbenchFile(
        name="vbench-dino-code",
        title="source code of DINO, which PyTorch's hub runs; not weights",
        url="https://github.com/facebookresearch/dino/archive/refs/heads/main.zip",
        place="vbench/hub/facebookresearch_dino_main/",
        members=("hubconf.py", "vision_transformer.py", "utils.py"),
        archive_root="dino-main/",
        licence="Apache-2.0",
        dimensions=("i2v_subject", "i2v_background"),
        size="small",
    ),
    VbenchFile(
        name="vbench-dreamsim",
        title="DreamSim ensemble: DINO, CLIP and OpenCLIP ViT-B/16 with its low-rank adapter",
        url=(
            "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints/"
            "dreamsim_ensemble_checkpoint.zip"
        ),
        place="vbench/hub/",
        members=(
            "dino_vitb16_pretrain.pth",
            "clip_vitb16_pretrain.pth.tar",
            "open_clip_vitb16_pretrain.pth.tar",
            "ensemble_lora/adapter_config.json",
        ),
        licence="MIT",
        dimensions=("i2v_background",),
        size="1.26 GB",
        size_bytes=1_261_181_618,
    ),
    VbenchFile(
        name="vbench-musiq",
        title="MUSIQ trained on SPAQ",
        url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
        place="vbench/pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",
        licence="PolyForm Noncommercial 1.0.0 and NTU S-Lab 1.0 (pyiqa)",
        noncommercial=True,
        dimensions=("imaging_quality",),
        size="109 MB",
        sha256="358bb6af",
    ),
    VbenchFile(
        name="vbench-clip",
        title="CLIP ViT-L/14",
        url=(
            "https://openaipublic.azureedge.net/clip/models/"
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt"
        ),
        place="vbench/clip_model/ViT-L-14.pt",
        licence="MIT",
        dimensions=("aesthetic_quality",),
        size="0.93 GB",
        sha256="b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    VbenchFile(
        name="vbench-aesthetic-head",
        title="LAION aesthetic predictor: one linear layer on CLIP ViT-L/14",
        url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
        place="vbench/aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth",
        licence="MIT (its repository's)",
        dimensions=("aesthetic_quality",),
        size="4 kB",
    ),
    VbenchFile(
        name="vbench-amt",
        title="AMT-S frame interpolation",
        url="https://huggingface.co/lalala125/AMT/resolve/main/amt-s.pth",
        place="vbench/amt_model/amt-s.pth",
        licence="CC BY-NC-SA 4.0 (its code: CC BY-NC 4.0)",
        noncommercial=True,
        dimensions=("motion_smoothness",),
        size="12 MB",
    ),
)


def cache_folder() -> Path:
    """The folder that holds all of it."""
    return weights_root() / "vbench"


def files_of(dimension: Dimension) -> list[VbenchFile]:
    """What a dimension needs."""
    return [file for file in FILES if dimension in file.dimensions]


def weight_paths(dimension: Dimension) -> list[Path]:
    """Every file of a dimension that decides its numbers, DreamSim's adapter included, as far as they are there."""
    paths = {path for file in files_of(dimension) for path in file.paths() if path.is_file()}
    if dimension == "i2v_background":
        paths |= {path for path in (cache_folder() / "hub" / "ensemble_lora").glob("adapter_model.*") if path.is_file()}
    return sorted(path for path in paths if path.suffix != RANDOM_SUFFIX)


def are_random(dimension: Dimension) -> bool:
    """Whether any of them is marked as random numbers."""
    return any(marked_random(path) for path in weight_paths(dimension))
