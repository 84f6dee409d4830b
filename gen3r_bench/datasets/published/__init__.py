"""Scene lists of published evaluations, as data; see ``gen3r_bench.datasets.splits.published_split``."""
