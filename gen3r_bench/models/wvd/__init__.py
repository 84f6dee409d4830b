"""World-consistent Video Diffusion (WVD, arXiv 2412.01821), re-implemented: one diffusion of frames and of point maps.

No code and no weights of it were ever released. The paper behind this suite (arXiv 2601.04090) re-implemented it
"following the same training strategy" as Gen3R, with points by VGGT; that re-implementation was not released either. So
this one shares the backbone, the conditions and the sampler with Gen3R (``models/joint``), and every choice that
neither paper states is a named option.
"""
