"""The embedded dataset `mini`; see ``MiniDataset``."""

from gen3r_bench.datasets.mini.dataset import DEFAULT_PROFILE, MINI_VERSION, MiniDataset

__all__ = ["DEFAULT_PROFILE", "MINI_VERSION", "MiniDataset"]
