"""The paper's nine tables: their layouts, and their values as printed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from gen3r_bench.errors import InputError
from gen3r_bench.scene import Setting


@dataclass(frozen=True, slots=True)
class PaperMetric:
    """A column of the paper: its name here, its head, its direction and the decimals that it is printed with."""

    name: str
    title: str
    higher_is_better: bool
    decimals: int = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring columns of one dataset."""

    dataset: str
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellKey:
    """Where a value of the paper stands."""

    setting: Setting
    method: str
    dataset: str
    metric: str


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        number: 1 to 9.
        title: what it shows, in our words.
        rows: method titles in the paper's order, by setting, in the paper's order of settings.
        blocks: datasets and their metrics, in column order.
        settings_across: whether settings are groups of columns (Table 5) instead of groups of rows.
        decimals: where the table departs from ``METRICS``.
        values: as printed.
    """

    number: int
    title: str
    rows: Mapping[Setting, tuple[str, ...]]
    blocks: tuple[Block, ...]
    settings_across: bool = False
    decimals: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[CellKey, str] = field(default_factory=dict)

    def places(self) -> Iterator[CellKey]:
        """Every cell, row by row."""
        for setting, methods in self.rows.items():
            for method in methods:
                for block in self.blocks:
                    for metric in block.metrics:
                        yield CellKey(setting, method, block.dataset, metric)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the table shows, in column order."""
        return tuple(dict.fromkeys(metric for block in self.blocks for metric in block.metrics))

    def printed_decimals(self, metric: str) -> int:
        """Decimals that the table prints a metric with; single cells that differ keep their own (see Table 6)."""
        return self.decimals.get(metric, METRICS[metric].decimals)


SETTING_TITLES: Final[Mapping[Setting, str]] = {"1view": "1-view", "2view": "2-view", "allview": "all views"}

METRICS: Final[Mapping[str, PaperMetric]] = {
    metric.name: metric
    for metric in (
        PaperMetric("psnr", "PSNR", True, decimals=2),
        PaperMetric("ssim", "SSIM", True),
        PaperMetric("lpips", "LPIPS", False),
        PaperMetric("i2v_subject", "I2V Subj.", True),
        PaperMetric("i2v_background", "I2V BG", True),
        PaperMetric("aesthetic_quality", "Aes.Q.", True),
        PaperMetric("imaging_quality", "I.Q.", True),
        PaperMetric("motion_smoothness", "M.S.", True),
        PaperMetric("accuracy", "Acc.", False),
        PaperMetric("completeness", "Comp.", False),
        PaperMetric("chamfer", "CD", False),
        PaperMetric("auc30", "AUC@30", True),
    )
}

METHOD_TITLES: Final[Mapping[str, str]] = {
    "gen3r": "Gen3R",
    "gen3r-vae-only": "Gen3R (VAE only)",
    "gen3r-two-stage": "2-Stage",
    "gen3r-without-kl": "Gen3R w/o L_KL",
    "wvd": "WVD",
    "wvd-vae-only": "WVD (VAE only)",
    "vggt": "VGGT",
    "vggt-rgb-head": "VGGT + RGB head",
    "wan-vae": "Wan RGB VAE",
    "aether": "Aether",
    "lvsm": "LVSM",
    "gen3c": "GEN3C",
    "geometry-forcing": "Geometry Forcing",
    "depthsplat": "DepthSplat",
}
"""The paper's name of each method, by the suite's id."""

SCENES: Final[Mapping[str, int]] = {
    "RealEstate10K": 200,
    "DL3DV-10K": 200,
    "Co3Dv2": 300,
    "WildRGB-D": 300,
    "TartanAir": 80,
}
"""Scenes that the paper evaluated on; its tables 6 to 9 do not repeat the counts."""
FRAMES: Final = 49
IMAGE_SIZE: Final = (560, 560)
"""Clips of the paper: consecutive frames, height and width in pixels."""

_GENERATORS: Final = ("LVSM", "GEN3C", "Geometry Forcing", "Aether", "WVD", "Gen3R")
_APPEARANCE: Final = ("psnr", "ssim", "lpips", "i2v_subject", "i2v_background", "imaging_quality")
_FREE: Final = ("i2v_subject", "i2v_background", "aesthetic_quality", "imaging_quality", "motion_smoothness")
_IMAGE: Final = ("psnr", "ssim", "lpips")
_POINTS: Final = ("accuracy", "completeness", "chamfer")
_GEOMETRY_SETS: Final = ("Co3Dv2", "WildRGB-D", "TartanAir")


