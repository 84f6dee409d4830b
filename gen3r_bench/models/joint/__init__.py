"""One diffusion of a clip's appearance and geometry on Wan 2.1: what Gen3R and WVD share."""
