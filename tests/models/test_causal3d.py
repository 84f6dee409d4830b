from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_autoencoders import wavy, with_formula_weights
from torch import Tensor, nn

from gen3r_bench.errors import InputError
from gen3r_bench.models.causal3d import (
    CausalConv3d,
    CausalDecoder,
    CausalEncoder,
    ChannelNorm,
    DiagonalGaussian,
    FrameAttention,
    Resample,
    ResidualBlock,
    Stream,
    latent_frames,
)

CHANNELS = 4
EXACT = {"rtol": 1e-10, "atol": 1e-10}
"""Of float64: what is left of two orders of the same sums."""

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: CausalConv3d(CHANNELS, 3),
    "pointwise": lambda: CausalConv3d(CHANNELS, 3, (1, 1, 1)),
    "residual": lambda: ResidualBlock(CHANNELS, 6),
    "residual same": lambda: ResidualBlock(CHANNELS, CHANNELS),
    "attention": lambda: FrameAttention(CHANNELS),
    "half": lambda: Resample(CHANNELS, CHANNELS, space="half", time="half"),
    "keep half": lambda: Resample(CHANNELS, CHANNELS, space="keep", time="half"),
    "double": lambda: Resample(CHANNELS, 2, space="double", time="double"),
    "keep double": lambda: Resample(CHANNELS, 2, space="keep", time="double"),
    "encoder": lambda: CausalEncoder(CHANNELS, (4, 4, 8), 6, blocks=1, halve_time=(True, True), space="half"),
    "decoder": lambda: CausalDecoder(CHANNELS, (8, 4, 4), 3, blocks=1, double_time=(True, True), space="double"),
}
FRAMES_A_STEP = {"half": 2, "keep half": 2, "encoder": 4}
"""Chunks end where a group of frames ends; the other blocks have groups of one."""


def block(name: str) -> nn.Module:
    return with_formula_weights(BLOCKS[name]()).double()


def video(frames: int, seed: int = 0, size: tuple[int, int] = (4, 8)) -> Tensor:
    return wavy((1, CHANNELS, frames, *size), seed).double()


def streamed(module: nn.Module, clip: Tensor, ends: Sequence[int]) -> Tensor:
    stream = Stream()
    return torch.cat([module(clip[:, :, start:stop], stream) for start, stop in pairwise((0, *ends))], dim=2)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(BLOCKS)), steps=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_streaming_equals_the_whole_clip_for_any_chunks(name: str, steps: list[int]) -> None:
    group = FRAMES_A_STEP.get(name, 1)
    ends = [1 + (sum(steps[: index + 1]) - 1) * group for index in range(len(steps))]
    module, clip = block(name), video(ends[-1])
    torch.testing.assert_close(streamed(module, clip, ends), module(clip, Stream()), **EXACT)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_no_frame_depends_on_later_ones(name: str) -> None:
    group = FRAMES_A_STEP.get(name, 1)
    module, clip = block(name), video(1 + 2 * group)
    changed = clip.clone()
    changed[:, :, 1 + group :] += video(group, seed=9)
    before, after = module(clip, Stream()), module(changed, Stream())
    known = module(clip[:, :, : 1 + group], Stream()).shape[2]
    torch.testing.assert_close(after[:, :, :known], before[:, :, :known], **EXACT)
    assert (after[:, :, known:] - before[:, :, known:]).abs().max() > 1e-3


def test_a_block_forgets_the_chunk_it_has_seen() -> None:
    module, stream = block("convolution"), Stream()
    module(video(30), stream)
    kept = stream.recall(module)
    assert kept is not None
    assert kept.shape[2] == 2
    assert kept.untyped_storage().nbytes() == kept.nbytes


def test_convolution_is_zero_padded_before_the_clip() -> None:
    module, clip = block("convolution"), video(5)
    padded = nn.functional.pad(clip, (1, 1, 1, 1, 2, 0))
    expected = nn.functional.conv3d(padded, module.weight, module.bias)
    torch.testing.assert_close(module(clip, Stream()), expected, **EXACT)


def test_norm_gives_each_position_a_root_mean_square_of_one() -> None:
    x = 7 * video(3)
    normed = ChannelNorm(CHANNELS, 3).double()(x)
    torch.testing.assert_close(normed.square().mean(dim=1), torch.ones_like(x[:, 0]), **EXACT)


