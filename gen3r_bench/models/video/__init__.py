"""A diffusion of frames alone on the backbone that Gen3R and WVD share: the first of the paper's two stages."""
