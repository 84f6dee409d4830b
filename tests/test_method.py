from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen3r_bench.errors import BenchError, InputError
from gen3r_bench.method import Contract, Method, load_method_file
from gen3r_bench.scene import Cameras, Conditioning, Prediction

GOOD = """
from gen3r_bench.method import Contract, Method
from gen3r_bench.scene import Prediction

class Mine(Method):
    contract = Contract(method_id="mine", title="Mine", summary="A test.", settings=("1view",), returns=("rgb",))

    def predict(self, conditioning):
        return Prediction((0,), rgb=conditioning.rgb)

class Bare(Method):
    def predict(self, conditioning):
        return None

class Unfinished(Method):
    contract = Mine.contract

class WrongSetting(Mine):
    contract = Contract(method_id="w", title="W", summary="A test.", settings=("3view",), returns=("rgb",))

NUMBER = 3
"""


def conditioning_of(setting: str = "1view", *, cameras: bool = False, prompt: str = "") -> Conditioning:
    shown = {"1view": (0,), "2view": (0, 2), "allview": (0, 1, 2)}[setting]
    poses, intrinsics = np.tile(np.eye(4), (3, 1, 1)), np.tile(np.eye(3), (3, 1, 1))
    return Conditioning(
        setting=setting,  # type: ignore[arg-type]
        frame_indices=shown,
        rgb=np.zeros((len(shown), 4, 5, 3), np.uint8),
        cameras=Cameras(poses, intrinsics, (4, 5)) if cameras else None,
        num_frames=3,
        image_size=(4, 5),
        prompt=prompt,
        seed=0,
    )


def contract_of(**fields: Any) -> Contract:
    good: dict[str, Any] = {"method_id": "m", "title": "M", "summary": "s", "settings": ("1view", "2view")}
    return Contract(**(good | {"returns": ("rgb",)} | fields))


def test_loads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    method = load_method_file(f"{path}:Mine")
    assert issubclass(method, Method)
    loaded = method.load(None, device="cpu")
    assert loaded.checkpoint_sha256 is None
    assert isinstance(loaded.predict(conditioning_of()), Prediction)
    with pytest.raises(InputError, match="checkpoint 'reference' for mine; expected none"):
        method.load("reference", device="cpu")


def test_a_change_of_equal_size_within_a_second_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "mine.py"
    for name in ("mine", "ours"):
        path.write_text(GOOD.replace('method_id="mine"', f'method_id="{name}"'))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert load_method_file(f"{path}:Mine").contract.method_id == name
    assert list(tmp_path.iterdir()) == [path]


def test_loads_a_dataclass_with_postponed_annotations(tmp_path: Path) -> None:
    """Dataclasses look their module up in sys.modules, so the file must be there while it runs."""
    path = tmp_path / "with_dataclass.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\n"
        + GOOD
        + "\n@dataclass\nclass Options:\n    size: int = 3\n    names: list[str] = field(default_factory=list)\n"
    )
    assert load_method_file(f"{path}:Mine").contract.method_id == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Missing", "'Missing' in .*mine.py is not a Method"),
        ("NUMBER", "is not a Method"),
        ("Prediction", "is not a Method"),
        ("Bare", "has no contract"),
        ("Unfinished", "does not define predict"),
        ("WrongSetting", "setting '3view' in its contract; expected 1view or 2view or allview"),
    ],
)
def test_refuses_a_class(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    with pytest.raises(InputError, match=words):
        load_method_file(f"{path}:{name}")


@pytest.mark.parametrize("spec", ["", ":", "mine.py", "mine.py:", ":Mine"])
def test_refuses_a_spec(spec: str) -> None:
    with pytest.raises(InputError, match=r"expected path/to/file\.py:ClassName"):
        load_method_file(spec)


def test_refuses_a_missing_file_a_folder_and_another_suffix(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.py", tmp_path):
        with pytest.raises(InputError, match="existing Python file"):
            load_method_file(f"{path}:Mine")
    (tmp_path / "mine.txt").write_text(GOOD)
    with pytest.raises(InputError, match=r"expected a \.py file"):
        load_method_file(f"{tmp_path / 'mine.txt'}:Mine")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module_of_mine", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("open('/no/such/file')", "FileNotFoundError"),
        ("{}['key']", "KeyError"),
        ("raise RuntimeError('CUDA is not there')", "RuntimeError: CUDA is not there"),
    ],
)
def test_any_error_of_the_file_is_one_line(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(BenchError, match=words) as caught:
        load_method_file(f"{path}:Mine")
    assert "\n" not in str(caught.value)
    assert "gen3r_bench_user_broken" not in sys.modules


@pytest.mark.parametrize(
    ("contract", "conditioning", "refusal"),
    [
        ({}, {}, None),
        ({}, {"setting": "2view"}, None),
        ({}, {"setting": "allview"}, "m does not support allview (it supports 1view, 2view)"),
        ({"cameras": "required"}, {}, "m needs cameras, and this protocol gives none"),
        ({"cameras": "required"}, {"cameras": True}, None),
        ({"cameras": "optional"}, {}, None),
        ({"cameras": "unused"}, {"cameras": True}, None),
        ({"prompt": "required"}, {}, "m needs a prompt, and this scene has none"),
        ({"prompt": "required"}, {"prompt": "a room"}, None),
        ({"prompt": "optional"}, {}, None),
    ],
)
def test_refusal(contract: dict[str, Any], conditioning: dict[str, Any], refusal: str | None) -> None:
    assert contract_of(**contract).refusal(conditioning_of(**conditioning)) == refusal
