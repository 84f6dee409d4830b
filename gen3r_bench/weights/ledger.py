"""``fetched.json``: the sha256 of every file that ``weights fetch`` brought, where nobody published one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gen3r_bench.errors import StoreError
from gen3r_bench.locations import weights_root

NAME: Final = "fetched.json"


def recorded() -> dict[str, dict[str, str]]:
    """By path below ``weights_root()``: ``sha256`` and ``source`` of what was fetched.

    Raises:
        StoreError: where the file is damaged.
    """
    path = weights_root() / NAME
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        return {str(place): {str(k): str(v) for k, v in facts.items()} for place, facts in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is damaged: {error} (fix: remove it; the weights themselves stay)") from error


def record(files: Mapping[Path, str], source: str) -> None:
    """Add the hashes of files that were brought, by their path; the file is replaced in one step."""
    root = weights_root()
    content = recorded() | {
        str(file.relative_to(root)): {"sha256": digest, "source": source} for file, digest in files.items()
    }
    temporary = root / f".{NAME}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
    os.replace(temporary, root / NAME)
