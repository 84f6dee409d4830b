"""The sizes of WVD's networks, and its two options: how the latents are joined, how points were normalised."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from gen3r_bench.errors import InputError
from gen3r_bench.models.folder import read_config, refuse_unknown
from gen3r_bench.models.joint.conditioning import RAY_CHANNELS, TEMPORAL_RATIO, Axis
from gen3r_bench.models.joint.config import JointConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig
from gen3r_bench.models.wan.vae import WanVaeConfig
from gen3r_bench.models.wvd.normalisation import DEFAULT, NORMALISATIONS, Normalisation

AXES: Final[tuple[Axis, ...]] = ("width", "channel")
OPTIONS_FILE: Final = "wvd.json"
"""In a checkpoint folder: what the transformer was trained to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WvdConfig(JointConfig):
    """Sizes of the four networks, and the options of training that sampling must know.

    Attributes:
        axis: ``width``, as Gen3R's code joins its latents, where every weight of the pretrained Wan fits; or
            ``channel``, as WVD's paper says, with half the tokens, where the first and last layer have more channels
            than Wan's.
        normalisation: of the points that the transformer was trained on.

    Raises:
        InputError: where two of them do not fit together.
    """

    axis: Axis = "width"
    normalisation: Normalisation = DEFAULT

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise InputError(f"axis {self.axis!r}", expected=" or ".join(AXES))
        if self.normalisation not in NORMALISATIONS:
            raise InputError(f"normalisation {self.normalisation!r}", expected=" or ".join(NORMALISATIONS))
        JointConfig.__post_init__(self)

    @classmethod
    def official(cls, axis: Axis = "width") -> Self:
        """Gen3R's sizes: the paper re-implemented WVD in the same way as its own method, and says no more."""
        return cls(
            transformer=joint_dit(DitConfig.official(), axis),
            vae=WanVaeConfig.official(),
            text=TextConfig.official(),
            image=ImageConfig.official(),
            axis=axis,
        )

    @classmethod
    def tiny(cls, axis: Axis = "width") -> Self:
        """The same structure at a size for tests."""
        return cls(
            transformer=joint_dit(DitConfig.tiny(), axis),
            vae=WanVaeConfig.tiny(),
            text=TextConfig.tiny(),
            image=ImageConfig.tiny(),
            axis=axis,
        )

    def options(self) -> dict[str, str]:
        """Content of ``wvd.json``."""
        return {"axis": self.axis, "normalisation": self.normalisation}


def joint_dit(config: DitConfig, axis: Axis) -> DitConfig:
    """A transformer of latents joined along ``axis``, of one whose ``out_dim`` is the channels of one latent.

    Nothing but sizes differs: along the channels there are twice as many to denoise, and one image a frame, so that its
    columns are counted once.
    """
    latent = config.out_dim
    joint = latent if axis == "width" else 2 * latent
    return dataclasses.replace(
        config,
        out_dim=joint,
        in_dim=joint + latent + TEMPORAL_RATIO,
        halves=2 if axis == "width" else 1,
        camera_dim=RAY_CHANNELS * TEMPORAL_RATIO,
    )


def read_options(path: Path) -> Mapping[str, Any]:
    """``axis`` and ``normalisation`` in a ``wvd.json``; both must be said.

    Raises:
        InputError: where the file is missing, not JSON, or says less or more.
    """
    given = read_config(path)
    absent = [name for name in ("axis", "normalisation") if name not in given]
    if absent:
        raise InputError(
            f"{path} lacks {', '.join(absent)}", expected='such as {"axis": "width", "normalisation": "max-abs"}'
        )
    options = {name: given.pop(name) for name in ("axis", "normalisation")}
    refuse_unknown(given, path)
    return options
