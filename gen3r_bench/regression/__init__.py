"""Golden scores of checkpoints: made with calibrated tolerances, run again, compared scene by scene."""
