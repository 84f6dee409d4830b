from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import tiny_scene
from tiny_files import FEW, FRAMES, SIDE, STYLE, WORDS, rewrite, tiny_facts, tiny_networks, write_file, write_frozen

from gen3r_bench.errors import InputError
from gen3r_bench.models.gen3r.file import Gen3rFile
from gen3r_bench.models.gen3r.pipeline import Gen3rPipeline
from gen3r_bench.models.joint.file import FileFacts, JointFile, file_metadata, read_file
from gen3r_bench.models.joint.pipeline import ClipInputs, JointPipeline
from gen3r_bench.models.video.file import VideoFile
from gen3r_bench.models.video.pipeline import VideoPipeline
from gen3r_bench.models.wvd.file import WvdFile
from gen3r_bench.models.wvd.pipeline import WvdPipeline

CLASSES: dict[str, tuple[type[JointFile[Any]], type[JointPipeline[Any]]]] = {
    "Gen3r": (Gen3rFile, Gen3rPipeline),
    "Wvd": (WvdFile, WvdPipeline),
    "Video": (VideoFile, VideoPipeline),
}


def as_said(name: str, checkpoint: str) -> Path:
    return Path(checkpoint)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_frozen(tmp_path_factory.mktemp("frozen"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, frozen: dict[str, Path]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {name: write_file(folder / f"{name}.safetensors", name, frozen) for name in CLASSES}


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_written_is_read_back(name: str, files: dict[str, Path], frozen: dict[str, Path]) -> None:
    content = read_file(files[name])
    networks = tiny_networks(name)
    assert content.facts == tiny_facts(name, frozen)
    assert (content.side, content.frames) == (SIDE, FRAMES)
    assert content.transformer == networks.transformer.config
    assert content.text == networks.text_encoder.config
    assert content.image == networks.clip_image_encoder.config
    opened = CLASSES[name][0](files[name], as_said)
    assert opened.config.style == STYLE
    assert opened.tokenizer()("a wall", 9) == [3, 5, 2]
    assert opened.scheduler().config.shift == 2.0
    for part, own in (("transformer", networks.transformer), ("text", networks.text_encoder)):
        loaded = opened.load(part, dtype=torch.float32)
        assert not loaded.training
        for key, tensor in own.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor.half().float())
    used = set(opened.content.facts.parts)
    assert opened.files == (files[name], *(path for part, path in frozen.items() if part in used))


def test_of_vggt_the_heads_alone_are_kept(files: dict[str, Path]) -> None:
    heads = Gen3rFile(files["Gen3r"], as_said).load("vggt")
    assert {key.partition(".")[0] for key in heads.state_dict()} == {"camera_head", "depth_head", "point_head"}


@pytest.mark.parametrize("name", CLASSES)
def test_a_clip_from_a_file(name: str, files: dict[str, Path]) -> None:
    kind, pipeline = CLASSES[name]
    loaded: Any = pipeline.from_checkpoint(kind(files[name], as_said))
    scene = tiny_scene(frames=FRAMES, size=(SIDE, SIDE))
    inputs = ClipInputs(scene.rgb[:1], (0,), FRAMES, scene.cameras, "a room", 3)
    clip = loaded(inputs, FEW)
    frames = clip if name == "Video" else clip.rgb
    assert (frames.shape, frames.dtype) == ((FRAMES, SIDE, SIDE, 3), np.uint8)
    again, other = (loaded(dataclasses.replace(inputs, seed=seed), FEW) for seed in (3, 4))
    if name == "Video":
        assert np.array_equal(again, frames)
        assert not np.array_equal(other, frames)
    else:
        assert np.array_equal(again.rgb, frames)
        assert not np.array_equal(other.rgb, frames)


def edited(path: Path, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy whose ``config`` was changed by hand."""
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    change(config)
    return rewrite(path, out, config=json.dumps(config))


def put(*steps: str) -> Callable[[object], Callable[[dict[str, Any]], object]]:
    """Changes the value at a place of the config."""

    def to(value: object) -> Callable[[dict[str, Any]], object]:
        def change(config: dict[str, Any]) -> None:
            at = config
            for step in steps[:-1]:
                at = at[step]
            at[steps[-1]] = value

        return change

    return to


EDITS = {
    "another class": (put("_class_name")("Wvd"), r"is that of a Wvd; expected that of a Gen3r, for Gen3R"),
    "a class of no kind": (put("_class_name")(3), "is that of a 3"),
    "no class": (lambda c: c.pop("_class_name"), "is that of a None"),
    "an unknown key": (put("colour")("red"), "colour is 'red' .Extra inputs are not permitted"),
    "no words": (lambda c: c.pop("words"), "lacks words; expected what gen3r-bench train writes"),
    "words of no kind": (put("words")([1, 2]), "words.0 is 1 .*string"),
    "words as one": (put("words")("a room"), "words is 'a room' .*array"),
    "capitals": (put("words")(["Room"]), "'Room' in the vocabulary"),
    "too many words": (put("words")(["a", "b", "c", "d"]), "6 tokens for 4 words; expected at least 7"),
    "a shift of nothing": (put("scheduler", "shift")(0), "scheduler.shift is 0 .*greater than 0"),
    "a shift in words": (put("scheduler", "shift")("3"), "scheduler.shift is '3' .*number"),
    "an endless shift": (put("scheduler", "shift")(float("inf")), "scheduler.shift is inf"),
    "another scheduler": (put("scheduler", "_class_name")("DDIM"), "a DDIM; expected FlowMatchEuler"),
    "a scheduler's option": (put("scheduler", "use_dynamic_shifting")(True), "use_dynamic_shifting is True"),
    "a scheduler of no kind": (put("scheduler")([]), r"scheduler is \[\]"),
    "another fill": (put("style", "fill")("grey"), "style.fill is 'grey' .*black.*nearest"),
    "a gain of nothing": (put("style", "moment_gain")(-1), "gains -1"),
    "a style's option": (put("style", "colour")("red"), "style.colour is 'red'"),
    "no steps": (put("sampling", "steps")(0), "0 steps; expected at least 1"),
    "half a step": (put("sampling", "steps")(2.5), "sampling.steps is 2.5"),
    "guidance in words": (put("sampling", "guidance")(None), "sampling.guidance is None"),
    "options that it has not": (put("options")({"axis": "width"}), "has the options axis; expected none, for Gen3R"),
    "options of no kind": (put("options")(["axis"]), "options is"),
    "a part less": (lambda c: c["parts"].pop("vggt"), "trained beside geometry-adapter, wan-vae; expected beside"),
    "a part more": (lambda c: c["parts"].update(x=c["parts"]["vggt"]), "beside geometry-adapter, vggt, wan-vae, x"),
    "no hash": (put("parts", "vggt", "sha256")("abc"), "parts.vggt.sha256 is 'abc'"),
    "another hash": (put("parts", "vggt", "sha256")("0" * 64), r"has the SHA-256 [0-9a-f]{64}; .* the vggt of 0000"),
    "a part elsewhere": (put("parts", "wan-vae", "checkpoint")("nowhere"), "nowhere does not exist"),
    "a size in words": (put("transformer", "dim")("48"), "transformer config: dim is '48'; expected a whole number"),
    "a size of nothing": (put("text_encoder", "dim")(0), "text encoder config: dim is 0"),
    "a size of two": (put("clip_image_encoder", "dim")([32]), r"image encoder config: dim is \[32\]"),
    "a fraction": (put("transformer", "num_layers")(True), "num_layers is True"),
    "a flat patch": (put("transformer", "patch_size")([2, 2]), r"patch_size is \(2, 2\); expected 3 whole numbers"),
    "no size": (lambda c: c["transformer"].pop("dim"), "transformer config lacks dim"),
    "a size of no kind": (put("transformer")("large"), "transformer is 'large'"),
    "another size": (put("transformer", "num_layers")(3), "weights do not fit .*missing: transformer.blocks.2"),
    "sizes that contradict": (put("transformer", "text_dim")(20), "text_dim of transformer 20, dim of text_encoder 24"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_changed_by_hand_is_named(edit: str, files: dict[str, Path], tmp_path: Path) -> None:
    change, message = EDITS[edit]
    with pytest.raises(InputError, match=message):
        Gen3rFile(edited(files["Gen3r"], tmp_path / "edited.safetensors", change), as_said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"has the options \(none\); expected axis and normalisation, for WVD"),
        ({"axis": "width"}, "has the options axis;"),
        ({"axis": "deep", "normalisation": "box"}, "axis 'deep'; expected width or channel"),
        ({"axis": "channel", "normalisation": "none"}, "normalisation 'none'"),
        ({"axis": "width", "normalisation": "box"}, "networks that do not fit together"),
        ({"axis": 1, "normalisation": "box"}, "options.axis is 1"),
    ],
)
def test_wvds_options(options: object, message: str, files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        WvdFile(edited(files["Wvd"], tmp_path / "wvd.safetensors", put("options")(options)), as_said)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"side": "-1"}, "side is '-1'; expected a whole number above 0"),
        ({"side": "²"}, "side is '²'"),
        ({"frames": ""}, "frames is ''"),
        ({"frames": "6"}, "a clip of 6 frames; expected 1 \\+ 4 k frames"),
        ({"side": "40"}, "frames of 40 x 40; expected multiples of 16 pixels"),
        ({"config": "{"}, "is not JSON"),
        ({"config": "[]"}, "holds a list; expected a JSON object"),
        ({"config": "{}"}, "lacks transformer;"),
    ],
)
def test_the_rest_of_the_metadata(
    metadata: dict[str, str], message: str, files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        Gen3rFile(rewrite(files["Gen3r"], tmp_path / "said.safetensors", **metadata), as_said)


def test_files_that_are_none(files: dict[str, Path], tmp_path: Path, frozen: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"nowhere\.safetensors does not exist"):
        Gen3rFile(tmp_path / "nowhere.safetensors", as_said)
    silent = tmp_path / "silent.safetensors"
    save_file({"x": torch.zeros(1)}, silent)
    with pytest.raises(InputError, match=r"says no sizes; expected a safetensors file whose metadata holds a config"):
        Gen3rFile(silent, as_said)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files["Gen3r"].read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        Gen3rFile(cut, as_said)
    with pytest.raises(InputError, match="lacks transformer"):
        Gen3rFile(frozen["wan-vae"], as_said)
    more = rewrite(files["Gen3r"], tmp_path / "more.safetensors", tensors={"other.weight": torch.zeros(1)})
    with pytest.raises(InputError, match=r"1 unexpected: other\.weight"):
        Gen3rFile(more, as_said)


def test_frozen_networks_of_another_kind(files: dict[str, Path], frozen: dict[str, Path], tmp_path: Path) -> None:
    """Two faults are one error; a part of other sizes is found before anything runs."""
    wrong = {"wan-vae": frozen["vggt"], "vggt": frozen["wan-vae"], "geometry-adapter": frozen["geometry-adapter"]}
    with pytest.raises(InputError, match=r"2 parts of .*SHA-256.*the wan-vae of.*SHA-256.*the vggt of"):
        Gen3rFile(files["Gen3r"], lambda name, checkpoint: wrong[name])
    broken = tmp_path / "broken"
    shutil.copytree(frozen["vggt"].parent, broken)
    parts = {name: broken / path.name for name, path in frozen.items()}
    with safe_open(parts["vggt"], framework="pt") as file:
        sizes = json.loads(file.metadata()["config"])
    rewrite(parts["vggt"], parts["vggt"], config=json.dumps({**sizes, "camera_depth": 3}))
    with pytest.raises(InputError, match=r"VGGT in .*missing: camera_head\.trunk\.2"):
        Gen3rFile(write_file(tmp_path / "file.safetensors", "Gen3r", parts), as_said)


@pytest.mark.parametrize("facts", [{"words": (*WORDS, "b")}, {"scheduler": {"shift": 1.0}}, {"options": {"a": 1}}])
def test_what_could_not_be_read_is_not_written(facts: dict[str, Any], frozen: dict[str, Path]) -> None:
    given: FileFacts = tiny_facts("Gen3r", frozen)
    with pytest.raises(InputError, match="the facts of a file"):
        file_metadata(tiny_networks("Gen3r"), dataclasses.replace(given, **facts), side=SIDE, frames=FRAMES)
    with pytest.raises(InputError, match="side is '0'"):
        file_metadata(tiny_networks("Gen3r"), given, side=0, frames=FRAMES)
