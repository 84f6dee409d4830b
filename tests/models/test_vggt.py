from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation
from tiny_vggt import CONFIG, FIELDS, formula_images, formula_vggt, summaries

from gen3r_bench.errors import InputError
from gen3r_bench.models.checkpoint import load_exactly, read_safetensors
from gen3r_bench.models.vggt import Vggt, VggtConfig, VggtOutput, VggtTokens, cameras_from_pose_encoding

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "vggt.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model() -> Vggt:
    return formula_vggt()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def assert_same(left: VggtOutput, right: VggtOutput, order: list[int] | None = None) -> None:
    for name in FIELDS:
        expected = getattr(right, name)
        expected = expected if order is None else expected[:, order]
        torch.testing.assert_close(getattr(left, name), expected, rtol=2e-5, atol=2e-5)


@pytest.fixture(scope="module")
def official() -> Vggt:
    with torch.device("meta"):
        return Vggt(VggtConfig.official())


def test_official_size(official: Vggt) -> None:
    assert sum(p.numel() for p in official.parameters()) == GOLDENS["official"]["parameters"] == 1_190_596_120
    assert len(official.state_dict()) == GOLDENS["official"]["tensors"]


def test_official_keys_and_shapes(official: Vggt) -> None:
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in official.state_dict().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == GOLDENS["official"]["sha256"]


def test_official_keys_by_family(official: Vggt) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in official.state_dict().items()}
    families: dict[str, set[str]] = {}
    for name in shapes:
        families.setdefault(re.sub(r"(blocks|trunk)\.\d+", r"\1.N", name), set()).add(name)

    def ends(*names: str, kinds: tuple[str, ...] = ("weight", "bias")) -> set[str]:
        return {f"{name}.{kind}" for name in names for kind in kinds}

    plain = ends("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2") | {"ls1.gamma", "ls2.gamma"}
    normed = plain | ends("attn.q_norm", "attn.k_norm")
    dino = {"cls_token", "pos_embed", "register_tokens", "mask_token"} | ends("patch_embed.proj", "norm")
    dino |= {f"blocks.N.{key}" for key in plain}
    camera = ends("token_norm", "trunk_norm", "embed_pose", "poseLN_modulation.1", "pose_branch.fc1", "pose_branch.fc2")
    camera |= {"empty_pose_tokens"} | {f"trunk.N.{key}" for key in plain}
    units = ("resConfUnit1", "resConfUnit2")
    merges = [
        f"scratch.refinenet{i}.{part}"
        for i in (1, 2, 3, 4)
        for part in ("out_conv", *(f"{unit}.conv{c}" for unit in units for c in (1, 2)))
        if not (i == 4 and "Unit1" in part)
    ]
    dense = ends("norm", *(f"projects.{i}" for i in range(4)), *(f"resize_layers.{i}" for i in (0, 1, 3)), *merges)
    dense |= ends(*(f"scratch.layer{i}_rn" for i in (1, 2, 3, 4)), kinds=("weight",))
    dense |= ends("scratch.output_conv1", "scratch.output_conv2.0", "scratch.output_conv2.2")
    expected = {"aggregator.camera_token", "aggregator.register_token"}
    expected |= {f"aggregator.patch_embed.{key}" for key in dino}
    expected |= {f"aggregator.{kind}_blocks.N.{key}" for kind in ("frame", "global") for key in normed}
    expected |= {f"camera_head.{key}" for key in camera}
    expected |= {f"{head}_head.{key}" for head in ("depth", "point") for key in dense}
    assert families.keys() == expected
    assert {len(names) for family, names in families.items() if "blocks.N" in family} == {24}
    assert {len(names) for family, names in families.items() if "trunk.N" in family} == {4}
    for name, shape in {
        "aggregator.camera_token": [1, 2, 1, 1024],
        "aggregator.register_token": [1, 2, 4, 1024],
        "aggregator.patch_embed.pos_embed": [1, 1370, 1024],
        "aggregator.patch_embed.patch_embed.proj.weight": [1024, 3, 14, 14],
        "aggregator.global_blocks.23.attn.q_norm.weight": [64],
        "camera_head.pose_branch.fc2.weight": [9, 1024],
        "depth_head.projects.2.weight": [1024, 2048, 1, 1],
        "depth_head.scratch.output_conv2.2.weight": [2, 32, 1, 1],
        "point_head.scratch.output_conv2.2.weight": [4, 32, 1, 1],
    }.items():
        assert shapes[name] == shape, name


