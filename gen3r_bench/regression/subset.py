"""What a golden runs on: a row, a protocol, and a few scenes that reach every part of the pipeline."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from gen3r_bench import registry
from gen3r_bench.datasets.base import Dataset, OpenedDataset, chosen_options
from gen3r_bench.errors import InputError
from gen3r_bench.protocols.card import Card
from gen3r_bench.protocols.geometry import Backend
from gen3r_bench.regression.golden import Golden, Wanted, is_called
from gen3r_bench.runs.rows import Row, make_row, scores

MINI_SCENES: Final = ("test/000", "test/004", "test/008", "test/009")
"""One room, table and court each and one more, so that every family of scenes and of camera paths is there."""
OTHER_SCENES: Final = 4
"""How many scenes of another dataset, from its first on."""
SEED: Final = 42


@dataclass(frozen=True, slots=True)
class Guarded:
    """What is run for one golden.

    Attributes:
        spec: the row as on the command line.
        protocol, dataset: names.
        options: of the dataset's reader, in its order.
        scenes: ids.
        seeds: one sample of every scene for each.
        backend: which implementation scores points.
    """

    spec: str
    protocol: str
    dataset: str
    options: tuple[tuple[str, str], ...]
    scenes: tuple[str, ...]
    seeds: tuple[int, ...]
    backend: Backend

    @classmethod
    def of(cls, golden: Golden, spec: str | None = None) -> Self:
        """What a golden was made of; ``spec`` where the row is now called by another word."""
        plan, header = golden.header.plan[0], golden.header
        return cls(
            spec=spec or golden.spec,
            protocol=golden.protocol,
            dataset=golden.dataset,
            options=tuple(plan.dataset_options.items()),
            scenes=plan.scenes,
            seeds=header.seeds,
            backend=header.geometry_backend,
        )

    @property
    def together(self) -> tuple[object, ...]:
        """What protocols must share to be scored in one run, which asks the row once for both."""
        return self.spec, self.dataset, self.options, self.scenes, self.seeds, self.backend


def open_dataset(name: str, options: Mapping[str, str], roots: Mapping[str, Path]) -> OpenedDataset:
    """A dataset with the options that a golden names.

    Raises:
        InputError: where its root is missing or holds another format.
    """
    reader: type[Dataset] = registry.datasets().load(name)
    if reader.info.needs_root and name not in roots:
        raise InputError(f"no data root for {name}", expected="a folder", fix=f"--data-root {name}=DIR")
    values = chosen_options(reader, options)
    return OpenedDataset(reader.open(roots.get(name), values), values)


def default_scenes(dataset: str, opened: OpenedDataset) -> tuple[str, ...]:
    """The scenes of a golden for which none are named."""
    return MINI_SCENES if dataset == "mini" else opened.reader.scene_ids()[:OTHER_SCENES]


def scorable_protocols(row: Row, dataset: str) -> list[str]:
    """The protocols that name a dataset and give a row a score that can be computed here, without VBench's films.

    Raises:
        InputError: for a row that tells no contract, whose protocols must be named.
    """
    registered = registry.protocols()
    cards = [registered.load(name) for name in registered.names()]
    contract = row.contract
    if contract is None:
        raise InputError(f"the row {row.entry.label} without a protocol", expected="--protocol, once or more")
    return [card.name for card in cards if dataset in card.datasets and scores(contract, _computable(card))]


def to_update(
    there: Collection[Golden], wanted: Wanted, scenes: tuple[str, ...], roots: Mapping[str, Path], device: str
) -> list[Guarded]:
    """What an update makes goldens of: those that are there and wanted, and those that are wanted and not there.

    A method without any golden gets one for every protocol that is named, else that it has scores under. Where no
    dataset is named, a protocol under which it has a golden is not wanted on another dataset.

    Args:
        there: the goldens of the folder.
        wanted: from the command line.
        scenes: instead of the old golden's, or of the fixed few.
        roots: where datasets lie.
        device: where networks run.

    Raises:
        BenchError: where a name is unknown, or nothing is left to do.
    """
    found = [Guarded.of(golden) for golden in there if wanted.fits(golden)]
    for method in wanted.methods:
        own = [golden for golden in there if is_called(golden, method)]
        spec = own[0].spec if own else method
        for dataset in wanted.datasets or ("mini",):
            opened = open_dataset(dataset, {}, roots)
            protocols = wanted.protocols
            if not protocols and not own:
                protocols = tuple(scorable_protocols(make_row(spec, device=device), dataset))
            has = {golden.protocol for golden in own if not wanted.datasets or golden.dataset == dataset}
            found += [
                Guarded(
                    spec,
                    protocol,
                    dataset,
                    tuple(opened.options.items()),
                    scenes or default_scenes(dataset, opened),
                    (SEED,),
                    "exact",
                )
                for protocol in protocols
                if protocol not in has
            ]
    if not found:
        raise InputError(
            "nothing to update",
            expected="goldens there that fit, or a --method to make some of",
            fix="--method ID@CHECKPOINT",
        )
    # two words may mean one row, and two goldens be of one spec where the row was renamed between them
    return list(dict.fromkeys(replace(one, scenes=scenes or one.scenes) for one in found))


def _computable(card: Card) -> Card:
    """The card with those of its metrics that a run computes by itself; unchanged where there are none."""
    metrics = registry.metrics()
    keys = tuple(key for key in card.metrics if key in metrics and metrics[key].obstacle() is None)
    return card.model_copy(update={"metrics": keys})


def grouped(guarded: Iterable[Guarded]) -> list[tuple[Guarded, ...]]:
    """What can be scored in one run, together."""
    groups: dict[tuple[object, ...], list[Guarded]] = {}
    for one in guarded:
        groups.setdefault(one.together, []).append(one)
    return [tuple(group) for group in groups.values()]
