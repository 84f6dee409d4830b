"""Geometry adapter and Wan VAE beside the released code of Gen3R. Runs where GEN3R_UPSTREAM names a checkout of it.

Nothing of the released code is in this repository. ``python tests/models/test_adapter_parity.py`` prints the measured
differences and, with ``--write``, freezes the released code's numbers as ``goldens/adapter.json``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny_autoencoders import (
    ADAPTER_CONFIG,
    VAE_CONFIG,
    clip,
    key_digest,
    latent,
    relative_difference,
    shapes,
    summary,
    tiny_adapter,
    tiny_vae,
    token_map,
    with_formula_weights,
)
from torch import Tensor, nn

from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.wan.vae import WanVae, WanVaeConfig

VARIABLE = "GEN3R_UPSTREAM"
BOUND = 1e-4
"""Largest allowed relative difference in float32; in float64, where only mistakes are left, `BOUND_DOUBLE`."""
BOUND_DOUBLE = 1e-10
GOLDEN = Path(__file__).parent / "goldens" / "adapter.json"

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"no parity with the released code: set {VARIABLE} to a checkout of Gen3R"
    ),
    pytest.mark.filterwarnings("ignore"),  # of the released code
]


@contextlib.contextmanager
def released_modules() -> Iterator[tuple[Any, Any]]:
    """The released files of adapter and VAE; the packages around them import a whole pipeline and are passed over."""
    for name in ("einops", "diffusers"):
        pytest.importorskip(name, reason=f"no parity with the released code: it imports {name}, which is not installed")
    folder = Path(os.environ[VARIABLE])
    assert (folder / "gen3r" / "models" / "geometry_adapter").is_dir(), f"{VARIABLE}={folder} is no checkout of Gen3R"

    def ours(name: str) -> bool:
        return name == "gen3r" or name.startswith("gen3r.")

    before = {name: sys.modules.pop(name) for name in list(sys.modules) if ours(name)}
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # the checkout is not ours
    try:
        for name in ("gen3r", "gen3r.models", "gen3r.models.geometry_adapter", "gen3r.models.videoxfun_wan"):
            package = ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")))]
            sys.modules[name] = package
        parallel = ModuleType("gen3r.dist")  # several GPUs; does nothing on one
        parallel.parallel_magvit_vae = lambda *_: lambda function: function  # type: ignore[attr-defined]
        sys.modules["gen3r.dist"] = parallel
        yield (
            importlib.import_module("gen3r.models.geometry_adapter.geometry_adapter"),
            importlib.import_module("gen3r.models.videoxfun_wan.wan_vae"),
        )
    finally:
        sys.dont_write_bytecode = writes
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


@cache
def released() -> dict[str, Any]:
    """The released networks: tiny with weights by formula, and official without memory."""
    with released_modules() as (adapter, vae):

        def tiny_released_vae() -> nn.Module:
            whole = vae.AutoencoderKLWan()
            whole.model = vae.AutoencoderKLWan_(
                dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True]
            )
            return whole

        size = {"hidden_dim": 128, "input_dim": 10240, "output_dim": 10240, "resample_scale": 10}
        channels = ADAPTER_CONFIG.token_channels
        with torch.device("meta"):
            official = {"adapter": adapter.GeometryAdapter(**size), "vae": vae.AutoencoderKLWan()}
        return {
            "adapter": with_formula_weights(
                adapter.GeometryAdapter(
                    hidden_dim=ADAPTER_CONFIG.hidden_dim,
                    input_dim=channels,
                    output_dim=channels,
                    resample_scale=ADAPTER_CONFIG.resample_scale,
                )
            ),
            "vae": with_formula_weights(tiny_released_vae()),
            "official": official,
        }


def their_outputs(theirs: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What the released networks make of the formula's inputs, over three chunks."""
    theirs = theirs or released()
    tokens = theirs["adapter"].encode(token_map().to(dtype)).latent_dist
    frames = theirs["vae"].encode(clip().to(dtype)).latent_dist
    return {
        "adapter_mean": tokens.mean,
        "adapter_logvar": tokens.logvar,
        "adapter_tokens": theirs["adapter"].decode(latent(3, (70, 70)).to(dtype)).sample,
        "vae_mean": frames.mean,
        "vae_logvar": frames.logvar,
        "vae_clip": theirs["vae"].decode(0.3 * latent(3, (6, 8)).to(dtype)).sample,
    }


def our_outputs(dtype: torch.dtype) -> dict[str, Tensor]:
    """What ours make of the same."""
    adapter, vae = tiny_adapter().to(dtype), tiny_vae().to(dtype)
    tokens, frames = adapter.encode(token_map().to(dtype)), vae.encode(clip().to(dtype))
    return {
        "adapter_mean": tokens.mean,
        "adapter_logvar": tokens.logvar,
        "adapter_tokens": adapter.decode(latent(3, (70, 70)).to(dtype)),
        "vae_mean": frames.mean,
        "vae_logvar": frames.logvar,
        "vae_clip": vae.decode(0.3 * latent(3, (6, 8)).to(dtype)),
    }


def in_double(monkeypatch: pytest.MonkeyPatch) -> dict[str, nn.Module]:
    """The released networks in float64, without the two places where they fall back to float32."""
    theirs = {
        "adapter": copy.deepcopy(released()["adapter"]).double(),
        "vae": copy.deepcopy(released()["vae"]).double(),
    }
    for name, config in (("adapter", ADAPTER_CONFIG), ("vae", VAE_CONFIG)):
        module: Any = theirs[name]
        module.mean, module.std = torch.tensor([config.latent_mean, config.latent_std], dtype=torch.float64)
        if name == "vae":
            module.scale = [module.mean, 1 / module.std]
        for layer in module.modules():
            if isinstance(layer, nn.Upsample):
                monkeypatch.setattr(type(layer), "forward", nn.Upsample.forward)
    return theirs


def differences() -> dict[str, float]:
    theirs, ours = their_outputs(), our_outputs(torch.float32)
    return {name: relative_difference(ours[name], theirs[name]) for name in theirs}


def test_outputs_are_the_released_codes() -> None:
    assert {name: value for name, value in differences().items() if value > BOUND} == {}


def test_only_rounding_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = their_outputs(in_double(monkeypatch), torch.float64), our_outputs(torch.float64)
    found = {name: relative_difference(ours[name], theirs[name]) for name in theirs}
    assert {name: value for name, value in found.items() if value > BOUND_DOUBLE} == {}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("adapter", lambda: GeometryAdapter(GeometryAdapterConfig.official())),
        ("vae", lambda: WanVae(WanVaeConfig.official())),
    ],
)
def test_official_names_and_shapes_are_the_released_codes(name: str, ours: Any) -> None:
    with torch.device("meta"):
        module = ours()
    theirs = released()["official"][name]
    assert shapes(module) == shapes(theirs)
    assert key_digest(module) == key_digest(theirs)


def test_the_golden_is_what_the_released_code_says_here() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden.keys() == {"outputs", "official_keys"}
    assert golden["official_keys"] == {name: key_digest(m) for name, m in released()["official"].items()}
    for name, tensor in their_outputs().items():
        assert summary(tensor)["mean"] == pytest.approx(golden["outputs"][name]["mean"], rel=1e-4, abs=1e-5)


if __name__ == "__main__":
    for key, value in differences().items():
        print(f"{key:16s} {value:.2e}")
    if "--write" in sys.argv:
        content = {
            "official_keys": {name: key_digest(module) for name, module in released()["official"].items()},
            "outputs": {name: summary(tensor) for name, tensor in their_outputs().items()},
        }
        GOLDEN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
