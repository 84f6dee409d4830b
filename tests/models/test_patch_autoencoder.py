from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_autoencoders import clip, latent, relative_difference, with_formula_weights

from gen3r_bench.errors import InputError
from gen3r_bench.models.folder import CONFIG_KEY
from gen3r_bench.models.linear_code import LinearCode
from gen3r_bench.models.patch_autoencoder import (
    CLASS_NAME,
    PatchAutoencoderConfig,
    PatchVideoAutoencoder,
    chunk_frames,
    chunk_patches,
    first_frame,
    first_patches,
)
from gen3r_bench.models.video_autoencoder import Tiling

SIZE = (16, 24)


def tiny() -> PatchVideoAutoencoder:
    """With weights everywhere, so that every layer has a say."""
    return with_formula_weights(PatchVideoAutoencoder(PatchAutoencoderConfig.tiny()))


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
def test_every_length_comes_back_in_its_shape(frames: int) -> None:
    autoencoder, video = tiny(), clip(frames, SIZE)
    posterior = autoencoder.encode(video)
    assert posterior.mean.shape == posterior.logvar.shape == (1, 16, 1 + (frames - 1) // 4, 2, 3)
    assert autoencoder.decode(posterior.mean).shape == video.shape


def test_the_shipped_size() -> None:
    with torch.device("meta"):
        network = PatchVideoAutoencoder(PatchAutoencoderConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_332_176


def test_no_latent_hears_of_later_frames() -> None:
    autoencoder, video = tiny(), clip(13, SIZE)
    before = autoencoder.encode(video)
    for frame in range(13):
        changed = video.clone()
        changed[:, :, frame:] = -changed[:, :, frame:]
        after = autoencoder.encode(changed)
        known = 0 if frame == 0 else 1 + (frame - 1) // 4
        assert after.mean[:, :, :known].equal(before.mean[:, :, :known])
        assert after.logvar[:, :, :known].equal(before.logvar[:, :, :known])
        assert not after.mean[:, :, known].equal(before.mean[:, :, known])


def test_no_frame_hears_of_later_latents() -> None:
    autoencoder, code = tiny(), latent(4, (2, 3))
    before = autoencoder.decode(code, clamp=False)
    for step in range(4):
        changed = code.clone()
        changed[:, :, step:] += 1
        after = autoencoder.decode(changed, clamp=False)
        known = 0 if step == 0 else 1 + 4 * (step - 1)
        assert after[:, :, :known].equal(before[:, :, :known])
        assert not after[:, :, known].equal(before[:, :, known])


def test_the_past_and_the_neighbours_are_heard() -> None:
    autoencoder, video = tiny(), clip(9, SIZE)
    before = autoencoder.encode(video).mean
    other_past, other_corner = video.clone(), video.clone()
    other_past[:, :, 0] *= -1
    other_corner[..., :8, :8] *= -1
    assert not autoencoder.encode(other_past).mean[:, :, 1].equal(before[:, :, 1])
    assert not autoencoder.encode(other_corner).mean[..., 1, 1].equal(before[..., 1, 1])


@settings(max_examples=6, deadline=None)
@given(frames=st.sampled_from([1, 5, 13]), latents_per_chunk=st.integers(1, 4))
def test_chunks_never_change_the_result(frames: int, latents_per_chunk: int) -> None:
    autoencoder, video = tiny().double(), clip(frames, SIZE).double()
    one, other = autoencoder.encode(video), autoencoder.encode(video, latents_per_chunk=latents_per_chunk)
    assert relative_difference(other.mean, one.mean) < 1e-12
    assert relative_difference(other.logvar, one.logvar) < 1e-12
    decoded = autoencoder.decode(one.mean, latents_per_chunk=latents_per_chunk)
    assert relative_difference(decoded, autoencoder.decode(one.mean)) < 1e-12


def test_one_tile_is_no_tile_and_several_are_close() -> None:
    autoencoder, video = tiny(), clip(5, (64, 64))
    whole = autoencoder.encode(video).mean
    torch.testing.assert_close(autoencoder.encode(video, tiling=Tiling(64, 8)).mean, whole)
    assert relative_difference(autoencoder.encode(video, tiling=Tiling(48, 32)).mean, whole) < 0.3


def test_the_clamp_is_only_a_clamp() -> None:
    autoencoder, code = tiny(), 5 * latent(2, (2, 3))
    free = autoencoder.decode(code, clamp=False)
    assert float(free.abs().max()) > 1
    assert autoencoder.decode(code).equal(free.clamp(-1, 1))


def test_patches_are_pixels_in_the_stated_order_and_come_back() -> None:
    video = clip(9, SIZE)
    chunks = chunk_patches(video[:, :, 1:])
    assert chunks.shape == (1, 768, 2, 2, 3)
    assert chunk_frames(chunks).equal(video[:, :, 1:])
    assert first_frame(first_patches(video[:, :, :1])).equal(video[:, :, :1])
    # channel 2, frame 3 of the second chunk, row 5, column 6 of the patch at (1, 2)
    number = ((2 * 4 + 3) * 8 + 5) * 8 + 6
    assert chunks[0, number, 1, 1, 2] == video[0, 2, 1 + 4 + 3, 8 + 5, 16 + 6]
    assert first_patches(video[:, :, :1])[0, (2 * 8 + 5) * 8 + 6, 0, 1, 2] == video[0, 2, 0, 8 + 5, 16 + 6]


def test_a_new_network_with_a_linear_code_is_that_code() -> None:
    """Oracle: projection by numpy."""
    torch.manual_seed(0)
    network = PatchVideoAutoencoder(PatchAutoencoderConfig.tiny())
    draw = np.random.default_rng(0)
    codes = []
    for numbers in (192, 768):
        directions = np.linalg.qr(draw.normal(size=(numbers, 16)))[0].T
        deviation = draw.uniform(0.5, 2, 16)
        parts = (0.1 * draw.normal(size=numbers), directions / deviation[:, None], (directions * deviation[:, None]).T)
        codes.append(LinearCode(*(torch.from_numpy(part).float() for part in parts)))
    network.start_from(*codes)
    video = clip(9, SIZE)
    with torch.no_grad():
        posterior = network.encode(video)
        decoded = network.decode(posterior.mean, clamp=False)
    for patches, mean, code, place in (
        (first_patches(video[:, :, :1]), posterior.mean[:, :, :1], codes[0], slice(0, 1)),
        (chunk_patches(video[:, :, 1:]), posterior.mean[:, :, 1:], codes[1], slice(1, None)),
    ):
        vectors = patches.transpose(0, 1).flatten(1).numpy()
        centre, into, out = (part.numpy() for part in code)
        components = into @ (vectors - centre[:, None])
        np.testing.assert_allclose(mean.transpose(0, 1).flatten(1), components, rtol=1e-4, atol=1e-5)
        fold = first_patches if place.stop else chunk_patches
        rebuilt = fold(decoded[:, :, place]).transpose(0, 1).flatten(1)
        np.testing.assert_allclose(rebuilt, out @ components + centre[:, None], rtol=1e-4, atol=1e-5)
    assert float(posterior.logvar.max()) == float(posterior.logvar.min()) == -8


def test_statistics_shift_and_scale_the_latents_and_change_no_frame() -> None:
    plain = tiny()
    config = PatchAutoencoderConfig(
        width=8,
        encoder_blocks=1,
        decoder_blocks=2,
        latent_mean=tuple(0.1 * i for i in range(16)),
        latent_std=tuple(1 + 0.1 * i for i in range(16)),
    )
    measured = with_formula_weights(PatchVideoAutoencoder(config))
    video = clip(5, SIZE)
    raw, normal = plain.encode(video), measured.encode(video)
    shift, scale = (torch.tensor(part)[:, None, None, None] for part in (config.latent_mean, config.latent_std))
    torch.testing.assert_close(normal.mean * scale + shift, raw.mean)
    assert normal.logvar.equal(raw.logvar)
    torch.testing.assert_close(measured.decode(normal.mean), plain.decode(raw.mean), atol=1e-5, rtol=1e-5)


def test_saved_and_read_back(tmp_path: Path) -> None:
    network = tiny()
    network.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == CLASS_NAME
    back = PatchVideoAutoencoder.from_folder(tmp_path)
    assert back.config == network.config
    assert all(back.state_dict()[key].equal(tensor) for key, tensor in network.state_dict().items())
    assert not back.training


def test_one_file_says_its_sizes(tmp_path: Path) -> None:
    network, path = tiny(), tmp_path / "weights.safetensors"
    halves = {key: tensor.half() for key, tensor in network.state_dict().items()}
    save_file(halves, path, metadata={CONFIG_KEY: json.dumps(network.config.to_json())})
    back = PatchVideoAutoencoder.from_folder(path, dtype=torch.float32).requires_grad_(False)
    assert back.config == network.config
    assert relative_difference(back.encode(clip(5, SIZE)).mean, network.encode(clip(5, SIZE)).mean) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": None}, "lacks 'width'"),
        ({"latent_channels": 48}, "48 latent channels; expected 16"),
        ({"temporal_compression_ratio": 8}, "temporal_compression_ratio 8; expected 4"),
        ({"spatial_compression_ratio": 16}, "spatial_compression_ratio 16; expected 8"),
        ({"dim": 16}, "unknown keys dim"),
        ({"latent_std": [0.0] * 16}, "one positive deviation"),
        ({"encoder_blocks": -1}, "no fewer than 0 blocks"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = {**PatchAutoencoderConfig.tiny().to_json(), **change}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        PatchAutoencoderConfig.from_json(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 4, 8, 8), "4 frames"), ((1, 3, 5, 12, 8), "12 x 8"), ((1, 4, 5, 8, 8), "clip of shape")],
)
def test_clips_of_other_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny().encode(torch.zeros(shape))
