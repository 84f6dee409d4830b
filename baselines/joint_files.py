"""Checkpoints of joint diffusions in one file: which file a name stands for, and where what it names lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gen3r_bench.baselines.official_weights import OFFICIAL, REFERENCE, gen3r_parts
from gen3r_bench.errors import InputError
from gen3r_bench.locations import GEN3R_FOLDERS, SHIPPED, shipped_weights

FILE_LIBRARIES: Final = ("torch",)
"""What sampling needs where the checkpoint is a file."""


def joint_file(method_id: str, checkpoint: str | None) -> Path | None:
    """The file that a checkpoint's name stands for; None where it stands for a folder.

    Raises:
        InputError: where it is "reference", and this version ships none.
    """
    if checkpoint == REFERENCE:
        path = shipped_weights(method_id)
        if not path.is_file():
            raise InputError(
                f"{method_id}@{REFERENCE} is not shipped with this version",
                expected=f"{method_id}@PATH of a file that gen3r-bench train made",
                fix=f"gen3r-bench train {method_id}",
            )
        return path
    path = Path(checkpoint or OFFICIAL).expanduser()
    return path if path.suffix == ".safetensors" or path.is_file() else None


def folder_with(root: Path, parts: Sequence[str], *, row: str, expected: str, fix: str | None = None) -> Path:
    """``root``, where it has all the folders that a checkpoint consists of.

    Args:
        root: of the checkpoint.
        parts: names of the folders.
        row: whose checkpoint it is, for the message.
        expected: what would do, for the message.
        fix: what brings it, for the message.

    Raises:
        InputError: where it is not there, or parts are missing: which.
    """
    missing = [name for name in parts if not (root / name).is_dir()]
    if not missing:
        return root
    what = f"{', '.join(missing)} missing in {root}" if root.is_dir() else f"{root} does not exist"
    raise InputError(f"{row}: {what}", expected=expected, fix=fix)


def frozen_path(network: str, checkpoint: str) -> Path:
    """Where a network lies that a file was trained beside.

    Args:
        network: such as ``wan-vae``.
        checkpoint: one of ``SHIPPED``, "official", or a path.

    Raises:
        InputError: where it is not there.
    """
    if checkpoint == OFFICIAL:
        return gen3r_parts(network, OFFICIAL, (GEN3R_FOLDERS[network],))[0]
    shipped = checkpoint in SHIPPED
    path = shipped_weights(network, checkpoint) if shipped else Path(checkpoint).expanduser()
    if not path.exists():
        raise InputError(
            f"the {network} that it was trained beside, {checkpoint}, is not there ({path})",
            expected="those very weights",
            fix="bring them back, or run where they are" if not shipped else None,
        )
    return path
