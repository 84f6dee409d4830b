from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_aether
import typer
from tiny_gen3r import write_folder
from typer.testing import CliRunner

from gen3r_bench import weights as catalogue
from gen3r_bench.baselines.aether import COGVIDEOX_FOLDERS, FOLDERS, download_command
from gen3r_bench.baselines.lvsm import FILES as LVSM_FILES
from gen3r_bench.cli.plan import plan
from gen3r_bench.cli.weights import app as weights_app
from gen3r_bench.errors import InputError, UnknownNameError
from gen3r_bench.metrics.perceptual import NETS
from gen3r_bench.metrics.vbench.files import FILES as VBENCH_FILES
from gen3r_bench.weights.check import check_files

app = typer.Typer()
app.add_typer(weights_app, name="weights")
app.command()(plan)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def listed(*arguments: str, code: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(invoke("weights", *arguments, "--json", code=code))
    return content


def test_nothing_is_here_and_how_to_change_that(root: Path) -> None:
    content = listed()
    assert {row["state"] for row in content["weights"]} == {"missing"}
    assert content["download"] == [
        f"hf download JaceyH919/Gen3R --local-dir {root / 'gen3r'}",
        f"hf download facebook/VGGT-1B model.safetensors --local-dir {root / 'vggt'}",
        *(f"hf download coast01/LVSM {file} --local-dir {root / 'lvsm'}" for file in LVSM_FILES.values()),
        *download_command(root / "aether", FOLDERS).split(" && "),
        "gen3r-bench weights fetch "
        + " ".join([*(f"lpips-{net}" for net in NETS), *(file.name for file in VBENCH_FILES)]),
    ]
    text = invoke("weights")
    for row in content["weights"]:
        assert f"{row['name']} " in text
        assert row["licence"]
    for command in content["download"]:
        assert command in text.replace("\n", "")


def test_one_method(root: Path) -> None:
    content = listed("list", "gen3r-vae-only")
    assert [Path(row["place"]).name for row in content["weights"]] == ["geo_adapter", "vggt"]
    assert content["download"] == [
        f'hf download JaceyH919/Gen3R --include "{part}/*" --local-dir {root / "gen3r"}'
        for part in ("geo_adapter", "vggt")
    ]
    with pytest.raises(UnknownNameError, match="did you mean"):
        invoke("weights", "list", "gen3")


def test_a_method_without_published_weights(root: Path) -> None:
    assert [Path(row["place"]).name for row in listed("list", "wvd-vae-only")["weights"]] == ["vggt", "wan_vae"]
    for command in ("list", "fetch"):
        with pytest.raises(InputError, match=r"no weights of WVD were ever published.*wvd@reference ships"):
            invoke("weights", command, "wvd")


def test_what_is_here_is_not_downloaded_again(root: Path) -> None:
    write_folder(root / "gen3r")
    (root / "gen3r" / "wan_vae" / "config.json").unlink()
    content = listed()
    states = {row["place"].removeprefix(f"{root}/"): row["state"] for row in content["weights"]}
    assert states.pop("gen3r/wan_vae") == "partial"
    assert {state for place, state in states.items() if place.startswith("gen3r/")} == {"present"}
    assert {state for place, state in states.items() if not place.startswith("gen3r/")} == {"missing"}
    assert sum("JaceyH919/Gen3R" in command for command in content["download"]) == 1
    assert "wan_vae/*" in content["download"][0]
    assert invoke("weights").count("present") == list(states.values()).count("present")


def test_a_check_reads_every_file(root: Path) -> None:
    write_folder(root / "gen3r")
    content = listed("check", "gen3r")
    files = {file["file"]: file for row in content["weights"] for file in row["files"]}
    vae = root / "gen3r" / "wan_vae" / "diffusion_pytorch_model.safetensors"
    assert files[str(vae)]["sha256"] == hashlib.sha256(vae.read_bytes()).hexdigest()
    assert not any(file["fault"] for file in files.values())
    assert not any(file["verified"] for file in files.values())  # nobody has published hashes
    assert "no published hash is known" in invoke("weights", "check", "gen3r").replace("\n", " ")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda content: content[:-5], "where its header says"),
        (lambda content: content[:4], "no whole safetensors header"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (lambda content: content[:8] + b"x" * (len(content) - 8), "no safetensors header"),
    ],
)
def test_a_check_finds_broken_downloads(root: Path, damage: Any, fault: str) -> None:
    write_folder(root / "gen3r")
    file = root / "gen3r" / "geo_adapter" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    content = listed("check", "gen3r", code=1)
    faults = [found["fault"] for row in content["weights"] for found in row["files"] if found["fault"]]
    assert len(faults) == 1
    assert fault in faults[0]


