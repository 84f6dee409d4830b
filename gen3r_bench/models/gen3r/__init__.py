"""Gen3R (arXiv 2601.04090): one diffusion of appearance and geometry, decoded by the Wan VAE and VGGT's heads."""
