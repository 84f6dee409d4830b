"""The weights that methods and metrics need: what, from where, how large, under which licence, where they belong.

One entry a download. A size or hash that nobody has published, or that we have not seen, is None, never a guess. The
files of metrics are listed beside the metrics, as data; here they become entries like those of the methods.
"""

from __future__ import annotations

from typing import Final

from gen3r_bench.baselines.gen3r_two_stage import UNPUBLISHED as TWO_STAGE_UNPUBLISHED
from gen3r_bench.baselines.gen3r_without_kl import UNPUBLISHED as WITHOUT_KL_UNPUBLISHED
from gen3r_bench.baselines.lvsm import FILES as LVSM_FILES
from gen3r_bench.baselines.lvsm import HUB_ID as LVSM_HUB_ID
from gen3r_bench.baselines.official_weights import AETHER_HUB_ID, COGVIDEOX_HUB_ID
from gen3r_bench.baselines.wvd import UNPUBLISHED as WVD_UNPUBLISHED
from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.locations import GEN3R_HUB_ID, hub_command, weights_root
from gen3r_bench.metrics.perceptual import BACKBONES
from gen3r_bench.metrics.vbench.files import FILES as VBENCH_FILES
from gen3r_bench.weights.entry import State, WeightEntry

__all__ = ["CATALOGUE", "State", "WeightEntry", "download_commands", "entries"]

UNPUBLISHED: Final = {
    "gen3r-two-stage": TWO_STAGE_UNPUBLISHED,
    "gen3r-without-kl": WITHOUT_KL_UNPUBLISHED,
    "wvd": WVD_UNPUBLISHED,
}
"""Why a method has no entry."""
VGGT_HUB_ID: Final = "facebook/VGGT-1B"
_GEN3R_LICENCE: Final = "as its model card says (code: MIT)"


def _gen3r_part(
    name: str,
    *methods: str,
    licence: str = _GEN3R_LICENCE,
    needs: tuple[str, ...] = ("config.json",),
    weights: bool = True,
    non_commercial: bool = False,
) -> WeightEntry:
    return WeightEntry(
        methods=("gen3r", *methods),
        non_commercial=non_commercial,
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
    _gen3r_part(
        "vggt",
        "gen3r-vae-only",
        "wvd-vae-only",
        licence="non-commercial (a copy of facebook/VGGT-1B)",
        non_commercial=True,
    ),
    _gen3r_part("wan_vae", "wan-vae", "wvd-vae-only", licence="Apache-2.0 (Wan 2.1)"),
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
        non_commercial=True,
        size="5.0 GB",
    ),
    *(
        WeightEntry(
            methods=("lvsm",),
            place=f"lvsm/{name}",
            hub_id=LVSM_HUB_ID,
            hub_path=name,
            licence="CC BY-NC-SA 4.0",
            non_commercial=True,
        )
        for name in LVSM_FILES.values()
    ),
    _aether_part("transformer", AETHER_HUB_ID, "as its model card says (code: MIT)", size="11.15 GB"),
    _aether_part("vae", COGVIDEOX_HUB_ID, "CogVideoX licence"),
    _aether_part("text_encoder", COGVIDEOX_HUB_ID, "CogVideoX licence (T5-v1.1-xxl: Apache-2.0)"),
    _aether_part("scheduler", COGVIDEOX_HUB_ID, "CogVideoX licence", needs=("scheduler_config.json",), weights=False),
    *(
        WeightEntry(
            name=f"lpips-{net}",
            title=f"backbone of LPIPS ({net}), trained on ImageNet; the heads on top come with the package lpips",
            metrics=(f"lpips@{net}",),
            place=backbone.place,
            url=backbone.url,
            licence="BSD-3-Clause (torchvision)",
            size=backbone.size,
            sha256=backbone.sha256,
        )
        for net, backbone in BACKBONES.items()
    ),
    *(
        WeightEntry(
            name=file.name,
            title=file.title,
            metrics=file.dimensions,
            place=file.place,
            url=file.url,
            archive_root=file.archive_root if file.members else None,
            needs=file.members,
            licence=file.licence,
            non_commercial=file.noncommercial,
            size=file.size,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
        )
        for file in VBENCH_FILES
    ),
)


def entries(name: str | None = None) -> list[WeightEntry]:
    """The entries of a name, or all: an entry's own, a method or metric that reads it, or the first word of its name.

    Raises:
        UnknownNameError: where no entry goes by that name.
        InputError: where it is a method whose weights nobody published.
    """
    if name in UNPUBLISHED:
        raise InputError(UNPUBLISHED[name], expected="nothing to fetch; its other rows are the paper's own")
    if name is None:
        return list(CATALOGUE)
    own = [entry for entry in CATALOGUE if name == entry.name]
    found = own or [entry for entry in CATALOGUE if name in _names(entry)]
    if not found:
        raise UnknownNameError(
            "weights, method or metric", name, {word for entry in CATALOGUE for word in _names(entry)}
        )
    return found


def _names(entry: WeightEntry) -> set[str]:
    metrics = {key.partition("@")[0] for key in entry.metrics}
    family = {entry.name.partition("-")[0]} if entry.metrics else set()
    return {entry.name, *entry.needed_by, *metrics, *family}


def download_commands(chosen: list[WeightEntry]) -> list[str]:
    """Commands that fetch the entries that are not present; a model of which nothing is there, in one command."""
    open_entries = [entry for entry in chosen if entry.state() != "present"]
    fetched = [entry for entry in open_entries if entry.url]
    open_entries = [entry for entry in open_entries if not entry.url]
    ours = [f"gen3r-bench weights fetch {' '.join(entry.name for entry in fetched)}"] if fetched else []
    whole = [entry for entry in CATALOGUE if entry.hub_id == GEN3R_HUB_ID]
    if all(entry in open_entries for entry in whole):
        rest = [entry.command() for entry in open_entries if entry.hub_id != GEN3R_HUB_ID]
        return [hub_command(GEN3R_HUB_ID, weights_root() / "gen3r"), *rest, *ours]
    return [*(entry.command() for entry in open_entries), *ours]
