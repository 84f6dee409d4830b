"""The weights that the built-in methods need: what, from where, how large, under which licence, and where they belong.

One entry a file or folder. A size or hash that nobody has published, or that we have not seen, is None, never a guess.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gen3r_bench.baselines.lvsm import FILES as LVSM_FILES
from gen3r_bench.baselines.lvsm import HUB_ID as LVSM_HUB_ID
from gen3r_bench.baselines.official_weights import AETHER_HUB_ID, COGVIDEOX_HUB_ID, GEN3R_HUB_ID
from gen3r_bench.errors import UnknownNameError
from gen3r_bench.locations import weights_root

State = Literal["present", "partial", "missing"]
VGGT_HUB_ID: Final = "facebook/VGGT-1B"
_GEN3R_LICENCE: Final = "as its model card says (code: MIT)"
_WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightEntry:
    """A file, or a folder whose file names the publisher chose.

    Attributes:
        methods: that read it.
        place: below ``weights_root()``; ends with "/" for a folder.
        hub_id: Hugging Face model.
        hub_path: file, or folder with "/" at its end, in that model.
        size: in words, where known.
        licence: of the weights.
        needs: files that a folder must hold besides weights.
        weights: whether a folder must hold files of weights.
        sha256: of a single file, where known.
        size_bytes: of a single file, where known.
    """

    methods: tuple[str, ...]
    place: str
    hub_id: str
    hub_path: str
    licence: str
    size: str | None = None
    needs: tuple[str, ...] = ()
    weights: bool = True
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def path(self) -> Path:
        """Where it belongs on this machine."""
        return weights_root() / self.place

    def files(self) -> list[Path]:
        """The files of it that are there, sorted."""
        if self.path.is_file():
            return [self.path]
        return sorted(file for file in self.path.glob("*") if file.is_file()) if self.path.is_dir() else []

    def state(self) -> State:
        """Whether it is there; "partial" where a folder lacks a file that it needs."""
        files = self.files()
        if not files:
            return "missing"
        if not self.place.endswith("/"):
            return "present"
        names = {file.name for file in files}
        whole = names.issuperset(self.needs) and (
            not self.weights or any(name.endswith(_WEIGHT_SUFFIXES) for name in names)
        )
        return "present" if whole else "partial"

    def command(self) -> str:
        """The shell command that fetches it to its place."""
        if self.place.endswith("/"):
            root = weights_root() / self.place.removesuffix(self.hub_path)
            return f'hf download {self.hub_id} --include "{self.hub_path}*" --local-dir {root}'
        return f"hf download {self.hub_id} {self.hub_path} --local-dir {self.path.parent}"


def _gen3r_part(
    name: str,
    *methods: str,
    licence: str = _GEN3R_LICENCE,
    needs: tuple[str, ...] = ("config.json",),
    weights: bool = True,
) -> WeightEntry:
    return WeightEntry(
        methods=("gen3r", *methods),
        place=f"gen3r/{name}/",
        hub_id=GEN3R_HUB_ID,
        hub_path=f"{name}/",
        licence=licence,
        needs=needs,
        weights=weights,
    )


def _aether_part(
    name: str,
    hub_id: str,
    licence: str,
    *,
    size: str | None = None,
    needs: tuple[str, ...] = ("config.json",),
    weights: bool = True,
) -> WeightEntry:
    return WeightEntry(
        methods=("aether",),
        place=f"aether/{name}/",
        hub_id=hub_id,
        hub_path=f"{name}/",
        licence=licence,
        size=size,
        needs=needs,
        weights=weights,
    )


CATALOGUE: Final[tuple[WeightEntry, ...]] = (
    _gen3r_part("transformer"),
    _gen3r_part("geo_adapter", "gen3r-vae-only"),
    _gen3r_part("vggt", "gen3r-vae-only", licence="non-commercial (a copy of facebook/VGGT-1B)"),
    _gen3r_part("wan_vae", "wan-vae", licence="Apache-2.0 (Wan 2.1)"),
    _gen3r_part("text_encoder", licence="Apache-2.0 (umT5-xxl, from Wan 2.1)"),
    # the released loader reads no configuration here, so the folder may have none
    _gen3r_part("clip_image_encoder", licence="Apache-2.0 (from Wan 2.1)", needs=()),
    _gen3r_part(
        "tokenizer", licence="Apache-2.0 (umT5-xxl, from Wan 2.1)", needs=("tokenizer_config.json",), weights=False
    ),
    _gen3r_part("scheduler", needs=("scheduler_config.json",), weights=False),
    WeightEntry(
        methods=("vggt",),
        place="vggt/model.safetensors",
        hub_id=VGGT_HUB_ID,
        hub_path="model.safetensors",
        licence="CC BY-NC 4.0",
        size="5.0 GB",
    ),
    *(
        WeightEntry(
            methods=("lvsm",),
            place=f"lvsm/{name}",
            hub_id=LVSM_HUB_ID,
            hub_path=name,
            licence="CC BY-NC-SA 4.0",
        )
        for name in LVSM_FILES.values()
    ),
    _aether_part("transformer", AETHER_HUB_ID, "as its model card says (code: MIT)", size="11.15 GB"),
    _aether_part("vae", COGVIDEOX_HUB_ID, "CogVideoX licence"),
    _aether_part("text_encoder", COGVIDEOX_HUB_ID, "CogVideoX licence (T5-v1.1-xxl: Apache-2.0)"),
    _aether_part("scheduler", COGVIDEOX_HUB_ID, "CogVideoX licence", needs=("scheduler_config.json",), weights=False),
)


def entries(method: str | None = None) -> list[WeightEntry]:
    """The entries that a method reads, or all.

    Raises:
        UnknownNameError: where no entry names the method.
    """
    if method is None:
        return list(CATALOGUE)
    found = [entry for entry in CATALOGUE if method in entry.methods]
    if not found:
        raise UnknownNameError("method with weights", method, {name for entry in CATALOGUE for name in entry.methods})
    return found


def download_commands(chosen: list[WeightEntry]) -> list[str]:
    """Commands that fetch the entries that are not present; a model of which nothing is there, in one command."""
    open_entries = [entry for entry in chosen if entry.state() != "present"]
    whole = [entry for entry in CATALOGUE if entry.hub_id == GEN3R_HUB_ID]
    if all(entry in open_entries for entry in whole):
        rest = [entry.command() for entry in open_entries if entry.hub_id != GEN3R_HUB_ID]
        return [f"hf download {GEN3R_HUB_ID} --local-dir {weights_root() / 'gen3r'}", *rest]
    return [entry.command() for entry in open_entries]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """What was found of one file.

    Attributes:
        file: its path.
        sha256: of its content.
        size_bytes: of it.
        fault: what is wrong, or None.
        verified: whether a known hash or size was compared.
    """

    file: Path
    sha256: str
    size_bytes: int
    fault: str | None
    verified: bool


def check_files(entry: WeightEntry) -> list[FileCheck]:
    """Hash every file of an entry, compare with what is known, and see that no safetensors file is cut short."""
    checks = []
    for file in entry.files():
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = file.stat().st_size
        fault = None
        if entry.size_bytes not in {None, size}:
            fault = f"{size} bytes instead of {entry.size_bytes}"
        elif entry.sha256 not in {None, digest}:
            fault = f"another sha256 than {entry.sha256}"
        elif file.suffix == ".safetensors":
            fault = _cut_short(file, size)
        known = entry.sha256 is not None or entry.size_bytes is not None
        checks.append(FileCheck(file=file, sha256=digest, size_bytes=size, fault=fault, verified=known))
    return checks


def _cut_short(file: Path, size: int) -> str | None:
    """Why a safetensors file cannot be whole, from its header alone; None where its length is what it says."""
    import json

    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if 8 + length > size:
            return "no whole safetensors header (a git-lfs pointer, or a broken download?)"
        try:
            header = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "no safetensors header"
    wanted = 8 + length + end
    return None if size == wanted else f"{size} bytes where its header says {wanted}"
