"""Where a recipe finds the trained networks that it builds on, and how to get those that are not here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gen3r_bench.errors import InputError
from gen3r_bench.locations import GEN3R_FOLDERS, GEN3R_HUB_ID, SHIPPED, hub_command, shipped_weights, weights_root
from gen3r_bench.models.checkpoint import weight_files, weights_sha256
from gen3r_bench.models.folder import CONFIG_FILE, WEIGHTS_FILE
from gen3r_bench.models.gen3r.folder import Gen3rFolder

OFFICIAL: Final = "official"
GEN3R: Final = "gen3r"
"""All of Gen3R's released checkpoint, which the networks of ``GEN3R_FOLDERS`` are parts of."""
WAN_FUN: Final = "wan-fun"
"""What Gen3R began from."""
_WAN_FUN_HUB_ID: Final = "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-Control-Camera"
_WAN_FUN_FOLDER: Final = "wan2.1-fun-v1.1-1.3b-control-camera"
"""Below ``weights_root()``."""


def source_path(method: str, checkpoint: str) -> Path:
    """Where the weights of a checkpoint lie, or would lie: of ``SHIPPED``, "official", or a path."""
    if checkpoint in SHIPPED:
        return shipped_weights(method, checkpoint)
    if checkpoint != OFFICIAL:
        return Path(checkpoint).expanduser()
    whole = {GEN3R: "gen3r", WAN_FUN: _WAN_FUN_FOLDER}
    return weights_root() / (whole[method] if method in whole else Path("gen3r", GEN3R_FOLDERS[method]))


def require_sources(needed: Iterable[tuple[str, str]]) -> None:
    """Raise InputError, with the commands that fetch them, where weights that a recipe builds on are not here.

    Args:
        needed: method and checkpoint of each, as ``source_path`` takes them.
    """
    absent = [each for each in needed if not _is_here(*each)]
    if not absent:
        return
    paths = [str(source_path(*each)) for each in absent]
    hubs = dict(_hub(method) for method, checkpoint in absent if checkpoint == OFFICIAL)
    raise InputError(
        f"no whole weights in {', '.join(paths)}",
        expected=f"those of {' and '.join(dict.fromkeys(hubs.values()))} on Hugging Face"
        if hubs
        else "a file or folder of weights",
        fix=" && ".join(hubs) or None,
    )


def gen3r_folder() -> Gen3rFolder:
    """Gen3R's released checkpoint.

    Raises:
        InputError: as ``Gen3rFolder``, with the command that fetches it.
    """
    root = source_path(GEN3R, OFFICIAL)
    try:
        return Gen3rFolder(root)
    except InputError as fault:
        raise InputError(fault.given, expected=fault.expected, fix=hub_command(GEN3R_HUB_ID, root)) from fault


def frozen_sha256(paths: Mapping[str, Path]) -> dict[str, str]:
    """Hashes of the weights that a recipe builds on, by name; of those that are here."""
    hashes = {}
    for name, path in paths.items():
        with suppress(InputError):
            hashes[name] = weights_sha256(path)
    return hashes


def _is_here(method: str, checkpoint: str) -> bool:
    path = source_path(method, checkpoint)
    if method == GEN3R:
        return path.is_dir()  # what opens it says what it lacks
    try:
        weight_files(path)
    except InputError:
        return False
    return checkpoint != OFFICIAL or method == WAN_FUN or (path / CONFIG_FILE).is_file()


def _hub(method: str) -> tuple[str, str]:
    """The command that fetches a method's official weights, and the Hugging Face model that they are part of."""
    if method == WAN_FUN:
        return hub_command(_WAN_FUN_HUB_ID, source_path(WAN_FUN, OFFICIAL), chosen=WEIGHTS_FILE), _WAN_FUN_HUB_ID
    # one command a folder: repeated --include means different things to different versions of hf
    chosen = "" if method == GEN3R else f"{GEN3R_FOLDERS[method]}/"
    return hub_command(GEN3R_HUB_ID, source_path(GEN3R, OFFICIAL), chosen=chosen), GEN3R_HUB_ID
