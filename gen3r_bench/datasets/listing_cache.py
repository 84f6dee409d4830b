"""Names in folders, remembered between commands: on a network disk, asking for a time is cheaper than listing."""

from __future__ import annotations

import atexit
import contextlib
import json
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from gen3r_bench.datasets.export import replace_text
from gen3r_bench.datasets.mini.cache import cache_folder

SETTLED_NS: Final = 2_000_000_000
"""A folder changed within the last two seconds may change again under the same time stamp, and is not remembered."""


class ListingCache:
    """Lists of names by folder, each valid while the folder's modification time stays the same.

    Entering, removing or renaming something in a folder changes its modification time; what happens deeper down does
    not, and is not remembered here. A cache file that is damaged or cannot be written is not used, without complaint.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mutex = threading.Lock()
        self._changed = False
        self._entries: dict[str, tuple[int, list[str]]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            stored = json.loads(file.read_text(encoding="utf-8"))
            self._entries = {str(key): (int(stamp), list(names)) for key, (stamp, names) in stored.items()}

    def names(self, folder: Path, what: str, scan: Callable[[], list[str]]) -> list[str]:
        """The names that ``scan`` gives for a folder, or gave when the folder had the same modification time.

        Args:
            folder: whose listing it is.
            what: which names are meant, such as ``folders``; the same folder can be asked for several.
            scan: lists them; its errors pass through.
        """
        try:
            stamp = folder.stat().st_mtime_ns
        except OSError:
            return scan()
        key = f"{what} {folder.absolute()}"
        with self._mutex:
            known = self._entries.get(key)
        if known is not None and known[0] == stamp:
            return list(known[1])
        names = scan()
        if time.time_ns() - stamp > SETTLED_NS:
            with self._mutex:
                self._entries[key] = (stamp, list(names))
                self._changed = True
        return names

    def save(self) -> None:
        """Write what is new, in one step; readers see the old or the new file."""
        with self._mutex:
            if not self._changed:
                return
            text = json.dumps(self._entries)
            self._changed = False
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self._file, text)


@cache
def shared_listing() -> ListingCache:
    """The cache of this process, saved when it ends: a kill loses nothing but the time to list again."""
    listing = ListingCache(cache_folder() / "listings.json")
    atexit.register(listing.save)
    return listing
