"""What a method says of weights that ``gen3r-bench train`` made: they have seen ``mini``, not the real datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar, cast

from gen3r_bench.baselines.official_weights import OFFICIAL, VGGT_TRAINING_SETS
from gen3r_bench.method import Contract, Method

MethodT = TypeVar("MethodT", bound=Method)


def own_contract(contract: Contract) -> Contract:
    """The contract of this project's own checkpoint of a method."""
    return replace(contract, licence="MIT", training_sets=(), native_frames=13, native_size=(64, 64))


def of_own_training(kind: type[MethodT], *, vggt: str | None = None) -> type[MethodT]:
    """The class of a method for a file that anyone trained by this suite's recipes.

    Args:
        kind: the method's class.
        vggt: which VGGT answers in it, frozen, where one does; "official" brings what it was trained on itself.
    """
    contract = replace(
        kind.contract,
        licence="as its maker says",
        training_sets=VGGT_TRAINING_SETS if vggt == OFFICIAL else (),
    )
    facts = {"contract": contract, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return cast("type[MethodT]", type(kind.__name__, (kind,), facts))
