from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import gen3r_bench
from safetensors.torch import save_file

from gen3r_bench.errors import InputError
from gen3r_bench.locations import shipped_weights
from gen3r_bench.models.checkpoint import weights_sha256
from gen3r_bench.training.sources import frozen_sha256, gen3r_folder, require_sources, source_path

WAN_FUN = "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-Control-Camera"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def placed(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith(".safetensors"):
            save_file({"x": torch.zeros(1)}, folder / name)
        else:
            (folder / name).write_text("{}")


def test_where_weights_lie(root: Path) -> None:
    assert source_path("vggt", "reference") == shipped_weights("vggt")
    assert source_path("geometry-adapter", "official") == root / "gen3r" / "geo_adapter"
    assert source_path("gen3r", "official") == root / "gen3r"
    assert source_path("wan-fun", "official").parent == root
    assert source_path("vggt", "some/where") == Path("some/where")


def test_what_is_not_here_is_named_with_the_commands_that_fetch_it(root: Path) -> None:
    needed = [("vggt", "official"), ("wan-vae", "reference"), ("geometry-adapter", "official"), ("wan-fun", "official")]
    with pytest.raises(InputError) as caught:
        require_sources(needed)
    gen3r, base = root / "gen3r", root / "wan2.1-fun-v1.1-1.3b-control-camera"
    assert caught.value.given == f"no whole weights in {gen3r}/vggt, {gen3r}/geo_adapter, {base}"
    assert caught.value.expected == f"those of JaceyH919/Gen3R and {WAN_FUN} on Hugging Face"
    assert str(caught.value.fix).split(" && ") == [
        f'hf download JaceyH919/Gen3R --include "vggt/*" --local-dir {gen3r}',
        f'hf download JaceyH919/Gen3R --include "geo_adapter/*" --local-dir {gen3r}',
        f"hf download {WAN_FUN} diffusion_pytorch_model.safetensors --local-dir {base}",
    ]
    placed(gen3r / "vggt", "config.json", "model.safetensors")
    placed(gen3r / "geo_adapter", "config.json", "diffusion_pytorch_model.safetensors")
    placed(base, "diffusion_pytorch_model.safetensors")
    require_sources(needed)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_half_a_download_is_not_there(root: Path, name: str) -> None:
    placed(root / "gen3r" / "vggt", name)
    with pytest.raises(InputError, match=r'no whole weights .*--include "vggt/\*"'):
        require_sources([("vggt", "official")])


def test_a_path_has_no_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no whole weights in .*x; expected a file or folder of weights$"):
        require_sources([("vggt", str(tmp_path / "x"))])


def test_hashes_are_of_what_is_here(tmp_path: Path) -> None:
    placed(tmp_path / "whole", "model.safetensors")
    placed(tmp_path / "half", "config.json")
    paths = {name: tmp_path / name for name in ("whole", "half", "nothing")}
    assert frozen_sha256(paths) == {"whole": weights_sha256(tmp_path / "whole")}


def test_a_folder_that_lacks_parts_is_told_with_the_command(root: Path) -> None:
    (root / "gen3r").mkdir(parents=True)
    message = rf"lacks .*vggt/.* \(fix: hf download JaceyH919/Gen3R --local-dir {root}/gen3r\)"
    with pytest.raises(InputError, match=message):
        gen3r_folder()


@pytest.mark.parametrize(
    ("method", "hubs"),
    [
        ("gen3r", ("JaceyH919/Gen3R", WAN_FUN)),
        ("wvd", ("JaceyH919/Gen3R", WAN_FUN)),
        ("gen3r-two-stage", ("JaceyH919/Gen3R", WAN_FUN)),
        ("geometry-adapter", ("JaceyH919/Gen3R",)),
        ("vggt-rgb-head", ("JaceyH919/Gen3R",)),
    ],
)
def test_official_recipes_say_what_to_fetch(root: Path, tmp_path: Path, method: str, hubs: tuple[str, ...]) -> None:
    done = gen3r_bench("train", method, "--config", "official", "--cpu", "-q", "-o", "t", cwd=tmp_path, code=2)
    assert done.stderr.startswith(f"gen3r-bench: error: no whole weights in {root}/gen3r")
    assert done.stderr.count("\n") == 1
    for hub in hubs:
        assert f"hf download {hub} " in done.stderr