def _both(methods: tuple[str, ...], *, first_of_2view: tuple[str, ...] = ()) -> dict[Setting, tuple[str, ...]]:
    return {"1view": methods, "2view": first_of_2view + methods}


_LAYOUTS: Final = (
    PaperTable(
        1,
        "Appearance of generated frames, cameras given",
        _both(_GENERATORS, first_of_2view=("DepthSplat",)),
        (Block("RealEstate10K", _APPEARANCE), Block("DL3DV-10K", _APPEARANCE)),
    ),
    PaperTable(
        2,
        "Geometry of generated scenes, cameras given",
        _both(("Aether", "WVD", "VGGT", "Gen3R")),
        tuple(Block(dataset, _POINTS) for dataset in _GEOMETRY_SETS),
    ),
    PaperTable(
        3,
        "Geometry reconstructed from all views, without cameras",
        {"allview": ("VGGT", "WVD (VAE only)", "Gen3R (VAE only)", "Aether", "WVD", "Gen3R")},
        tuple(Block(dataset, _POINTS) for dataset in _GEOMETRY_SETS),
    ),
    PaperTable(
        4,
        "Ablations: appearance and geometry, cameras given",
        _both(("2-Stage", "Gen3R w/o L_KL", "Gen3R")),
        (
            Block("RealEstate10K", _IMAGE),
            Block("DL3DV-10K", _IMAGE),
            *(Block(dataset, ("chamfer",)) for dataset in _GEOMETRY_SETS),
        ),
    ),
    PaperTable(
        5,
        "Camera control",
        _both(("Aether", "WVD", "2-Stage", "Gen3R w/o L_KL", "Gen3R")),
        (Block("RealEstate10K", ("auc30",)), Block("WildRGB-D", ("auc30",))),
        settings_across=True,
    ),
    PaperTable(
        6,
        "Appearance of generated frames on the geometry datasets, cameras given",
        _both(_GENERATORS, first_of_2view=("DepthSplat",)),
        tuple(Block(dataset, _APPEARANCE) for dataset in _GEOMETRY_SETS),
    ),
    PaperTable(
        7,
        "Generation without cameras",
        _both(("Aether", "WVD", "Gen3R")),
        (Block("RealEstate10K", _FREE), Block("DL3DV-10K", _FREE)),
    ),
    PaperTable(
        8,
        "Camera poses estimated from all views",
        {"allview": ("Aether", "VGGT", "Gen3R")},
        (Block("RealEstate10K", ("auc30",)), Block("WildRGB-D", ("auc30",))),
    ),
    PaperTable(
        9,
        "RGB reconstructed from all views",
        {"allview": ("VGGT + RGB head", "Wan RGB VAE")},
        (Block("RealEstate10K", _IMAGE), Block("DL3DV-10K", _IMAGE)),
        decimals={"psnr": 4},
    ),
)
TABLE_NUMBERS: Final = tuple(layout.number for layout in _LAYOUTS)


@cache
def paper_table(number: int) -> PaperTable:
    """One of the paper's nine tables, with its values as printed.

    >>> table = paper_table(2)
    >>> table.values[CellKey("1view", "Gen3R", "Co3Dv2", "chamfer")]
    '1.1047'

    Raises:
        InputError: where there is no such table.
    """
    if number not in TABLE_NUMBERS:
        raise InputError(f"table {number}", expected=f"a table of the paper, {TABLE_NUMBERS[0]} to {TABLE_NUMBERS[-1]}")
    layout = _LAYOUTS[TABLE_NUMBERS.index(number)]
    text = files("gen3r_bench.results.paper").joinpath(f"table{number}.csv").read_text(encoding="utf-8")
    printed = {
        (line["setting"], line["method"], line["dataset"], line["metric"]): line["value"]
        for line in csv.DictReader(text.splitlines())
    }
    values = {key: printed[key.setting, key.method, key.dataset, key.metric] for key in layout.places()}
    return PaperTable(
        layout.number,
        layout.title,
        layout.rows,
        layout.blocks,
        layout.settings_across,
        layout.decimals,
        MappingProxyType(values),
    )
