"""Where official weights lie on this machine, and how to get those that do not."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gen3r_bench.errors import InputError
from gen3r_bench.locations import GEN3R_HUB_ID, hub_command, shipped_weights, weights_root

AETHER_HUB_ID: Final = "AetherWorldModel/AetherV1"
COGVIDEOX_HUB_ID: Final = "THUDM/CogVideoX-5b-I2V"
GEN3R_TRAINING_SETS: Final = (
    "acid",
    "co3dv2",
    "dl3dv",
    "kitti360",
    "mvimgnet",
    "realestate10k",
    "tartanair",
    "vkitti",
    "waymo",
    "wildrgbd",
)
"""What Gen3R's transformer and adapter were trained on, as the paper lists it, in this suite's names."""
OFFICIAL: Final = "official"
OFFLOAD_VARIABLE: Final = "GEN3R_BENCH_OFFLOAD"
"""Environment variable: "none", "encoders" (the default) or "all"; see ``gen3r_bench.models.parts.Parts``."""
REFERENCE: Final = "reference"
"""A checkpoint that this project trained, and ships."""
VGGT_TRAINING_SETS: Final = ("co3dv2", "dl3dv", "wildrgbd")
"""What of its training data this suite knows: VGGT's authors name more."""
_CONFIG: Final = "config.json"
_SUFFIXES: Final = (".safetensors", ".bin", ".pth", ".pt")


def require_libraries(method_id: str, libraries: Iterable[str]) -> None:
    """Raise InputError, naming every library that is not installed, before anything is run."""
    absent = [name for name in libraries if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(
            f"{', '.join(absent)} not installed",
            expected=f"the libraries of {method_id}",
            fix=f"pip install {' '.join(absent)}",
        )


def gen3r_parts(
    method_id: str, checkpoint: str | None, names: tuple[str, ...], *, shipped: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """The folders of some networks of Gen3R's checkpoint, each with a ``config.json`` and weights; or our own files.

    Args:
        method_id: who asks, for messages.
        checkpoint: "official" (or None), "reference" where this project ships those networks, or the path of a folder
            that holds the named ones. Where one name is wanted, the path may also be that network's own folder, or a
            file of weights.
        names: subfolders of the checkpoint, such as ``wan_vae``.
        shipped: what "reference" stands for, see ``shipped_weights``; empty where there is none.

    Raises:
        InputError: naming the missing file and, for the official weights, the hub id and the command that fetches it.
    """
    if checkpoint in {None, OFFICIAL}:
        root = weights_root() / "gen3r"
        missing = _missing(root, names)
        if missing is not None:
            raise InputError(
                f"{method_id}@{OFFICIAL} needs {missing}, and it is not there",
                expected=f"{' and '.join(f'{name}/' for name in names)} of the Hugging Face model {GEN3R_HUB_ID}",
                fix=download_command(root, names),
            )
        return tuple(root / name for name in names)
    assert checkpoint is not None
    if shipped and checkpoint == REFERENCE:
        return tuple(shipped_weights(network) for network in shipped)
    root = Path(checkpoint).expanduser()
    if len(names) == 1 and (root.is_file() or (root / _CONFIG).is_file()):
        return (root,)
    missing = _missing(root, names)
    if missing is not None:
        what = f"{missing} is missing" if root.is_dir() else "no such folder"
        known = [repr(name) for name in (OFFICIAL, *((REFERENCE,) if shipped else ()))]
        raise InputError(
            f"checkpoint {checkpoint!r} for {method_id}: {what}",
            expected=f"{', '.join(known)}, or a folder with {' and '.join(f'{name}/' for name in names)}",
        )
    return tuple(root / name for name in names)


def download_command(root: Path, names: tuple[str, ...]) -> str:
    """The shell command that fetches the named subfolders of Gen3R's checkpoint into ``root``."""
    # one command a folder: repeated --include means different things to different versions of hf
    return " && ".join(hub_command(GEN3R_HUB_ID, root, chosen=f"{name}/") for name in names)


def _missing(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first file that is needed and not there."""
    for name in names:
        if not (root / name / _CONFIG).is_file():
            return root / name / _CONFIG
        if not any(weights_in(root / name)):
            stem = "model" if name == "vggt" else "diffusion_pytorch_model"
            return root / name / f"{stem}.safetensors"
    return None


def weights_in(path: Path) -> list[Path]:
    """A file itself, or the files of weights in a folder, sorted."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def sha256_of(paths: Iterable[Path]) -> str:
    """One hash of the weights at some paths: that of the one path, else of the list of their hashes."""
    from gen3r_bench.models.checkpoint import weights_sha256

    digests = [weights_sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
