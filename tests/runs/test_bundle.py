from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from gen3r_bench.errors import BenchError, InputError, StoreError
from gen3r_bench.runs.bundle import read_bundle, write_bundle
from gen3r_bench.scene import Prediction

PARTS = ("rgb", "depth", "points_world", "world_from_cam", "intrinsics", "valid", "confidence")


def prediction(parts: tuple[str, ...] = PARTS, frames: tuple[int, ...] = (0, 2, 5)) -> Prediction:
    random = np.random.default_rng(1)
    n, size = len(frames), (6, 8)
    every = {
        "rgb": random.integers(0, 256, (n, *size, 3), dtype=np.uint8),
        "depth": random.random((n, *size), dtype=np.float32),
        "points_world": random.standard_normal((n, *size, 3), dtype=np.float32),
        "world_from_cam": np.repeat(np.eye(4)[None], n, axis=0),
        "intrinsics": np.repeat(np.diag([9.0, 9.0, 1.0])[None], n, axis=0),
        "valid": random.random((n, *size)) > 0.5,
        "confidence": random.random((n, *size), dtype=np.float32),
    }
    return Prediction(
        frame_indices=frames, adaptations=("repeated",), seconds=1.5, **{name: every[name] for name in parts}
    )


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(PARTS), min_size=1))
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, parts: set[str]) -> None:
    if not parts - {"valid", "confidence"}:
        return
    folder = tmp_path_factory.mktemp("bundles") / "scene"
    given_prediction = prediction(tuple(parts))
    write_bundle(folder, given_prediction)
    again = read_bundle(folder)
    assert again.frame_indices == (0, 2, 5)
    assert again.adaptations == ("repeated",)
    assert again.seconds == 1.5
    for name in PARTS:
        if name in parts:
            np.testing.assert_array_equal(getattr(again, name), getattr(given_prediction, name), strict=True)
        else:
            assert getattr(again, name) is None


def test_non_finite_depth_survives(tmp_path: Path) -> None:
    depth = np.full((1, 2, 2), np.nan, np.float32)
    write_bundle(tmp_path / "b", Prediction(frame_indices=(0,), depth=depth))
    assert np.isnan(read_bundle(tmp_path / "b").depth).all()


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", prediction())
    write_bundle(tmp_path / "b", prediction(("depth",), frames=(0,)))
    assert read_bundle(tmp_path / "b").parts() == ("depth",)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("name", ["geometry.safetensors", "rgb/00001.png"])
def test_a_changed_file_is_found(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "b", prediction())
    path = tmp_path / "b" / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=f"{name} does not match its checksum"):
        read_bundle(tmp_path / "b")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", prediction())
    (tmp_path / "b/rgb/00002.png").unlink()
    with pytest.raises(StoreError, match=r"cannot read .*00002.png"):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 9}, "schema version 9"),
        ({"files": {"../secret.png": "0"}}, "outside of the bundle"),
        ({"files": {"/etc/passwd": "0"}}, "outside of the bundle"),
        ({"files": 3}, "is damaged"),
        ({"frame_indices": ["a"]}, "is damaged"),
        ({"frame_indices": [2, 1, 0]}, "strictly increasing"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, change: dict, message: str) -> None:
    write_bundle(tmp_path / "b", prediction())
    path = tmp_path / "b/bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match=message):
        read_bundle(tmp_path / "b")


def test_a_manifest_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        read_bundle(tmp_path)


def test_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    import hashlib

    write_bundle(tmp_path / "b", prediction(("depth",)))
    path = tmp_path / "b/geometry.safetensors"
    save_file({"colour": np.zeros(3)}, path)
    manifest = tmp_path / "b/bundle.json"
    content = json.loads(manifest.read_text())
    content["files"]["geometry.safetensors"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))
    with pytest.raises(InputError, match="holds 'colour'"):
        read_bundle(tmp_path / "b")


def test_a_full_disk_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "b", prediction(("depth",)))

    def no_space(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(StoreError, match="No space left on device"):
        write_bundle(tmp_path / "b", prediction())
    monkeypatch.undo()
    assert read_bundle(tmp_path / "b").parts() == ("depth",)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_frames_are_lossless_pngs_in_order(tmp_path: Path) -> None:
    given_prediction = prediction(("rgb",))
    write_bundle(tmp_path / "b", given_prediction)
    paths = sorted((tmp_path / "b/rgb").iterdir())
    assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), given_prediction.rgb[1])
