from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tiny_gen3r import fill, relative_difference, summary, wave
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.wan.transformer import DitConfig, JointDit, rotary_phases, timestep_embedding

GOLDENS = Path(__file__).parent / "goldens" / "wan_transformer.json"
OFFICIAL_JSON = {
    # what the public configuration of the base model says, with Gen3R's 36 input channels
    "_class_name": "WanTransformer3DModel",
    "_diffusers_version": "0.33.1",
    "add_control_adapter": True,
    "add_ref_conv": False,
    "cross_attn_norm": True,
    "dim": 1536,
    "eps": 1e-06,
    "ffn_dim": 8960,
    "freq_dim": 256,
    "hidden_size": 2048,
    "in_channels": 16,
    "in_dim": 36,
    "in_dim_control_adapter": 24,
    "in_dim_ref_conv": 16,
    "model_type": "i2v",
    "num_heads": 12,
    "num_layers": 30,
    "out_dim": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": True,
    "text_dim": 4096,
    "text_len": 512,
    "window_size": [-1, -1],
}


def names_sha256(tensors: Mapping[str, Tensor]) -> str:
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def example(config: DitConfig, frames: int = 3, height: int = 4, width: int = 8) -> dict[str, Tensor]:
    condition = torch.cat([wave((1, 16, frames, height, width), 2), torch.zeros(1, 4, frames, height, width)], dim=1)
    condition[:, :16, :, :, width // 2 :] = 0
    condition[:, 16:, 0, :, : width // 2] = 1
    return {
        "latents": wave((1, 16, frames, height, width), 1),
        "timestep": torch.tensor([731.5]),
        "condition": condition,
        "text": wave((1, 7, config.text_dim), 4),
        "image": wave((1, 5, config.image_dim), 5),
        "rays": wave((1, 24, frames, 8 * height, 8 * width), 3),
    }


@pytest.fixture(scope="module")
def dit() -> JointDit:
    model = fill(JointDit(DitConfig.tiny()))
    assert isinstance(model, JointDit)
    return model


def test_official_size_names_and_shapes() -> None:
    with torch.device("meta"):
        state = JointDit(DitConfig.official()).state_dict()
    assert len(state) == 989
    assert sum(tensor.numel() for tensor in state.values()) == 1_616_337_728
    camera = sum(tensor.numel() for name, tensor in state.items() if name.startswith("control_adapter."))
    assert camera == 51_909_120
    assert state["patch_embedding.weight"].shape == (1536, 36, 1, 2, 2)
    # equal to the released class's own list; test_gen3r_parity.py compares them one by one
    assert names_sha256(state) == json.loads(GOLDENS.read_text())["official_names_sha256"]


def test_the_released_numbers_frozen(dit: JointDit) -> None:
    """Measured against the released code at 4e-7 when they were frozen (test_gen3r_parity.py)."""
    goldens = json.loads(GOLDENS.read_text())
    inputs = example(dit.config)
    assert summary(dit(**inputs)) == pytest.approx(goldens["with_cameras"], rel=2e-4, abs=2e-5)
    del inputs["rays"]
    assert summary(dit(**inputs)) == pytest.approx(goldens["without_cameras"], rel=2e-4, abs=2e-5)


def test_zero_rays_are_no_cameras(dit: JointDit) -> None:
    inputs = example(dit.config)
    with_cameras = dit(**inputs)
    inputs["rays"] = torch.zeros_like(inputs["rays"])
    zero = dit(**inputs)
    del inputs["rays"]
    assert torch.equal(dit(**inputs), zero)
    assert relative_difference(with_cameras, zero) > 1e-3


def test_every_input_matters(dit: JointDit) -> None:
    inputs = example(dit.config)
    flow = dit(**inputs)
    for name, tensor in inputs.items():
        # rolled, since a normalisation would undo a change of scale
        changed = {**inputs, name: tensor.roll(1, -1) * 0.5}
        assert relative_difference(dit(**changed), flow) > 1e-4, name


def test_clips_of_a_batch_do_not_mix(dit: JointDit) -> None:
    first, second = example(dit.config), {name: tensor * 0.7 for name, tensor in example(dit.config).items()}
    both = dit(**{name: torch.cat([first[name], second[name]]) for name in first})
    assert relative_difference(both[:1], dit(**first)) < 1e-5
    assert relative_difference(both[1:], dit(**second)) < 1e-5


def test_cameras_have_a_feature_a_token_at_any_patch() -> None:
    config = dataclasses.replace(DitConfig.tiny(), patch_size=(1, 1, 1))
    inputs = example(config)
    with torch.no_grad():
        assert fill(JointDit(config))(**inputs).shape == inputs["latents"].shape


def test_halves_share_their_width_positions() -> None:
    phases = rotary_phases((2, 3, 8), 12, 2, torch.device("cpu")).view(2, 3, 8, 6)
    assert torch.equal(phases[:, :, :4], phases[:, :, 4:])
    # the released code would take a square grid for a single image; a stated number of halves does not
    square = rotary_phases((1, 4, 4), 12, 2, torch.device("cpu")).view(4, 4, 6)
    assert torch.equal(square[:, :2], square[:, 2:])
    single = rotary_phases((1, 4, 4), 12, 1, torch.device("cpu")).view(4, 4, 6)
    assert not torch.equal(single[:, :2], single[:, 2:])
    with pytest.raises(InputError, match="5 columns"):
        rotary_phases((1, 4, 5), 12, 2, torch.device("cpu"))


def test_rotary_frequencies_by_hand() -> None:
    # 6 pairs: 2 of time, 2 of rows, 2 of columns, each from frequency 1 down to 10000 ** -1/2
    phases = rotary_phases((2, 2, 2), 12, 1, torch.device("cpu")).view(2, 2, 2, 6)
    angles = [1.0, 0.01, 0.0, 0.0, 1.0, 0.01]
    assert torch.angle(phases[1, 0, 1]).tolist() == pytest.approx(angles, abs=1e-6)


def test_timestep_embedding_by_hand() -> None:
    cosines, sines = timestep_embedding(torch.tensor([3.0]), 4)[0].chunk(2)
    assert cosines.tolist() == pytest.approx([math.cos(3), math.cos(0.03)])
    assert sines.tolist() == pytest.approx([math.sin(3), math.sin(0.03)])


def test_bfloat16_weights_stay_near_float32(dit: JointDit) -> None:
    lowered = JointDit(dit.config)
    lowered.load_state_dict(dit.state_dict())
    lowered = lowered.to(torch.bfloat16).requires_grad_(False)
    inputs = example(dit.config)
    flow = lowered(**inputs)
    assert flow.dtype == torch.bfloat16
    assert relative_difference(flow, dit(**inputs)) < 0.05


def test_the_timestep_does_not_pass_through_bfloat16(dit: JointDit) -> None:
    lowered = JointDit(dit.config)
    lowered.load_state_dict(dit.state_dict())
    time = lowered.to(torch.bfloat16).requires_grad_(False)._time(torch.tensor([999.0, 998.0]))
    assert time.dtype == torch.float32
    assert not torch.equal(time[0], time[1])  # bfloat16 has one number for both


def test_official_config_file() -> None:
    assert DitConfig.from_json(OFFICIAL_JSON) == DitConfig.official()
    # the files of the base model leave out what equals the released class's defaults
    short = {key: OFFICIAL_JSON[key] for key in ("dim", "ffn_dim", "in_dim", "num_heads", "num_layers")}
    assert DitConfig.from_json(short) == DitConfig.official()
    assert DitConfig.from_json(json.loads(json.dumps(DitConfig.tiny().to_json()))) == DitConfig.tiny()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "t2v"}, "model_type"),
        ({"add_ref_conv": True}, "add_ref_conv"),
        ({"window_size": [8, 8]}, "window_size"),
        ({"num_layers": None}, "lacks num_layers"),
        ({"num_heads": 7}, "7 heads"),
    ],
)
def test_another_network_is_refused(change: dict[str, object], message: str) -> None:
    content = {key: value for key, value in {**OFFICIAL_JSON, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        DitConfig.from_json(content)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("latents", (1, 8, 3, 4, 8), "latents of shape"),
        ("latents", (1, 16, 3, 4, 6), "multiples of"),
        ("condition", (1, 19, 3, 4, 8), "condition of shape"),
        ("rays", (1, 24, 3, 16, 64), "camera features"),
        ("text", (1, 17, 24), "17 text tokens"),
    ],
)
def test_shapes_that_do_not_fit(dit: JointDit, name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dit(**{**example(dit.config), name: torch.zeros(shape)})


def test_odd_head_width_is_refused() -> None:
    with pytest.raises(InputError, match="even"):
        dataclasses.replace(DitConfig.tiny(), freq_dim=31)
