"""WVD's recipe: Gen3R's, over the latents of frames and those of VGGT's points, which pass the same autoencoder."""

from __future__ import annotations

from typing import Final

from gen3r_bench.training import gen3r

REFERENCE: Final = gen3r.REFERENCE.model_copy(update={"method": "wvd", "geometry": "points", "adapter": None})
"""Everything but the geometry is Gen3R's."""

OFFICIAL: Final = gen3r.OFFICIAL.model_copy(update={"method": "wvd", "geometry": "points", "adapter": None})
"""The paper says that WVD was trained as Gen3R was, and no more."""
