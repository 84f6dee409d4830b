"""Access to the compiled kernels; the only place that knows whether numba is there."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


@functools.cache
def _numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def compiled(module: str) -> Any | None:
    """The kernels of ``gen3r_bench.metrics.<module>``, or None where the NumPy fallback must do.

    That is where numba is not installed, or ``GEN3R_BENCH_NO_NUMBA=1`` asks for it.
    """
    if os.environ.get("GEN3R_BENCH_NO_NUMBA") == "1" or not _numba_is_installed():
        return None
    return importlib.import_module(f"gen3r_bench.metrics.{module}")


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first call: single-threaded, without the GIL, kept on disk.

    No fast-math: the kernels promise the float32 and float64 results of their NumPy counterparts, bit by bit.
    """
    import numba

    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to write the cache: a read-only installation without a home folder
        return numba.njit(nogil=True)(function)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` as a plain C-contiguous read-only view, so that every caller shares one compiled version."""
    view = np.ascontiguousarray(np.asarray(array)).view()
    view.flags.writeable = False
    return view
