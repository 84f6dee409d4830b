from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_gen3r import fill, formula_tensors, relative_difference, summary, wave, write_tokenizer
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.checkpoint import load_exactly
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder, load_tokenizer, position_buckets

GOLDENS = Path(__file__).parent / "goldens" / "wan_encoders.json"
IDS = torch.tensor([[5, 9, 33, 2, 60, 17, 1]])


def names_sha256(module: torch.nn.Module) -> str:
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in module.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_official_sizes_and_names() -> None:
    """Compared with the released classes on the meta device when they were frozen."""
    goldens = json.loads(GOLDENS.read_text())
    with torch.device("meta"):
        text, image = TextEncoder(TextConfig.official()), ImageEncoder(ImageConfig.official())
    assert (len(text.state_dict()), len(image.state_dict())) == (242, 377)
    assert sum(tensor.numel() for tensor in text.state_dict().values()) == 5_680_910_336
    assert ImageConfig.official().num_tokens == 257
    assert names_sha256(text) == goldens["text_names_sha256"]
    assert names_sha256(image) == goldens["image_names_sha256"]


def test_the_released_numbers_frozen() -> None:
    goldens = json.loads(GOLDENS.read_text())
    with torch.no_grad():
        text = fill(TextEncoder(TextConfig.tiny()))(IDS)
        image = fill(ImageEncoder(ImageConfig.tiny()))((wave((1, 3, 56, 56), 3) + 1) / 2)
    assert summary(text) == pytest.approx(goldens["text"], rel=2e-4, abs=2e-5)
    assert summary(image) == pytest.approx(goldens["image"], rel=2e-4, abs=2e-5)


def transformers_umt5(config: TextConfig, ours: dict[str, Tensor]) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    model = UMT5EncoderModel(
        UMT5Config(
            vocab_size=config.vocab,
            d_model=config.dim,
            d_kv=config.dim_attn // config.num_heads,
            d_ff=config.dim_ffn,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            relative_attention_num_buckets=config.num_buckets,
            relative_attention_max_distance=128,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    ).eval()
    theirs = {"shared.weight": ours["token_embedding.weight"], "encoder.final_layer_norm.weight": ours["norm.weight"]}
    names = {"norm1.weight": "0.layer_norm.weight", "norm2.weight": "1.layer_norm.weight"}
    names |= {f"attn.{x}.weight": f"0.SelfAttention.{x}.weight" for x in "qkvo"}
    names["pos_embedding.embedding.weight"] = "0.SelfAttention.relative_attention_bias.weight"
    names |= {"ffn.gate.0.weight": "1.DenseReluDense.wi_0.weight", "ffn.fc1.weight": "1.DenseReluDense.wi_1.weight"}
    names["ffn.fc2.weight"] = "1.DenseReluDense.wo.weight"
    for block in range(config.num_layers):
        for own, other in names.items():
            theirs[f"encoder.block.{block}.layer.{other}"] = ours[f"blocks.{block}.{own}"]
    missing = model.load_state_dict(theirs, strict=False)
    assert set(missing.missing_keys) <= {"encoder.embed_tokens.weight"}  # the same tensor as shared.weight
    assert not missing.unexpected_keys
    return model


def test_umt5_is_that_of_transformers() -> None:
    config = TextConfig.tiny()
    ours = fill(TextEncoder(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers_umt5(config, ours.state_dict())
        # padded and masked, as the released pipeline runs it
        ids = torch.nn.functional.pad(IDS, (0, 57))
        with torch.no_grad():
            expected = theirs(input_ids=ids, attention_mask=(torch.arange(64) < 7)[None].long())[0][:, :7]
    assert relative_difference(ours(IDS), expected) < 1e-5


def test_position_buckets_by_hand() -> None:
    buckets = position_buckets(200, 32, torch.device("cpu"))
    assert buckets[0, :9].tolist() == [0, 17, 18, 19, 20, 21, 22, 23, 24]
    assert buckets[8, :9].tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert (int(buckets[0, 199]), int(buckets[199, 0])) == (31, 15)


def test_clip_is_that_of_transformers() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = ImageConfig.tiny()
    ours = fill(ImageEncoder(config))
    state = {name.removeprefix("visual."): tensor for name, tensor in ours.state_dict().items()}
    theirs = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=config.dim,
            intermediate_size=config.mlp_ratio * config.dim,
            num_hidden_layers=config.num_layers - 1,
            num_attention_heads=config.num_heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act="gelu",
        )
    ).eval()
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in theirs.state_dict()) else ""
    mapped = {
        "embeddings.class_embedding": state["cls_embedding"].flatten(),
        "embeddings.patch_embedding.weight": state["patch_embedding.weight"],
        "embeddings.position_embedding.weight": state["pos_embedding"][0],
        "pre_layrnorm.weight": state["pre_norm.weight"],
        "pre_layrnorm.bias": state["pre_norm.bias"],
    }
    for block in range(config.num_layers - 1):
        for kind in ("weight", "bias"):
            own, other = f"transformer.{block}", f"encoder.layers.{block}"
            parts = state[f"{own}.attn.to_qkv.{kind}"].chunk(3)
            mapped |= {f"{other}.self_attn.{x}_proj.{kind}": part for x, part in zip("qkv", parts, strict=True)}
            mapped[f"{other}.self_attn.out_proj.{kind}"] = state[f"{own}.attn.proj.{kind}"]
            for a, b in (
                ("norm1", "layer_norm1"),
                ("norm2", "layer_norm2"),
                ("mlp.0", "mlp.fc1"),
                ("mlp.2", "mlp.fc2"),
            ):
                mapped[f"{other}.{b}.{kind}"] = state[f"{own}.{a}.{kind}"]
    result = theirs.load_state_dict({prefix + name: tensor for name, tensor in mapped.items()}, strict=False)
    assert not result.unexpected_keys
    assert all("post_layernorm" in name or "position_ids" in name for name in result.missing_keys)
    image = (wave((1, 3, 28, 28), 3) + 1) / 2
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    with torch.no_grad():
        pixels = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        expected = theirs(pixel_values=pixels).last_hidden_state
    assert relative_difference(ours(image), expected) < 1e-5


