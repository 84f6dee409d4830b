"""The rows of a run: methods, diagnostic rows and folders of predictions, behind one interface."""

from __future__ import annotations

import hashlib
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal, TypeVar

from gen3r_bench import registry
from gen3r_bench.baselines.diagnostics import DIAGNOSTICS, Diagnostic
from gen3r_bench.errors import BenchError, InputError, UnknownNameError
from gen3r_bench.method import Contract, Method, load_method_file
from gen3r_bench.protocols.card import Card
from gen3r_bench.runs.plain_predictions import folder_fingerprint, read_predictions, scene_folder
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.scene import Conditioning, Prediction, Scene, Setting

T = TypeVar("T")
PREDICTIONS_SOURCE: Final = "predictions folder"
"""Source of a row whose answers depend on files, not on its entry alone."""


def entry_fingerprint(entry: RowEntry) -> str:
    """What decides the answers of a row that computes them."""
    return f"{entry.label}|{entry.source}|{entry.checkpoint_sha256}"


class Row(ABC):
    """One row of a table: something that answers a scene."""

    entry: RowEntry
    pred_fps_start: Literal["first", "middle"] | None = None
    contract: Contract | None = None
    """Of a method's row; other rows promise nothing."""

    def rounding_variants(self) -> Mapping[str, Callable[[], Row]]:
        """The same row, computed in other ways that differ in rounding alone, by name."""
        return {}

    def fingerprint(self, scene_id: str) -> str:
        """What decides this row's answer, besides the scene and the seed."""
        return entry_fingerprint(self.entry)

    def refusal(self, conditioning: Conditioning) -> str | None:
        """Why this row does not answer the conditioning, or None where it does."""
        return None

    @abstractmethod
    def produce(self, scene: Scene, conditioning: Conditioning) -> Prediction:
        """The row's answer. A method's row hands on the conditioning alone."""


class MethodRow(Row):
    """A method with its weights; one prediction at a time, since networks are not shared between threads."""

    def __init__(self, method: Method, entry: RowEntry) -> None:
        self.entry = entry
        self.contract = method.contract
        self._method = method
        self._mutex = threading.Lock()

    def rounding_variants(self) -> Mapping[str, Callable[[], Row]]:
        """The method's own variants as rows of the same entry.

        Raises:
            BenchError: where the method's code fails or returns something else; so does what makes a variant.
        """
        where = f"rounding_variants of {self.entry.method_id}"
        found: object = _own_code(f"{where} fails", self._method.rounding_variants)
        if not isinstance(found, Mapping) or not all(
            isinstance(name, str) and callable(make) for name, make in found.items()
        ):
            raise InputError(
                f"{where} returned {type(found).__name__}",
                expected="a mapping of names to functions that make a Method",
            )
        return {name: partial(self._variant, name, make) for name, make in found.items()}

    def _variant(self, name: str, make: Callable[[], object]) -> MethodRow:
        where = f"rounding variant {name!r} of {self.entry.method_id}"
        method = _own_code(f"{where} cannot be made", make)
        if not isinstance(method, Method):
            raise InputError(f"{where} is made as {type(method).__name__}", expected="a Method")
        return MethodRow(method, self.entry)

    def refusal(self, conditioning: Conditioning) -> str | None:
        return self._method.contract.refusal(conditioning)

    def produce(self, scene: Scene, conditioning: Conditioning) -> Prediction:
        with self._mutex:
            prediction: object = self._method.predict(conditioning)
        if not isinstance(prediction, Prediction):
            raise InputError(f"predict returned {type(prediction).__name__}", expected="a gen3r_bench.scene.Prediction")
        return prediction