def test_official_norms(official: Vggt) -> None:
    """Their epsilons move the frozen numbers less than libraries do, so they are asserted by themselves."""
    eps = {name: m.eps for name, m in official.named_modules() if isinstance(m, torch.nn.LayerNorm)}
    small = {name for name, value in eps.items() if value == 1e-6}
    expected = {f"aggregator.patch_embed.blocks.{i}.{norm}" for i in range(24) for norm in ("norm1", "norm2")}
    assert small == expected | {"aggregator.patch_embed.norm", "camera_head.unlearned_norm"}
    assert set(eps.values()) == {1e-5, 1e-6}


def test_official_shapes_at_560_pixels(official: Vggt) -> None:
    """Runs on the meta device: shapes only."""
    tokens = official.encode(torch.empty(1, 9, 3, 560, 560, device="meta"))
    assert [list(layer.shape) for layer in tokens.layers] == [[1, 9, 1605, 2048]] * 4
    output = official.decode(tokens, (560, 560))
    assert output.points.shape == (1, 9, 560, 560, 3)
    assert output.pose_encoding.shape == (1, 9, 9)


@pytest.mark.parametrize("case", sorted(GOLDENS["outputs"]))
def test_frozen_numbers(model: Vggt, case: str) -> None:
    golden = GOLDENS["outputs"][case]
    images = formula_images(golden["frames"], tuple(golden["size"]), golden["batch"])
    tokens = model.encode(images)
    found = summaries(tokens, model.decode(tokens, tuple(golden["size"])))
    assert found.keys() == golden["values"].keys()
    for name, numbers in golden["values"].items():
        assert found[name]["shape"] == numbers["shape"]
        bound = 1e-4 * numbers["rms"]
        for kind in ("mean", "rms", "entries"):
            np.testing.assert_allclose(found[name][kind], numbers[kind], rtol=0, atol=bound, err_msg=f"{name} {kind}")


def test_shapes_and_layout(model: Vggt) -> None:
    tokens = model.encode(formula_images(3, (56, 84), batch=2))
    assert [list(layer.shape) for layer in tokens.layers] == [[2, 3, 5 + 4 * 6, CONFIG.token_width]] * 4
    assert (tokens.patch_start, tokens.grid) == (5, (4, 6))
    output = model.decode(tokens, (56, 84))
    assert output.depth.shape == output.depth_confidence.shape == output.points_confidence.shape == (2, 3, 56, 84)
    assert output.points.shape == (2, 3, 56, 84, 3)
    assert output.pose_encoding.shape == (2, 3, 9)
    assert (output.depth > 0).all()
    assert (output.depth_confidence >= 1).all()
    assert (output.points_confidence >= 1).all()


def test_a_batch_is_its_clips(model: Vggt) -> None:
    images = formula_images(2, (56, 56), batch=2)
    both = model(images)
    for clip in range(2):
        alone = model(images[clip : clip + 1])
        for name in FIELDS:
            torch.testing.assert_close(getattr(both, name)[clip], getattr(alone, name)[0], rtol=2e-5, atol=2e-5)


def test_order_of_all_views_but_the_first_does_not_matter(model: Vggt) -> None:
    images = formula_images(4, (56, 56))
    order = [0, 3, 1, 2]
    assert_same(model(images[:, order]), model(images), order)


def test_the_first_view_is_not_like_the_others(model: Vggt) -> None:
    images = formula_images(3, (56, 56))
    order = [1, 0, 2]
    swapped, plain = model(images[:, order]), model(images)
    assert (swapped.pose_encoding - plain.pose_encoding[:, order]).abs().max() > 1e-2


def test_a_single_view(model: Vggt) -> None:
    output = model(formula_images(1, (56, 56)))
    assert torch.isfinite(output.depth).all()
    assert len(cameras_from_pose_encoding(output.pose_encoding[0], (56, 56))) == 1


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_frames_at_once_do_not_change_the_answer(model: Vggt, at_once: int) -> None:
    tokens = model.encode(formula_images(3, (56, 56), batch=2))
    assert_same(model.decode(tokens, (56, 56), frames_at_once=at_once), model.decode(tokens, (56, 56)))


def test_points_only_where_asked_for(model: Vggt) -> None:
    tokens = model.encode(formula_images(1, (56, 56)))
    output = model.decode(tokens, (56, 56), points=False)
    assert output.points is None
    assert output.points_confidence is None


def test_heads_read_one_special_token(model: Vggt) -> None:
    """So the copies of the camera token that Gen3R's adapter puts before the patches are of no effect."""
    tokens = model.encode(formula_images(2, (56, 56)))
    others = [layer.clone() for layer in tokens.layers]
    for layer in others[:3]:
        layer[:, :, :5] = 7
    others[3][:, :, 1:5] = 7
    assert_same(model.decode(VggtTokens(tuple(others), 5, tokens.grid), (56, 56)), model.decode(tokens, (56, 56)))


