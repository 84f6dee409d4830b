"""LVSM: views rendered from posed views by one transformer (Jin et al., ICLR 2025, arXiv 2410.17242)."""

from gen3r_bench.models.lvsm.cameras import normalised_poses, pluecker_rays
from gen3r_bench.models.lvsm.config import LvsmConfig
from gen3r_bench.models.lvsm.network import Lvsm, build

__all__ = ["Lvsm", "LvsmConfig", "build", "normalised_poses", "pluecker_rays"]