def test_known_hashes_and_sizes_are_compared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "m" / "model.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    common: dict[str, Any] = {"methods": ("m",), "place": "m/model.bin", "hub_id": "a/b", "hub_path": "model.bin"}
    entries = [
        catalogue.WeightEntry(**common, licence="MIT", sha256=digest, size_bytes=3),
        catalogue.WeightEntry(**common, licence="MIT", sha256="0" * 64),
        catalogue.WeightEntry(**common, licence="MIT", size_bytes=4),
    ]
    good, hashed, sized = (check_files(entry)[0] for entry in entries)
    assert (good.fault, good.verified) == (None, True)
    assert hashed.fault is not None
    assert "another sha256" in hashed.fault
    assert sized.fault == "3 bytes instead of 4"
    monkeypatch.setattr(catalogue, "CATALOGUE", (entries[0],))
    assert "as published" in invoke("weights", "check").replace("\n", " ")


def test_the_catalogue_names_what_the_loader_reads() -> None:
    from gen3r_bench.baselines.gen3r import FOLDERS
    from gen3r_bench.models.gen3r.folder import PARTS

    parts = {entry.place for entry in catalogue.entries("gen3r")}
    assert parts == {f"gen3r/{name}/" for name in FOLDERS}
    assert {part.subfolder for part in PARTS.values()} == set(FOLDERS) - {"tokenizer", "scheduler"}


def test_the_catalogue_names_what_aether_reads() -> None:
    parts = {entry.place: entry for entry in catalogue.entries("aether")}
    assert set(parts) == {f"aether/{name}/" for name in FOLDERS}
    cogvideox = {place for place, entry in parts.items() if "CogVideoX" in entry.hub_id}
    assert cogvideox == {f"aether/{name}/" for name in COGVIDEOX_FOLDERS}
    assert 'hf download AetherWorldModel/AetherV1 --include "transformer/*"' in parts["aether/transformer/"].command()


def test_the_plan_of_the_official_weights() -> None:
    content = json.loads(invoke("plan", "gen3r", "--frames", "5", "--size", "112", "--json"))
    assert content["totals"]["parameters"] == sum(
        {row["part"]: row["parameters"] for row in content["stages"]}.values()
    )
    assert round(content["totals"]["parameters"] / 1e9, 2) == 8.63
    # umT5 alone is 11.4 GB in bfloat16, whatever the clip
    assert content["totals"]["peak_bytes_offload_all"] > 11.3e9


def test_the_plan_of_aether_says_what_one_window_needs(tmp_path: Path) -> None:
    folder = tiny_aether.write_folder(tmp_path / "tiny")
    content = json.loads(invoke("plan", f"aether@{folder}+letterbox", "--json"))
    assert [row["part"] for row in content["stages"]] == ["vae", "text_encoder", "transformer", "vae"]
    square = json.loads(invoke("plan", f"aether@{folder}", "--json"))
    # a letterboxed frame is half as large again
    assert content["stages"][2]["work_bytes"] > 1.3 * square["stages"][2]["work_bytes"]


def test_the_plan_of_a_folder_in_words(tmp_path: Path) -> None:
    text = invoke("plan", f"gen3r@{write_folder(tmp_path / 'tiny')}", "--frames", "5", "--size", "112", "--float32")
    for word in ("denoising", "geo_adapter", "stored as kept in memory", "GEN3R_BENCH_OFFLOAD=all"):
        assert word in text
    with pytest.raises(InputError, match="expected a method with a plan: aether, gen3r"):
        invoke("plan", "freeze")


def test_the_plan_of_vggt() -> None:
    content = json.loads(invoke("plan", "vggt@reference", "--frames", "13", "--json"))
    assert [row["part"] for row in content["stages"]] == ["vggt", "vggt"]
    assert "13 frames of 64 x 64" in content["stages"][0]["stage"]
    assert content["totals"]["parameters"] == content["stages"][0]["parameters"]
    shorter = json.loads(invoke("plan", "vggt@reference", "--frames", "1", "--json"))
    assert shorter["stages"][0]["work_bytes"] < content["stages"][0]["work_bytes"]
    with pytest.raises(InputError, match="nowhere does not exist"):
        invoke("plan", "vggt@nowhere")