def test_each_refinement_adds_to_the_one_before(model: Vggt) -> None:
    answers = model.camera_head(model.encode(formula_images(2, (56, 56))).layers[-1][:, :, 0])
    assert answers.shape == (4, 1, 2, 9)
    assert (answers[..., 7:] > 0).all()
    assert (answers[1:, ..., 7] > answers[:-1, ..., 7]).all()


def test_untrained_camera_head_answers_a_field_of_view() -> None:
    torch.manual_seed(0)
    output = Vggt(VggtConfig.tiny()).eval()(formula_images(2, (56, 56)))
    cameras = cameras_from_pose_encoding(output.pose_encoding[0], (56, 56))
    assert np.isfinite(cameras.intrinsics).all()


def test_bfloat16_is_near(model: Vggt) -> None:
    images = formula_images(2, (56, 56))
    exact, lowered = model.encode(images, bfloat16=False), model.encode(images, bfloat16=True)
    for left, right in zip(exact.layers, lowered.layers, strict=True):
        difference = (left - right.float()).square().mean().sqrt() / left.square().mean().sqrt()
        assert 1e-4 < difference < 5e-2
    output = model.decode(lowered, (56, 56))
    assert output.depth.dtype == output.pose_encoding.dtype == torch.float32


def test_a_whole_model_in_bfloat16_runs() -> None:
    model = formula_vggt().to(torch.bfloat16)
    output = model(formula_images(2, (56, 56)).to(torch.bfloat16))
    assert output.depth.dtype == torch.bfloat16


def test_positions_are_the_trained_ones_at_their_own_grid_only(model: Vggt) -> None:
    encoder = model.aggregator.patch_embed
    trained = encoder.pos_embed[:, 1:].reshape(1, 4, 4, -1)
    torch.testing.assert_close(encoder.positions((4, 4)), trained, rtol=0, atol=0)
    wider = encoder.positions((5, 5))
    assert wider.shape == (1, 5, 5, CONFIG.width)
    torch.testing.assert_close(wider.mean(), trained.mean(), rtol=0, atol=0.05)


def test_positions_at_518_and_560_pixels() -> None:
    """37 cells are kept, 40 are resampled smoothly: a linear ramp stays a ramp away from the border."""
    config = VggtConfig(
        width=8, depth=4, heads=2, encoder_depth=1, encoder_heads=2, used_layers=(0, 1, 2, 3), camera_depth=1,
        camera_heads=2, dense_width=8, dense_layer_widths=(4, 4, 4, 4),
    )  # fmt: skip
    encoder = Vggt(config).aggregator.patch_embed
    ramp = (torch.arange(37) + 0.5) / 37
    encoder.pos_embed[0, 1:] = ramp.repeat_interleave(37)[:, None].expand(-1, 8)
    assert encoder.positions((37, 37))[0, :, 0, 0].equal(ramp)
    wider = encoder.positions((40, 40))[0, :, 20, 0]
    torch.testing.assert_close(wider[4:-4], ((torch.arange(40) + 0.5) / 40)[4:-4], rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [(56, 57), (57, 56), (13, 13), (518 + 1, 518)])
def test_sizes_that_are_not_whole_patches_are_refused(model: Vggt, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="expected multiples of 14"):
        model.encode(torch.zeros(1, 1, 3, *size))


