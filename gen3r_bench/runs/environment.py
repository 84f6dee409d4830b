"""What machine and which versions a run was made with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gen3r_bench

_PACKAGES = ("numpy", "scipy", "numba", "scikit-image", "pillow", "torch", "lpips", "vbench", "open3d", "pytorch3d")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def capture_environment(device: str) -> dict[str, str]:
    """Versions and machine, as short strings; packages that are not installed are left out."""
    if device.startswith("cuda"):
        import torch

        device = f"{device}: {torch.cuda.get_device_name(device)}"
    facts = {
        "gen3r-bench": gen3r_bench.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "processor": f"{_processor()}, {os.cpu_count()} threads",
        "device": device,
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def code_commit() -> str:
    """Commit of the code that runs, with "+changes" where files differ from it; "" outside a checkout."""
    folder = Path(gen3r_bench.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # an environment may lie inside somebody else's repository
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    return f"{git('rev-parse', 'HEAD')}{'+changes' if git('status', '--porcelain', '-uno') else ''}"
