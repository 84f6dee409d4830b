"""Gen3R at a size for tests, with weights by formula: the same on every machine and library version."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gen3r_bench.models.gen3r.config import Gen3rConfig
from gen3r_bench.models.gen3r.folder import PARTS
from gen3r_bench.models.joint.checkpoint import Part
from gen3r_bench.models.joint.folder import SCHEDULER_FILE


def wave(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    """A tensor of sines of irregular phases: like noise, but a formula (a random generator may change its stream)."""
    count = 1
    for size in shape:
        count *= size
    index = torch.arange(count, dtype=torch.float64)
    value = torch.sin(index * 12.9898 + (index * index) * 0.0371 + seed * 0.7317)
    return (value * scale).reshape(shape).float()


def formula_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights of every named shape: near one for normalisations, of fitting size for matrices, small for biases."""
    tensors = {}
    for name, shape in shapes.items():
        seed = zlib.crc32(name.encode()) % 100_000
        leaf = name.rsplit(".", 1)[-1]
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 1
        if leaf in {"weight", "gamma"} and (len(shape) == 1 or "gamma" in leaf):
            tensors[name] = 1 + wave(shape, seed, 0.2)
        elif leaf == "bias":
            tensors[name] = wave(shape, seed, 0.1)
        else:
            tensors[name] = wave(shape, seed, (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.3)
    return tensors


def fill(module: nn.Module) -> nn.Module:
    """The module with weights by formula, ready to run."""
    state = module.state_dict()
    module.load_state_dict(formula_tensors({name: tuple(tensor.shape) for name, tensor in state.items()}))
    return module.eval().requires_grad_(False)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def tiny_modules(config: Gen3rConfig) -> dict[str, nn.Module]:
    """All networks with weights by formula, such that the camera head answers with sane fields of view."""
    modules = {name: fill(part.build(config)) for name, part in PARTS.items()}
    head = modules["vggt"].get_submodule("camera_head.pose_branch.fc2")
    # iterated four times and clipped at zero: an untrained head may answer with a field of view of zero
    head.weight.mul_(0.02)
    head.bias[-2:] = 0.25
    # small latents keep an untrained sampler finite
    modules["transformer"].get_submodule("head.head").weight.mul_(0.3)
    return modules


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single characters, in the files that transformers writes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *" abcdefghijklmnopqrstuvwxyz,."])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    wrapped.save_pretrained(str(folder))


def write_folder(path: Path, *, config: Gen3rConfig | None = None, shards: int = 1) -> Path:
    """A checkpoint folder in the official layout, of tiny networks; the transformer in ``shards`` files."""
    config = config or Gen3rConfig.tiny()
    configs = {
        "transformer": config.transformer.to_json(),
        "vae": config.vae.to_json(),
        "adapter": config.adapter.to_json(),
        "vggt": dataclasses.asdict(config.vggt),
        "text": config.text.to_json(),
        "image": config.image.to_json(),
    }
    return write_parts(path, PARTS, configs, tiny_modules(config), shards=shards)


def write_parts(
    path: Path,
    parts: Mapping[str, Part],
    configs: Mapping[str, object],
    modules: Mapping[str, nn.Module],
    *,
    shards: int = 1,
) -> Path:
    """Networks, tokenizer and scheduler in the official layout; the transformer in ``shards`` files."""
    for name, module in modules.items():
        folder = path / parts[name].subfolder
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(configs[name]))
        tensors = {key: tensor.contiguous() for key, tensor in module.state_dict().items()}
        if name == "image":
            # the official file holds the whole CLIP
            tensors |= {"textual.token_embedding.weight": torch.zeros(3, 2), "log_scale": torch.zeros(())}
            tensors |= {"visual.head": torch.zeros(2, 2), "visual.transformer.2.norm1.weight": torch.zeros(2)}
            tensors = {f"model.{key}": tensor for key, tensor in tensors.items()}
        stem = "model" if name == "vggt" else "diffusion_pytorch_model"
        _save(folder, stem, tensors, shards if name == "transformer" else 1)
    write_tokenizer(path / "tokenizer")
    (path / "scheduler").mkdir()
    (path / SCHEDULER_FILE).write_text(
        json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 2.0})
    )
    return path


def _save(folder: Path, stem: str, tensors: dict[str, Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / f"{stem}.safetensors")
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"{stem}-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def summary(tensor: Tensor) -> list[float]:
    """Mean, deviation, extremes and four values of a tensor: enough to notice any change of a formula."""
    flat = tensor.double().flatten()
    picks = [int(len(flat) * share) for share in (0.1, 0.37, 0.61, 0.93)]
    numbers = [flat.mean(), flat.std(), flat.min(), flat.max(), *(flat[pick] for pick in picks)]
    return [float(number) for number in numbers]