def test_the_unused_rest_of_clip_is_passed_over_and_nothing_else() -> None:
    config = ImageConfig.tiny()
    shapes = {f"model.{name}": tuple(t.shape) for name, t in ImageEncoder(config).state_dict().items()}
    unused = (
        "textual.head.0.weight",
        "log_scale",
        "visual.head",
        "visual.post_norm.bias",
        "visual.transformer.2.mlp.0.bias",
    )
    tensors = formula_tensors({**shapes, **{f"model.{name}": (2,) for name in unused}})
    ignore = tuple(f"model.{pattern}" for pattern in config.unused_keys())
    load_exactly(ImageEncoder(config), tensors, what="clip", strip_prefix="model.", ignore=ignore)
    tensors["model.visual.transformer.3.mlp.0.bias"] = torch.zeros(2)
    with pytest.raises(InputError, match=r"1 unexpected: visual\.transformer\.3"):
        load_exactly(ImageEncoder(config), tensors, what="clip", strip_prefix="model.", ignore=ignore)


def test_configs_read_back_and_refuse() -> None:
    assert TextConfig.from_json(TextConfig.tiny().to_json()) == TextConfig.tiny()
    assert ImageConfig.from_json(ImageConfig.tiny().to_json()) == ImageConfig.tiny()
    assert ImageConfig.from_json({"_class_name": "CLIPModel"}) == ImageConfig.official()
    with pytest.raises(InputError, match="shared_pos"):
        TextConfig.from_json({**TextConfig.tiny().to_json(), "shared_pos": True})
    with pytest.raises(InputError, match="lacks vocab"):
        TextConfig.from_json({"dim": 4})
    with pytest.raises(InputError, match="lacks dim"):
        ImageConfig.from_json({"image_size": 28})
    with pytest.raises(InputError, match="whole patches"):
        ImageConfig(image_size=30, patch_size=14, dim=32, num_heads=2, num_layers=3)


def test_tokenizer_ends_and_cuts_a_text(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    assert tokenizer("ab", 512) == [4, 5, 1]
    assert tokenizer("", 512) == [1]
    assert tokenizer("a" * 900, 512) == [4] * 511 + [1]
    with pytest.raises(InputError, match="does not exist"):
        load_tokenizer(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(tmp_path / "empty")
