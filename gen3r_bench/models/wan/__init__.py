"""Networks of Wan 2.1 (arXiv 2503.20314) that Gen3R builds on: VAE, diffusion transformer, text and image encoders."""
