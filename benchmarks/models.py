"""Time the native networks, by hand: ``python benchmarks/models.py [--upstream DIR] [--size tiny]``.

With ``--upstream`` (or GEN3R_UPSTREAM), a checkout of github.com/JaceyHuang/Gen3R, each network runs beside the
released one at the same size with the same weights, in turns, in this process; the outputs are compared. Times are the
best of the rounds; memory is how far the resident set rose above its level before the call, sampled.

On a machine with CUDA, the official sizes follow with random weights in bfloat16: one denoising step of 49 x 560 x 560
(31,850 tokens) and VGGT on as many frames.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from released_gen3r import released_code
from tiny_gen3r import fill, relative_difference, wave

from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.vggt import Vggt, VggtConfig
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder
from gen3r_bench.models.wan.transformer import DitConfig, JointDit
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig

Call = Callable[[], Tensor]
Load = Callable[[str], Any]


@dataclasses.dataclass(frozen=True)
class Size:
    """Sizes of the networks and of the clip that they are timed on."""

    dit: DitConfig
    vae: WanVaeConfig
    adapter: GeometryAdapterConfig
    vggt: VggtConfig
    text: TextConfig
    image: ImageConfig
    frames: int
    pixels: int


SIZES: Final = {
    "tiny": Size(
        DitConfig.tiny(),
        WanVaeConfig.tiny(),
        GeometryAdapterConfig.tiny(320),
        VggtConfig.tiny(),
        TextConfig.tiny(),
        ImageConfig(image_size=224, patch_size=14, dim=32, num_heads=2, num_layers=3),
        frames=13,
        pixels=112,
    ),
    "medium": Size(
        dataclasses.replace(
            DitConfig.tiny(), dim=384, ffn_dim=1536, num_heads=6, num_layers=6, text_len=512, text_dim=512
        ),
        WanVaeConfig(dim=16),
        GeometryAdapterConfig(token_channels=1280, hidden_dim=16, resample_scale=10),
        dataclasses.replace(VggtConfig.tiny(), width=128, depth=8, heads=4, encoder_depth=6, used_layers=(1, 3, 5, 7)),
        TextConfig(vocab=1000, dim=512, dim_attn=512, dim_ffn=1280, num_heads=8, num_layers=6, num_buckets=32),
        ImageConfig(image_size=224, patch_size=14, dim=256, num_heads=8, num_layers=8),
        frames=13,
        pixels=224,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=Path, default=os.environ.get("GEN3R_UPSTREAM"))
    parser.add_argument("--size", choices=sorted(SIZES), action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {options.threads} threads, float32"
    )
    code = released_code(Path(options.upstream)) if options.upstream else nullcontext(None)
    with code as load, torch.inference_mode():
        for name in options.size or ["tiny", "medium"]:
            print(f"\n{name}: {SIZES[name].frames} frames of {SIZES[name].pixels} pixels")
            compare(SIZES[name], load, options.rounds)
    if torch.cuda.is_available():
        on_cuda()
    else:
        print("\nno CUDA: the official sizes were not run")


def compare(size: Size, load: Load | None, rounds: int) -> None:
    print(f"{'':<16}{'ours':>9}{'released':>10}{'ratio':>8}{'ours':>11}{'released':>10}   relative difference")
    for name, make in CASES.items():
        ours, theirs = make(size, load)
        own, other = Best(), Best()
        for _ in range(rounds):  # in turns, so that another job on the machine slows both
            own.run(ours)
            if theirs is not None:
                other.run(theirs)
        line = f"{name:<16}{own.seconds:>8.3f}s"
        if theirs is None:
            print(f"{line}{'–':>10}{'–':>8}{own.megabytes:>8.0f} MB")
            continue
        difference = relative_difference(own.output, other.output)
        print(
            f"{line}{other.seconds:>9.3f}s{other.seconds / own.seconds:>7.2f}x{own.megabytes:>8.0f} MB"
            f"{other.megabytes:>7.0f} MB   {difference:.1e}"
        )


class Best:
    """The fastest of several calls, and the largest rise of the resident set."""

    def __init__(self) -> None:
        self.seconds = float("inf")
        self.megabytes = 0.0
        self.output = torch.zeros(())

    def run(self, call: Call) -> None:
        with watched_memory() as rise:
            begin = time.perf_counter()
            self.output = call()
            self.seconds = min(self.seconds, time.perf_counter() - begin)
        self.megabytes = max(self.megabytes, rise[0] / 1e6)


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """How far the resident set rises above its level at the beginning, in bytes, sampled each 2 ms."""
    page = os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "linux":
        # memory that an earlier call freed goes back first, or the next call's rise would look smaller
        ctypes.CDLL(None).malloc_trim(0)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    begin, rise, done = resident(), [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.002):
            rise[0] = max(rise[0], resident() - begin)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield rise
    finally:
        done.set()
        thread.join()


def dit_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    config = size.dit
    ours: Any = fill(JointDit(config))
    frames, side = 1 + size.frames // 4, size.pixels // 8
    latents, timestep = wave((1, 16, frames, side, 2 * side), 1), torch.tensor([500.0])
    condition, rays = wave((1, 20, frames, side, 2 * side), 2), wave((1, 24, frames, 8 * side, 16 * side), 3)
    text, image = wave((1, config.text_len, config.text_dim), 4), wave((1, 257, config.image_dim), 5)
    call = partial(ours, latents, timestep, condition=condition, text=text, image=image, rays=rays)
    if load is None:
        return call, None
    module = load("models.videoxfun_wan.wan_transformer3d")
    content = {key: value for key, value in config.to_json().items() if key not in {"image_dim", "halves"}}
    theirs = module.WanTransformer3DModel.from_config(content)
    theirs.img_emb = module.MLPProj(config.image_dim, config.dim)
    theirs.load_state_dict(ours.state_dict())
    tokens = frames * side * side // 2
    return call, lambda: theirs(latents, timestep, [text[0]], tokens, clip_fea=image, y=condition, y_camera=rays)


def _vaes(size: Size, load: Load | None) -> tuple[Any, Any]:
    ours = fill(WanVae(size.vae))
    if load is None:
        return ours, None
    module = load("models.videoxfun_wan.wan_vae")
    theirs = module.AutoencoderKLWan()
    theirs.model = module._video_vae(z_dim=16, dim=size.vae.dim)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def vae_encode_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    ours, theirs = _vaes(size, load)
    clip = wave((1, 3, size.frames, size.pixels, size.pixels), 1)
    return lambda: ours.encode(clip).mean, theirs and (lambda: theirs.encode(clip).latent_dist.mean)


def vae_decode_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    ours, theirs = _vaes(size, load)
    latent = wave((1, 16, 1 + size.frames // 4, size.pixels // 8, size.pixels // 8), 1, 0.3)
    return lambda: ours.decode(latent), theirs and (lambda: theirs.decode(latent.clone()).sample)


def _adapters(size: Size, load: Load | None) -> tuple[Any, Any]:
    ours = fill(GeometryAdapter(size.adapter))
    if load is None:
        return ours, None
    content = size.adapter.to_json()
    names = ("hidden_dim", "input_dim", "output_dim", "resample_scale")
    theirs = load("models.geometry_adapter.geometry_adapter").GeometryAdapter(**{name: content[name] for name in names})
    theirs.load_state_dict(ours.state_dict())
    side = 2 * size.pixels // 14
    theirs.model.decoder.out_block.resample[0].size = (side, side)  # fixed for 560 pixels
    return ours, theirs


def adapter_encode_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    ours, theirs = _adapters(size, load)
    tokens = wave((1, size.adapter.token_channels, size.frames, size.pixels // 14, size.pixels // 14), 1)
    return lambda: ours.encode(tokens).mean, theirs and (lambda: theirs.encode(tokens).latent_dist.mean)


def adapter_decode_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    ours, theirs = _adapters(size, load)
    latent = wave((1, 16, 1 + size.frames // 4, size.pixels // 8, size.pixels // 8), 1)
    return lambda: ours.decode(latent), theirs and (lambda: theirs.decode(latent.clone()).sample)


def text_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    ours = fill(TextEncoder(size.text))
    ids = torch.arange(2, 2 + 40)[None]
    if load is None:
        return lambda: ours(ids), None
    theirs = load("models.videoxfun_wan.wan_text_encoder").WanT5EncoderModel.from_config(size.text.to_json())
    theirs.load_state_dict(ours.state_dict())
    padded, mask = nn.functional.pad(ids, (0, 472)), (torch.arange(512) < 40)[None].long()
    return lambda: ours(ids), lambda: theirs(padded, attention_mask=mask)[0][:, :40]


def image_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    config = size.image
    ours = fill(ImageEncoder(config))
    image = (wave((1, 3, 560, 560), 1) + 1) / 2
    if load is None:
        return lambda: ours(image), None
    module = load("models.videoxfun_wan.wan_image_encoder")
    clip, transforms = module._clip(
        pretrained_name="", return_transforms=True, image_size=224, vision_dim=config.dim,
        vision_heads=config.num_heads, vision_layers=config.num_layers,
        vocab_size=9, text_dim=8, text_heads=2, text_layers=1, embed_dim=8,
    )  # fmt: skip
    theirs = module.CLIPModel.__new__(module.CLIPModel)
    nn.Module.__init__(theirs)
    theirs.model, theirs.transforms = clip.eval(), transforms
    theirs.load_state_dict({f"model.{name}": tensor for name, tensor in ours.state_dict().items()}, strict=False)
    return lambda: ours(image), lambda: theirs([image[0][:, None] * 2 - 1])


def vggt_case(size: Size, load: Load | None) -> tuple[Call, Call | None]:
    config = size.vggt
    ours: Any = fill(Vggt(config))
    images = (wave((1, size.frames, 3, size.pixels, size.pixels), 1) + 1) / 2

    def call() -> Tensor:
        depth: Tensor = ours.decode(ours.encode(images), (size.pixels, size.pixels), points=False).depth
        return depth

    if load is None:
        return call, None
    layers, encoder = load("models.vggt.layers"), load("models.vggt.layers.vision_transformer")
    theirs: Any = nn.Module()
    pixels = config.encoder_grid * config.patch_size
    theirs.aggregator = load("models.vggt.models.aggregator").Aggregator(
        img_size=pixels, embed_dim=config.width, depth=config.depth, num_heads=config.heads, patch_embed="conv"
    )
    theirs.aggregator.patch_embed = encoder.DinoVisionTransformer(
        img_size=pixels, patch_size=config.patch_size, embed_dim=config.width, depth=config.encoder_depth,
        num_heads=config.encoder_heads, block_fn=partial(layers.NestedTensorBlock, attn_class=layers.MemEffAttention),
        num_register_tokens=config.registers, interpolate_antialias=True, interpolate_offset=0.0, block_chunks=0,
        init_values=1.0,
    )  # fmt: skip
    theirs.camera_head = load("models.vggt.heads.camera_head").CameraHead(
        config.token_width, trunk_depth=config.camera_depth, num_heads=config.camera_heads
    )
    dense, widths = load("models.vggt.heads.dpt_head").DPTHead, list(config.dense_layer_widths)
    for name, channels, activation in (("point_head", 4, "inv_log"), ("depth_head", 2, "exp")):
        head = dense(
            config.token_width,
            output_dim=channels,
            activation=activation,
            features=config.dense_width,
            out_channels=widths,
        )
        setattr(theirs, name, head)
    theirs.load_state_dict(ours.state_dict())
    theirs.eval()

    def their_call() -> Tensor:
        found, start = theirs.aggregator(images)
        chosen = [found[index] for index in config.used_layers]
        theirs.camera_head(chosen)
        depth: Tensor = theirs.depth_head(chosen, images, start)[0][..., 0]
        return depth

    return call, their_call


CASES: Final[dict[str, Callable[[Size, Load | None], tuple[Call, Call | None]]]] = {
    "DiT step": dit_case,
    "Wan VAE encode": vae_encode_case,
    "Wan VAE decode": vae_decode_case,
    "adapter encode": adapter_encode_case,
    "adapter decode": adapter_decode_case,
    "umT5, 40 tokens": text_case,
    "CLIP": image_case,
    "VGGT": vggt_case,
}


def on_cuda() -> None:
    """Official sizes with random weights: speed and memory do not depend on what the weights say."""
    print(f"\n{torch.cuda.get_device_name()}, official sizes, bfloat16")
    with torch.inference_mode(), torch.device("cuda"):
        _dit_on_cuda()
        images, vggt = torch.rand(1, 49, 3, 560, 560), Vggt(VggtConfig.official())
        _cuda("VGGT, 49 frames", 49 * 1605, lambda: vggt.decode(vggt.encode(images), (560, 560), points=False))


def _dit_on_cuda() -> None:
    dit = JointDit(DitConfig.official()).to(torch.bfloat16)
    context = dit.embed_context(torch.randn(1, 512, 4096), torch.randn(1, 257, 1280))
    cameras = dit.embed_cameras(torch.randn(1, 24, 13, 560, 1120))
    latents, condition = torch.randn(1, 16, 13, 70, 140), torch.randn(1, 20, 13, 70, 140)
    time_ = torch.tensor([500.0])
    _cuda("DiT, one pass of a step", 31_850, lambda: dit.flow(latents, time_, condition, context, cameras))


def _cuda(name: str, tokens: int, call: Callable[[], object]) -> None:
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    call()
    torch.cuda.synchronize()
    seconds, peak = time.perf_counter() - begin, torch.cuda.max_memory_allocated() / 1e9
    print(f"{name:<26}{seconds:>8.2f} s {tokens / seconds:>12,.0f} tokens/s   peak {peak:.1f} GB")


if __name__ == "__main__":
    main()
