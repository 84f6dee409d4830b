"""What a method is: a contract that a reader understands without knowing the model, and one function."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from gen3r_bench.errors import InputError
from gen3r_bench.scene import SETTINGS, Conditioning, Prediction, Setting

Use = Literal["required", "optional", "unused"]
Part = Literal["rgb", "depth", "points", "cameras"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a method needs, what it returns, and what a reader must know before they trust its row.

    Attributes:
        method_id: the name on the command line and in records, such as ``gen3r``.
        title: the name in tables, such as ``Gen3R``.
        summary: one sentence.
        settings: settings that it supports.
        cameras: whether it takes the cameras of all target frames.
        prompt: whether it takes a text prompt.
        returns: the parts of a Prediction that it fills.
        checkpoints: names of its weights, best known first; empty for a method that has none.
        native_frames: clip length of the model, or None for any.
        native_size: (height, width) of the model, or None for any.
        licence: of the weights.
        training_sets: datasets that it was trained on, by the suite's names.
        reference: paper or page.
        floor: a trivial answer that shows a metric's lower end; set in grey and never ranked.
    """

    method_id: str
    title: str
    summary: str
    settings: tuple[Setting, ...]
    returns: tuple[Part, ...]
    cameras: Use = "unused"
    prompt: Use = "unused"
    checkpoints: tuple[str, ...] = ()
    native_frames: int | None = None
    native_size: tuple[int, int] | None = None
    licence: str = ""
    training_sets: tuple[str, ...] = ()
    reference: str = ""
    floor: bool = False

    def refusal(self, conditioning: Conditioning) -> str | None:
        """Why this method cannot take the conditioning, or None where it can."""
        if conditioning.setting not in self.settings:
            return f"{self.method_id} does not support {conditioning.setting} (it supports {', '.join(self.settings)})"
        if self.cameras == "required" and conditioning.cameras is None:
            return f"{self.method_id} needs cameras, and this protocol gives none"
        if self.prompt == "required" and not conditioning.prompt:
            return f"{self.method_id} needs a prompt, and this scene has none"
        return None


class Method(ABC):
    """Turns a Conditioning into a Prediction. Subclass it, set ``contract``, and write ``predict``.

    A method is never handed a Scene, so it cannot see a frame that its setting withholds.
    """

    contract: ClassVar[Contract]

    @classmethod
    def load(cls, checkpoint: str | None, *, device: str) -> Self:
        """Make the method ready to run. Override it where there are weights.

        Args:
            checkpoint: one of ``contract.checkpoints``, a path, or None for a method without weights.
            device: a torch device name such as ``cpu`` or ``cuda:0``.

        Raises:
            InputError: where the checkpoint is not one that the method has.
        """
        if checkpoint is not None:
            raise InputError(
                f"checkpoint {checkpoint!r} for {cls.contract.method_id}", expected="none: this method has no weights"
            )
        return cls()

    @property
    def checkpoint_sha256(self) -> str | None:
        """Hash of the weights in use; None for a method without weights."""
        return None

    def rounding_variants(self) -> Mapping[str, Callable[[], Method]]:
        """Other ways to compute the same answers, by name, such as another chunk or ``float64``; made when called.

        They differ from this one in rounding alone: ``gen3r-bench regress --update`` measures over them how far a score
        moves by itself. Override it where there is a choice.
        """
        return {}

    @abstractmethod
    def predict(self, conditioning: Conditioning) -> Prediction:
        """Predict the target frames. Randomness must come from ``conditioning.seed`` alone."""


def load_method_file(spec: str) -> type[Method]:
    """The method class that ``path/to/file.py:ClassName`` names; the file is executed as Python code.

    Raises:
        InputError: where the file or class does not exist, does not import, or is not a Method with a contract.
    """
    import importlib.machinery
    import importlib.util
    import sys

    path_text, _, class_name = spec.rpartition(":")
    if not path_text or not class_name:
        raise InputError(f"method {spec!r}", expected="path/to/file.py:ClassName")
    path = Path(path_text)
    if not path.is_file():
        raise InputError(
            f"method file {path_text!r}", expected="an existing Python file", fix="check the path before ':'"
        )
    module_spec = importlib.util.spec_from_file_location(f"gen3r_bench_user_{path.stem}", path)
    if module_spec is None or not isinstance(module_spec.loader, importlib.machinery.SourceFileLoader):
        raise InputError(f"method file {path_text!r}", expected="a .py file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        # not exec_module: it takes a file of equal size, changed within a second, for the one whose bytecode it keeps
        exec(module_spec.loader.source_to_code(path.read_bytes(), str(path)), module.__dict__)
    except Exception as error:  # the file is the user's: whatever it raises is one line for them
        del sys.modules[module_spec.name]
        raise InputError(
            f"{path_text} does not import ({type(error).__name__}: {error})", expected="a Python file that imports"
        ) from error
    return checked_method(getattr(module, class_name, None), f"{class_name!r} in {path_text}")


def checked_method(candidate: object, where: str) -> type[Method]:
    """``candidate`` as a Method class with a contract, or an InputError that says what it lacks."""
    if not (isinstance(candidate, type) and issubclass(candidate, Method)):
        raise InputError(f"{where} is not a Method", expected="a subclass of gen3r_bench.method.Method")
    if inspect.isabstract(candidate):
        raise InputError(
            f"{where} does not define {', '.join(sorted(candidate.__abstractmethods__))}", expected="a complete Method"
        )
    contract = getattr(candidate, "contract", None)
    if not isinstance(contract, Contract):
        raise InputError(f"{where} has no contract", expected="a class attribute contract = Contract(...)")
    unknown = [setting for setting in contract.settings if setting not in SETTINGS]
    if unknown:
        raise InputError(f"{where}: setting {unknown[0]!r} in its contract", expected=" or ".join(SETTINGS))
    return candidate
