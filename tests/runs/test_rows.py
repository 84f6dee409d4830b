from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_runs import Wall
from tiny import tiny_card, tiny_scene

from gen3r_bench import registry
from gen3r_bench.errors import BenchError, InputError, SceneError, UnknownNameError
from gen3r_bench.method import Contract
from gen3r_bench.protocols.conditioning import condition
from gen3r_bench.runs.record import RowEntry
from gen3r_bench.runs.rows import FolderRow, MethodRow, default_method_specs, floor_specs, make_row, scores

METHOD = """
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Prediction

class Mine(Method):
    contract = Contract(
        method_id="mine", title="Mine", summary="", settings=("1view",), returns=("rgb",), checkpoints=("small", "big")
    )

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    @classmethod
    def load(cls, checkpoint, *, device):
        if checkpoint == "broken":
            raise KeyError("weights")
        return cls(checkpoint)

    @property
    def checkpoint_sha256(self):
        return "sha-of-" + self.checkpoint

    def predict(self, conditioning):
        return Prediction(frame_indices=(0,), rgb=conditioning.rgb)
"""


@pytest.fixture
def method_file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(METHOD)
    return f"{tmp_path / 'mine.py'}:Mine"


def test_a_file_is_a_method(method_file: str) -> None:
    row = make_row(method_file, device="cpu")
    assert row.entry.label == "mine@small"
    assert row.entry.checkpoint_sha256 == "sha-of-small"
    digest = hashlib.sha256(METHOD.encode()).hexdigest()[:12]
    assert row.entry.source == f"mine.py sha256:{digest}"
    conditioning = condition(tiny_scene(), tiny_card(), 1)
    assert row.refusal(conditioning) is None
    assert row.produce(tiny_scene(), conditioning).parts() == ("rgb",)


def test_a_checkpoint_is_chosen_with_an_at(method_file: str) -> None:
    big = make_row(f"{method_file}@big", device="cpu")
    assert big.entry.label == "mine@big"
    assert make_row(f"{method_file}@some/place/tuned.safetensors", device="cpu").entry.label == "mine@tuned.safetensors"
    assert big.fingerprint("a") != make_row(method_file, device="cpu").fingerprint("a")


def test_a_method_that_fails_to_load_is_the_commands_error(method_file: str) -> None:
    with pytest.raises(BenchError, match="method mine cannot be loaded: KeyError: 'weights'"):
        make_row(f"{method_file}@broken", device="cpu")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("frezze", UnknownNameError, "did you mean 'freeze'"),
        ("oracl", UnknownNameError, "did you mean 'oracle'"),
        ("missing.py:Mine", InputError, "existing Python file"),
        ("missing.py", InputError, "file.py:ClassName"),
        ("oracle@big", InputError, "diagnostic row oracle"),
        ("freeze@big", InputError, "has no weights"),
    ],
)
def test_specs_that_name_nothing(spec: str, error: type[BenchError], message: str) -> None:
    with pytest.raises(error, match=message):
        make_row(spec, device="cpu")


def test_floor_rows_follow_the_setting() -> None:
    assert floor_specs(["1view"]) == ["oracle", "resample", "wobble", "freeze"]
    assert floor_specs(["2view"]) == ["oracle", "resample", "wobble", "crossfade", "freeze"]
    kinds = {spec: make_row(spec, device="cpu").entry.kind for spec in floor_specs(["2view"])}
    assert kinds["freeze"] == kinds["crossfade"] == "baseline"
    assert kinds["oracle"] == kinds["resample"] == kinds["wobble"] == "diagnostic"


def test_default_methods_ship_a_checkpoint_that_scores_under_the_protocol() -> None:
    cards = registry.protocols()
    for name, wanted in (("appearance-1view", True), ("appearance-2view", True), ("geom-1view", False)):
        assert ("lvsm@reference" in default_method_specs([cards.load(name)])) == wanted
    # it needs cameras, which this protocol gives to nobody
    assert "lvsm@reference" not in default_method_specs([cards.load("free-1view")])
    for name, wanted in (("geom-1view", True), ("geom-recon", True), ("pose-recon", True), ("appearance-1view", False)):
        assert ("vggt@reference" in default_method_specs([cards.load(name)])) == wanted
    generators = [f"{name}@reference" for name in ("gen3r", "gen3r-two-stage", "gen3r-without-kl", "wvd")]
    of_frames = [*generators, "vggt-rgb-head@reference", "wan-vae@reference"]
    assert sorted(default_method_specs([cards.load("rgb-recon")])) == sorted(of_frames)
    for name in ("geom-1view", "appearance-2view", "camera-1view", "free-1view", "pose-recon"):
        assert set(generators) <= set(default_method_specs([cards.load(name)]))
    for name in ("geom-recon", "pose-recon"):
        assert "gen3r-vae-only@reference" in default_method_specs([cards.load(name)])
    # it returns points and no cameras
    assert "wvd-vae-only@reference" in default_method_specs([cards.load("geom-recon")])
    assert "wvd-vae-only@reference" not in default_method_specs([cards.load("pose-recon")])
    both = default_method_specs([cards.load("geom-1view"), cards.load("appearance-1view")])
    assert {"lvsm@reference", "vggt@reference"} <= set(both)
    assert all(spec.endswith("@reference") for spec in both)