@pytest.mark.parametrize("shape", [(1, 3, 56, 56), (1, 1, 4, 56, 56), (1, 0, 3, 56, 56), (1, 1, 3, 0, 56)])
def test_shapes_that_are_not_clips_are_refused(model: Vggt, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \[batch, frames, 3"):
        model.encode(torch.zeros(shape))


def test_tokens_that_do_not_fit_are_refused(model: Vggt) -> None:
    tokens = model.encode(formula_images(2, (56, 56)))
    with pytest.raises(InputError, match=r"an image of \(70, 70\)"):
        model.decode(tokens, (70, 70))
    for layers in (tokens.layers[:3], tuple(layer[:, :, 1:] for layer in tokens.layers)):
        with pytest.raises(InputError, match="expected 4 of shape"):
            model.decode(VggtTokens(layers, 5, (4, 4)), (56, 56))
    with pytest.raises(InputError, match="0 frames at once"):
        model.decode(tokens, (56, 56), frames_at_once=0)


@pytest.mark.parametrize(
    "change",
    [{"heads": 3}, {"width": 36}, {"used_layers": (0, 1, 2, 4)}, {"used_layers": (1, 0, 2, 3)}, {"dense_width": 12}],
)
def test_sizes_that_contradict_each_other_are_refused(change: dict[str, object]) -> None:
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    with pytest.raises(InputError):
        VggtConfig(**(fields | change))


def test_weights_of_the_hub_load_without_their_tracker(model: Vggt, tmp_path: Path) -> None:
    save_file(model.state_dict() | {"track_head.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    tensors = read_safetensors(tmp_path)
    with torch.device("meta"):
        loaded = Vggt(CONFIG).eval()
    with pytest.raises(InputError, match=r"1 unexpected: track_head\.norm\.weight"):
        load_exactly(loaded, tensors, what="VGGT")
    load_exactly(loaded, tensors, what="VGGT", ignore=("track_head.*",))
    images = formula_images(2, (56, 56))
    assert_same(loaded(images), model(images))


def test_cameras_from_pose_encoding() -> None:
    turns = Rotation.from_rotvec([[0, 0, 0], [0.1, -0.4, 0.2]])
    centres = np.array([[0, 0, 0], [1, 2, -0.5]])
    translation = -turns.inv().apply(centres)
    encoding = np.zeros((2, 9))
    encoding[:, :3], encoding[:, 3:7] = translation, -3 * turns.inv().as_quat()  # any length, any sign
    encoding[:, 7], encoding[:, 8] = np.pi / 2, 2 * np.arctan(0.75)
    cameras = cameras_from_pose_encoding(torch.from_numpy(encoding), (60, 90))
    np.testing.assert_allclose(cameras.world_from_cam[:, :3, :3], turns.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(cameras.world_from_cam[:, :3, 3], centres, atol=1e-14)
    np.testing.assert_allclose(cameras.intrinsics[1], [[60, 0, 45], [0, 30, 30], [0, 0, 1]], atol=1e-12)
    assert cameras.image_size == (60, 90)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [(7, 0.0, "fields of view from 0"), (8, 3.2, "fields of view"), (6, 0.0, "length 0"), (0, np.nan, "not finite")],
)
def test_encodings_that_are_no_camera(place: int, value: float, said: str) -> None:
    encoding = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 1]], dtype=torch.float64)
    encoding[0, place] = value
    with pytest.raises(InputError, match=said):
        cameras_from_pose_encoding(encoding, (56, 56))
    with pytest.raises(InputError, match=r"expected \[frames, 9\]"):
        cameras_from_pose_encoding(encoding[0], (56, 56))


@pytest.mark.parametrize("config", [VggtConfig.official(), VggtConfig.reference(), VggtConfig.tiny()])
def test_a_configuration_is_read_back_from_json(config: VggtConfig) -> None:
    assert VggtConfig.of_fields(json.loads(json.dumps(config.to_fields())), "here") == config


def test_sizes_that_are_not_said_are_the_official_ones() -> None:
    assert VggtConfig.of_fields({}, "here") == VggtConfig.official()
    assert VggtConfig.of_fields({"patch_size": 8, "encoder_grid": 8}, "here").width == 1024


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widht": 3}, "here: unknown sizes widht; expected the fields of VggtConfig"),
        ({"width": "128"}, "here: width 128; expected a whole number"),
        ({"width": None}, "here: width None; expected a whole number"),
        ({"used_layers": [0, 1, 2]}, r"here: used_layers \(0, 1, 2\); expected four whole numbers"),
        ({"used_layers": 3}, "here: used_layers 3; expected four whole numbers"),
        ({"depth": [4, 4, 4, 4]}, r"here: depth \(4, 4, 4, 4\); expected a whole number"),
        ({"width": 100}, "heads that divide the width"),
    ],
)
def test_wrong_sizes_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VggtConfig.of_fields(given, "here")


def test_the_reference_network_sees_frames_of_64_pixels() -> None:
    """Its tokens lie on the grid of the Wan VAE's latents, 8 pixels each."""
    config = VggtConfig.reference()
    with torch.device("meta"):
        network = Vggt(config)
    assert sum(p.numel() for p in network.parameters()) < 5_000_000
    tokens = network.encode(torch.empty(1, 2, 3, 64, 64, device="meta"))
    assert [list(layer.shape) for layer in tokens.layers] == [[1, 2, 5 + 8 * 8, 256]] * 4
    assert network.aggregator.patch_embed.grid == 8
    assert network.decode(tokens, (64, 64)).depth.shape == (1, 2, 64, 64)