class DiagnosticRow(Row):
    """A built-in row that looks at the ground truth."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self._diagnostic = diagnostic
        self.pred_fps_start = diagnostic.pred_fps_start
        self.entry = RowEntry(
            label=diagnostic.row_id, method_id=diagnostic.row_id, title=diagnostic.row_id, kind="diagnostic"
        )

    def produce(self, scene: Scene, conditioning: Conditioning) -> Prediction:
        return self._diagnostic.predict(scene, conditioning.seed)


class FolderRow(Row):
    """Predictions that were made elsewhere, one folder a scene."""

    def __init__(self, root: Path, name: str, *, only_scene: bool) -> None:
        if not root.is_dir():
            raise InputError(
                f"predictions folder {str(root)!r} does not exist", expected="a folder with one folder a scene"
            )
        if not re.fullmatch(r"[\w.+-]+(@[\w.+-]+)?", name):
            raise InputError(f"row name {name!r}", expected="a name such as my-method or my-method@weights")
        self._root = root
        self._only_scene = only_scene
        method_id, _, checkpoint = name.partition("@")
        self.entry = RowEntry(
            label=name,
            method_id=method_id,
            title=method_id,
            kind="method",
            checkpoint=checkpoint or None,
            source=PREDICTIONS_SOURCE,
        )

    def fingerprint(self, scene_id: str) -> str:
        folder = scene_folder(self._root, scene_id, only_scene=self._only_scene)
        return f"{self.entry.label}|{folder_fingerprint(folder)}"

    def produce(self, scene: Scene, conditioning: Conditioning) -> Prediction:
        folder = scene_folder(self._root, scene.scene_id, only_scene=self._only_scene)
        return read_predictions(folder, scene.num_frames, scene.image_size)


def default_method_specs(cards: Iterable[Card]) -> list[str]:
    """Every registered method that ships a ``reference`` checkpoint and can score under a card, as ``id@reference``."""
    cards = list(cards)
    specs = []
    for name in registry.methods().names():
        contract = registry.methods().load(name).contract
        if not contract.floor and "reference" in contract.checkpoints and any(scores(contract, c) for c in cards):
            specs.append(f"{name}@reference")
    return specs


def scores(contract: Contract, card: Card) -> bool:
    """Whether a method's contract promises anything that a protocol scores, under what the protocol gives."""
    if card.setting not in contract.settings or (contract.cameras == "required" and card.cameras == "none"):
        return False
    returned = set(contract.returns)
    promised = {
        "points": "points" in returned or {"depth", "cameras"} <= returned,
        "poses": "cameras" in returned,
        "frames": "rgb" in returned,
        "video": "rgb" in returned,
    }
    metrics = registry.metrics()
    return any(key in metrics and promised[metrics[key].kind] for key in card.metrics)


def floor_specs(settings: Iterable[Setting]) -> list[str]:
    """The floor and ceiling rows: diagnostics first, then the registered floors that take one of the settings."""
    wanted = set(settings)
    contracts = {name: registry.methods().load(name).contract for name in registry.methods().names()}
    floors = [name for name, contract in contracts.items() if contract.floor and wanted & set(contract.settings)]
    return [*DIAGNOSTICS, *floors]


def make_row(spec: str, *, device: str) -> Row:
    """The row that a word on the command line names.

    Args:
        spec: ``id``, ``id@checkpoint``, ``path/to/file.py:Class`` or ``path/to/file.py:Class@checkpoint``.
        device: where a method's network runs.

    Raises:
        BenchError: where the name is unknown or the method cannot be loaded.
    """
    name, _, checkpoint = spec.partition("@")
    source = "built-in"
    if ".py:" in name or name.endswith(".py"):
        if name.endswith(".py"):
            raise InputError(f"method {name!r}", expected="path/to/file.py:ClassName", fix=f"write {name}:ClassName")
        method_class = load_method_file(name)
        path = Path(name.rpartition(":")[0])
        source = f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    elif name in DIAGNOSTICS:
        if checkpoint:
            raise InputError(f"checkpoint {checkpoint!r} for the diagnostic row {name}", expected="none")
        return DiagnosticRow(DIAGNOSTICS[name])
    else:
        methods = registry.methods()
        if name not in methods.names():
            raise UnknownNameError("method", name, [*methods.names(), *DIAGNOSTICS])
        method_class = methods.load(name)
        entry = methods.entry(name)
        if not entry.built_in:
            source = f"{entry.distribution} {version(entry.distribution)}"
    contract = method_class.contract
    chosen = checkpoint or (contract.checkpoints[0] if contract.checkpoints else None)
    method = _loaded(method_class, chosen, device)
    contract = method.contract  # of this checkpoint, where a method's checkpoints differ in licence or training sets
    label = contract.method_id if chosen is None else f"{contract.method_id}@{Path(chosen).name}"
    return MethodRow(
        method,
        RowEntry(
            label=label,
            method_id=contract.method_id,
            title=contract.title,
            kind="baseline" if contract.floor else "method",
            checkpoint=chosen,
            checkpoint_sha256=method.checkpoint_sha256,
            source=source,
            licence=contract.licence,
            training_sets=contract.training_sets,
        ),
    )


def _loaded(method_class: type[Method], checkpoint: str | None, device: str) -> Method:
    what = f"method {method_class.contract.method_id} cannot be loaded"
    return _own_code(what, lambda: method_class.load(checkpoint, device=device))


def _own_code(what: str, call: Callable[[], T]) -> T:
    """Call a method's own code; whatever it raises, which may be anything, is the failure of the user's command."""
    try:
        return call()
    except BenchError:
        raise
    except Exception as error:
        raise BenchError(f"{what}: {type(error).__name__}: {error}") from error