def test_attention_stays_within_a_frame_and_is_what_it_says() -> None:
    module, clip = block("attention"), video(2, size=(2, 3))
    for frame in range(2):
        tokens = clip[0, :, frame].flatten(1).T
        normed = tokens / tokens.square().mean(dim=1, keepdim=True).sqrt() * module.norm.gamma.flatten()
        query, key, value = (normed @ module.to_qkv.weight[:, :, 0, 0].T + module.to_qkv.bias).chunk(3, dim=1)
        mixed = (query @ key.T / CHANNELS**0.5).softmax(dim=1) @ value
        expected = tokens + mixed @ module.proj.weight[:, :, 0, 0].T + module.proj.bias
        torch.testing.assert_close(module(clip, Stream())[0, :, frame].flatten(1).T, expected, **EXACT)


def test_a_new_attention_block_adds_only_its_bias() -> None:
    module, clip = FrameAttention(CHANNELS).double(), video(2)
    torch.testing.assert_close(module(clip, Stream()) - clip, module.proj.bias[:, None, None, None].expand_as(clip))


def test_halving_time_joins_pairs_and_leaves_the_first_frame() -> None:
    module, clip = block("keep half"), video(5)
    frames = [module.resample["0"](clip[:, :, index]) for index in range(5)]
    weight, bias = module.time_conv.weight[..., 0, 0], module.time_conv.bias[:, None, None]

    def joined(*parts: Tensor) -> Tensor:
        return sum(torch.einsum("oi,bihw->bohw", weight[..., tap], part) for tap, part in enumerate(parts)) + bias

    expected = torch.stack([frames[0], joined(*frames[:3]), joined(*frames[2:])], dim=2)
    torch.testing.assert_close(module(clip, Stream()), expected, **EXACT)


def test_doubling_time_splits_every_frame_but_the_first_and_never_looks_at_it() -> None:
    module, clip = block("keep double"), video(3)
    weight, bias = module.time_conv.weight[..., 0, 0], module.time_conv.bias[:, None, None]
    second, third = clip[:, :, 1], clip[:, :, 2]
    from_second = torch.einsum("oi,bihw->bohw", weight[..., 2], second) + bias
    from_third = sum(torch.einsum("oi,bihw->bohw", weight[..., t], x) for t, x in ((1, second), (2, third))) + bias
    frames = [clip[:, :, 0], *from_second.chunk(2, dim=1), *from_third.chunk(2, dim=1)]
    expected = torch.stack([module.resample["0"](frame) for frame in frames], dim=2)
    torch.testing.assert_close(module(clip, Stream()), expected, **EXACT)


def test_halved_frames_are_padded_at_the_right_and_bottom_only() -> None:
    module = Resample(1, 1, space="half", time="keep").double()
    with torch.no_grad():
        module.resample["1"].weight.zero_()[0, 0, 0, 0] = 1  # the tap at the upper left
        module.resample["1"].bias.zero_()
    picture = torch.arange(16, dtype=torch.float64).reshape(1, 1, 1, 4, 4)
    assert module(picture, Stream()).flatten().tolist() == [0, 2, 8, 10]


@pytest.mark.parametrize("frames", [1, 5, 9, 49])
def test_latent_frames(frames: int) -> None:
    assert latent_frames(frames) == {1: 1, 5: 2, 9: 3, 49: 13}[frames]


@pytest.mark.parametrize(("frames", "fix"), [(0, "use 1 or 5"), (2, "use 1 or 5"), (8, "use 5 or 9"), (48, "45 or 49")])
def test_other_frame_counts_are_refused(frames: int, fix: str) -> None:
    with pytest.raises(InputError, match=fix):
        latent_frames(frames)


def test_a_draw_is_the_seeds_and_has_the_posteriors_moments() -> None:
    mean = torch.full((1, 16, 4, 20, 20), 3.0)
    posterior = DiagonalGaussian(mean, torch.full_like(mean, 2.0).log() * 2)
    draw = posterior.sample(torch.Generator().manual_seed(7))
    torch.testing.assert_close(draw, posterior.sample(torch.Generator().manual_seed(7)))
    assert (draw - posterior.sample(torch.Generator().manual_seed(8))).abs().max() > 1
    assert draw.mean().item() == pytest.approx(3, abs=0.05)
    assert draw.std().item() == pytest.approx(2, abs=0.05)


def test_noise_is_the_same_in_every_precision() -> None:
    zero = torch.zeros(1, 2, 1, 3, 3)
    draws = [
        DiagonalGaussian(zero.to(dtype), zero.to(dtype)).sample(torch.Generator().manual_seed(1)).float()
        for dtype in (torch.float32, torch.bfloat16)
    ]
    torch.testing.assert_close(draws[0], draws[1], rtol=0.01, atol=0.01)


def test_log_variances_are_clamped() -> None:
    extreme = DiagonalGaussian(torch.zeros(2), torch.tensor([-1e9, 1e9]))
    torch.testing.assert_close(extreme.std, torch.tensor([-30.0, 20.0]).div(2).exp())
