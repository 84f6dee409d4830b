"""Aether (arXiv 2503.18945): CogVideoX fine-tuned to denoise frames, disparity and camera rays together."""
