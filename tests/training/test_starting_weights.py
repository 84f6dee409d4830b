from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.file import FileNetworks
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder
from gen3r_bench.models.wan.transformer import DitConfig, JointDit
from gen3r_bench.training.starting_weights import begin_from, initialise

WIDER, NARROWER = DitConfig.tiny(), dataclasses.replace(DitConfig.tiny(), in_dim=32)


def answer(network: JointDit, condition: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 2, 2, 4, generator=draw)
    given = {"timestep": torch.tensor([300.0]), "text": torch.ones(1, 3, 24), "image": torch.ones(1, 5, 32)}
    with torch.no_grad():
        found: Tensor = network(latents, condition=condition, **given)
    return found


@pytest.mark.parametrize("with_encoders", [False, True])
def test_new_channels_do_nothing_at_first(with_encoders: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, network, path = JointDit(NARROWER), JointDit(WIDER), tmp_path / "base.safetensors"
    held = FileNetworks(base, TextEncoder(TextConfig.tiny()), ImageEncoder(ImageConfig.tiny()))
    save_file((held if with_encoders else base).state_dict(), path)
    begin_from(network, path)
    condition = torch.randn(1, 20, 2, 2, 4)
    torch.testing.assert_close(answer(network, condition), answer(base, condition[:, :16]))
    # and can learn to do something; not the same in every channel, which the norm behind it would take away
    new = network.patch_embedding.weight.data[:, 32:]
    new += torch.randn_like(new)
    assert not torch.allclose(answer(network, condition), answer(base, condition[:, :16]))


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(WIDER, dim=96),
        dataclasses.replace(WIDER, num_layers=1),
        dataclasses.replace(WIDER, in_dim=40),
    ],
)
def test_any_other_difference_is_refused(other: DitConfig, tmp_path: Path) -> None:
    save_file(JointDit(other).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        begin_from(JointDit(WIDER), tmp_path / "other.safetensors")


def test_a_drawn_transformer_answers_zero_and_hands_its_input_on_evenly() -> None:
    torch.manual_seed(0)
    network = JointDit(WIDER)
    initialise(network)
    assert answer(network, torch.randn(1, 20, 2, 2, 4)).abs().max() == 0
    linear = network.blocks[0].ffn[0]
    # uniform over +-sqrt(6 / (in + out)), which has this deviation
    assert float(linear.weight.detach().std()) == pytest.approx((2 / sum(linear.weight.shape)) ** 0.5, rel=0.05)
    assert float(linear.bias.detach().abs().max()) == 0
