"""Tables 4 and 5's Gen3R w/o L_KL: geometry latents that were not drawn towards those of the appearance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from gen3r_bench.baselines import gen3r
from gen3r_bench.baselines.gen3r import Gen3r, checkpoint_folder
from gen3r_bench.baselines.official_weights import OFFICIAL, REFERENCE
from gen3r_bench.baselines.own_weights import own_contract
from gen3r_bench.errors import InputError
from gen3r_bench.method import Contract

UNPUBLISHED: Final = "no weights of Gen3R without the KL term were ever published, neither adapter nor transformer"


class Gen3rWithoutKl(Gen3r):
    """Gen3R in everything but its weights: its geometry adapter was trained without the alignment (paper, Eq. 7).

    A checkpoint is "reference", this project's own; or the path of a folder in the layout of Gen3R's, or of a file as
    ``train gen3r-without-kl`` writes it.
    """

    contract: ClassVar[Contract] = replace(
        Gen3r.contract,
        method_id="gen3r-without-kl",
        title="Gen3R w/o L_KL",
        summary="Gen3R, whose geometry adapter was trained without the alignment to the appearance.",
        checkpoints=(REFERENCE,),
        licence="",
    )
    rows_of_adapters: ClassVar[Mapping[str, str]] = {REFERENCE: "gen3r", OFFICIAL: "gen3r"}

    @classmethod
    def folder(cls, checkpoint: str | None) -> Path:
        if checkpoint in {None, OFFICIAL}:
            raise InputError(
                f"gen3r-without-kl without a path: {UNPUBLISHED}",
                expected="gen3r-without-kl@reference (this project's own) or gen3r-without-kl@PATH of a trained folder "
                "or file; the paper's values stand in every table beside ours",
            )
        return checkpoint_folder(checkpoint, method_id=cls.contract.method_id)

    @classmethod
    def of_reference(cls) -> type[Gen3r]:
        return Gen3rWithoutKlReference


class Gen3rWithoutKlReference(Gen3rWithoutKl):
    """This project's own checkpoint, trained on ``mini``'s training scenes alone."""

    contract: ClassVar[Contract] = own_contract(Gen3rWithoutKl.contract)


plan_checkpoint = partial(gen3r.plan_checkpoint, method_id=Gen3rWithoutKl.contract.method_id)
"""As Gen3R's: the sizes are the same."""
