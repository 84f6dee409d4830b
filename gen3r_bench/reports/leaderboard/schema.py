"""What ``leaderboard.json`` holds, as models; ``leaderboard.schema.json`` is written from them.

Every mean can be recomputed from the values of scenes beside it, and every board names its card's hash.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gen3r_bench.scene import Setting

SCHEMA_NAME: Final = "gen3r-bench/leaderboard"
SCHEMA_VERSION: Final = 1
JSON_SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CardFacts(_Strict):
    """A protocol's card: the hash, and everything that it is the hash of."""

    name: str
    hash: str
    title: str
    setting: Setting
    cameras: Literal["given", "none"]
    paper_tables: tuple[int, ...]
    content: dict[str, Any]


class MetricFacts(_Strict):
    """What a reader needs to read a column."""

    key: str = Field(
        description="name@dialect, then /FRAMES for another choice of frames than the headline, then [CONDITIONS] "
        "where scores of one board were computed under several"
    )
    title: str
    dialect: str
    conditions: str
    unit: str
    higher_is_better: bool
    decimals: int = Field(description="that a mean is printed with; marks are given to printed values")
    reference: str


class RowFacts(_Strict):
    """A method with its checkpoint, or a floor or diagnostic row, which are never ranked."""

    label: str
    method_id: str
    title: str
    kind: Literal["method", "baseline", "diagnostic"]
    checkpoint: str | None
    checkpoint_sha256: str | None
    source: str
    licence: str
    training_sets: tuple[str, ...]


class RunFacts(_Strict):
    """A run that the leaderboard stands on."""

    name: str
    created: str
    suite_version: str
    seeds: tuple[int, ...]
    geometry_backend: str
    environment: dict[str, str]


class ConfidenceInterval(_Strict):
    """An interval of the mean, bootstrapped over scenes."""

    low: float
    high: float
    level: float


class Score(_Strict):
    """One cell: a mean over scenes of each scene's mean over seeds."""

    mean: float | None = Field(description="null where no scene has a score")
    interval: ConfidenceInterval | None = Field(description="null for fewer than two scenes")
    n: int = Field(description="scenes with a score")
    planned: int = Field(description="scenes that were to be scored")
    reasons: dict[str, int] = Field(description="why a score is missing, and for how many (scene, seed) pairs")
    mark: Literal["best", "second", "third"] | None = Field(
        description="of methods whose scenes a paired test separates; others share one"
    )
    scenes: dict[str, float] = Field(description="each scene's mean over seeds")


class Cost(_Strict):
    """What a prediction cost; of different machines it cannot be compared."""

    seconds: float | None = Field(description="mean over scenes of the seconds of one prediction")
    peak_memory_bytes: int | None = Field(description="the largest of all scenes")
    memory_source: Literal["cuda", "process"] | None = Field(description="process: of the whole process so far")
    devices: tuple[str, ...]


class Entry(_Strict):
    """A row of a board."""

    row: str
    run: str
    scores: dict[str, Score] = Field(description="by metric key, for every column of the board")
    cost: Cost
    facts: dict[str, int] = Field(description="remarks on the row's predictions, and on how many records each stands")
    failures: dict[str, str] = Field(description="by scene, why it has no score at all")


class Clip(_Strict):
    """Which frames of a scene were scored."""

    frames: int
    stride: int
    start: int
    image_size: tuple[int, int] = Field(description="height, width")


class Board(_Strict):
    """One protocol on one set of scenes: the only place where rows may be compared."""

    id: str
    protocol: str
    card_hash: str
    setting: Setting
    dataset: str
    dataset_title: str
    dataset_options: dict[str, str]
    manifest_sha256: str | None
    clip: Clip
    geometry_backend: str
    scenes: tuple[str, ...]
    columns: tuple[str, ...] = Field(description="metric keys in column order")
    entries: tuple[Entry, ...]


class Leaderboard(_Strict):
    """The content of ``leaderboard.json``."""

    schema_name: Literal["gen3r-bench/leaderboard"] = SCHEMA_NAME
    schema_version: Literal[1] = SCHEMA_VERSION
    suite_version: str
    cards: tuple[CardFacts, ...]
    metrics: tuple[MetricFacts, ...]
    rows: tuple[RowFacts, ...]
    runs: tuple[RunFacts, ...]
    provenances: dict[str, dict[str, str]] = Field(description="what metrics were computed with, by id")
    boards: tuple[Board, ...]

    def card(self, name: str) -> CardFacts:
        return next(card for card in self.cards if card.name == name)

    def metric(self, key: str) -> MetricFacts:
        return next(metric for metric in self.metrics if metric.key == key)

    def row(self, label: str) -> RowFacts:
        return next(row for row in self.rows if row.label == label)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``leaderboard.json``."""
    return {"$schema": JSON_SCHEMA_DIALECT} | Leaderboard.model_json_schema(mode="serialization")
