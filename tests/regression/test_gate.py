"""Does the gate trip? The shipped goldens, against faults that bad commits bring, and against none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets.test_folder import write_capture
from PIL import Image
from regression import faults
from regression.faults import Fault
from regression.goldens import shipped

from gen3r_bench import registry
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.card import Card, ClipPlan
from gen3r_bench.regression.calibrate import make_goldens
from gen3r_bench.regression.check import check
from gen3r_bench.regression.subset import Guarded, open_dataset
from gen3r_bench.regression.variants import LAST_DIGITS
from gen3r_bench.runs.rows import make_row

SCENES = ("test/000", "test/004")
ROUGH = ("test/008", "test/009")
"""Where float16 points move a score by more than its tolerance; in the other two scenes they stay within it."""
GEOMETRY, FRAMES = "wobble.geom-1view.mini", "lvsm@reference.appearance-1view.mini"


@pytest.mark.parametrize(
    ("fault", "golden", "scenes"),
    [
        (faults.swapped_axes, GEOMETRY, SCENES),
        (faults.wrong_scale, GEOMETRY, SCENES),
        (faults.other_scale_rule, GEOMETRY, SCENES),
        (faults.half_points, GEOMETRY, ROUGH),
        (faults.noisy_weights, FRAMES, SCENES),
        (faults.shifted_frames, FRAMES, SCENES),
        (faults.half_network, FRAMES, SCENES[:1]),
    ],
)
def test_a_fault_is_caught_by_the_scores_alone(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, golden: str, scenes: tuple[str, ...]
) -> None:
    fault(monkeypatch)
    (found,) = check(shipped(golden, scenes))
    assert not found.problems  # neither hash nor card gives it away
    assert {line.outcome for line in found.breaches} == {"moved"}


@pytest.fixture
def threads() -> Iterator[None]:
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.usefixtures("threads")
def test_an_unharmed_run_holds_with_one_thread_and_with_two(count: int) -> None:
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    for found in check(shipped(FRAMES, SCENES[:1]) | shipped(GEOMETRY, SCENES[:1]), jobs=count):
        assert found.ok, found.breaches
        assert not found.problems


def test_noise_on_a_file_of_weights_is_told_by_its_hash_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from gen3r_bench.baselines import lvsm

    place = lvsm._place("reference")
    tensors = load_file(place.path)
    name = next(iter(tensors))
    tensors[name][0] += 0.01
    save_file(tensors, tmp_path / "w.safetensors", metadata={"side": str(place.side)})
    monkeypatch.setattr(lvsm, "_place", lambda checkpoint: place._replace(path=tmp_path / "w.safetensors"))
    (found,) = check(shipped(FRAMES, SCENES[:1]))
    assert [problem.kind for problem in found.problems] == ["checkpoint"]


def register_alone(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    """Make a card the only protocol."""
    alone = SimpleNamespace(names=lambda: [card.name], load=lambda name: card)
    monkeypatch.setattr(registry, "protocols", lambda: alone)


def test_another_card_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    card = registry.protocols().load("geom-1view")
    changed = card.model_copy(update={"geometry": card.geometry.model_copy(update={"voxel_size": 0.006})})
    register_alone(monkeypatch, changed)
    (found,) = check(shipped(GEOMETRY, SCENES[:1]))
    assert [problem.kind for problem in found.problems] == ["card"]
    assert ("card geom-1view: geometry.voxel_size", "0.005", "0.006") in {(h.field, h.a, h.b) for h in found.hints}


def test_a_shifted_crop_of_frames_on_disk_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``mini`` is rendered at its size and never cropped: a golden on files is what sees this one."""
    capture = write_capture(tmp_path / "capture", frames=5)
    random = np.random.default_rng(0)
    for number in range(5):
        picture = np.repeat(np.repeat(random.integers(0, 256, (12, 16, 3), dtype=np.uint8), 2, axis=0), 2, axis=1)
        Image.fromarray(picture).save(capture / "images" / f"{number}.png")
    clip = ClipPlan(scenes=1, frames=5, image_size=(24, 24))
    card = APPEARANCE_1VIEW.model_copy(
        update={"datasets": {"folder": clip}, "metrics": ("psnr@8bit", "ssim@skimage-gauss")}
    )
    register_alone(monkeypatch, card)
    opened = open_dataset("folder", {}, {"folder": capture})
    guarded = Guarded(
        "freeze",
        card.name,
        "folder",
        tuple(opened.options.items()),
        opened.reader.scene_ids(),
        (42,),
        "exact",
    )
    row = make_row("freeze", device="cpu")
    (golden,) = make_goldens(
        [guarded], row, opened, tmp_path / "runs", reason="a test", device="cpu", roots={}, over=[LAST_DIGITS]
    )
    goldens = {tmp_path / golden.file_name: golden}
    roots = {"folder": capture}
    assert check(goldens, roots=roots)[0].ok
    faults.shifted_crop(monkeypatch)
    (found,) = check(goldens, roots=roots)
    assert {line.outcome for line in found.breaches} == {"moved"}
