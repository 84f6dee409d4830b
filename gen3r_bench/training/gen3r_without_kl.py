"""The recipe of the ablation without alignment: Gen3R's, over latents that were not drawn to the appearance's."""

from __future__ import annotations

from typing import Final

from gen3r_bench.training import gen3r

REFERENCE: Final = gen3r.REFERENCE.model_copy(update={"method": "gen3r-without-kl", "adapter": "without-kl"})
"""Everything but the adapter is Gen3R's."""