@pytest.mark.parametrize(
    ("returns", "protocols"),
    [
        (("depth", "cameras"), {"geom-1view", "camera-1view"}),
        (("points",), {"geom-1view"}),
        (("depth",), set()),
        (("rgb",), {"appearance-1view", "free-1view"}),
        (("cameras", "rgb"), {"appearance-1view", "camera-1view", "free-1view"}),
    ],
)
def test_what_a_contract_promises_decides_what_it_scores_under(returns: tuple, protocols: set[str]) -> None:
    contract = Contract(method_id="m", title="M", summary="", settings=("1view",), returns=returns)
    cards = registry.protocols()
    names = {"geom-1view", "geom-2view", "camera-1view", "appearance-1view", "free-1view", "geom-recon"}
    assert {name for name in names if scores(contract, cards.load(name))} == protocols


def test_folder_row(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a/depth.npy", np.ones((4, 24, 32), np.float32))
    row = FolderRow(tmp_path, "my-net@v2", only_scene=False)
    assert (row.entry.method_id, row.entry.checkpoint, row.entry.kind) == ("my-net", "v2", "method")
    assert row.produce(tiny_scene("a"), condition(tiny_scene("a"), tiny_card(), 1)).parts() == ("depth",)
    with pytest.raises(SceneError, match="no predictions for scene b"):
        row.fingerprint("b")
    before = row.fingerprint("a")
    np.save(tmp_path / "a/depth.npy", np.zeros((4, 24, 32), np.float32))
    assert row.fingerprint("a") != before


@pytest.mark.parametrize("name", ["", "@x", "a@", "a/b", "a b", "../x"])
def test_folder_row_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="row name"):
        FolderRow(tmp_path, name, only_scene=False)


def test_folder_row_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        FolderRow(tmp_path / "missing", "x", only_scene=False)


def test_a_methods_rounding_variants_are_rows_of_its_entry() -> None:
    class Twice(Wall):
        def rounding_variants(self) -> dict[str, Callable[[], Wall]]:
            return {"near": lambda: Wall(1.0), "far": lambda: Wall(9.0)}

    entry = RowEntry(label="twice", method_id="twice", title="Twice", kind="method")
    row = MethodRow(Twice(3.0), entry)
    made = {name: make() for name, make in row.rounding_variants().items()}
    assert {name: one._method.distance for name, one in made.items()} == {"near": 1.0, "far": 9.0}
    assert all(one.entry is entry for one in made.values())
    assert row.contract is Twice.contract
    assert make_row("freeze", device="cpu").rounding_variants() == {}
    assert make_row("oracle", device="cpu").rounding_variants() == {}
    assert make_row("oracle", device="cpu").contract is None


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (lambda: 1 / 0, "rounding_variants of twice fails: ZeroDivisionError: division by zero"),
        (lambda: None, "rounding_variants of twice returned NoneType; expected a mapping of names to functions"),
        (lambda: {1: Wall}, "returned dict; expected a mapping of names to functions"),
        (lambda: {"far": Wall(9.0)}, "returned dict; expected a mapping of names to functions"),
        (lambda: {"far": lambda: 1 / 0}, "rounding variant 'far' of twice cannot be made: ZeroDivisionError"),
        (lambda: {"far": lambda: None}, "rounding variant 'far' of twice is made as NoneType; expected a Method"),
    ],
)
def test_rounding_variants_that_fail_are_told(
    monkeypatch: pytest.MonkeyPatch, variants: Callable[[], object], message: str
) -> None:
    method = Wall(3.0)
    monkeypatch.setattr(method, "rounding_variants", variants, raising=False)
    row = MethodRow(method, RowEntry(label="twice", method_id="twice", title="Twice", kind="method"))
    with pytest.raises(BenchError, match=message):
        row.rounding_variants()["far"]()
