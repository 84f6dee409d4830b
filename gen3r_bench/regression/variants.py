"""Ways to run the same subset again that should change nothing but rounding: what tolerances are calibrated on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gen3r_bench.datasets.base import ClipProfile, Dataset, OpenedDataset
from gen3r_bench.scene import Scene

PIXELS_MOVED: Final = 1e-4
"""Share of colour values that ``LastDigits`` moves by one step."""


@dataclass(frozen=True, slots=True)
class ProcessVariant:
    """The same command in a process of its own, under other environment variables.

    Attributes:
        name, summary: for the golden file.
        variables: set in the process.
        jobs: scenes side by side.
        fresh_clips: whether rendered clips come anew, since the cache holds those of this process's kind of CPU.
    """

    name: str
    summary: str
    variables: Mapping[str, str]
    jobs: int = 1
    fresh_clips: bool = False


def process_variants() -> list[ProcessVariant]:
    """Thread counts, and on x86-64 older kinds of CPU as PyTorch, NumPy, OpenBLAS, Numba and glibc know them."""
    variants = [
        ProcessVariant(
            f"{count} thread{'s' if count > 1 else ''}",
            f"{count} in PyTorch, BLAS and Numba, {count} scene{'s' if count > 1 else ''} side by side",
            {
                name: str(count)
                for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
            },
            jobs=count,
        )
        for count in (1, 2)
    ]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return variants
    found = list(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    beyond_avx2 = [name for name in found if "AVX512" in name or "V4" in name]
    return [
        *variants,
        ProcessVariant(
            "CPU with AVX2",
            "oneDNN, ATen, OpenBLAS, MKL, NumPy and Numba held to AVX2; clips rendered anew",
            {
                "ONEDNN_MAX_CPU_ISA": "AVX2",
                "ATEN_CPU_CAPABILITY": "avx2",
                "OPENBLAS_CORETYPE": "Haswell",
                "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                "NPY_DISABLE_CPU_FEATURES": " ".join(beyond_avx2),
                "NUMBA_CPU_NAME": "haswell",
                "NUMBA_CPU_FEATURES": "",
            },
            fresh_clips=True,
        ),
        ProcessVariant(
            "CPU with SSE4",
            "the same held to SSE4, glibc's functions without FMA and AVX2; clips rendered anew",
            {
                "ONEDNN_MAX_CPU_ISA": "SSE41",
                "ATEN_CPU_CAPABILITY": "default",
                "OPENBLAS_CORETYPE": "Nehalem",
                "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
                "NPY_DISABLE_CPU_FEATURES": " ".join(found),
                "NUMBA_CPU_NAME": "x86-64-v2",
                "NUMBA_CPU_FEATURES": "",
                "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX,-FMA4",
            },
            fresh_clips=True,
        ),
    ]


LAST_DIGITS: Final = "last digits of the data"
LAST_DIGITS_SUMMARY: Final = (
    f"every depth moved by one unit in its last place, one colour value in {1 / PIXELS_MOVED:.0f} by one step: what "
    "another processor's mathematical functions may do to a scene"
)


class LastDigits(Dataset):
    """A dataset whose depths and colours differ in their last digits from those of another, drawn by scene."""

    def __init__(self, reader: Dataset) -> None:
        self.info = reader.info  # type: ignore[misc]  # one reader's, not the class's
        self.options = reader.options  # type: ignore[misc]
        self._reader = reader

    @classmethod
    def open(cls, root: object, options: Mapping[str, str]) -> LastDigits:
        raise NotImplementedError("a dataset with other last digits is made of an opened one")

    @classmethod
    def of(cls, opened: OpenedDataset) -> OpenedDataset:
        return replace(opened, reader=cls(opened.reader))

    def scene_ids(self) -> tuple[str, ...]:
        return self._reader.scene_ids()

    def fingerprint(self, scene_id: str, profile: ClipProfile) -> str:
        return self._reader.fingerprint(scene_id, profile)

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        scene = self._reader.load(scene_id, profile)
        random = np.random.default_rng(sum(scene_id.encode()))
        rgb = scene.rgb.astype(np.int16)
        moved = random.random(rgb.shape, dtype=np.float32) < PIXELS_MOVED
        rgb += moved * random.choice(np.array([-1, 1], dtype=np.int16), size=rgb.shape)
        depth = scene.depth
        if depth is not None:
            towards = np.where(random.random(depth.shape, dtype=np.float32) < 0.5, 0, np.inf).astype(np.float32)
            depth = np.where(scene.valid, np.nextafter(depth, towards), depth)
        return replace(scene, rgb=np.clip(rgb, 0, 255).astype(np.uint8), depth=depth)
