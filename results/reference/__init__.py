"""Golden scores of the shipped checkpoints, data only: see docs/regression.md."""
