"""Where methods, datasets, protocols and metrics are found by name: entry points, ours and everybody's.

Third parties register through the groups ``gen3r_bench.methods``, ``.datasets``, ``.protocols`` and ``.metrics`` of
their own package; the built-ins use the same groups. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Generic, TypeVar

from gen3r_bench.errors import BenchError, InputError, UnknownNameError

if TYPE_CHECKING:
    from gen3r_bench.datasets.base import Dataset
    from gen3r_bench.method import Method
    from gen3r_bench.metrics.base import Metric
    from gen3r_bench.protocols.card import Card

BUILT_IN_DISTRIBUTION = "gen3r-bench"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered name: what it points at, and which installed package says so."""

    name: str
    target: str
    distribution: str

    @property
    def built_in(self) -> bool:
        return self.distribution == BUILT_IN_DISTRIBUTION


class Registry(Generic[T]):
    """The entry points of one group.

    Args:
        kind: what is registered, in the singular, for messages.
        group: the entry-point group.
        check: returns the loaded object if it is what the group holds, else raises InputError.
    """

    def __init__(self, kind: str, group: str, check: Callable[[object, str], T]) -> None:
        self.kind = kind
        self.group = group
        self._check = check
        self._points: dict[str, EntryPoint] = {}
        for point in entry_points(group=group):
            other = self._points.get(point.name)
            if other is not None and (other.value, _distribution(other)) != (point.value, _distribution(point)):
                raise BenchError(
                    f"{kind} {point.name!r} is registered twice: by {_distribution(other)} and by "
                    f"{_distribution(point)} (fix: rename or uninstall one of them)"
                )
            self._points[point.name] = point

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._points))

    def entry(self, name: str) -> Entry:
        """Who registered a name.

        Raises:
            UnknownNameError: with the nearest registered names.
        """
        if name not in self._points:
            raise UnknownNameError(self.kind, name, self._points)
        point = self._points[name]
        return Entry(name, point.value, _distribution(point))

    def load(self, name: str) -> T:
        """Import what a name points at.

        Raises:
            UnknownNameError: with the nearest registered names.
            BenchError: where it does not import or is not what this group holds.
        """
        entry = self.entry(name)
        where = f"{self.kind} {name!r} ({entry.target} of {entry.distribution})"
        try:
            loaded = self._points[name].load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise BenchError(f"{where} does not import: {type(error).__name__}: {error}") from error
        return self._check(loaded, where)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unnamed distribution"


def _check_dataset(candidate: object, where: str) -> type[Dataset]:
    from gen3r_bench.datasets.base import Dataset, DatasetInfo

    if not (isinstance(candidate, type) and issubclass(candidate, Dataset)):
        raise InputError(f"{where} is not a Dataset", expected="a subclass of gen3r_bench.datasets.base.Dataset")
    if not isinstance(getattr(candidate, "info", None), DatasetInfo):
        raise InputError(f"{where} has no info", expected="a class attribute info = DatasetInfo(...)")
    return candidate


def _check_method(candidate: object, where: str) -> type[Method]:
    from gen3r_bench.method import checked_method

    return checked_method(candidate, where)


def _check_card(candidate: object, where: str) -> Card:
    from gen3r_bench.protocols.card import Card

    if not isinstance(candidate, Card):
        raise InputError(f"{where} is not a protocol", expected="a gen3r_bench.protocols.card.Card")
    return candidate


def _check_metric(candidate: object, where: str) -> Metric:
    from gen3r_bench.metrics.base import Metric

    if not isinstance(candidate, Metric):
        raise InputError(f"{where} is not a metric", expected="a gen3r_bench.metrics.base.Metric")
    return candidate


@cache
def methods() -> Registry[type[Method]]:
    """Methods that can be run, floor rows included; diagnostic rows are not pluggable and not in here."""
    return Registry("method", "gen3r_bench.methods", _check_method)


@cache
def datasets() -> Registry[type[Dataset]]:
    return Registry("dataset", "gen3r_bench.datasets", _check_dataset)


@cache
def protocols() -> Registry[Card]:
    return Registry("protocol", "gen3r_bench.protocols", _check_card)


@cache
def metrics() -> dict[str, Metric]:
    """Every registered metric by its key, ``name@dialect``.

    Raises:
        BenchError: where two of them share a key.
    """
    registry = Registry("metric", "gen3r_bench.metrics", _check_metric)
    found: dict[str, Metric] = {}
    owner: dict[str, str] = {}
    for name in registry.names():
        metric = registry.load(name)
        if metric.key in found:
            raise BenchError(
                f"metric {metric.key!r} is registered twice: by {owner[metric.key]} and by "
                f"{registry.entry(name).distribution} (fix: give one of them another dialect)"
            )
        found[metric.key] = metric
        owner[metric.key] = registry.entry(name).distribution
    return found
