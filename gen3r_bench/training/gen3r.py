"""Gen3R's recipe: one diffusion over the latents of frames and those of VGGT's tokens."""

from __future__ import annotations

from typing import Final

from gen3r_bench.models.joint.conditioning import ConditionStyle
from gen3r_bench.models.joint.pipeline import Sampling
from gen3r_bench.models.wan.image_encoder import ImageConfig
from gen3r_bench.models.wan.text import TextConfig
from gen3r_bench.models.wan.transformer import DitConfig
from gen3r_bench.training.joint import JointRecipe
from gen3r_bench.training.schedule import Schedule

REFERENCE: Final = JointRecipe(
    method="gen3r",
    model=DitConfig(
        dim=128,
        ffn_dim=384,
        freq_dim=64,
        text_dim=32,
        text_len=40,
        image_dim=32,
        in_dim=36,
        num_heads=4,
        num_layers=5,
    ),
    text=TextConfig(vocab=128, dim=32, dim_attn=32, dim_ffn=64, num_heads=2, num_layers=1, num_buckets=8),
    image=ImageConfig(image_size=56, patch_size=14, dim=32, num_heads=2, num_layers=2),
    schedule=Schedule(
        steps=4500, learning_rate=1e-3, warmup_steps=100, decay_steps=4400, weight_decay=0.01, clip_norm=1.0
    ),
    shift=6.0,
    least_sigma=1.0,
    weigh_channels="posterior",
    depth_share=0.75,
    matching_blocks=(1, 2),
    matching_heads=2,
    matching_weight=0.05,
    style=ConditionStyle(fill="nearest", moment_gain=4.0, turn_gain=12.0, answer="clean"),
    autoencoder="reference",
    geometry="tokens",
    vggt="reference",
    adapter="reference",
    side=64,
    frames=13,
    clips=1536,
    batch=8,
    start="reference",
    sampling=Sampling(steps=2, guidance=1.0),
)
"""Between this project's own VGGT, RGB autoencoder and geometry adapter."""

OFFICIAL: Final = JointRecipe(
    method="gen3r",
    model=DitConfig.official(),
    text=TextConfig.official(),
    image=ImageConfig.official(),
    encoders="official",
    schedule=Schedule(
        steps=8000,
        learning_rate=1e-5,
        warmup_steps=50,
        decay_steps=7950,
        betas=(0.9, 0.999),
        weight_decay=3e-2,
        clip_norm=0.5,
        accumulate=2,
        precision="bfloat16",
        seed=42,
        save_every=500,
    ),
    autoencoder="official",
    geometry="tokens",
    vggt="official",
    adapter="official",
    side=560,
    frames=49,
    clips=100_000,
    batch=4,
    start="official",
)
"""The authors' schedule on ``mini``; they used 24 GPUs, a batch of 192 clips.

Their bound of a gradient falls from 0.5 to 0.25 over the first tenth of the steps; a batch of theirs has cameras or
not as a whole; and their geometry condition is what VGGT and the adapter make of the frames with black filling, where
the paper and the released sampling have zeros, as here.
"""
