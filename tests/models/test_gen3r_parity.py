"""Beside the authors' released code: same tiny sizes, same weights. Set GEN3R_UPSTREAM to a checkout of it to run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny_gen3r import fill, formula_tensors, relative_difference, wave
from torch import Tensor

from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder
from gen3r_bench.models.wan.transformer import DitConfig, JointDit

BOUND = 1e-4
"""Largest allowed relative difference in float32; what is measured lies far below."""

VARIABLE = "GEN3R_UPSTREAM"
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no parity with the released code: set {VARIABLE} to a checkout of it"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the released code
]


class _Stub(ModuleType):
    """A library that the released code imports and that these tests never reach."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


def _torchvision() -> dict[str, ModuleType]:
    """The three functions of torchvision that the released models call; its wheels replace a CPU build of torch."""
    root, transforms, functional = (
        _Stub(f"torchvision{tail}") for tail in ("", ".transforms", ".transforms.functional")
    )

    class Compose:
        def __init__(self, steps: list[Any]) -> None:
            self.transforms = steps

    class Normalize:
        def __init__(self, mean: list[float], std: list[float]) -> None:
            self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

        def __call__(self, x: Tensor) -> Tensor:
            return (x - self.mean) / self.std

    def to_tensor(image: Any) -> Tensor:
        import numpy as np

        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)

    transforms.Compose, transforms.Normalize = Compose, Normalize  # type: ignore[attr-defined]
    transforms.InterpolationMode = types.SimpleNamespace(BICUBIC=3)  # type: ignore[attr-defined]
    functional.to_tensor = to_tensor  # type: ignore[attr-defined]
    root.transforms, transforms.functional = transforms, functional  # type: ignore[attr-defined]
    return {module.__name__: module for module in (root, transforms, functional)}


@contextlib.contextmanager
def _released_code() -> Iterator[None]:
    folder = Path(os.environ[VARIABLE])
    assert (folder / "gen3r" / "pipeline").is_dir(), f"{VARIABLE}={folder} is no checkout of JaceyHuang/Gen3R"
    stubs = _torchvision()
    for name in ("cv2", "open3d", "matplotlib", "matplotlib.pyplot", "imageio", "decord"):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            stubs[name] = _Stub(name)
    before = {name: sys.modules.get(name) for name in stubs}
    import diffusers
    import transformers  # both look for torchvision when they are imported

    _ = diffusers.FlowMatchEulerDiscreteScheduler, diffusers.DiffusionPipeline, transformers.AutoTokenizer
    for name, module in stubs.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@pytest.fixture(scope="module")
def upstream() -> Iterator[Any]:
    """Modules of the released code by their dotted name below ``gen3r``."""
    with warnings.catch_warnings(), _released_code():
        warnings.simplefilter("ignore")
        yield lambda name: importlib.import_module(f"gen3r.{name}")


def report(name: str, difference: float) -> None:
    print(f"parity {name}: {difference:.2e}")
    assert difference <= BOUND


def their_transformer(upstream: Any, config: DitConfig) -> Any:
    module = upstream("models.videoxfun_wan.wan_transformer3d")
    content = {key: value for key, value in config.to_json().items() if key not in {"image_dim", "halves"}}
    model = module.WanTransformer3DModel.from_config(content)
    if config.image_dim != 1280:
        model.img_emb = module.MLPProj(config.image_dim, config.dim)  # the released class fixes 1280
    return model.eval()


def test_dit_official_names_and_shapes(upstream: Any) -> None:
    with torch.device("meta"):
        ours = JointDit(DitConfig.official()).state_dict()
        theirs = their_transformer(upstream, DitConfig.official()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}


@pytest.mark.parametrize("layers", [2, 5])
def test_dit_forward(upstream: Any, layers: int) -> None:
    import dataclasses

    config = dataclasses.replace(DitConfig.tiny(), num_layers=layers)
    ours, theirs = fill(JointDit(config)), their_transformer(upstream, config)
    theirs.load_state_dict(ours.state_dict())
    frames, height, width = 4, 6, 12
    latents = wave((2, 16, frames, height, width), 1)
    condition = torch.cat([wave((2, 16, frames, height, width), 2), torch.zeros(2, 4, frames, height, width)], dim=1)
    condition[:, 16:, 0, :, : width // 2] = 1
    rays = wave((2, 24, frames, 8 * height, 8 * width), 3)
    text = [wave((5, config.text_dim), 4), wave((9, config.text_dim), 5)]
    image = wave((2, 257, config.image_dim), 6)  # the released code cuts the context at 257
    timestep = torch.tensor([999.0, 431.25])
    with torch.no_grad():
        expected = theirs(
            latents, timestep, text, frames * height * width // 4, clip_fea=image, y=condition, y_camera=rays
        )
        padded = torch.stack([torch.nn.functional.pad(t, (0, 0, 0, config.text_len - len(t))) for t in text])
        given = ours(latents, timestep, condition=condition, text=padded, image=image, rays=rays)
        report(f"DiT forward, {layers} blocks", relative_difference(given, expected))
        expected = theirs(
            latents,
            timestep,
            text,
            frames * height * width // 4,
            clip_fea=image,
            y=condition,
            y_camera=torch.zeros_like(rays),
        )
        given = ours(latents, timestep, condition=condition, text=padded, image=image)
        report("DiT forward without cameras", relative_difference(given, expected))


def test_text_encoder(upstream: Any) -> None:
    config = TextConfig.tiny()
    module = upstream("models.videoxfun_wan.wan_text_encoder")
    ours = fill(TextEncoder(config))
    theirs = module.WanT5EncoderModel.from_config(config.to_json()).eval()
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([[5, 9, 33, 2, 60, 17, 1]])
    padded = torch.nn.functional.pad(ids, (0, 512 - 7))
    with torch.no_grad():
        expected = theirs(padded, attention_mask=(torch.arange(512) < 7)[None].long())[0][:, :7]
        report("umT5", relative_difference(ours(ids), expected))


def test_image_encoder(upstream: Any) -> None:
    config = ImageConfig.tiny()
    module = upstream("models.videoxfun_wan.wan_image_encoder")
    model, transforms = module._clip(
        pretrained_name="x", return_transforms=True, image_size=28, vision_dim=32, vision_heads=2, vision_layers=3,
        vocab_size=11, text_dim=8, text_heads=2, text_layers=1, embed_dim=8, activation="gelu",
    )  # fmt: skip
    theirs = module.CLIPModel.__new__(module.CLIPModel)
    torch.nn.Module.__init__(theirs)
    theirs.model, theirs.transforms = model.eval(), transforms
    tensors = formula_tensors({name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()})
    theirs.load_state_dict(tensors)
    from gen3r_bench.models.checkpoint import load_exactly

    ours = ImageEncoder(config)
    ignore = tuple(f"model.{pattern}" for pattern in config.unused_keys())
    load_exactly(ours, tensors, what="clip", strip_prefix="model.", ignore=ignore)
    image = (wave((1, 3, 56, 56), 3) + 1) / 2
    with torch.no_grad():
        expected = theirs([(image[0] * 2 - 1)[:, None]])
        report("CLIP", relative_difference(ours(image), expected))
